//! What a schema error means to somebody who has to repair the file.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::LocationSegment;

use crate::jobs::kb_validation::finding::Report;
use crate::jobs::kb_validation::rule::Rule;
use crate::jobs::kb_validation::text::Lines;
use crate::jobs::kb_validation::tree::Tree;
use crate::jobs::schema::told;

/// `anyOf` within `anyOf` is followed this far.
const MAX_NESTING: usize = 16;

/// The reports an error comes to. "Not valid under any of the schemas" helps nobody, so the branch that was most
/// likely meant is explained instead.
pub(super) fn explain(error: &ValidationError<'_>, tree: &Tree, lines: &Lines<'_>) -> Vec<Report> {
    let mut reports = Vec::new();
    descend(error, tree, lines, 0, &mut reports);
    reports
}

fn descend(
    error: &ValidationError<'_>,
    tree: &Tree,
    lines: &Lines<'_>,
    level: usize,
    reports: &mut Vec<Report>,
) {
    if level < MAX_NESTING
        && let ValidationErrorKind::AnyOf { context }
        | ValidationErrorKind::OneOfNotValid { context } = error.kind()
        && let Some(branch) = best(context)
    {
        for inner in branch {
            descend(inner, tree, lines, level + 1, reports);
        }
        return;
    }
    reports.push(report(error, tree, lines));
}

/// The branch that gets furthest: one whose errors are not about the value being of another kind altogether, then
/// the one that fails deepest inside, then the one with the fewest errors.
fn best<'a>(
    branches: &'a [Vec<ValidationError<'static>>],
) -> Option<&'a [ValidationError<'static>]> {
    let top = branches.iter().flatten().map(depth).min()?;
    let is_misfit = |error: &ValidationError<'_>| {
        let about_kind = matches!(
            error.kind(),
            ValidationErrorKind::Type { .. } | ValidationErrorKind::FalseSchema
        );
        let is_tag = matches!(
            error.kind(),
            ValidationErrorKind::Constant { .. } | ValidationErrorKind::Enum { .. }
        );
        // A wrong `"kind": "a"` one level down says that another branch was meant, just as a wrong type does.
        about_kind && depth(error) == top || is_tag && depth(error) <= top + 1
    };
    branches
        .iter()
        .filter(|branch| !branch.is_empty())
        .min_by_key(|branch| {
            let deepest = branch.iter().map(depth).max().unwrap_or(0);
            (branch.iter().any(is_misfit), std::cmp::Reverse(deepest), branch.len())
        })
        .map(Vec::as_slice)
}

fn depth(error: &ValidationError<'_>) -> usize {
    error.instance_path().segments().count()
}

fn report(error: &ValidationError<'_>, tree: &Tree, lines: &Lines<'_>) -> Report {
    let place = error.instance_path().as_str();
    let what = told(error);
    let message = if place.is_empty() { what } else { format!("{place}: {what}") };
    let keyword = error.kind().keyword();
    Report::new(Rule::Schema, message)
        .at(lines.position(offset(error, tree)))
        .hint(format!("the schema says so at {}", error.schema_path()))
        .about(format!("{place} {keyword} {}", error.schema_path()))
}

/// Where the value is, or the nearest thing around it; an unexpected property itself rather than its object.
fn offset(error: &ValidationError<'_>, tree: &Tree) -> usize {
    let mut place = tree;
    for segment in error.instance_path().segments() {
        let next = match segment {
            // A list's index may come as a name; which it is only the tree knows.
            LocationSegment::Property(name) => {
                place.field(&name).or_else(|| place.item(name.parse().ok()?))
            }
            LocationSegment::Index(index) => {
                place.item(index).or_else(|| place.field(&index.to_string()))
            }
        };
        match next {
            Some(next) => place = next,
            None => break,
        }
    }
    let unexpected = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => unexpected.first(),
        _ => None,
    };
    unexpected.and_then(|name| place.field(name)).unwrap_or(place).offset
}
