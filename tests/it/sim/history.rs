//! What the database remembers: its rows, and a record of every change of them that triggers of the simulator's own keep.
//!
//! The record is written in the transaction of the change, so its order is the order of commits and nothing is in it that was rolled
//! back. With it the checker can go through the history once more and hold each step against the rules.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use diesel::{SqliteConnection, sql_query};
use jiff::Timestamp;
use sexton::store::{DatabaseUrl, Store};

use super::trace::Trace;

/// `what`, then the table's columns that matter: `a` and `b` are numbers, `t` and `u` texts.
const RECORD: &str = "
CREATE TABLE sim_record (seq INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL, job INTEGER, a INTEGER, b INTEGER, t TEXT, u TEXT);
CREATE TRIGGER sim_r1 AFTER INSERT ON jobs_ready BEGIN INSERT INTO sim_record (what, job, a, b, t) VALUES ('ready+', NEW.job_id, NEW.rank, NEW.number, NEW.subqueue); END;
CREATE TRIGGER sim_r2 AFTER DELETE ON jobs_ready BEGIN INSERT INTO sim_record (what, job, a, b, t) VALUES ('ready-', OLD.job_id, OLD.rank, OLD.number, OLD.subqueue); END;
CREATE TRIGGER sim_r3 AFTER INSERT ON jobs_running BEGIN INSERT INTO sim_record (what, job, a, b, t) VALUES ('running+', NEW.job_id, NEW.number, NEW.node_id, NEW.subqueue); END;
CREATE TRIGGER sim_r4 AFTER DELETE ON jobs_running BEGIN INSERT INTO sim_record (what, job, a, b) VALUES ('running-', OLD.job_id, OLD.number, OLD.node_id); END;
CREATE TRIGGER sim_r5 AFTER INSERT ON jobs_scheduled BEGIN INSERT INTO sim_record (what, job, a, b) VALUES ('scheduled+', NEW.job_id, NEW.run_at, NEW.number); END;
CREATE TRIGGER sim_r6 AFTER DELETE ON jobs_scheduled BEGIN INSERT INTO sim_record (what, job, a, b) VALUES ('scheduled-', OLD.job_id, OLD.run_at, OLD.number); END;
CREATE TRIGGER sim_r7 AFTER INSERT ON jobs_blocked BEGIN INSERT INTO sim_record (what, job) VALUES ('blocked+', NEW.job_id); END;
CREATE TRIGGER sim_r8 AFTER DELETE ON jobs_blocked BEGIN INSERT INTO sim_record (what, job) VALUES ('blocked-', OLD.job_id); END;
CREATE TRIGGER sim_r9 AFTER INSERT ON job_results BEGIN INSERT INTO sim_record (what, job, a, b, t) VALUES ('over+', NEW.job_id, NEW.charged, NEW.finished_at, NEW.state); END;
CREATE TRIGGER sim_ra AFTER DELETE ON job_results BEGIN INSERT INTO sim_record (what, job, a, t) VALUES ('over-', OLD.job_id, OLD.charged, OLD.state); END;
CREATE TRIGGER sim_rb AFTER INSERT ON schedule_live BEGIN INSERT INTO sim_record (what, job, t) VALUES ('live+', NEW.job_id, NEW.schedule); END;
CREATE TRIGGER sim_rc AFTER DELETE ON schedule_live BEGIN INSERT INTO sim_record (what, job, t) VALUES ('live-', OLD.job_id, OLD.schedule); END;
CREATE TRIGGER sim_rd AFTER INSERT ON schedules BEGIN INSERT INTO sim_record (what, a, t, u) VALUES ('mark', NEW.decided_until, NEW.id, NEW.definition); END;
CREATE TRIGGER sim_re AFTER UPDATE OF decided_until, definition ON schedules BEGIN INSERT INTO sim_record (what, a, t, u) VALUES ('mark', NEW.decided_until, NEW.id, NEW.definition); END;
CREATE TRIGGER sim_rf AFTER INSERT ON attempts BEGIN INSERT INTO sim_record (what, job, a, b, t) VALUES ('attempt', NEW.job_id, NEW.number, NEW.node_id, NEW.outcome); END;
CREATE TRIGGER sim_rg AFTER INSERT ON occurrences BEGIN INSERT INTO sim_record (what, a, b, t, u) VALUES ('occurrence', NEW.nominal_at, NEW.instants, NEW.schedule, NEW.actor); END;
CREATE TRIGGER sim_rh AFTER INSERT ON queues WHEN NEW.paused_at IS NOT NULL BEGIN INSERT INTO sim_record (what, t) VALUES ('paused', NEW.name); END;
CREATE TRIGGER sim_rj AFTER INSERT ON job_dependencies BEGIN INSERT INTO sim_record (what, job, a, t) VALUES ('depends', NEW.job_id, NEW.depends_on, NEW.needs); END;
CREATE TRIGGER sim_rk AFTER INSERT ON nodes BEGIN INSERT INTO sim_record (what, a, t) VALUES ('node', NEW.id, NEW.instance); END;
CREATE TRIGGER sim_rl AFTER INSERT ON audit_events BEGIN INSERT INTO sim_record (what, t) VALUES ('event', NEW.event); END;
CREATE TRIGGER sim_rm AFTER INSERT ON schedule_followers BEGIN INSERT INTO sim_record (what, t, u) VALUES ('follows+', NEW.schedule, NEW.follower || '/' || NEW.on_end); END;
CREATE TRIGGER sim_rn AFTER DELETE ON schedule_followers BEGIN INSERT INTO sim_record (what, t, u) VALUES ('follows-', OLD.schedule, OLD.follower || '/' || OLD.on_end); END;
CREATE TRIGGER sim_ro AFTER INSERT ON ends_to_follow BEGIN INSERT INTO sim_record (what, job, a, t, u) VALUES ('end+', NEW.job_id, NEW.ended_at, NEW.follower, NEW.schedule); END;
CREATE TRIGGER sim_rp AFTER DELETE ON ends_to_follow BEGIN INSERT INTO sim_record (what, job, a, t, u) VALUES ('end-', OLD.job_id, OLD.ended_at, OLD.follower, OLD.schedule); END;
CREATE TRIGGER sim_rq AFTER INSERT ON waiting_instants BEGIN INSERT INTO sim_record (what, a, b, t) VALUES ('waits+', NEW.nominal_at, NEW.wait_until, NEW.schedule); END;
CREATE TRIGGER sim_rr AFTER INSERT ON limits BEGIN INSERT INTO sim_record (what, a, t) VALUES ('limit', NEW.max, NEW.name); END;
CREATE TRIGGER sim_rs AFTER UPDATE ON limits BEGIN INSERT INTO sim_record (what, a, t) VALUES ('limit', NEW.max, NEW.name); END;
CREATE TRIGGER sim_rt AFTER DELETE ON limits BEGIN INSERT INTO sim_record (what, t) VALUES ('unlimited', OLD.name); END;
CREATE TRIGGER sim_ri AFTER DELETE ON queues BEGIN INSERT INTO sim_record (what, t) VALUES ('resumed', OLD.name); END;
";

