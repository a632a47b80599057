-- A batch is a job whose items are jobs of their own. It is over when the last of them is, which the counts tell without looking at all of them.
CREATE TABLE batches (
    job_id       INTEGER NOT NULL PRIMARY KEY,
    total        INTEGER NOT NULL,
    completed    INTEGER NOT NULL,
    failed       INTEGER NOT NULL,
    cancelled    INTEGER NOT NULL,
    is_open      INTEGER NOT NULL,
    cancelled_by TEXT
) STRICT;
CREATE INDEX batches_open ON batches (job_id) WHERE is_open = 1;

-- Items in the order in which they were submitted. The state is the end of the item's job, and NULL until then.
CREATE TABLE batch_items (
    batch_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    name     TEXT NOT NULL,
    job_id   INTEGER NOT NULL,
    state    TEXT,
    PRIMARY KEY (batch_id, position)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX batch_items_by_job ON batch_items (job_id);
