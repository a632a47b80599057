//! How many connections a node has to a PostgreSQL. Where there is no server, nothing is tested here.

use std::path::PathBuf;

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use serde_json::json;
use sexton::store::DatabaseUrl;

use crate::harness::TestDatabase;
use crate::harness::daemon::{Daemon, Home, eventually, items};

/// As docs/scaling.md promises: one writes, three read, one listens.
const MOST: i64 = 5;

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

fn connections(url: &str) -> i64 {
    let mut conn = PgConnection::establish(url).expect("the server answers");
    let query = "SELECT count(*) AS count FROM pg_stat_activity \
                 WHERE datname = current_database() AND application_name = 'sexton'";
    diesel::sql_query(query).get_result::<Count>(&mut conn).expect("an answer").count
}

/// Work that is claimed, recorded and read about, all at once, while somebody counts. Returns the most that were seen.
fn busy(daemon: &Daemon, url: &str) -> i64 {
    let jobs = vec![json!({ "kind": "command", "params": { "argv": ["true"] } }); 40];
    let made = daemon.post("/api/v1/jobs", &json!(jobs));
    let last = items(&made)[39]["id"].as_i64().expect("an id");
    let mut most = 0;
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| (0..20).for_each(|_| drop(daemon.cli(["jobs", "--json"])))))
            .collect();
        while readers.iter().any(|reader| !reader.is_finished()) {
            most = most.max(connections(url));
        }
    });
    daemon.job_in(last, "completed");
    most.max(connections(url))
}

#[test]
fn m9_a_node_has_five_connections_and_never_more_also_after_it_has_lost_them() {
    let Some(database) = TestDatabase::postgres() else { return };
    let DatabaseUrl::Postgres(url) = database.url() else { panic!("only PostgreSQL is asked") };
    let mut home = Home::new();
    home.variable("SEXTON_DATABASE__URL", PathBuf::from(url));
    home.settings("[lease]\nduration = \"30s\"\nheartbeat = \"1s\"\n");
    let daemon = Daemon::start_in(home);
    assert_eq!(busy(&daemon, url), MOST);
    // What a node's connections meet when the server restarts, without ending those of other tests.
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'sexton'",
    );
    eventually("it has come back", || {
        let again =
            daemon.cli(["submit", "command", "--params", "{\"argv\": [\"true\"]}", "--wait"]);
        (again.code == 0).then_some(())
    });
    assert_eq!(busy(&daemon, url), MOST);
}
