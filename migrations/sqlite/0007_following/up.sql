-- When a job of the schedule last completed, dry runs left out. Rows of jobs are deleted in time, and this stays.
ALTER TABLE schedules ADD COLUMN last_success_at INTEGER;
UPDATE schedules SET last_success_at = (
    SELECT r.finished_at FROM jobs j JOIN job_results r ON r.job_id = j.id
    WHERE j.schedule = schedules.id AND r.state = 'completed' AND COALESCE(j.settings, '') NOT LIKE '%"dry_run":true%'
    ORDER BY j.id DESC LIMIT 1
);

-- Which schedule is due when a job of another one ends. The transaction that ends a job looks here.
CREATE TABLE schedule_followers (
    schedule TEXT NOT NULL,
    follower TEXT NOT NULL,
    on_end   TEXT NOT NULL,
    PRIMARY KEY (schedule, follower, on_end)
) STRICT, WITHOUT ROWID;

-- Ends that make their follower due and are not decided about yet. Two ends in one microsecond are one instant.
CREATE TABLE ends_to_follow (
    follower TEXT NOT NULL,
    ended_at INTEGER NOT NULL,
    schedule TEXT NOT NULL,
    job_id   INTEGER NOT NULL,
    state    TEXT NOT NULL,
    PRIMARY KEY (follower, ended_at)
) STRICT, WITHOUT ROWID;

-- Instants that wait for their requirements. Whoever deletes the row decides what becomes of the instant.
CREATE TABLE waiting_instants (
    schedule   TEXT NOT NULL,
    nominal_at INTEGER NOT NULL,
    wait_until INTEGER NOT NULL,
    PRIMARY KEY (schedule, nominal_at)
) STRICT, WITHOUT ROWID;
