-- What operators set for a queue over the settings; NULL is what the settings say. A timeout is in microseconds.
ALTER TABLE queues ADD COLUMN workers INTEGER;
ALTER TABLE queues ADD COLUMN rate TEXT;
ALTER TABLE queues ADD COLUMN timeout INTEGER;
ALTER TABLE queues ADD COLUMN set_at INTEGER;
ALTER TABLE queues ADD COLUMN set_by TEXT;

-- The rates that operators set for kinds and keys. Where there is only a rate, max is 2147483647: the version before this one reads both.
ALTER TABLE limits ADD COLUMN rate TEXT;

-- What is left of each rate in use, as the instant from which as many may start at once as ever may (queue/bucket.rs).
CREATE TABLE rate_buckets (
    name    TEXT NOT NULL PRIMARY KEY,
    full_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
