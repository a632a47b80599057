//! What running attempts tell of themselves.

use jiff::SignedDuration;

use super::state::{Running, State};
use crate::store::finish::ProgressUpdate;

/// How old an attempt is when its output, however short, is put where others can read it.
const SURFACED_AFTER: SignedDuration = SignedDuration::from_millis(500);

impl State {
    /// Lets others read what attempts that are not over at once have printed.
    pub(super) fn surface_outputs(&self) {
        let now = self.pool.clock.now();
        let lasts = |running: &&Running| now.duration_since(running.started_at) >= SURFACED_AFTER;
        self.running.values().filter(lasts).for_each(|running| running.output.surface());
    }

    pub(super) fn changed_progress(&mut self) -> Vec<ProgressUpdate> {
        let changed = self.running.values_mut().filter_map(|running| {
            if !running.progress.has_changed().unwrap_or(false) {
                return None;
            }
            let report = running.progress.borrow_and_update().clone();
            Some(ProgressUpdate {
                job: running.job.id,
                number: running.job.attempt,
                percent: report.percent,
                message: report.message,
                checkpoint: report
                    .checkpoint
                    .filter(|new| running.kept.replace(new.clone()).as_ref() != Some(new)),
            })
        });
        changed.collect()
    }
}
