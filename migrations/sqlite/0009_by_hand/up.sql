-- The priority that somebody has given a job by hand, and the place in its queue that goes with it. What was asked for stays in jobs.
CREATE TABLE job_priorities (
    job_id   INTEGER NOT NULL PRIMARY KEY,
    priority INTEGER NOT NULL,
    rank     INTEGER NOT NULL
) STRICT;

-- Which job does the work of one that had ended badly, with other params.
CREATE TABLE job_replacements (
    job_id      INTEGER NOT NULL PRIMARY KEY,
    replaced_by INTEGER NOT NULL
) STRICT;

-- A batch whose items are done in one run: it is a job like any other, and its items have no jobs of their own.
CREATE TABLE whole_batches (
    job_id    INTEGER NOT NULL PRIMARY KEY,
    total     INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    failed    INTEGER NOT NULL
) STRICT;

-- Its items in the order in which they were submitted. The state is what the program has said, and NULL while it has said nothing.
CREATE TABLE whole_batch_items (
    job_id   INTEGER NOT NULL,
    position INTEGER NOT NULL,
    name     TEXT NOT NULL,
    params   TEXT,
    state    TEXT,
    attempt  INTEGER,
    error    TEXT,
    result   TEXT,
    PRIMARY KEY (job_id, position)
) STRICT, WITHOUT ROWID;
