//! One seed's world of several nodes: machines with clocks of their own, a server with the database that they share, and what is between
//! them. Each has a runtime of its own, and they take turns, a slice of virtual time each.

mod node;
mod server;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sexton::clock::Clock as _;
use sexton::daemon::schedule_defaults;
use sexton::model::HumanDuration;
use tokio::sync::watch;

use self::node::{Beginning, Ending, Node};
use self::server::{Server, Standing, Way};
use self::wire::Wire;
use super::dice::Dice;
use super::disk::{Disk, Mood};
use super::evidence::{self, AuditLog, Evidence, Settled, database_in};
use super::history;
use super::life::{Tempo, settings};
use super::people::{People, Temper, node_name};
use super::time::SimClock;
use super::world::BEGINNINGS;

/// How long a node may be silent.
const LEASE: Duration = Duration::from_secs(15);
pub(super) const HEARTBEAT: Duration = Duration::from_secs(3);

/// The longest slice, in milliseconds, while something happens and while nothing does.
const SLICE_MS: u64 = 200;
const QUIET_SLICE_MS: u64 = 500;

/// The world.
pub(super) struct World {
    dice: Dice,
    pub(super) evidence: Evidence,
    server: Server,
    wire: Wire,
    nodes: Vec<Node>,
    temper: Temper,
    mishaps: Mishaps,
    loses_answers: bool,
    lives: usize,
    /// Nobody does anything any more.
    is_quiet: bool,
    tempo: Tempo,
}

/// What happens to the nodes of a seed.
struct Mishaps {
    dice: Dice,
    next_at: Duration,
    /// The longest pause between two of them, in seconds.
    pause: u64,
}

#[derive(Debug, Clone, Copy)]
enum Mishap {
    Freeze { is_suspended: bool },
    Cut,
    ServerRestart,
    SetClock,
    Disk,
}

const MISHAPS: [(u64, Mishap); 6] = [
    (4, Mishap::Freeze { is_suspended: false }),
    (2, Mishap::Freeze { is_suspended: true }),
    (4, Mishap::Cut),
    (1, Mishap::ServerRestart),
    (1, Mishap::SetClock),
    (3, Mishap::Disk),
];

impl World {
    pub(super) fn new(seed: u64, sabotage: Option<&str>) -> Self {
        let mut dice = Dice::new(seed).for_purpose("nodes", 0);
        let folder = evidence::folder();
        let database = database_in(folder.path());
        history::place_database(&database, sabotage);
        let beginning: Timestamp = dice.pick(&BEGINNINGS).parse().expect("an instant");
        let home = folder.path().to_owned();
        let mut base = settings(home.clone(), &mut dice);
        base.lease.duration = HumanDuration(LEASE);
        base.lease.heartbeat = HumanDuration(HEARTBEAT);
        let server = Server::new(base.database.clone());
        let mut evidence = Evidence::new(beginning, schedule_defaults(&base), folder);
        evidence.reserved_high = base.workers.reserved_high;
        let count = dice.index(3) + 2;
        let nodes = (0..count).map(|index| {
            let name = node_name(index);
            let mut settings = base.clone();
            settings.node.name.clone_from(&name);
            settings.data_dir = home.join(&name);
            settings.audit.dir = settings.data_dir.join("log");
            let path = settings.audit.dir.join(sexton::audit::FILE_NAME);
            evidence.audit_logs.push(AuditLog { name: name.clone(), path });
            let off = i64::try_from(dice.between(0, 600_000)).expect("minutes") - 300_000;
            let shown = beginning + SignedDuration::from_millis(off);
            let clock = SimClock::new(&evidence.notes.course, shown);
            Node::new(&name, settings, clock, &evidence.notes.trace)
        });
        let nodes: Vec<Node> = nodes.collect();
        let loses = *dice.pick(&[0, 10, 10, 100]);
        let course = evidence.notes.course.clone();
        let tempo = Tempo::draw(&dice);
        let temper = Temper {
            pause: dice.between(4, 20),
            clock: false,
            wild_clock: false,
            disk: false,
            edits: false,
            nodes: count,
            most_jobs: tempo.most_jobs(),
        };
        Self {
            server,
            wire: Wire::new(course.clone(), dice.for_purpose("wire", 0), count, loses),
            nodes,
            temper,
            mishaps: Mishaps {
                dice: dice.for_purpose("mishaps", 0),
                next_at: course.now(),
                pause: dice.between(2, 20),
            },
            loses_answers: dice.chance(30),
            lives: 0,
            is_quiet: false,
            tempo,
            evidence,
            dice,
        }
    }

