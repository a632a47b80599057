-- A batch is a job whose items are jobs of their own. It is over when the last of them is, which the counts tell without looking at all of them.
CREATE TABLE batches (
    job_id       BIGINT NOT NULL PRIMARY KEY,
    total        INTEGER NOT NULL,
    completed    INTEGER NOT NULL,
    failed       INTEGER NOT NULL,
    cancelled    INTEGER NOT NULL,
    is_open      SMALLINT NOT NULL,
    cancelled_by TEXT
);
CREATE INDEX batches_open ON batches (job_id) WHERE is_open = 1;

-- Items in the order in which they were submitted. The state is the end of the item's job, and NULL until then.
CREATE TABLE batch_items (
    batch_id BIGINT NOT NULL,
    position INTEGER NOT NULL,
    name     TEXT NOT NULL,
    job_id   BIGINT NOT NULL,
    state    TEXT,
    PRIMARY KEY (batch_id, position)
);
CREATE UNIQUE INDEX batch_items_by_job ON batch_items (job_id);
