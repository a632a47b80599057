//! `sexton bench`.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::args::Bench;
use super::output::{Exit, Failure, Outcome, json, line, note, table};
use super::session::Session;
use crate::bench::{BenchError, Figure, Place, Plan, Report, run as measure};
use crate::model::Chain;
use crate::store::DatabaseUrl;

pub(super) async fn run(session: &Session, args: Bench) -> Outcome {
    let mut place = place(&args)?;
    if place.is_in_memory() {
        note(
            "note: the database is in memory, where a commit waits for no disk; --directory puts it on one",
        );
    }
    let plan = Plan {
        jobs: args.jobs,
        workers: args.workers.into_iter().map(usize::from).collect(),
        repeats: usize::from(args.repeats),
    };
    let stop = CancellationToken::new();
    let measuring = tokio::task::spawn_blocking({
        let stop = stop.clone();
        move || {
            let measured =
                measure(&plan, &mut place, &stop, &mut |what| note(format!("measuring: {what}")));
            // What is in the way of the figures comes first.
            let cleared = place.clear();
            measured.and_then(|report| cleared.map(|()| report))
        }
    });
    let ended = tokio::spawn(cancel_when_told(stop.clone()));
    let measured = measuring.await;
    ended.abort();
    match measured {
        Ok(Ok(report)) => {
            show(session, &report);
            Ok(Exit::Ok)
        }
        Ok(Err(BenchError::Stopped)) => {
            Err(Failure::new(Exit::Failed, "stopped; what was made for the measurement is removed"))
        }
        Ok(Err(error)) => Err(failed(&error)),
        Err(panicked) => {
            Err(Failure::new(Exit::Failed, format!("the measurement failed: {panicked}")))
        }
    }
}

fn place(args: &Bench) -> Result<Place, Failure> {
    let place = match &args.database {
        Some(url) => {
            let url: DatabaseUrl = url.parse().map_err(|error: crate::store::StoreError| {
                Failure::new(Exit::Usage, error.to_string())
            })?;
            Place::given(url)
        }
        None => Place::below(args.directory.as_deref()),
    };
    place.map_err(|error| failed(&error))
}

fn failed(error: &BenchError) -> Failure {
    let exit = match error {
        BenchError::NotEmpty(_) => Exit::Refused,
        _ => Exit::Failed,
    };
    Failure::new(exit, Chain(error).to_string())
}

/// Ctrl-C and SIGTERM end the measurement, not the process: that has something to remove.
async fn cancel_when_told(stop: CancellationToken) {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    stop.cancel();
}

fn show(session: &Session, report: &Report) {
    if session.json {
        json(report);
        return;
    }
    let load = report.load.map_or_else(|| "unknown".to_owned(), |load| load.to_string());
    line(format!(
        "sexton {}, {} processors, load {load}, {}",
        report.version, report.processors, report.database
    ));
    let cell = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let row = |figure: &Figure| {
        vec![
            figure.name.clone(),
            cell(figure.summary()),
            figure.unit.to_owned(),
            cell(figure.bare_summary()),
            cell(figure.ratio_summary()),
        ]
    };
    table(
        &["FIGURE", "MEASURED", "UNIT", "BARE", "RATIO"],
        report.figures.iter().map(row).collect(),
    );
}
