-- What nodes tell each other: for what they may be chosen, which schedules they have, how far their clocks are off, and who takes nothing
-- new any more.
ALTER TABLE nodes ADD COLUMN labels TEXT NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN revision TEXT;
ALTER TABLE nodes ADD COLUMN clock_skew_us BIGINT;
ALTER TABLE nodes ADD COLUMN draining_since BIGINT;
ALTER TABLE nodes ADD COLUMN draining_by TEXT;

-- The oldest schema that a program may know and still use this database. Migrations that only add leave it as it is, so that nodes of the
-- version before go on beside those of this one; one that takes something away raises it to its own number.
INSERT INTO meta (key, value) VALUES ('oldest_usable_schema', '0010');
