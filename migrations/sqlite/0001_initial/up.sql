-- Times are UTC microseconds since 1970. What never changes is written once (jobs, attempts, job_results);
-- what changes is small (jobs_*). docs/decisions/0001-store-layout.md says why.

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE nodes (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    name         TEXT NOT NULL,
    instance     TEXT NOT NULL UNIQUE,
    version      TEXT NOT NULL,
    pid          INTEGER NOT NULL,
    started_at   INTEGER NOT NULL,
    lease_until  INTEGER NOT NULL,
    stopped_at   INTEGER
) STRICT;

CREATE TABLE jobs (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    submission   INTEGER NOT NULL,
    kind         TEXT NOT NULL,
    schedule     TEXT,
    nominal_at   INTEGER,
    queue        TEXT NOT NULL,
    priority     INTEGER NOT NULL,
    rank         INTEGER NOT NULL,
    params       TEXT NOT NULL,
    labels       TEXT,
    settings     TEXT,
    unique_key   TEXT,
    run_at       INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    actor        TEXT NOT NULL,
    node_id      INTEGER NOT NULL
) STRICT;
CREATE INDEX jobs_by_schedule ON jobs (schedule, id) WHERE schedule IS NOT NULL;

CREATE TABLE job_labels (
    label  TEXT NOT NULL,
    job_id INTEGER NOT NULL,
    PRIMARY KEY (label, job_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs_scheduled (
    run_at   INTEGER NOT NULL,
    job_id   INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    charged  INTEGER NOT NULL,
    PRIMARY KEY (run_at, job_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX jobs_scheduled_by_job ON jobs_scheduled (job_id);

CREATE TABLE jobs_ready (
    queue    TEXT NOT NULL,
    rank     INTEGER NOT NULL,
    job_id   INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    charged  INTEGER NOT NULL,
    PRIMARY KEY (queue, rank, job_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs_running (
    job_id              INTEGER NOT NULL PRIMARY KEY,
    number              INTEGER NOT NULL,
    charged             INTEGER NOT NULL,
    node_id             INTEGER NOT NULL,
    started_at          INTEGER NOT NULL,
    progress            INTEGER,
    message             TEXT,
    cancel_requested_at INTEGER,
    cancel_requested_by TEXT
) STRICT;
CREATE INDEX jobs_running_by_node ON jobs_running (node_id);

CREATE TABLE jobs_blocked (
    job_id INTEGER NOT NULL PRIMARY KEY
) STRICT;

CREATE TABLE job_dependencies (
    job_id     INTEGER NOT NULL,
    depends_on INTEGER NOT NULL,
    needs      TEXT NOT NULL,
    PRIMARY KEY (job_id, depends_on)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_dependencies_by_dependency ON job_dependencies (depends_on);

CREATE TABLE unique_keys (
    key        TEXT NOT NULL PRIMARY KEY,
    job_id     INTEGER NOT NULL,
    expires_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX unique_keys_by_job ON unique_keys (job_id);

CREATE TABLE attempts (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id      INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    outcome     TEXT NOT NULL,
    node_id     INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    exit_code   INTEGER,
    error       TEXT,
    output_tail TEXT
) STRICT;
CREATE UNIQUE INDEX attempts_by_job ON attempts (job_id, number);
CREATE INDEX attempts_by_finish ON attempts (finished_at);

CREATE TABLE job_results (
    job_id      INTEGER NOT NULL PRIMARY KEY,
    state       TEXT NOT NULL,
    finished_at INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    charged     INTEGER NOT NULL,
    error       TEXT,
    result      TEXT
) STRICT;
CREATE INDEX job_results_by_state ON job_results (state, finished_at);

CREATE TABLE schedules (
    id            TEXT NOT NULL PRIMARY KEY,
    definition    TEXT NOT NULL,
    decided_until INTEGER NOT NULL,
    last_end_at   INTEGER,
    paused_at     INTEGER,
    paused_until  INTEGER,
    paused_by     TEXT,
    pause_reason  TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE schedule_live (
    schedule TEXT NOT NULL,
    job_id   INTEGER NOT NULL,
    PRIMARY KEY (schedule, job_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE occurrences (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    schedule   TEXT NOT NULL,
    nominal_at INTEGER NOT NULL,
    decision   TEXT NOT NULL,
    reason     TEXT NOT NULL,
    job_id     INTEGER,
    decided_at INTEGER NOT NULL,
    revision   TEXT NOT NULL,
    instants   INTEGER NOT NULL,
    actor      TEXT NOT NULL,
    node_id    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX occurrences_by_instant ON occurrences (schedule, nominal_at);
CREATE INDEX occurrences_by_decision_time ON occurrences (decided_at);

CREATE TABLE job_statistics (
    day                  TEXT NOT NULL,
    schedule             TEXT NOT NULL,
    kind                 TEXT NOT NULL,
    completed            INTEGER NOT NULL,
    failed               INTEGER NOT NULL,
    cancelled            INTEGER NOT NULL,
    attempts             INTEGER NOT NULL,
    duration_total_us    INTEGER NOT NULL,
    duration_max_us      INTEGER NOT NULL,
    wait_total_us        INTEGER NOT NULL,
    wait_max_us          INTEGER NOT NULL,
    PRIMARY KEY (day, schedule, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE queues (
    name         TEXT NOT NULL PRIMARY KEY,
    paused_at    INTEGER,
    paused_by    TEXT,
    pause_reason TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    event   TEXT NOT NULL,
    actor   TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL,
    node_id INTEGER NOT NULL
) STRICT;

CREATE TABLE audit_anchors (
    log         TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    hash        TEXT NOT NULL,
    at          INTEGER NOT NULL,
    occurrences INTEGER NOT NULL,
    jobs        INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    events      INTEGER NOT NULL,
    PRIMARY KEY (log, seq)
) STRICT, WITHOUT ROWID;

-- For people with a database shell: times as text, states as words.
CREATE VIEW jobs_v AS
SELECT j.id, j.kind, j.schedule, strftime('%Y-%m-%dT%H:%M:%fZ', j.nominal_at / 1000000.0, 'unixepoch') AS nominal_at, j.queue, j.priority, CASE
        WHEN r.state IS NOT NULL THEN r.state
        WHEN EXISTS (SELECT 1 FROM jobs_running x WHERE x.job_id = j.id) THEN 'running'
        WHEN EXISTS (SELECT 1 FROM jobs_scheduled x WHERE x.job_id = j.id AND x.number > 0) THEN 'retrying'
        WHEN EXISTS (SELECT 1 FROM jobs_blocked x WHERE x.job_id = j.id) THEN 'blocked'
        ELSE 'pending'
    END AS state,
    j.params, j.labels, j.actor, strftime('%Y-%m-%dT%H:%M:%fZ', j.run_at / 1000000.0, 'unixepoch') AS run_at, strftime('%Y-%m-%dT%H:%M:%fZ', j.created_at / 1000000.0, 'unixepoch') AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.finished_at / 1000000.0, 'unixepoch') AS finished_at, r.attempts, r.error, r.result
FROM jobs j LEFT JOIN job_results r ON r.job_id = j.id;

CREATE VIEW attempts_v AS
SELECT a.job_id, a.number, j.kind, j.schedule, a.outcome, strftime('%Y-%m-%dT%H:%M:%fZ', a.started_at / 1000000.0, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', a.finished_at / 1000000.0, 'unixepoch') AS finished_at, (a.finished_at - a.started_at) / 1000 AS duration_ms, a.exit_code, a.error
FROM attempts a JOIN jobs j ON j.id = a.job_id;

CREATE VIEW occurrences_v AS
SELECT o.schedule, strftime('%Y-%m-%dT%H:%M:%fZ', o.nominal_at / 1000000.0, 'unixepoch') AS nominal_at, o.decision, o.reason, o.job_id,
    strftime('%Y-%m-%dT%H:%M:%fZ', o.decided_at / 1000000.0, 'unixepoch') AS decided_at, o.instants, o.actor
FROM occurrences o;