/// Puts a fresh database with the newest schema and the record in place. It is made once and copied.
pub(super) fn place_database(path: &Path, sabotage: Option<&str>) {
    static TEMPLATE: OnceLock<Vec<u8>> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("template.db");
        Store::open(&DatabaseUrl::Sqlite(path.clone())).expect("a fresh database").close();
        let mut conn = connect(&path);
        conn.batch_execute(RECORD).expect("the record is set up");
        conn.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)").expect("one file");
        drop(conn);
        std::fs::read(&path).expect("the template is read")
    });
    std::fs::write(path, template).expect("the database is put in place");
    if let Some(sabotage) = sabotage {
        connect(path).batch_execute(sabotage).expect("the database can be made to cheat");
    }
}

fn connect(path: &Path) -> SqliteConnection {
    let mut conn = SqliteConnection::establish(&path.to_string_lossy()).expect("a connection");
    conn.batch_execute("PRAGMA busy_timeout = 5000").expect("a pragma");
    conn
}

/// How much is left to do.
#[derive(Debug, QueryableByName)]
pub(super) struct LiveRow {
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = Bool)]
    only_scheduled: bool,
    #[diesel(sql_type = Nullable<BigInt>)]
    next_run_at: Option<i64>,
}

/// How much is left to do.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) count: i64,
    pub(super) only_scheduled: bool,
    pub(super) next_run_at: Option<Timestamp>,
}

