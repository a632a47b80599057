//! Everything that can be seen of a run, a line each, with the time since boot. Two runs of a seed have the same.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use super::time::Course;

/// Where the lines go. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    course: Course,
    /// Whose lines they are, where there are several who write them.
    who: Arc<str>,
    text: Arc<Mutex<String>>,
}

impl Trace {
    pub(super) fn new(course: Course) -> Self {
        Self { course, who: "".into(), text: Arc::default() }
    }

    /// The same trace, with the name of whoever writes to it in each line.
    pub(super) fn of(&self, who: &str) -> Self {
        Self { who: format!("{who}: ").into(), ..self.clone() }
    }

    pub(super) fn line(&self, what: fmt::Arguments<'_>) {
        let at = self.course.now().as_secs_f64();
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(text, "{at:>12.3} {}{what}", self.who).expect("a string takes everything");
    }

    pub(super) fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