    /// Lets things happen for a while, and then lets everything come to its end in quiet.
    pub(super) fn run(&mut self) -> Result<(), String> {
        let mut files = self.dice.for_purpose("files", 0);
        let now = self.evidence.notes.clock.now();
        for written in self.evidence.notes.files().write_all(&mut files, now) {
            self.evidence.notes.trace.line(format_args!("{written}"));
        }
        let until = self.now() + self.dice.seconds(60, 300);
        while self.now() < until {
            self.mishap();
            self.round(SLICE_MS);
        }
        self.calm_down();
        self.come_to_an_end()
    }

    fn now(&self) -> Duration {
        self.evidence.notes.course.now()
    }

    /// Everybody's next slice of time, in the order of the dice.
    fn round(&mut self, longest_ms: u64) {
        let now = self.now();
        for index in 0..self.nodes.len() {
            self.nodes[index].wake_if_due(now);
            if self.nodes[index].life.is_none() && self.nodes[index].starts_at <= now {
                self.begin(index);
            }
        }
        let length = Duration::from_millis(self.dice.between(5, longest_ms));
        let mut order: Vec<Option<usize>> = (0..self.nodes.len()).map(Some).collect();
        order.push(None);
        for place in (1..order.len()).rev() {
            order.swap(place, self.dice.index(place + 1));
        }
        let course = self.evidence.notes.course.clone();
        for who in order {
            let Some(index) = who else {
                self.server.run(&course, length);
                continue;
            };
            let node = &mut self.nodes[index];
            if node.life.is_none() {
                continue;
            }
            if !node.is_frozen() {
                self.wire.deliver(index, node.is_cut_off());
            }
            node.run(&course, length);
            if node.life.is_none() {
                self.gone(index);
            }
        }
        course.pass(length);
        if self.server.has_changed() {
            let notes = &self.evidence.notes;
            let look = (history::last_change(&notes.database), notes.clock.now());
            self.evidence.looks.push(look);
        }
    }

    fn gone(&mut self, index: usize) {
        self.wire.unplug(index);
        let down =
            if self.dice.chance(80) { self.dice.seconds(1, 20) } else { self.dice.seconds(20, 90) };
        self.nodes[index].starts_at = self.now() + down;
    }

    fn begin(&mut self, index: usize) {
        let dice = self.dice.for_purpose("life", self.lives as u64 + 1);
        let mut plan = dice.for_purpose("plan", 0);
        let crash_at_step =
            plan.chance(30).then(|| plan.between(0, 100)).filter(|_| !self.is_quiet);
        let loses_answers = self.loses_answers && !self.is_quiet;
        let trace = self.nodes[index].trace.clone();
        let disk = Disk::new(
            dice.for_purpose("disk", 0),
            crash_at_step,
            loses_answers,
            self.tempo.step(),
            trace,
        );
        let (standing, watched) = watch::channel(Standing::GOOD);
        let Some((store, served)) = self.server.connect(Arc::clone(&disk), watched) else { return };
        self.lives += 1;
        let clock = self.evidence.notes.clock.clone();
        let (ends_at, ending) = match self.is_quiet {
            true => (Duration::MAX, Ending::Stop { grace: Duration::ZERO }),
            false => {
                let ending = match plan.chance(60) {
                    true => Ending::Crash { polls: plan.between(0, 40) },
                    false => Ending::Stop { grace: plan.seconds(0, 60) },
                };
                (self.now() + plan.seconds(10, 150), ending)
            }
        };
        let beginning = Beginning {
            number: self.lives,
            handlers: self.dice.for_purpose("handlers", 0),
            store,
            served,
            disk,
            standing,
            ask: Arc::new(move |_conn| Ok(clock.now())),
            wire: self.wire.end_of(index),
            is_quiet: self.is_quiet,
            is_brisk: self.tempo.is_brisk,
            temper: self.temper,
            ends_at,
            ending,
            dice,
        };
        self.nodes[index].begin(&self.evidence.notes, beginning);
    }

