//! The items of a batch that is submitted.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::shown;
use crate::api::problem::{FieldError, Problem};
use crate::api::wire::Item;
use crate::jobs::{ItemRuns, Kind};
use crate::model::{JsonText, NewItem};

/// How many items a batch may have, and how long the name of one may be, in bytes.
const MAX_ITEMS: usize = 100_000;
const MAX_ITEM_NAME_BYTES: usize = 200;

/// How long the params of all items may be together, in bytes of JSON. Each item has those of the batch, so a few kilobytes of body could
/// otherwise become more than memory holds.
const MAX_ITEMS_BYTES: usize = 64 << 20;

/// Whether all items of a batch of the kind are done in one run.
pub(super) fn runs_items_at_once(kind: &Kind) -> bool {
    kind.declared().is_some_and(|declared| declared.items == ItemRuns::All)
}

/// The items of a batch with everything checked. The batch's params alone may lack what each item brings, so what is checked is what
/// each item's job gets. Where one run does all of them, its program gets the batch's params and beside them what each item has of its own.
pub(super) fn checked_items(
    items: Vec<Item>,
    params: &Value,
    kind: &Kind,
    prefix: &str,
) -> Result<Vec<NewItem>, Problem> {
    let wrong = |place: String, detail: String| {
        let error = FieldError { pointer: format!("{prefix}/items{place}"), detail };
        Err(Problem::invalid("the items are not valid", vec![error]))
    };
    if items.is_empty() || items.len() > MAX_ITEMS {
        return wrong(String::new(), format!("a batch has 1 to {MAX_ITEMS} items"));
    }
    let is_whole = runs_items_at_once(kind);
    if is_whole {
        let problems = kind.check(params);
        if !problems.is_empty() {
            return Err(Problem::invalid_params(
                &kind.name,
                &format!("{prefix}/params"),
                &problems,
            ));
        }
    }
    let mut checked = Vec::with_capacity(items.len());
    let mut names = HashSet::with_capacity(items.len());
    let mut bytes = 0;
    for (index, item) in items.into_iter().enumerate() {
        let (name, own) = match item {
            Item::Name(name) => (name, None),
            Item::WithParams { name, params } => (name, params),
        };
        let is_legal =
            (1..=MAX_ITEM_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
        if !is_legal {
            let detail =
                format!("a name has 1 to {MAX_ITEM_NAME_BYTES} bytes and no control characters");
            return wrong(format!("/{index}"), detail);
        }
        if !names.insert(name.clone()) {
            return wrong(format!("/{index}"), format!("`{}` is named twice", shown(&name)));
        }
        let mut merged = params.clone();
        let alone = is_whole.then(|| JsonText::from(own.as_ref().unwrap_or(&json!({}))));
        match (&mut merged, own) {
            (Value::Object(merged), Some(Value::Object(own))) => merged.extend(own),
            (_, None) => {}
            _ => return wrong(format!("/{index}/params"), "params are an object".to_owned()),
        }
        let problems = kind.check(&merged);
        if !problems.is_empty() {
            let place = format!("{prefix}/items/{index}/params");
            return Err(Problem::invalid_params(&kind.name, &place, &problems));
        }
        let params = alone.unwrap_or_else(|| JsonText::from(&merged));
        bytes += params.as_str().len();
        if bytes > MAX_ITEMS_BYTES {
            let detail = format!(
                "the params of the items up to here are more than {MAX_ITEMS_BYTES} bytes together; each has those of the batch, so \
                 put what is long into a file that they name"
            );
            return wrong(format!("/{index}"), detail);
        }
        checked.push(NewItem { name, params, node: None });
    }
    Ok(checked)
}
