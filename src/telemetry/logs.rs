//! Where log lines go: standard error, or the journal under systemd; and always a file, as JSON.
//!
//! Both are written by threads of their own (tracing-appender's non-blocking writer), so that a slow disk or a blocked pipe
//! never holds up the work. When such a thread cannot keep up, lines are dropped and counted.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use tracing::Subscriber;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use super::format::{Lines, Look};
use super::journal::Journal;
use super::rolling::{FileState, RollingFile};
use crate::clock::SharedClock;
use crate::config::{LogFilter, LogFormat, LogSettings};

/// How many lines may wait for a writing thread before lines are dropped. The places for them are memory from the start, 32 bytes
/// each for the file and again for standard error. The threads write faster than lines are made, so this is for a disk that
/// stalls.
const WAITING_LINES: usize = 8 * 1024;

/// How long the end waits for the last lines to be written.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log file.
    #[error("cannot open the log file in {} (setting log.dir)", .folder.display())]
    File {
        /// The directory.
        folder: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was done already.
    #[error("logging is set up already")]
    Again,
}

/// The running logs.
#[derive(Debug)]
pub struct Telemetry {
    /// Standard error, or the journal.
    beside: Sink,
    file: Sink,
    file_state: Arc<FileState>,
    filter: reload::Handle<Targets, Registry>,
}

/// Sends everything that is logged in this process from now on to its places.
///
/// # Errors
/// When the file cannot be opened, or this was done before.
pub fn init(settings: &LogSettings, clock: SharedClock) -> Result<Telemetry, TelemetryError> {
    let (subscriber, telemetry) = build(settings, clock, &Surroundings::look())?;
    subscriber.try_init().map_err(|_already| TelemetryError::Again)?;
    Ok(telemetry)
}

fn build(
    settings: &LogSettings,
    clock: SharedClock,
    around: &Surroundings,
) -> Result<(impl SubscriberInitExt + Subscriber + Send + Sync, Telemetry), TelemetryError> {
    let file = RollingFile::open(settings, Arc::clone(&clock))
        .map_err(|source| TelemetryError::File { folder: settings.dir.clone(), source })?;
    let file_state = file.state();
    let (file, file_writer) = Sink::start("sexton-log", file);
    let (filter, handle) = reload::Layer::new(targets(&settings.level));

    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = Vec::new();
    layers.push(Box::new(Lines::new(Look::Json, Arc::clone(&clock), file_writer)));
    let (look, beside, writer) = start_beside(look(settings.format, around));
    layers.push(Box::new(Lines::new(look, clock, writer)));
    let subscriber = tracing_subscriber::registry().with(layers.with_filter(filter));
    Ok((subscriber, Telemetry { beside, file, file_state, filter: handle }))
}

impl Telemetry {
    /// Opens the log file anew before its next line (SIGUSR1, after logrotate).
    pub fn reopen(&self) {
        self.file_state.reopen();
    }

    /// Lines that were dropped because a writing thread could not keep up.
    #[must_use]
    pub fn dropped_lines(&self) -> u64 {
        self.beside.dropped() + self.file.dropped()
    }

    /// Lines that the log file's disk refused.
    #[must_use]
    pub fn write_errors(&self) -> u64 {
        self.file_state.errors.load(Ordering::Relaxed)
    }

    /// Bytes written to the log file since the start.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.file_state.bytes.load(Ordering::Relaxed)
    }

    /// Changes which lines are kept. Returns false when logging has ended.
    pub fn set_level(&self, level: &LogFilter) -> bool {
        self.filter.reload(targets(level)).is_ok()
    }

    /// Waits until every line logged before the call is written, at most five seconds a place, and ends the threads.
    /// Returns false when that was not enough.
    pub fn shutdown(self) -> bool {
        let file = self.file.finish();
        let beside = self.beside.finish();
        file && beside
    }
}

/// A thread that writes lines.
#[derive(Debug)]
struct Sink {
    writer: NonBlocking,
    dropped: ErrorCounter,
    /// In a mutex only so that the whole can be shared; it is read once, at the end.
    flushed: Mutex<Receiver<()>>,
    _thread: WorkerGuard,
}

