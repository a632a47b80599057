DROP TABLE job_checkpoints;
