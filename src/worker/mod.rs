//! Executes jobs: the pool, one attempt, the drain.
