//! The daemon as a whole, measured from outside: the built program in a directory of its own, its files, its database, and what the
//! kernel says about the process.
//!
//! `cargo bench --bench daemon` measures everything in about five minutes; `cargo bench --bench daemon -- burst idle` only what is
//! named. Each line has the median of several measurements with the smallest and the largest beside it, because on a machine
//! that does other things as well a single number says nothing. What the lines mean and what was measured when is in
//! `docs/performance.md`.

mod figures;
mod house;
mod process;
mod rows;
mod sample;

/// A figure: what it is called on the command line, and how it is measured.
type Figure = (&'static str, fn());

/// All of them, in the order in which they are measured.
const FIGURES: [Figure; 7] = [
    ("burst", figures::burst::in_process),
    ("commands", figures::burst::commands),
    ("lateness", figures::lateness::across_a_minute),
    ("idle", figures::idle::with_few_and_many_schedules),
    ("load", figures::start::with_many_schedules),
    ("reload", figures::reload::of_many_files),
    ("start", figures::start::with_much_history),
];

fn main() {
    // Cargo passes `--bench`; everything else is a name.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let known = |name: &String| FIGURES.iter().any(|(figure, _)| figure == name);
    if let Some(unknown) = wanted.iter().find(|name| !known(name)) {
        let names: Vec<&str> = FIGURES.iter().map(|(name, _)| *name).collect();
        sample::say(format!("there is no figure `{unknown}`; there are: {}", names.join(", ")));
        return;
    }
    for (name, measure) in FIGURES {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            sample::say(format!("{name}:"));
            measure();
        }
    }
}
