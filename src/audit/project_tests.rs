use proptest::prelude::*;

use super::*;
use crate::audit::verify;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).unwrap()
}

fn occurrence(id: i64, second: i64) -> OccurrenceRow {
    OccurrenceRow {
        id,
        schedule: "cleanup-tmp".into(),
        nominal_at: at(second),
        decision: "enqueued".into(),
        reason: "due".into(),
        job: Some(7),
        decided_at: at(second),
        revision: "5f1e0a".into(),
        instants: 1,
        actor: "scheduler".into(),
    }
}

fn submission(first: i64, last: i64, second: i64) -> SubmissionRow {
    SubmissionRow {
        first,
        last,
        count: (last - first + 1).unsigned_abs(),
        kind: "http".into(),
        queue: "default".into(),
        priority: 5,
        created_at: at(second),
        actor: "cli:alice(1000)".into(),
    }
}

fn attempt(id: i64, second: i64, outcome: &str) -> AttemptRow {
    AttemptRow {
        id,
        job: 7,
        number: 1,
        outcome: outcome.into(),
        node: 1,
        started_at: at(second - 1),
        finished_at: at(second),
        exit_code: Some(2),
        error: Some("exit code 2".into()),
        kind: "command".into(),
        schedule: None,
        actor: "cli:alice(1000)".into(),
        ended_as: Some("failed".into()),
    }
}

fn event(id: i64, second: i64, detail: &str) -> EventRow {
    EventRow {
        id,
        at: at(second),
        event: "schedules.reloaded".into(),
        actor: "system".into(),
        subject: "schedules".into(),
        detail: detail.into(),
    }
}

fn lines(rows: &Rows, policy: AuditJobs) -> (Vec<serde_json::Value>, Upto) {
    let mut head = Head::EMPTY;
    let mut buffer = Vec::new();
    let upto = project(rows, policy, Upto::default(), &mut head, &mut buffer);
    assert!(verify(buffer.as_slice(), &[]).unwrap().is_intact());
    let text = String::from_utf8(buffer).unwrap();
    (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), upto)
}

#[test]
fn each_source_has_its_line() {
    let rows = Rows {
        occurrences: vec![occurrence(1, 10)],
        submissions: vec![submission(8, 8, 11), submission(9, 12, 12)],
        attempts: vec![attempt(1, 13, "failure")],
        events: vec![event(1, 14, "{\"added\":[\"a\"]}"), event(2, 15, "not json")],
        seen: [1, 14, 1, 2].into(),
        more: [false; 4],
    };
    let (lines, upto) = lines(&rows, AuditJobs::All);
    assert_eq!(upto, [1, 14, 1, 2].into());
    let shown: Vec<String> = lines
        .iter()
        .map(|line| {
            format!(
                "{} {} {} {}\n  {}\n  upto {}",
                line["time"],
                line["event"],
                line["actor"],
                line["subject"],
                line["detail"],
                line["upto"]
            )
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn the_failures_policy_leaves_out_attempts_that_succeeded_and_still_moves_on() {
    let rows = Rows {
        attempts: vec![
            attempt(1, 1, "success"),
            attempt(2, 2, "timeout"),
            attempt(3, 3, "success"),
        ],
        seen: [0, 0, 3, 0].into(),
        ..Rows::default()
    };
    let (lines, upto) = lines(&rows, AuditJobs::Failures);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["upto"][2], 2);
    assert_eq!(upto.attempts, 3);
}

#[test]
fn a_row_waits_while_another_tables_next_page_may_hold_an_earlier_one() {
    let rows = Rows {
        attempts: vec![attempt(1, 1, "success"), attempt(2, 5, "success")],
        occurrences: vec![occurrence(1, 3), occurrence(2, 9)],
        seen: [2, 0, 2, 0].into(),
        more: [false, false, true, false],
        ..Rows::default()
    };
    let (lines, upto) = lines(&rows, AuditJobs::All);
    assert_eq!(lines.len(), 3);
    assert_eq!(upto, [1, 0, 2, 0].into());
}

proptest! {
    /// Whatever the clocks did and however the rows are cut into pages, every row has one line, in its table's order, and
    /// every page gets further.
    #[test]
    fn every_row_has_exactly_one_line(
        occurrences in prop::collection::vec(0_i64..50, 0..20),
        attempts in prop::collection::vec(0_i64..50, 0..20),
        events in prop::collection::vec(0_i64..50, 0..20),
        page in 1_usize..6,
    ) {
        let number = |index: usize| i64::try_from(index).unwrap() + 1;
        let occurrences: Vec<_> =
            occurrences.iter().enumerate().map(|(i, s)| occurrence(number(i), *s)).collect();
        let attempts: Vec<_> =
            attempts.iter().enumerate().map(|(i, s)| attempt(number(i), *s, "success")).collect();
        let events: Vec<_> =
            events.iter().enumerate().map(|(i, s)| event(number(i), *s, "{}")).collect();

        let mut head = Head::EMPTY;
        let mut buffer = Vec::new();
        let mut upto = Upto::default();
        loop {
            let skip = |done: i64| usize::try_from(done).unwrap();
            let take = |all: usize, done: i64| (skip(done) + page < all, all.min(skip(done) + page));
            let (more_o, end_o) = take(occurrences.len(), upto.occurrences);
            let (more_a, end_a) = take(attempts.len(), upto.attempts);
            let (more_e, end_e) = take(events.len(), upto.events);
            let rows = Rows {
                occurrences: occurrences[skip(upto.occurrences)..end_o].to_vec(),
                attempts: attempts[skip(upto.attempts)..end_a].to_vec(),
                events: events[skip(upto.events)..end_e].to_vec(),
                seen: [number(end_o) - 1, 0, number(end_a) - 1, number(end_e) - 1].into(),
                more: [more_o, false, more_a, more_e],
                ..Rows::default()
            };
            if rows.is_empty() {
                break;
            }
            let before = upto;
            upto = project(&rows, AuditJobs::All, upto, &mut head, &mut buffer);
            prop_assert_ne!(before, upto, "a page must get further");
        }
        prop_assert!(verify(buffer.as_slice(), &[]).unwrap().is_intact());
        let mut uptos: Vec<[i64; 4]> = String::from_utf8(buffer)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|line| serde_json::from_value(line["upto"].clone()).unwrap())
            .collect();
        prop_assert_eq!(uptos.len(), occurrences.len() + attempts.len() + events.len());
        uptos.insert(0, [0; 4]);
        for pair in uptos.windows(2) {
            let steps: i64 = (0..4).map(|table| pair[1][table] - pair[0][table]).sum();
            prop_assert_eq!(steps, 1, "each line moves one table by one row");
        }
    }
}
