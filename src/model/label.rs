//! What a label may be, wherever it comes from: a submission, or a schedule file.

use std::collections::BTreeMap;

use super::inert;

/// Free-form marks to find jobs by: `context=123`.
pub type Labels = BTreeMap<String, String>;

/// How many labels a job may have.
pub const MAX_LABELS: usize = 32;

/// How long the name or value of one may be, in bytes.
const MAX_LABEL_BYTES: usize = 256;

/// What is wrong with a label. Control characters are in none: labels stand in lists and logs, and PostgreSQL stores no NUL.
#[must_use]
pub fn label_problem(name: &str, value: &str) -> Option<String> {
    let is_legal = !name.is_empty()
        && !name.contains(['=', ','])
        && name.len().max(value.len()) <= MAX_LABEL_BYTES
        && !name.chars().chain(value.chars()).any(char::is_control);
    let shown: String = name.chars().take(100).collect();
    let rule = || {
        format!(
            "`{}` is not a label: a name without = and ,, and a value, of at most {MAX_LABEL_BYTES} bytes each and without control characters",
            inert(&shown)
        )
    };
    (!is_legal).then(rule)
}

/// A label to look for, as `name=value`.
///
/// # Errors
/// When it can be no job's label, so that nothing would be found by it.
pub fn sought_label(text: &str) -> Result<String, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| {
        format!(
            "`{}` is no label to look for: say NAME=VALUE",
            inert(&text.chars().take(100).collect::<String>())
        )
    })?;
    label_problem(name, value).map_or_else(|| Ok(text.to_owned()), Err)
}

/// What is wrong with labels.
#[must_use]
pub fn label_problems(labels: &Labels) -> Vec<String> {
    let too_many = labels.len() > MAX_LABELS;
    let too_many = too_many.then(|| format!("more than {MAX_LABELS} labels"));
    let wrong = labels.iter().filter_map(|(name, value)| label_problem(name, value));
    too_many.into_iter().chain(wrong).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_no_label_is_not_looked_for() {
        for label in ["a=1", "a=", "a=b=c"] {
            assert_eq!(sought_label(label).as_deref(), Ok(label));
        }
        for none in ["", "a", "=1", "a=\u{0}"] {
            assert!(sought_label(none).is_err(), "{none:?}");
        }
        assert!(sought_label("b").unwrap_err().contains("`b` is no label"));
    }
}
