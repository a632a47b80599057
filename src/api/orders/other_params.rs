//! A retry with other params: another job does the work, and the old one keeps what it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::problem::Problem;
use super::super::state::App;
use super::super::wire::{Orders, Touched};
use super::outcome::touch;
use super::{announce, context};
use crate::jobs::kind;
use crate::model::{Actor, AuditEvent, Event, JobId, JobState, JsonText};
use crate::store::audit::append_event;
use crate::store::by_hand::{Came, Order};
use crate::store::history;
use crate::store::replacement::{Replaced, replace};

/// Lets another job do the work of one that ended badly.
pub(super) async fn retry_with(
    app: &App,
    id: JobId,
    params: &Value,
    actor: Actor,
) -> Result<axum::Json<Orders>, Problem> {
    let live = Arc::clone(app.live()?);
    let found = app.store.read(move |conn| history::job(conn, id)).await?;
    let old = found.ok_or_else(|| Problem::not_found(format!("there is no job {id}")))?;
    let catalog = app.catalog();
    let kind = kind(catalog.kinds(), &old.kind).ok_or_else(|| {
        let detail = format!(
            "job {id} is of the kind `{}`, which does not exist any more, so its params cannot be checked",
            old.kind
        );
        Problem::invalid(detail, Vec::new())
    })?;
    let problems = kind.check(params);
    if !problems.is_empty() {
        return Err(Problem::invalid_params(&kind.name, "/params", &problems));
    }
    let changed = changed_params(&old.params, params);
    let (context, text, by) = (context(app, &live), JsonText::from(params), actor.clone());
    let write = app.store.write(move |conn| {
        let replaced = replace(conn, id, &text, &by, context)?;
        if let Replaced::By(job) = &replaced {
            let detail = json!({ "replaced_by": job.0, "changed_params": changed });
            let subject = format!("job:{id}");
            let event = AuditEvent::new(Order::Retry.event(), &by, &subject, &detail, context.now);
            append_event(conn, context.node, &event)?;
        }
        Ok(replaced)
    });
    let touched = match live.signals.work_of(write).await? {
        Replaced::By(job) => {
            announce(&live, Order::Retry.event(), &actor, 1);
            let _nobody_listens = live.events.send(Event::JobsSubmitted { jobs: vec![job] });
            Touched {
                id: id.0,
                result: "done".to_owned(),
                detail: format!("job {job} does it with the new params"),
                replaced_by: Some(job.0),
            }
        }
        Replaced::NotNow(JobState::Retrying) => {
            let mut touched = touch(Order::Retry, id.0, &Came::NotNow(JobState::Retrying));
            "it is retrying; only failed and cancelled jobs can be given other params, cancel it first"
                .clone_into(&mut touched.detail);
            touched
        }
        Replaced::NotNow(state) => touch(Order::Retry, id.0, &Came::NotNow(state)),
        Replaced::AlreadyBy(job) => touch(Order::Retry, id.0, &Came::ReplacedBy(job)),
        Replaced::KeyTakenBy(job) => touch(Order::Retry, id.0, &Came::KeyTakenBy(job)),
        Replaced::Hopeless(why) => touch(Order::Retry, id.0, &Came::Hopeless(why)),
        Replaced::Unknown => touch(Order::Retry, id.0, &Came::Unknown),
        Replaced::IsBatch => Touched {
            id: id.0,
            result: "not_now".to_owned(),
            detail: "it is a batch; its items can be retried with other params, one by one"
                .to_owned(),
            replaced_by: None,
        },
    };
    Ok(axum::Json(Orders {
        count: 1,
        batch_items: None,
        results: BTreeMap::from([(touched.result.clone(), 1)]),
        items: vec![touched],
        sample: Vec::new(),
        next_cursor: None,
    }))
}

/// The names of the params that are not what they were. Their values stay out of the audit log, as those of submissions do.
fn changed_params(old: &Value, new: &Value) -> Vec<String> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return Vec::new() };
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    names.filter(|name| old.get(*name) != new.get(*name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_changed_params_are_told_and_their_values_are_not() {
        let (old, new) =
            (json!({"a": 1, "b": "secret", "c": 3}), json!({"a": 1, "b": "s", "d": 4}));
        assert_eq!(changed_params(&old, &new), ["b", "c", "d"]);
        assert_eq!(changed_params(&old, &old), [""; 0]);
    }
}
