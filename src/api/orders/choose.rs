//! Which jobs an order is for.

use std::collections::HashSet;

use super::super::problem::Problem;
use super::super::schedules::instant;
use super::super::state::App;
use super::super::wire::Selection;
use super::outcome::possible;
use crate::model::{JobState, sought_label};
use crate::store::by_hand::{self, Order};
use crate::store::history::{self, Among, JobFilter, Page};

/// How many jobs one order may be for.
const MAX_SELECTION: usize = 100_000;

/// The jobs of an order.
pub(super) struct Chosen {
    /// In the order in which it is done to them.
    pub(super) ids: Vec<i64>,
    /// The state in which they were chosen, and still have to be.
    pub(super) state: Option<JobState>,
    /// Whether they were named one by one, so that some may be such as nothing can be done to.
    pub(super) is_named: bool,
}

/// Finds the jobs that a selection means.
pub(super) async fn choose(
    app: &App,
    order: Order,
    selection: &Selection,
) -> Result<Chosen, Problem> {
    let state: Option<JobState> =
        selection.state.as_deref().map(str::parse).transpose().map_err(Problem::bad_request)?;
    let labels = selection.labels.iter().map(|label| sought_label(label));
    let filter = JobFilter {
        among: state.map(Among::State).into_iter().collect(),
        kind: selection.kind.clone(),
        schedule: selection.schedule.clone(),
        queue: selection.queue.clone(),
        labels: labels.collect::<Result<_, _>>().map_err(Problem::bad_request)?,
        since: instant("since", selection.since.as_deref())?,
        until: instant("until", selection.until.as_deref())?,
        without_replaced: false,
        without_dry_runs: false,
        without_items_of_found: false,
    };
    // An empty list is one, too: it is what somebody sends whose look has found nothing, and must not mean everything.
    let is_named = selection.ids.is_some();
    let only_state = JobFilter { among: filter.among.clone(), ..JobFilter::default() };
    if is_named && filter != only_state {
        return Err(Problem::bad_request(
            "jobs are chosen by number or by a filter; beside numbers only `state` can be given",
        ));
    }
    if !is_named && filter == JobFilter::default() {
        return Err(Problem::bad_request(
            "name jobs, or say which ones by state, kind, schedule, queue, label, since or until",
        ));
    }
    let named = selection.ids.as_deref().map(without_repeats);
    let filter = JobFilter {
        // Each that is named is answered for.
        among: if is_named { filter.among } else { within(order, state)? },
        // What another job does already is no work that is left.
        without_replaced: order == Order::Retry,
        // They go with their batches.
        without_items_of_found: true,
        ..filter
    };
    let most = i64::try_from(MAX_SELECTION).unwrap_or(i64::MAX);
    let ids = app
        .store
        .read(move |conn| {
            let ids = match named {
                Some(named) => named,
                None => history::job_ids(conn, &filter, Page { limit: most + 1, before: None })?,
            };
            by_hand::in_turn(conn, order, ids)
        })
        .await?;
    if ids.len() > MAX_SELECTION {
        return Err(Problem::bad_request(format!(
            "more than {MAX_SELECTION} jobs at once; choose fewer, for example with since and until"
        )));
    }
    Ok(Chosen { ids, state, is_named })
}

/// Among which jobs a filter chooses for an order: those to which it can be done, and in that state where one is asked for.
fn within(order: Order, state: Option<JobState>) -> Result<Vec<Among>, Problem> {
    let Some(state) = state else { return Ok(order.possible().to_vec()) };
    let among = order.possible_in(state).map(|among| vec![among]);
    among.ok_or_else(|| Problem::bad_request(format!("{}, and not {state} ones", possible(order))))
}

fn without_repeats(ids: &[i64]) -> Vec<i64> {
    let mut seen = HashSet::with_capacity(ids.len());
    ids.iter().copied().filter(|id| seen.insert(*id)).collect()
}
