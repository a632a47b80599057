//! The work of an order, step by step, as [`by_hand`] cuts it.

use std::sync::Arc;

use super::super::problem::Problem;
use super::super::state::{App, Live};
use super::super::wire::Touched;
use super::choose::Chosen;
use super::outcome::touch;
use crate::jobs::remove_logs;
use crate::model::{JobId, JobState};
use crate::store::batch_orders;
use crate::store::by_hand::{self, Came, Dropped, Order, OrderedBy, STEP_JOBS, Step};

/// What came of an order.
#[derive(Default)]
pub(super) struct Done {
    pub(super) touched: Vec<Touched>,
    /// How many items of batches were dropped.
    pub(super) batch_items: usize,
}

/// Carries out an order, and tells at each step those whom it concerns.
pub(super) async fn step_by_step(
    app: &App,
    live: &Live,
    order: Order,
    chosen: Chosen,
    by: &OrderedBy,
) -> Result<Done, Problem> {
    let Chosen { mut ids, state, is_named } = chosen;
    let mut with_others = Vec::new();
    if order == Order::Cancel && is_named && state.is_none() {
        let named = ids.clone();
        let items =
            app.store.read(move |conn| by_hand::cancelled_with_others(conn, &named)).await?;
        (with_others, ids) = ids.into_iter().partition(|id| items.contains(id));
    }
    let count = ids.len() + with_others.len();
    let mut done = Done::default();
    for step in ids.chunks(STEP_JOBS) {
        let before = done.touched.len();
        take(app, live, order, step, state, by, &mut done).await.map_err(|mut problem| {
            if before > 0 {
                problem.detail = format!(
                    "{}; {before} of {count} jobs were done before that, and the same order can be given again",
                    problem.detail,
                );
            }
            problem
        })?;
    }
    let items = with_others.clone();
    let came = app.store.read(move |conn| by_hand::came_with_others(conn, &items)).await?;
    let came = with_others.iter().zip(came);
    done.touched.extend(came.map(|(id, came)| touch(order, *id, &came)));
    Ok(done)
}

/// Takes one step.
async fn take(
    app: &App,
    live: &Live,
    order: Order,
    step: &[i64],
    state: Option<JobState>,
    by: &OrderedBy,
    done: &mut Done,
) -> Result<(), Problem> {
    let (these, asked) = (step.to_vec(), by.clone());
    let write = app.store.write(move |conn| by_hand::carry_out(conn, order, &these, state, &asked));
    let Step { mut came, to_stop, unfinished, gone } = write.await?;
    live.signals.cancel(to_stop);
    live.signals.work();
    delete_logs(app, gone).await;
    for batch in unfinished {
        let came_of_batch = if order == Order::Drop {
            Some(drop_batch(app, batch, by, &mut done.batch_items).await?)
        } else {
            let stop = |jobs| {
                live.signals.cancel(jobs);
                live.signals.work();
            };
            let is_over = batch_orders::finish(&app.store, batch, by.context, stop).await?;
            is_over.then_some(Came::Done)
        };
        let place = step.iter().position(|id| *id == batch.0);
        if let (Some(place), Some(came_of_batch)) = (place, came_of_batch) {
            came[place] = came_of_batch;
        }
    }
    done.touched.extend(step.iter().zip(came).map(|(id, came)| touch(order, *id, &came)));
    Ok(())
}

/// Deletes a batch behind its items, which are counted.
async fn drop_batch(
    app: &App,
    batch: JobId,
    by: &OrderedBy,
    batch_items: &mut usize,
) -> Result<Came, Problem> {
    let mut items = 0;
    loop {
        let by = by.clone();
        let write = app.store.write(move |conn| by_hand::drop_some(conn, batch, &by));
        let Dropped { gone, came } = write.await?;
        let dropped = gone.iter().filter(|id| **id != batch.0).count();
        (items, *batch_items) = (items + dropped, *batch_items + dropped);
        delete_logs(app, gone).await;
        match came {
            None => {}
            Some(Came::Done) => return Ok(Came::Done),
            Some(why) if items > 0 => return Ok(Came::InPart(items, Box::new(why))),
            Some(why) => return Ok(why),
        }
    }
}

/// Logs go after the rows, as when history is pruned: one that is left over by a crash in between is only a file.
async fn delete_logs(app: &App, gone: Vec<i64>) {
    if gone.is_empty() {
        return;
    }
    let paths = Arc::clone(&app.paths);
    let removal = tokio::task::spawn_blocking(move || {
        gone.iter().for_each(|id| remove_logs(&paths, JobId(*id)));
    });
    if removal.await.is_err() {
        tracing::error!("the logs of dropped jobs could not be removed");
    }
}
