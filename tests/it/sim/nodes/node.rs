//! A machine with a node on it, which lives several lives: it is started, frozen, cut off, stopped in order or dead at once.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use sexton::clock::SharedClock;
use sexton::config::Settings;
use sexton::daemon::engine::{AskTime, OpenWire, Others};
use sexton::store::Store;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};

use super::super::dice::Dice;
use super::super::disk::Disk;
use super::super::evidence::Notes;
use super::super::handlers::{HeldUp, Scripted};
use super::super::life::{Life, runtime, stop};
use super::super::people::{People, Temper};
use super::super::time::{Course, SimClock};
use super::super::trace::Trace;
use super::server::{Standing, Way};

/// How long a node may be frozen without any harm, whatever else happens to it.
const UNNOTICED: Duration = Duration::from_secs(1);

/// The machine.
pub(super) struct Node {
    settings: Arc<Settings>,
    pub(super) clock: SimClock,
    pub(super) trace: Trace,
    /// None while it is down.
    pub(super) life: Option<Running>,
    /// When the next life begins, where there is none.
    pub(super) starts_at: Duration,
    /// Until when it is frozen, and how.
    frozen: Option<Freeze>,
    /// Until when the way to the server is not what it should be.
    cut_until: Option<Duration>,
}

/// A node does nothing, and does not notice.
#[derive(Debug, Clone, Copy)]
struct Freeze {
    until: Duration,
    since: Duration,
    /// The machine is suspended: timers stand still. Otherwise it is the process that is stopped, and time goes on for it.
    is_suspended: bool,
}

/// How a life is to end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ending {
    /// After so many polls of its tasks.
    Crash { polls: u64 },
    /// In order, with so much patience.
    Stop { grace: Duration },
}

/// What a life needs.
pub(super) struct Beginning {
    pub(super) number: usize,
    pub(super) dice: Dice,
    pub(super) handlers: Dice,
    pub(super) store: Store,
    /// What the server does for the node.
    pub(super) served: AbortHandle,
    pub(super) disk: Arc<Disk>,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) ask: AskTime,
    pub(super) wire: OpenWire,
    /// Nobody uses it, and everything succeeds.
    pub(super) is_quiet: bool,
    /// Whether most jobs take less time than the store.
    pub(super) is_brisk: bool,
    pub(super) temper: Temper,
    pub(super) ends_at: Duration,
    pub(super) ending: Ending,
}

/// A life.
pub(super) struct Running {
    runtime: Runtime,
    living: JoinHandle<()>,
    served: AbortHandle,
    disk: Arc<Disk>,
    standing: watch::Sender<Standing>,
    held_up: HeldUp,
    /// Those who use it, once it has started.
    people: Arc<Mutex<Option<People>>>,
    orders: Option<oneshot::Sender<Duration>>,
    pub(super) ends_at: Duration,
    ending: Ending,
}

impl Node {
    pub(super) fn new(name: &str, settings: Settings, clock: SimClock, trace: &Trace) -> Self {
        Self {
            settings: Arc::new(settings),
            clock,
            trace: trace.of(name),
            life: None,
            starts_at: Duration::ZERO,
            frozen: None,
            cut_until: None,
        }
    }

    pub(super) fn begin(&mut self, notes: &Notes, beginning: Beginning) {
        let Beginning { number, dice, handlers, store, served, disk, standing, .. } = beginning;
        let Beginning { ask, wire, is_quiet, is_brisk, temper, ends_at, ending, .. } = beginning;
        let held_up = HeldUp::among_others();
        let handler = Arc::new(Scripted {
            dice: handlers,
            life: number,
            log: Arc::clone(&notes.log),
            trace: self.trace.clone(),
            quiet: Arc::new(AtomicBool::new(is_quiet)),
            is_brisk,
            reserved_high: self.settings.workers.reserved_high,
            held_up: held_up.clone(),
        });
        let (orders, ordered) = oneshot::channel();
        let people: Arc<Mutex<Option<People>>> = Arc::default();
        let own: SharedClock = Arc::new(self.clock.clone());
        let settings = Arc::clone(&self.settings);
        let trace = self.trace.clone();
        let (seat, notes) = (Arc::clone(&people), notes.clone());
        let (machine, served_disk) = (self.clock.clone(), Arc::clone(&disk));
        let living = async move {
            let others = match Others::meet(&store, &own, ask, wire).await {
                Ok(others) => others,
                Err(error) => {
                    return trace.line(format_args!("life {number} did not begin: {error}"));
                }
            };
            let (clock, trace) = (others.clock(), trace.clone());
            let life = Life { number, settings, clock, dice: dice.clone(), handler, trace };
            let Some(engine) = life.begin(store, Some(others)).await else { return };
            let trace = life.trace.clone();
            let people = People::of(&notes, &engine, machine, served_disk, trace, temper);
            *seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(people.clone());
            let acting = (!is_quiet)
                .then(|| tokio::spawn(people.act(dice.for_purpose("people", 0))).abort_handle());
            let grace = ordered.await.unwrap_or_default();
            if let Some(acting) = acting {
                acting.abort();
            }
            stop(engine, grace).await;
            life.trace.line(format_args!("life {number} has stopped"));
        };
        let runtime = runtime();
        let living = runtime.spawn(living);
        let orders = Some(orders);
        self.life = Some(Running {
            runtime,
            living,
            served,
            disk,
            standing,
            held_up,
            people,
            orders,
            ends_at,
            ending,
        });
    }

