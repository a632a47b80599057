-- A queue is divided by what can hold its jobs back (model/subqueue.rs); one that nothing can hold back is in the queue itself.
ALTER TABLE jobs_ready RENAME COLUMN queue TO subqueue;
UPDATE jobs_ready SET subqueue = subqueue || '/high' WHERE job_id IN (SELECT id FROM jobs WHERE priority >= 8);
ALTER TABLE jobs_running ADD COLUMN subqueue TEXT NOT NULL DEFAULT '';
UPDATE jobs_running SET subqueue = (SELECT queue FROM jobs WHERE id = job_id);

-- Limits that operators set: queue:NAME, kind:NAME, key:KEY.
CREATE TABLE limits (
    name   TEXT NOT NULL PRIMARY KEY,
    max    INTEGER NOT NULL,
    set_at BIGINT NOT NULL,
    set_by TEXT NOT NULL
);
