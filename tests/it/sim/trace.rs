//! Everything that can be seen of a run, a line each, with the time since boot. Two runs of a seed have the same.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use sexton::clock::Clock as _;

use super::time::SimClock;

/// Where the lines go. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    clock: SimClock,
    text: Arc<Mutex<String>>,
}

impl Trace {
    pub(super) fn new(clock: SimClock) -> Self {
        Self { clock, text: Arc::new(Mutex::new(String::new())) }
    }

    pub(super) fn line(&self, what: fmt::Arguments<'_>) {
        let at = self.clock.since_boot();
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(text, "{:>12.3} {what}", at.as_secs_f64()).expect("a string takes everything");
    }

    pub(super) fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
