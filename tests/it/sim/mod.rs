//! The whole engine under a driven clock, with seeded faults. `docs/simulator.md` says how to use it.

mod check;
mod dice;
mod disk;
mod evidence;
mod files;
mod handlers;
mod history;
mod life;
mod nodes;
mod people;
mod sabotage;
mod time;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use evidence::Evidence;
use world::World;

/// The queues that jobs go to; the last one has a limit of its own.
const QUEUES: [&str; 3] = ["default", "other", "narrow"];

/// What a run of a seed left behind.
struct Run {
    trace: String,
    wrong: Vec<String>,
}

/// The worlds that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One node, which is alone.
    Alone,
    /// Several nodes on one database.
    Several,
}

impl Kind {
    fn run(self, seed: u64) -> Run {
        self.run_with(seed, None)
    }

    /// The same in a database that cheats, see `sabotage`.
    fn run_with(self, seed: u64, sabotage: Option<&str>) -> Run {
        match self {
            Self::Alone => {
                let mut world = World::new(seed, sabotage);
                judged(|| world.run()).and_check(&world.evidence)
            }
            Self::Several => {
                let mut world = nodes::World::new(seed, sabotage);
                judged(|| world.run()).and_check(&world.evidence)
            }
        }
    }

    /// The test that replays a seed.
    fn replay(self) -> &'static str {
        match self {
            Self::Alone => "replay",
            Self::Several => "replay_nodes",
        }
    }

    /// Whether nothing is wrong with a seed. Says what is.
    fn holds(self, seed: u64) -> bool {
        let wrong = self.run(seed).wrong;
        if wrong.is_empty() {
            return true;
        }
        println!("seed {seed} fails:");
        for what in wrong.iter().take(20) {
            println!("    {what}");
        }
        println!(
            "    replay: SEXTON_SIM_SEED={seed} cargo test --test it sim::{} -- --ignored --exact --nocapture",
            self.replay()
        );
        false
    }

    fn replay_from_environment(self) {
        let seed = std::env::var("SEXTON_SIM_SEED").expect("SEXTON_SIM_SEED is the seed to replay");
        let seed = seed.parse().expect("a seed is a number");
        println!("{}", self.run(seed).trace);
        assert!(self.holds(seed));
    }

    fn gives_the_same_trace(self, seeds: u64) {
        for seed in 0..seeds {
            let (one, other) = (self.run(seed), self.run(seed));
            let mut lines = one.trace.lines().zip(other.trace.lines()).enumerate();
            if let Some((number, (one, other))) = lines.find(|(_, (one, other))| one != other) {
                panic!("seed {seed}, line {number}:\n  {one}\n  {other}");
            }
            assert_eq!(one.trace.len(), other.trace.len(), "seed {seed}");
            assert_eq!(one.wrong, other.wrong, "seed {seed}");
        }
    }
}

/// How a run went, before anybody has looked at what it left.
struct Lived {
    wrong: Vec<String>,
    /// It did not end in a panic, which would have left things as they are nowhere else.
    is_over: bool,
}

fn judged(run: impl FnOnce() -> Result<(), String>) -> Lived {
    let panics = Panics::listen();
    let lived = catch_unwind(AssertUnwindSafe(run));
    let mut wrong = panics.heard();
    let is_over = lived.is_ok();
    wrong.extend(lived.ok().and_then(Result::err));
    Lived { wrong, is_over }
}

impl Lived {
    fn and_check(self, evidence: &Evidence) -> Run {
        let Self { mut wrong, is_over } = self;
        if is_over {
            wrong.extend(check::check(evidence));
        }
        Run { trace: evidence.notes.trace.text(), wrong }
    }
}

/// Hears every panic of this thread, in whatever task it happens, but for those that handlers are told to have.
struct Panics;

thread_local! {
    static HEARD: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl Panics {
    fn listen() -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                if panic.payload().downcast_ref() == Some(&handlers::SCRIPTED) {
                    return;
                }
                HEARD.with_borrow_mut(|heard| heard.push(format!("a panic: {panic}")));
                before(panic);
            }));
        });
        HEARD.with_borrow_mut(Vec::clear);
        Self
    }

    fn heard(self) -> Vec<String> {
        HEARD.with_borrow_mut(std::mem::take)
    }
}

/// How many seeds a test run looks at where it is not said. They are a sample of the 1,600 that `scripts/test` asks for.
const SEEDS: u64 = 120;

/// A world of several nodes is looked at for each so many of a single one: it takes that much longer.
const PER_SEVERAL: u64 = 16;

/// How many tests share them, so that they run side by side.
const SHARES: u64 = 8;

fn share(kind: Kind, share: u64) {
    let seeds = std::env::var("SEXTON_SIM_SEEDS")
        .map_or(SEEDS, |text| text.parse().expect("SEXTON_SIM_SEEDS is how many seeds to look at"));
    let seeds = match kind {
        Kind::Alone => seeds,
        Kind::Several => seeds / PER_SEVERAL,
    };
    let own = (0..seeds).filter(|seed| seed % SHARES == share);
    let failed = own.filter(|seed| !kind.holds(*seed)).count();
    assert_eq!(failed, 0, "seeds failed; each says above how to replay it");
}

macro_rules! shares {
    ($kind:expr; $($name:ident $number:literal),*) => {
        $(#[test]
        fn $name() {
            share($kind, $number);
        })*
    };
}

mod what_must_be_true_is_true_whatever_happens {
    use super::{Kind, share};

    shares!(Kind::Alone; share_0 0, share_1 1, share_2 2, share_3 3, share_4 4, share_5 5, share_6 6, share_7 7);

    mod to_several_nodes {
        use super::{Kind, share};

        shares!(Kind::Several; share_0 0, share_1 1, share_2 2, share_3 3, share_4 4, share_5 5, share_6 6, share_7 7);
    }
}

/// Seeds that found something, by what it was. Another generator may make other worlds of them.
mod what_was_found {
    use super::Kind;

    #[test]
    fn a_stop_on_a_failing_disk_leaves_no_attempt_running_for_ever() {
        assert!(Kind::Alone.holds(1551));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    Kind::Alone.gives_the_same_trace(SEEDS / 8);
}

#[test]
fn the_same_seed_gives_several_nodes_the_same_trace() {
    Kind::Several.gives_the_same_trace(4);
}

/// Without worlds in which it happens, nothing is shown about it.
#[test]
fn there_are_worlds_in_which_jobs_are_claimed_ahead_and_put_back() {
    let ends: Vec<String> = (0..SEEDS / 2)
        .filter_map(|seed| {
            Kind::Alone
                .run(seed)
                .trace
                .lines()
                .find(|line| line.contains(" were claimed ahead, "))
                .map(str::to_owned)
        })
        .collect();
    assert!(ends.iter().any(|line| !line.contains(" 0 jobs were claimed ahead")), "{ends:?}");
    assert!(ends.iter().any(|line| !line.contains(", 0 were put back")), "{ends:?}");
}

/// Prints the trace of one seed, and what is wrong with it.
#[test]
#[ignore = "for people: it wants a seed in SEXTON_SIM_SEED"]
fn replay() {
    Kind::Alone.replay_from_environment();
}

/// The same for several nodes.
#[test]
#[ignore = "for people: it wants a seed in SEXTON_SIM_SEED"]
fn replay_nodes() {
    Kind::Several.replay_from_environment();
}