    /// Lets the node do nothing for a while.
    pub(super) fn freeze(&mut self, now: Duration, length: Duration, is_suspended: bool) {
        let Some(life) = self.life.as_ref().filter(|_| self.frozen.is_none()) else { return };
        self.trace.line(format_args!("frozen for {length:?}, suspended: {is_suspended}"));
        life.standing.send_modify(|standing| standing.is_frozen = true);
        if length > UNNOTICED {
            life.held_up.note();
        }
        self.frozen = Some(Freeze { until: now + length, since: now, is_suspended });
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Has the way to the server and to the other nodes be like this for a while.
    pub(super) fn cut(&mut self, now: Duration, length: Duration, way: Way) {
        let Some(life) = &self.life else { return };
        self.trace.line(format_args!("the way is {way:?} for {length:?}"));
        life.standing.send_modify(|standing| standing.way = way);
        self.cut_until = Some(now + length);
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_until.is_some()
    }

    /// Ends what has lasted long enough.
    pub(super) fn wake_if_due(&mut self, now: Duration) {
        if self.cut_until.is_some_and(|until| until <= now) {
            self.cut_until = None;
            if let Some(life) = &self.life {
                self.trace.line(format_args!("the way is open"));
                life.standing.send_modify(|standing| standing.way = Way::Open);
            }
        }
        let Some(freeze) = self.frozen.filter(|freeze| freeze.until <= now) else { return };
        self.frozen = None;
        let Some(life) = &self.life else { return };
        self.trace.line(format_args!("goes on"));
        life.standing.send_modify(|standing| standing.is_frozen = false);
        if !freeze.is_suspended {
            life.runtime.block_on(tokio::time::advance(now - freeze.since));
        }
    }

    /// Lets it live for a while, unless it is frozen.
    pub(super) fn run(&mut self, course: &Course, length: Duration) {
        if self.has_crashed_at_a_step() {
            return self.crash();
        }
        let Some(life) = self.life.as_mut().filter(|_| self.frozen.is_none()) else { return };
        let left = life.ends_at.saturating_sub(course.now());
        let crash = match (life.ending, left < length) {
            (Ending::Crash { polls }, true) => Some(polls),
            (Ending::Stop { grace }, true) => {
                life.order_stop(grace);
                None
            }
            _ => None,
        };
        life.runtime.block_on(async {
            course.enter();
            match crash {
                None => tokio::time::sleep(length).await,
                Some(polls) => {
                    tokio::time::sleep(left).await;
                    for _ in 0..polls {
                        tokio::task::yield_now().await;
                    }
                }
            }
            course.leave();
        });
        if crash.is_some() {
            self.crash();
        } else if life.living.is_finished() {
            self.trace.line(format_args!("ended"));
            (self.life, self.cut_until) = (None, None);
        }
    }

    fn has_crashed_at_a_step(&self) -> bool {
        let life = self.life.as_ref();
        life.is_some_and(|life| life.disk.crash.notified().now_or_never().is_some())
    }

    /// Nothing of it is left.
    pub(super) fn crash(&mut self) {
        let Some(life) = self.life.take() else { return };
        self.trace.line(format_args!("crashed"));
        (self.frozen, self.cut_until) = (None, None);
        life.served.abort();
    }
}

impl Running {
    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Those who use it; none as long as it has not started.
    pub(super) fn people(&self) -> Option<People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has something done on it.
    pub(super) fn have(&self, done: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.runtime.spawn(done)
    }

    pub(super) fn order_stop(&mut self, grace: Duration) {
        if let Some(orders) = self.orders.take() {
            // One that did not start has ended already.
            let _gone = orders.send(grace);
        }
    }
}
