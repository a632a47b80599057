DROP TABLE limits;
UPDATE jobs_ready SET subqueue = (SELECT queue FROM jobs WHERE id = job_id);
ALTER TABLE jobs_ready RENAME COLUMN subqueue TO queue;
ALTER TABLE jobs_running DROP COLUMN subqueue;
