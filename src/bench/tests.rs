//! A measurement as a whole, with as little work as there can be.

use super::*;
use crate::store::Purpose;
use crate::store::maintenance;

fn plan() -> Plan {
    Plan { jobs: vec![20], workers: vec![1, 3], repeats: 1 }
}

fn names(report: &Report) -> Vec<&str> {
    report.figures.iter().map(|figure| figure.name.as_str()).collect()
}

#[test]
fn everything_is_measured_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut place = Place::below(Some(folder.path())).unwrap();
    let mut told = Vec::new();
    let report = run(&plan(), &mut place, &CancellationToken::new(), &mut |what| {
        told.push(what.to_owned());
    });
    let report = report.unwrap();
    assert_eq!(
        names(&report),
        [
            "submit, one at a time",
            "submit, one at a time: wait, p50",
            "submit, one at a time: wait, p99",
            "submit, 32 callers",
            "submit, 32 callers: wait, p50",
            "submit, 32 callers: wait, p99",
            "submit, 1,000 in a call",
            "pickup when idle, p50",
            "pickup when idle, p99",
            "drain 20, 1 workers",
            "drain 20, 1 workers: disk a job",
            "drain 20, 1 workers: memory before",
            "drain 20, 3 workers",
            "drain 20, 3 workers: disk a job",
            "drain 20, 3 workers: memory before",
        ]
    );
    for figure in &report.figures {
        assert_eq!(figure.values.len(), 1, "{figure:?}");
        let is_compared = figure.unit == "jobs/s";
        assert_eq!(figure.bare.len(), if is_compared { 1 } else { 0 }, "{figure:?}");
        let all = figure.values.iter().chain(&figure.bare);
        assert!(all.clone().all(|value| value.is_finite() && *value >= 0.0), "{figure:?}");
        assert!(!is_compared || all.clone().all(|value| *value > 0.0), "{figure:?}");
    }
    assert_eq!(told.len(), 6, "{told:?}");
    drop(place);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_bare_program_leaves_the_rows_that_the_engine_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::Sqlite(folder.path().join("bare.db"));
    let mut bare = Bare::open(&url).unwrap();
    bare.submit(&params_text(), 7).unwrap();
    let mut claims = Vec::new();
    loop {
        let claimed = bare.work(3).unwrap();
        if claimed == 0 {
            break;
        }
        claims.push(claimed);
    }
    assert_eq!(claims, [3, 3, 1]);
    let mut conn = url.connect(Purpose::Read).unwrap();
    let filled: Vec<(&str, i64)> = crate::store::schema::TABLES
        .iter()
        .map(|table| (table.name, table.rows(&mut conn).unwrap()))
        .filter(|(name, rows)| *rows > 0 && *name != "meta")
        .collect();
    assert_eq!(filled, [("jobs", 7), ("attempts", 7), ("job_results", 7)]);
}

#[test]
fn a_measurement_that_is_stopped_ends_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut place = Place::below(Some(folder.path())).unwrap();
    let stop = CancellationToken::new();
    let large = Plan { jobs: vec![1_000_000], ..plan() };
    let told = run(&large, &mut place, &stop, &mut |what| {
        if what.starts_with("drain") {
            stop.cancel();
        }
    });
    assert!(matches!(told, Err(BenchError::Stopped)), "{told:?}");
    drop(place);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_drain_that_is_stopped_does_not_go_on_to_the_end_of_its_backlog() {
    let folder = tempfile::tempdir().unwrap();
    let mut place = Place::below(Some(folder.path())).unwrap();
    let stop = CancellationToken::new();
    let engine = Engine::open(&place.fresh().unwrap(), stop.clone()).unwrap();
    let stopping = std::thread::spawn(move || stop.cancel());
    let drained = engine.drain(2_000_000, 4);
    stopping.join().unwrap();
    assert!(matches!(drained, Err(BenchError::Stopped)), "{drained:?}");
}

#[test]
fn a_database_that_somebody_gives_is_emptied_and_must_have_been_empty() {
    for database in crate::store::testing::databases() {
        let url = database.store().url().clone();
        let refused = Place::given(url.clone());
        assert!(matches!(refused, Err(BenchError::NotEmpty(_))), "{refused:?}");
        let DatabaseUrl::Postgres(_) = &url else { continue };
        let mut conn = url.connect(Purpose::Write).unwrap();
        crate::store::migrations::remove(&mut conn).unwrap();
        let mut place = Place::given(url).unwrap();
        let report = run(&plan(), &mut place, &CancellationToken::new(), &mut |_| {}).unwrap();
        assert_eq!(report.figures.len(), 15);
        place.clear().unwrap();
        assert!(maintenance::is_blank(&mut conn).unwrap());
    }
}