    fn mishap(&mut self) {
        let now = self.now();
        if now < self.mishaps.next_at {
            return;
        }
        let dice = &mut self.mishaps.dice;
        self.mishaps.next_at = now + dice.seconds(0, self.mishaps.pause);
        let index = dice.index(self.nodes.len());
        let is_short = dice.chance(50);
        let length = if is_short { dice.seconds(0, 1) } else { dice.seconds(1, 40) };
        let node = &mut self.nodes[index];
        match dice.weighed(&MISHAPS) {
            Mishap::Freeze { is_suspended } => node.freeze(now, length, is_suspended),
            Mishap::Cut => node.cut(now, length, Way::Silent),
            Mishap::ServerRestart => {
                let length = dice.seconds(0, 8);
                self.nodes.iter_mut().for_each(|node| node.cut(now, length, Way::Refused));
            }
            Mishap::SetClock => {
                let seconds = i64::try_from(dice.between(0, 1200)).expect("minutes") - 600;
                node.clock.step(SignedDuration::from_secs(seconds));
                node.trace.line(format_args!("its clock is set by {seconds} s"));
            }
            Mishap::Disk => {
                let moods =
                    [(4, Mood::Healthy), (3, Mood::Slow), (3, Mood::Flaky), (1, Mood::Full)];
                let mood = dice.weighed(&moods);
                node.trace.line(format_args!("the disk is {mood:?}"));
                if let Some(life) = &node.life {
                    life.disk().set_mood(mood);
                }
            }
        }
    }

    /// Ends every life, and begins the last ones, in which nothing fails and nobody disturbs.
    fn calm_down(&mut self) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].life.is_some() {
                self.nodes[index].crash();
                self.gone(index);
            }
        }
        self.is_quiet = true;
        self.evidence.notes.trace.line(format_args!("the quiet lives begin"));
    }

    /// Lets time pass until something has come true.
    fn wait_until(
        &mut self,
        what: &str,
        longest: Duration,
        mut is_so: impl FnMut(&Self) -> bool,
    ) -> Result<(), String> {
        let until = self.now() + longest;
        while !is_so(self) {
            if self.now() >= until {
                let live = history::live(&self.evidence.notes.database);
                return Err(format!("it did not come true in {longest:?} that {what}; {live:?}"));
            }
            self.round(QUIET_SLICE_MS);
        }
        Ok(())
    }

    fn wait(&mut self, time: Duration) -> Result<(), String> {
        let until = self.now() + time;
        self.wait_until("time passes", Duration::MAX / 4, |world| world.now() >= until)
    }

    fn people(&self) -> Vec<People> {
        self.nodes.iter().filter_map(|node| node.life.as_ref()?.people()).collect()
    }

    /// Has people do something on their nodes, and waits for it.
    fn have<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        what: &str,
        done: impl Fn(People) -> F,
    ) -> Result<(), String> {
        let lives = self.nodes.iter().filter_map(|node| node.life.as_ref());
        let tasks: Vec<_> =
            lives.filter_map(|life| Some(life.have(done(life.people()?)))).collect();
        self.wait_until(what, Duration::from_secs(100), |_| {
            tasks.iter().all(tokio::task::JoinHandle::is_finished)
        })
    }

    fn come_to_an_end(&mut self) -> Result<(), String> {
        let nodes = self.nodes.len();
        self.wait_until("every node starts", Duration::from_secs(300), |world| {
            world.people().len() == nodes
        })?;
        self.wait(Duration::from_secs(100))?;
        let people = self.people();
        let notes = &self.evidence.notes;
        let settled = Settled::now(notes.clock.now(), &people[0].reloader, &notes.database);
        notes.trace.line(format_args!("settled at {}", settled.at));
        self.evidence.settled = Some(settled);
        people[0].look();
        self.have("everything goes on", |people| async move {
            people.let_everything_go_on().await;
        })?;
        let now = self.evidence.notes.clock.now();
        self.evidence.notes.files().disable_all(now);
        self.have("schedules are reloaded", |people| async move { people.reload().await })?;
        // What was due just before the reload is there by then.
        let mut looked = self.now();
        self.wait_until("no job is live", Duration::from_secs(2000), |world| {
            if world.now() < looked + Duration::from_secs(5) {
                return false;
            }
            looked = world.now();
            history::live(&world.evidence.notes.database).is_nothing()
        })?;
        for node in &mut self.nodes {
            node.starts_at = Duration::MAX;
            if let Some(life) = &mut node.life {
                life.order_stop(Duration::from_secs(1));
            }
        }
        // Those that are gone are not to begin again.
        let course = self.evidence.notes.course.clone();
        for _ in 0..2000 {
            if self.nodes.iter().all(|node| node.life.is_none()) {
                return Ok(());
            }
            let length = Duration::from_millis(self.dice.between(5, QUIET_SLICE_MS));
            self.server.run(&course, length);
            self.nodes.iter_mut().for_each(|node| node.run(&course, length));
            course.pass(length);
        }
        Err("nodes do not stop".to_owned())
    }
}
