//! Every audit log is whole, and all of them together tell of every row once and of nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sexton::audit::verify;
use sexton::store::{DatabaseUrl, Purpose, audit as anchors};

use super::super::evidence::{AuditLog, Evidence};
use super::super::history::{History, micros};
use super::Wrong;

pub(super) fn check(history: &History, evidence: &Evidence, wrong: &mut Wrong) {
    let url = DatabaseUrl::Sqlite(evidence.notes.database.clone());
    let mut conn = url.connect(Purpose::Read).expect("the database");
    let mut lines: Vec<Value> = Vec::new();
    for AuditLog { name, path } in &evidence.audit_logs {
        let log = std::fs::read(path).expect("the audit log");
        let anchors = anchors::anchors(&mut conn, name).expect("anchors");
        let report = verify(log.as_slice(), &anchors).expect("memory can be read");
        for problem in &report.problems {
            wrong.say(format!("audit log {name}, line {}: {}", problem.line, problem.what));
        }
        lines.extend(
            log.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()),
        );
    }
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    let mut expect = |what: String| *expected.entry(what).or_default() += 1;
    // The line of a row that waited may have been written while it did or after.
    let waited: BTreeSet<String> = history
        .waited()
        .into_iter()
        .map(|(schedule, nominal)| format!("schedule:{schedule} {:.6}", micros(nominal)))
        .collect();
    let about = |event: &str, instant: &str| match waited.contains(instant) {
        true => format!("a row that waited {instant}"),
        false => format!("{event} {instant}"),
    };
    for row in &history.occurrences {
        let instant = format!("schedule:{} {:.6}", row.schedule, micros(row.nominal_at));
        expect(about(&format!("schedule.{}", row.decision), &instant));
    }
    for attempt in &history.attempts {
        expect(format!("attempt.finished job:{} {}", attempt.job_id, attempt.number));
    }
    let mut calls: BTreeMap<i64, i64> = BTreeMap::new();
    for job in history.jobs.iter().filter(|job| job.schedule.is_none()) {
        let call = if job.submission == 0 { job.id } else { job.submission };
        let last = calls.entry(call).or_insert(job.id);
        *last = job.id.max(*last);
    }
    for (first, last) in calls {
        let range =
            if first == last { format!("job:{first}") } else { format!("job:{first}-{last}") };
        expect(format!("job.submitted {range}"));
    }
    let mut others = 0;
    for line in lines {
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        let (event, subject) = (text("event"), text("subject"));
        let what = match event.as_str() {
            "attempt.finished" => format!("{event} {subject} {}", line["detail"]["number"]),
            "job.submitted" => format!("{event} {subject}"),
            _ => match line["detail"]["nominal_at"].as_str() {
                // What has become of it, which is an event.
                Some(_) if line["detail"]["waited"] == true => {
                    others += 1;
                    continue;
                }
                Some(nominal) if subject.starts_with("schedule:") => {
                    about(&event, &format!("{subject} {nominal}"))
                }
                _ if event.starts_with("audit.") => continue,
                _ => {
                    others += 1;
                    continue;
                }
            },
        };
        *expected.entry(what).or_default() -= 1;
    }
    for (what, count) in expected.iter().filter(|(_, count)| **count != 0) {
        let lacks = if *count > 0 { "lacks" } else { "has too often" };
        wrong.say(format!("the audit log {lacks}: {what}"));
    }
    wrong.unless(others == history.events, || {
        format!("the audit log has {others} other lines, there are {} events", history.events)
    });
}
