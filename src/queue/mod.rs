//! The rules of the queue that need no database: retry delays, ranks, what becomes of a job.
