//! How the daemon stands, in the one line that `systemctl status` shows.

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::supervisor;
use crate::api::{self, App};

/// How often trouble that announces itself nowhere, such as a full disk, is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long the line may be, in characters. More does not fit on a screen, and `sexton status` has the rest.
const MAX_CHARS: usize = 500;

/// Knows how the daemon stands.
#[derive(Clone)]
pub(super) struct Standing {
    app: App,
}

impl Standing {
    pub(super) fn new(app: App) -> Self {
        Self { app }
    }

    /// What is in force and the first thing that is wrong.
    pub(super) fn line(&self) -> String {
        let catalog = self.app.catalog();
        let in_force =
            format!("{} schedules, revision {}", catalog.schedules.len(), catalog.revision.short());
        with_problems(in_force, &api::problems(&self.app, &catalog))
    }

    /// Tells systemd whenever the line changes, until `stop`: whoever looks after a reload sees which file is broken, however the
    /// reload came about.
    pub(super) async fn keep_told(self, stop: CancellationToken) {
        let Some(live) = self.app.live.clone() else { return };
        let mut reloads = live.reloader.subscribe();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                report = reloads.recv() => if matches!(report, Err(RecvError::Closed)) { return },
                _ = look.tick() => {}
            }
            let line = self.line();
            if line != told {
                supervisor::status(&line);
                told = line;
            }
        }
    }
}

fn with_problems(in_force: String, problems: &[String]) -> String {
    let Some(first) = problems.first() else { return in_force };
    let others = match problems.len() - 1 {
        0 => String::new(),
        count => format!(" (and {count} more, see `sexton status`)"),
    };
    let room = MAX_CHARS.saturating_sub(in_force.chars().count() + others.chars().count());
    let mut first: String = first.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if let Some((cut, _)) = first.char_indices().nth(room) {
        first.truncate(cut);
        first.push('…');
    }
    format!("{in_force}; {first}{others}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(problems: &[&str]) -> String {
        let problems: Vec<String> = problems.iter().map(|&problem| problem.to_owned()).collect();
        with_problems("2 schedules, revision ab".to_owned(), &problems)
    }

    #[test]
    fn e3_the_line_names_the_first_problem_and_counts_the_others() {
        assert_eq!(line(&[]), "2 schedules, revision ab");
        assert_eq!(line(&["a.toml:4:3: odd"]), "2 schedules, revision ab; a.toml:4:3: odd");
        let several = line(&["a.toml:4:3: odd", "b", "c"]);
        assert_eq!(
            several,
            "2 schedules, revision ab; a.toml:4:3: odd (and 2 more, see `sexton status`)"
        );
    }

    #[test]
    fn a_long_problem_or_one_of_several_lines_stays_one_short_line() {
        let long = line(&[&"ä\n".repeat(4000), "b"]);
        assert!(long.chars().count() <= MAX_CHARS + 10, "{}", long.len());
        assert!(!long.contains('\n') && long.contains('…'));
        assert!(long.ends_with("(and 1 more, see `sexton status`)"), "{long}");
    }
}
