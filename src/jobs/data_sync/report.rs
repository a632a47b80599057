//! What a run leaves: lines in the log and a machine-readable result. Rendering only.

use serde_json::{Value, json};

use super::attempt::Tally;
use super::names::shown;
use super::params::Mode;
use super::plan::{Action, Count, Listing, Plan};
use crate::jobs::Output;

/// Writes what stays as lines: `=`.
pub(super) fn print_kept(output: &Output, plan: &Plan) {
    for path in plan.of(Action::Keep) {
        output.line(format!("= {}", shown(path)));
    }
}

/// Writes what is to happen as lines: `+` new, `*` replaced, `-` deleted, `!` in the way, `~` left out.
pub(super) fn print_changes(output: &Output, plan: &Plan, source: &Listing) {
    for (path, step) in &plan.steps {
        let sign = match step.action {
            Action::Keep => continue,
            Action::Copy => '+',
            Action::Update => '*',
            Action::Delete => '-',
        };
        output.line(format!("{sign} {} ({})", shown(path), step.reason));
    }
    for (path, reason) in &plan.conflicts {
        output.line(format!("! {}: {reason}", shown(path)));
    }
    for (path, reason) in &source.skipped {
        output.line(format!("~ {}: {reason}", shown(path)));
    }
}

/// The result of a run.
pub(super) fn result(
    mode: Mode,
    dry_run: bool,
    plan: &Plan,
    tally: &Tally,
    (source, sources): (&Listing, &[Value]),
) -> Value {
    let mode = match mode {
        Mode::Mirror => "mirror",
        Mode::Copy => "copy",
        Mode::Update => "update",
    };
    let count = |count: Count| json!({"files": count.files, "bytes": count.bytes});
    let errors =
        tally.errors.iter().map(|(path, message)| json!({"path": path, "message": message}));
    json!({
        "schema_version": 1,
        "mode": mode,
        "dry_run": dry_run,
        "plan": {
            "copy": count(plan.count(Action::Copy)),
            "update": count(plan.count(Action::Update)),
            "delete": count(plan.count(Action::Delete)),
            "keep": count(plan.count(Action::Keep)),
            "conflicts": plan.conflicts.len(),
        },
        "transferred": count(tally.transferred),
        "deleted": tally.deleted,
        "unchanged": plan.count(Action::Keep).files + tally.unchanged,
        "skipped": source.skipped.len(),
        "errors": errors.collect::<Vec<_>>(),
        "error_count": tally.error_count,
        "sources": sources,
    })
}
