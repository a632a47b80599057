DROP TABLE whole_batch_items;
DROP TABLE whole_batches;
DROP TABLE job_replacements;
DROP TABLE job_priorities;
