DELETE FROM meta WHERE key = 'oldest_usable_schema';
ALTER TABLE nodes DROP COLUMN draining_by;
ALTER TABLE nodes DROP COLUMN draining_since;
ALTER TABLE nodes DROP COLUMN clock_skew_us;
ALTER TABLE nodes DROP COLUMN revision;
ALTER TABLE nodes DROP COLUMN labels;