impl Sink {
    fn start(name: &str, to: impl Write + Send + 'static) -> (Self, NonBlocking) {
        let (answer, flushed) = sync_channel(1);
        let (writer, thread) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(WAITING_LINES)
            .thread_name(name)
            .finish(Flushable { to, answer });
        let sink = Self {
            dropped: writer.error_counter(),
            writer: writer.clone(),
            flushed: Mutex::new(flushed),
            _thread: thread,
        };
        (sink, writer)
    }

    fn dropped(&self) -> u64 {
        self.dropped.dropped_lines() as u64
    }

    /// Sends a token through the thread and waits for it to come out. The guard alone waits a second at most and says
    /// nothing when that was too short.
    fn finish(mut self) -> bool {
        const STEP: Duration = Duration::from_millis(50);
        let dropped = self.dropped.clone();
        let flushed = self.flushed.get_mut().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..FLUSH_TIME.as_millis() / STEP.as_millis() {
            let before = dropped.dropped_lines();
            let sent =
                self.writer.write_all(FLUSH_TOKEN).is_ok() && dropped.dropped_lines() == before;
            match flushed.recv_timeout(if sent { FLUSH_TIME } else { STEP }) {
                Ok(()) => return true,
                Err(RecvTimeoutError::Timeout) if sent => return false,
                // The channel was full, and the token was dropped like any other line.
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        false
    }
}

/// Not a line: lines end with a newline.
const FLUSH_TOKEN: &[u8] = b"\0flush";

/// A writer that answers when it meets the token.
struct Flushable<W> {
    to: W,
    answer: SyncSender<()>,
}

impl<W: Write> Write for Flushable<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if line == FLUSH_TOKEN {
            self.to.flush()?;
            // Nobody waits any more, or an answer is already on its way.
            let _ = self.answer.try_send(());
            return Ok(line.len());
        }
        self.to.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn targets(level: &LogFilter) -> Targets {
    // The settings have been checked; were they not, the default level is better than silence.
    level.as_str().parse().unwrap_or_else(|_unreadable| {
        Targets::new().with_default(tracing::level_filters::LevelFilter::INFO)
    })
}

/// What the choice of a place depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Surroundings {
    stderr_is_terminal: bool,
    /// Standard error is the journal's stream: the service manager says so and the file is the one it names.
    stderr_is_journal: bool,
    /// <https://no-color.org>
    no_colour: bool,
    zone: TimeZone,
}

impl Surroundings {
    fn look() -> Self {
        Self {
            stderr_is_terminal: io::stderr().is_terminal(),
            stderr_is_journal: stderr_is_journal(),
            no_colour: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
            zone: TimeZone::try_system().unwrap_or(TimeZone::UTC),
        }
    }
}

/// Whether what is written to standard error goes to the journal.
#[must_use]
pub fn stderr_is_journal() -> bool {
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| names_stderr(&stream))
}

/// Whether `DEVICE:INODE` is standard error. A child whose output goes elsewhere inherits the variable, too.
fn names_stderr(stream: &str) -> bool {
    let Ok(found) = rustix::fs::fstat(io::stderr()) else { return false };
    stream == format!("{}:{}", found.st_dev, found.st_ino)
}

/// How lines look beside the file.
fn look(format: LogFormat, around: &Surroundings) -> Look {
    let text = Look::Text {
        colour: around.stderr_is_terminal && !around.no_colour,
        zone: Some(around.zone.clone()),
    };
    match format {
        LogFormat::Json => Look::Json,
        LogFormat::Text => text,
        LogFormat::Journald => Look::Journal,
        LogFormat::Auto if around.stderr_is_journal => Look::Journal,
        LogFormat::Auto if around.stderr_is_terminal => text,
        LogFormat::Auto => Look::Json,
    }
}

