//! How long a reload takes.

use std::time::Duration;

use super::{now, once_a_day};
use crate::house::{Daemon, House, clock, wait};
use crate::rows::adopted_since;
use crate::sample::{millis, report};

const SCHEDULES: usize = 10_000;
const ROUNDS: u32 = 5;
const WORKERS: usize = 4;

/// How often the database is asked whether the scheduler has taken a reload over.
const STEP: Duration = Duration::from_millis(10);

/// How long the daemon's own reload, which the change of files leads to as well, is waited out.
const QUIET: Duration = Duration::from_millis(1500);

/// Ten thousand files that all changed, then the same with none changed. The texts are swapped in by a link, as deployments do,
/// so that no reload sees half of them.
pub(crate) fn of_many_files() {
    let house = House::with_workers(WORKERS);
    for version in 0..=ROUNDS {
        let schedules = (0..SCHEDULES).map(|number| changed(number, version));
        house.write_schedules(&format!("version-{version}"), schedules);
    }
    house.use_schedules("version-0");
    let daemon = house.start();
    wait(QUIET);
    let (mut answered, mut in_force, mut unchanged) = (Vec::new(), Vec::new(), Vec::new());
    for version in 1..=ROUNDS {
        house.use_schedules(&format!("version-{version}"));
        let (since, began) = (now(), clock());
        reload(&daemon);
        answered.push(millis(clock() - began));
        while adopted_since(&house.database(), since) < SCHEDULES as i64 {
            wait(STEP);
        }
        in_force.push(millis(clock() - began));
        wait(QUIET * 2);
        let began = clock();
        reload(&daemon);
        unchanged.push(millis(clock() - began));
    }
    daemon.stop();
    report("10,000 files, all changed: answered after", "ms", &answered);
    report("10,000 files, all changed: the scheduler has them after", "ms", &in_force);
    report("10,000 files, none changed: answered after", "ms", &unchanged);
}

/// Another rule in each version, so that the scheduler has to take over every one of them.
fn changed(number: usize, version: u32) -> (String, String) {
    let (id, text) = once_a_day(number, version);
    let rule = format!(
        "[when]\nnot_after = 2100-01-01T00:00:00Z\ncron = \"{} ",
        (number / 12 + version as usize) % 60
    );
    let old = format!("[when]\ncron = \"{} ", number / 12 % 60);
    (id, text.replacen(&old, &rule, 1))
}

fn reload(daemon: &Daemon) {
    assert_eq!(daemon.post("/api/v1/reload"), 200, "the reload succeeds");
}
