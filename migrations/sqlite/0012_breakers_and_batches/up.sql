-- The breakers that operators set. Where there is neither a limit nor a rate, max is 2147483647, as where there is only a rate.
ALTER TABLE limits ADD COLUMN breaker TEXT;

-- What breakers remember (queue/breaker.rs): the latest failures in a row as a list of instants, or since when and why one has tripped
-- and which attempt finds out whether it is over.
CREATE TABLE breakers (
    name         TEXT NOT NULL PRIMARY KEY,
    failed_at    TEXT NOT NULL,
    tripped_at   INTEGER,
    why          TEXT,
    probe_job    INTEGER,
    probe_number INTEGER
) STRICT, WITHOUT ROWID;

-- A batch that is tried again is so in steps. Its items from this position on are looked at yet, and are in none of its counts; NULL: all were.
ALTER TABLE batches ADD COLUMN retry_from INTEGER;
