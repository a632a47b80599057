-- Where a job's next attempt can go on. Few jobs have one, so it is no column of the rows that all jobs have.
CREATE TABLE job_checkpoints (
    job_id     BIGINT NOT NULL PRIMARY KEY,
    checkpoint TEXT NOT NULL
);