impl Live {
    pub(super) fn is_nothing(&self) -> bool {
        self.count == 0
    }
}

/// Jobs that are not over.
pub(super) fn live(path: &Path) -> Live {
    let sql = "SELECT (SELECT count(*) FROM jobs_ready) + (SELECT count(*) FROM jobs_running) + (SELECT count(*) FROM jobs_scheduled)
            + (SELECT count(*) FROM jobs_blocked) AS count,
        NOT EXISTS (SELECT 1 FROM jobs_ready) AND NOT EXISTS (SELECT 1 FROM jobs_running) AS only_scheduled,
        (SELECT min(run_at) FROM jobs_scheduled) AS next_run_at";
    let row: LiveRow = sql_query(sql).get_result(&mut connect(path)).expect("the database answers");
    let next_run_at = row.next_run_at.map(micros);
    Live { count: row.count, only_scheduled: row.only_scheduled, next_run_at }
}

/// The number of the newest change.
pub(super) fn last_change(path: &Path) -> i64 {
    let sql = "SELECT coalesce(max(seq), 0) AS count FROM sim_record";
    sql_query(sql).get_result::<Count>(&mut connect(path)).expect("the database answers").count
}

pub(super) fn micros(value: i64) -> Timestamp {
    Timestamp::from_microsecond(value).expect("a stored instant")
}

/// One change.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct Change {
    #[diesel(sql_type = BigInt)]
    pub(super) seq: i64,
    #[diesel(sql_type = Text)]
    pub(super) what: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) job: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) a: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) b: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) t: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) u: Option<String>,
}

impl Change {
    pub(super) fn job(&self) -> i64 {
        self.job.expect("this change has a job")
    }

    pub(super) fn number(&self) -> i64 {
        self.a.expect("this change has a number")
    }

    pub(super) fn text(&self) -> &str {
        self.t.as_deref().expect("this change has a text")
    }
}

#[derive(Debug, Clone, QueryableByName)]
pub(super) struct JobRow {
    #[diesel(sql_type = BigInt)]
    pub(super) id: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) submission: i64,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) error: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) schedule: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) nominal_at: Option<i64>,
    #[diesel(sql_type = Text)]
    pub(super) queue: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) labels: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) settings: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) state: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) attempts: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) charged: Option<i64>,
}

#[derive(Debug, Clone, QueryableByName)]
pub(super) struct AttemptRow {
    #[diesel(sql_type = BigInt)]
    pub(super) id: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) job_id: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) number: i64,
    #[diesel(sql_type = Text)]
    pub(super) outcome: String,
    #[diesel(sql_type = BigInt)]
    pub(super) started_at: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) finished_at: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) node_id: i64,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) error: Option<String>,
}

#[derive(Debug, Clone, QueryableByName)]
pub(super) struct OccurrenceRow {
    #[diesel(sql_type = BigInt)]
    pub(super) id: i64,
    #[diesel(sql_type = Text)]
    pub(super) schedule: String,
    #[diesel(sql_type = BigInt)]
    pub(super) nominal_at: i64,
    #[diesel(sql_type = Text)]
    pub(super) decision: String,
    #[diesel(sql_type = Text)]
    pub(super) reason: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) job_id: Option<i64>,
    #[diesel(sql_type = BigInt)]
    pub(super) decided_at: i64,
    #[diesel(sql_type = Text)]
    pub(super) revision: String,
    #[diesel(sql_type = BigInt)]
    pub(super) instants: i64,
    #[diesel(sql_type = Text)]
    pub(super) actor: String,
}

#[derive(Debug, Clone, QueryableByName)]
pub(super) struct Leftover {
    #[diesel(sql_type = Text)]
    pub(super) what: String,
}