/// Starts the place beside the file: the journal for entries of the journal, standard error for all others.
fn start_beside(look: Look) -> (Look, Sink, NonBlocking) {
    let (look, (sink, writer)) = match look {
        Look::Journal => match Journal::connect() {
            Ok(journal) => (look, Sink::start("sexton-journal", journal)),
            // The journal adds the time itself.
            Err(_no_socket) => {
                let text = Look::Text { colour: false, zone: None };
                (text, Sink::start("sexton-stderr", io::stderr()))
            }
        },
        look => (look, Sink::start("sexton-stderr", io::stderr())),
    };
    (look, sink, writer)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn around(terminal: bool, journal: bool) -> Surroundings {
        Surroundings {
            stderr_is_terminal: terminal,
            stderr_is_journal: journal,
            no_colour: false,
            zone: TimeZone::UTC,
        }
    }

    #[test]
    fn people_get_text_machines_json_and_the_journal_its_own() {
        let found = |terminal, journal| look(LogFormat::Auto, &around(terminal, journal));
        assert!(matches!(found(true, false), Look::Text { colour: true, .. }));
        assert!(matches!(found(false, false), Look::Json));
        assert!(matches!(found(false, true), Look::Journal));
        let plain = Surroundings { no_colour: true, ..around(true, false) };
        let plain = look(LogFormat::Auto, &plain);
        assert!(matches!(plain, Look::Text { colour: false, .. }));
    }

    #[test]
    fn a_journal_stream_of_somebody_else_is_not_ours() {
        assert!(!names_stderr("0:0"));
        assert!(!names_stderr(""));
        let found = rustix::fs::fstat(io::stderr()).unwrap();
        assert!(names_stderr(&format!("{}:{}", found.st_dev, found.st_ino)));
    }

    /// A writer that takes its time: each line waits for a permission.
    struct Slow {
        permissions: Receiver<()>,
        lines: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.permissions.recv().map_err(io::Error::other)?;
            self.lines.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_end_waits_for_the_last_line() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (permit, permissions) = sync_channel(2000);
        let slow = Slow { permissions, lines: Arc::clone(&lines) };
        let (sink, mut writer) = Sink::start("slow", slow);
        for number in 0..1000 {
            writer.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        assert_eq!(lines.lock().unwrap().len(), 0);
        let finish = std::thread::spawn(move || sink.finish());
        for _ in 0..1000 {
            permit.send(()).unwrap();
        }
        assert!(finish.join().unwrap());
        let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1000);
        assert!(text.ends_with("999\n"));
    }

    #[test]
    fn what_is_logged_is_in_the_file_and_the_level_can_be_changed() {
        let folder = tempfile::tempdir().unwrap();
        let settings = LogSettings {
            dir: folder.path().join("log"),
            format: LogFormat::Json,
            level: "warn".parse().unwrap(),
            rotation: crate::config::Rotation::Never,
            keep: std::num::NonZeroU16::MIN,
            max_size: crate::model::ByteSize(0),
        };
        let clock = Arc::new(crate::clock::SystemClock);
        let (subscriber, telemetry) = build(&settings, clock, &around(false, false)).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("too quiet");
            tracing::warn!(reason = "a test", "loud enough");
            assert!(telemetry.set_level(&"info".parse().unwrap()));
            tracing::info!("loud enough now");
        });
        let written = telemetry.file_state.clone();
        assert_eq!((telemetry.dropped_lines(), telemetry.write_errors()), (0, 0));
        assert!(telemetry.shutdown());
        let text = std::fs::read_to_string(settings.dir.join("sexton.log")).unwrap();
        assert_eq!(written.bytes.load(Ordering::Relaxed), text.len() as u64);
        let messages: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["message"].take())
            .collect();
        assert_eq!(messages, ["loud enough", "loud enough now"]);
    }

    #[test]
    fn every_level_that_settings_accept_is_a_filter() {
        for level in ["off", "WARN", "info,sexton::scheduler=debug", "off,sexton=trace"] {
            let filter: LogFilter = level.parse().unwrap();
            assert!(filter.as_str().parse::<Targets>().is_ok(), "{level}");
        }
    }
}
