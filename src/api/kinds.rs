//! What a job can be.

use axum::extract::State;

use super::extract::Path;
use super::problem::Problem;
use super::state::App;
use super::wire::{Kind, List};
use crate::jobs;
use crate::model::Priority;

/// Every kind: those of the program, and those that files declare.
#[utoipa::path(get, path = "/api/v1/kinds", responses((status = 200, body = List<Kind>)))]
pub(super) async fn index(State(app): State<App>) -> axum::Json<List<Kind>> {
    let items = app.catalog().kinds().iter().map(view).collect();
    axum::Json(List { items, next_cursor: None })
}

/// One kind, with the schema of its params where a file declares it.
#[utoipa::path(get, path = "/api/v1/kinds/{name}", responses((status = 200, body = Kind), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<axum::Json<Kind>, Problem> {
    let catalog = app.catalog();
    let kind = jobs::kind(catalog.kinds(), &name).ok_or_else(|| {
        let known: Vec<&str> = catalog.kinds().iter().map(|kind| &*kind.name).collect();
        let hint = jobs::suggest(&name, &known).map(|hint| format!("; {hint}")).unwrap_or_default();
        Problem::not_found(format!("there is no kind `{}`{hint}", name.escape_default()))
    })?;
    let mut shown = view(kind);
    shown.params_schema = kind.declared().map(|declared| declared.schema.document().clone());
    Ok(axum::Json(shown))
}

fn view(kind: &jobs::Kind) -> Kind {
    let defaults = kind.defaults();
    Kind {
        name: kind.name.clone().into_owned(),
        description: kind.summary.clone().into_owned(),
        file: kind.declared().map(|declared| declared.file.display().to_string()),
        queue: defaults.queue.clone(),
        priority: defaults.priority.map(Priority::level),
        timeout: defaults.timeout.map(|timeout| timeout.to_string()),
        max_attempts: defaults.retry.as_ref().map(|retry| retry.max_attempts),
        concurrency: defaults.concurrency,
        rate: defaults.rate.map(|rate| rate.to_string()),
        breaker: defaults.breaker.map(|breaker| breaker.to_string()),
        items: kind.declared().map(|declared| declared.items.as_str().to_owned()),
        params_schema: None,
    }
}