/// Everything that is in the database when all is over.
pub(super) struct History {
    pub(super) record: Vec<Change>,
    pub(super) jobs: Vec<JobRow>,
    pub(super) attempts: Vec<AttemptRow>,
    pub(super) occurrences: Vec<OccurrenceRow>,
    /// What should be gone.
    pub(super) leftovers: Vec<Leftover>,
    pub(super) events: i64,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

const LEFTOVERS: &str = "
SELECT 'job ' || job_id || ' in jobs_ready' AS what FROM jobs_ready
UNION ALL SELECT 'job ' || job_id || ' in jobs_running' FROM jobs_running
UNION ALL SELECT 'job ' || job_id || ' in jobs_scheduled' FROM jobs_scheduled
UNION ALL SELECT 'job ' || job_id || ' in jobs_blocked' FROM jobs_blocked
UNION ALL SELECT 'job ' || job_id || ' in schedule_live' FROM schedule_live
UNION ALL SELECT 'job ' || job_id || ' in job_dependencies' FROM job_dependencies
UNION ALL SELECT 'job ' || job_id || ' in unique_keys' FROM unique_keys WHERE expires_at IS NULL
UNION ALL SELECT follower || ' has to follow job ' || job_id FROM ends_to_follow
UNION ALL SELECT schedule || ' waits since ' || nominal_at FROM waiting_instants
UNION ALL SELECT schedule || ' says that it waits since ' || nominal_at FROM occurrences WHERE decision = 'waiting'
UNION ALL SELECT 'node ' || id || ' is not stopped' FROM nodes WHERE stopped_at IS NULL";

impl History {
    /// The final rows, for the trace.
    pub(super) fn tell(&self, trace: &Trace) {
        for row in &self.occurrences {
            let OccurrenceRow { id, schedule, decision, reason, job_id, instants, actor, .. } = row;
            let (nominal, decided) = (micros(row.nominal_at), micros(row.decided_at));
            trace.line(format_args!(
                "occurrence {id}: {schedule} {nominal} {decision} ({reason}) job {job_id:?}, {instants} at {decided} by {actor}"
            ));
        }
        for row in &self.attempts {
            let AttemptRow { id, job_id, number, outcome, node_id, .. } = row;
            let (from, until) = (micros(row.started_at), micros(row.finished_at));
            trace.line(format_args!(
                "attempt {id}: job {job_id} number {number} {outcome} on {node_id} from {from} to {until}"
            ));
        }
        for row in &self.jobs {
            let JobRow { id, schedule, queue, state, attempts, charged, error, .. } = row;
            trace.line(format_args!(
                "job {id}: {schedule:?} {queue} {state:?} attempts {attempts:?} charged {charged:?} {error:?}"
            ));
        }
        trace.line(format_args!("{} changes, {} events", self.record.len(), self.events));
    }

    /// The instants that waited for their requirements, by schedule and time.
    pub(super) fn waited(&self) -> BTreeSet<(&str, i64)> {
        let waits = self.record.iter().filter(|change| change.what == "waits+");
        waits.map(|change| (change.text(), change.number())).collect()
    }

    /// The ends that made an instant of their follower, by follower and time.
    pub(super) fn followed(&self) -> BTreeSet<(&str, i64)> {
        let ends = self.record.iter().filter(|change| change.what == "end+");
        ends.map(|change| (change.text(), change.number())).collect()
    }

    pub(super) fn read(path: &Path) -> Self {
        let conn = &mut connect(path);
        Self {
            record: sql_query("SELECT * FROM sim_record ORDER BY seq").load(conn).expect("the record"),
            jobs: sql_query(
                "SELECT j.id, j.submission, j.schedule, j.nominal_at, j.queue, j.labels, j.settings, r.state, r.error,
                    CAST(r.attempts AS INTEGER) AS attempts, CAST(r.charged AS INTEGER) AS charged
                 FROM jobs j LEFT JOIN job_results r ON r.job_id = j.id ORDER BY j.id",
            )
            .load(conn)
            .expect("jobs"),
            attempts: sql_query(
                "SELECT id, job_id, CAST(number AS INTEGER) AS number, outcome, started_at, finished_at, node_id, error FROM attempts ORDER BY id",
            )
            .load(conn)
            .expect("attempts"),
            occurrences: sql_query(
                "SELECT id, schedule, nominal_at, decision, reason, job_id, decided_at, revision, instants, actor FROM occurrences ORDER BY id",
            )
            .load(conn)
            .expect("occurrences"),
            leftovers: sql_query(LEFTOVERS).load(conn).expect("leftovers"),
            events: sql_query("SELECT count(*) AS count FROM audit_events")
                .get_result::<Count>(conn)
                .expect("events")
                .count,
        }
    }
}
