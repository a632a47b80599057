//! From events to lines: text for people, flat JSON for machines, entries for the journal.
//!
//! tracing-subscriber's own formats nest the fields of spans and let some characters through that disturb a screen. Here a line
//! has its event's fields and those of the spans around it side by side, inner over outer, and is one line whatever they hold.

use std::fmt::{self, Write as _};
use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, Scope};

use super::journal;
use crate::clock::SharedClock;
use crate::model::is_harmful;

/// How lines look.
#[derive(Debug, Clone)]
pub(super) enum Look {
    Json,
    /// An entry in the protocol of the journal.
    Journal,
    Text {
        /// With escape sequences for a terminal.
        colour: bool,
        /// The zone that times are shown in; `None`: no times, because whoever reads adds them.
        zone: Option<TimeZone>,
    },
}

/// Formats events and writes each with one call.
#[derive(Debug)]
pub(super) struct Lines<W> {
    look: Look,
    clock: SharedClock,
    /// Its clones write to the same place.
    writer: W,
}

impl<W> Lines<W> {
    pub(super) fn new(look: Look, clock: SharedClock, writer: W) -> Self {
        Self { look, clock, writer }
    }
}

/// Names and values in the order of their appearance.
#[derive(Debug, Default, Clone)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), Value::from(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(source) = cause {
            let _ = write!(text, ": {source}");
            cause = source.source();
        }
        self.set(field.name(), Value::String(text));
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + Clone + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        // Two layers of this kind share a span's fields.
        if extensions.get_mut::<Fields>().is_none() {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            extensions.insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                for (name, value) in &of_span.0 {
                    fields.set(name, value.clone());
                }
            }
        }
        event.record(&mut fields);
        let message = fields.0.iter().position(|(name, _)| *name == "message");
        let message = match message.map(|at| fields.0.remove(at).1) {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let line = Line {
            time: self.clock.now(),
            level: *event.metadata().level(),
            target: event.metadata().target(),
            place: event.metadata().file().zip(event.metadata().line()),
            message: &message,
            fields: &fields.0,
        };
        let line = match &self.look {
            Look::Json => line.json().into_bytes(),
            Look::Journal => journal::entry(&line),
            Look::Text { colour, zone } => line.text(*colour, zone.as_ref()).into_bytes(),
        };
        // A log that cannot be written must not stop what it tells of; the writer counts its losses.
        let _lost = self.writer.clone().write_all(&line);
    }
}

/// What one line says.
pub(super) struct Line<'a> {
    time: Timestamp,
    pub(super) level: Level,
    pub(super) target: &'a str,
    /// The file and the line of the source.
    pub(super) place: Option<(&'a str, u32)>,
    pub(super) message: &'a str,
    pub(super) fields: &'a [(&'static str, Value)],
}

impl Line<'_> {
    fn json(&self) -> String {
        let mut line = String::with_capacity(256);
        let level = self.level.as_str().to_ascii_lowercase();
        let _ = write!(line, "{{\"timestamp\":\"{:.6}\",\"level\":\"{level}\"", self.time);
        push_member(&mut line, "message", &Value::from(self.message));
        push_member(&mut line, "target", &Value::from(self.target));
        for (name, value) in self.fields {
            // A field of ours that is called like one of the four would make the object ambiguous.
            let taken = ["timestamp", "level", "target"].contains(name);
            let name = if taken { format!("field_{name}") } else { (*name).to_owned() };
            push_member(&mut line, &name, value);
        }
        line.push_str("}\n");
        line
    }

    fn text(&self, colour: bool, zone: Option<&TimeZone>) -> String {
        let mut line = String::with_capacity(160);
        if let Some(zone) = zone {
            let time = self.time.to_zoned(zone.clone());
            let _ = write!(line, "{} ", time.strftime("%Y-%m-%d %H:%M:%S%.3f"));
        }
        let level = self.level.as_str();
        let (on, off) = if colour { (colour_of(self.level), "\x1b[0m") } else { ("", "") };
        let _ = write!(line, "{on}{level:<5}{off} ");
        if !self.target.starts_with("sexton") {
            let _ = write!(line, "{}: ", self.target);
        }
        push_inert(&mut line, self.message);
        let (on, off) = if colour { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        for (name, value) in self.fields {
            let _ = write!(line, " {on}{name}={off}");
            match value {
                Value::String(text) if is_plain(text) => line.push_str(text),
                other => push_inert(&mut line, &other.to_string()),
            }
        }
        line.push('\n');
        line
    }
}

fn colour_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[1;31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// Whether a value can stand behind `=` as it is.
fn is_plain(text: &str) -> bool {
    let needs_quotes = |c: char| c.is_whitespace() || c == '"' || c == '=' || is_harmful(c);
    !text.is_empty() && !text.chars().any(needs_quotes)
}

fn push_member(line: &mut String, name: &str, value: &Value) {
    let _ = write!(line, ",{}:", Value::from(name));
    push_inert(line, &value.to_string());
}

/// Text with what could disturb a screen or begin a new line escaped. In JSON such characters are legal only inside strings,
/// where the escape says the same.
fn push_inert(line: &mut String, text: &str) {
    for c in text.chars() {
        if is_harmful(c) {
            let _ = write!(line, "\\u{:04x}", u32::from(c));
        } else {
            line.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::clock::ManualClock;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What `what` logs, in both looks.
    fn logged(what: impl FnOnce()) -> (String, String) {
        let clock = ManualClock::new("2026-11-23T02:30:00.123456Z".parse().unwrap());
        let clock: SharedClock = Arc::new(clock);
        let (json, text) = (Memory::default(), Memory::default());
        let look = Look::Text { colour: false, zone: TimeZone::get("Europe/Berlin").ok() };
        let subscriber = tracing_subscriber::registry()
            .with(Lines::new(Look::Json, Arc::clone(&clock), json.clone()))
            .with(Lines::new(look, clock, text.clone()));
        tracing::subscriber::with_default(subscriber, what);
        let read = |memory: Memory| String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        (read(json), read(text))
    }

    #[test]
    fn fields_of_event_and_spans_stand_side_by_side() {
        let (json, text) = logged(|| {
            let outer = tracing::info_span!(
                "attempt",
                job_id = 7,
                kind = "http",
                outcome = tracing::field::Empty
            );
            let _outer = outer.enter();
            outer.record("outcome", "success");
            let _inner = tracing::info_span!("request", kind = "inner").entered();
            tracing::warn!(
                duration_ms = 12.5,
                url = "https://x/a b",
                done = true,
                level = 3,
                "slow answer"
            );
        });
        insta::assert_snapshot!(format!("{json}{text}"));
    }

    #[test]
    fn an_error_is_logged_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read the file")]
        struct Outer(#[source] std::io::Error);
        let (json, _) = logged(|| {
            let error = Outer(std::io::Error::other("the disk is gone"));
            tracing::error!(error = &error as &dyn std::error::Error, "failed");
        });
        assert!(json.contains("\"error\":\"cannot read the file: the disk is gone\""), "{json}");
    }

    proptest! {
        #[test]
        fn j10_one_event_is_one_line_that_disturbs_nothing(message in any::<String>(), value in any::<String>()) {
            let (json, text) = logged(|| tracing::info!(value, "{message}"));
            for line in [&json, &text] {
                let inner = line.strip_suffix('\n').unwrap();
                prop_assert!(!inner.chars().any(is_harmful), "{inner:?}");
            }
            let read: Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&read["message"], &message);
            prop_assert_eq!(&read["value"], &value);
        }
    }
}
