//! How the nodes of one PostgreSQL wake each other.
//!
//! A message only says "look now"; what there is to see is in the rows. One that is lost costs the time until the next heartbeat, which
//! looks anyway, and never a job. That makes it safe to send them outside of the transactions that they tell of (`NOTIFY` inside of one
//! makes all commits of a server take turns) and to go without them where a pooler in between swallows them.
//!
//! One thread has one connection for both directions. libpq tells of what has arrived only when it is asked, so it is asked twenty times
//! a second, which is a system call each time that finds nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Integer, Text};
use tokio::sync::watch;

use super::{Conn, DatabaseUrl, Purpose, StoreError, reconnect};
use crate::model::Chain;

/// The name under which nodes of a database speak.
const CHANNEL: &str = "sexton";

/// How often it is looked for messages.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long messages are collected after some were sent: a node whose workers are all busy has work for others with each submission, and
/// they need not hear of each.
const SPACING: Duration = Duration::from_millis(10);

/// How long to wait before a lost connection is opened again. Everybody loses theirs when the server restarts, so it is spread.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// After so many looks our own first message must have come back, or no message ever will: two seconds.
const DEAF_AFTER_LOOKS: u32 = 40;

/// What there is to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// There may be work for whoever has room.
    Work,
    /// A node has something to obey: a job that was cancelled, a drain.
    Orders,
    /// A ledger was changed: a pause, the end of a run that a rule counts from.
    Ledger,
}

impl News {
    fn as_str(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Orders => "orders",
            Self::Ledger => "ledger",
        }
    }
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for News {
    type Err = ();

    /// Another version of the program may say what this one does not know.
    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Self::Work, Self::Orders, Self::Ledger];
        all.into_iter().find(|news| news.as_str() == text).ok_or(())
    }
}

/// Is told what other nodes say.
pub type Heard = Box<dyn Fn(News) + Send>;

/// The way to the other nodes of a database. Cheap to clone; what is behind it ends with the last of them.
#[derive(Clone)]
pub struct Wakeups {
    tell: Arc<dyn Fn(News) + Send + Sync>,
    trouble: watch::Receiver<Option<String>>,
}

impl Wakeups {
    /// Opens the one on a PostgreSQL.
    ///
    /// # Errors
    /// When no thread can be had. A server that cannot be reached is tried again and again.
    pub fn open(url: &DatabaseUrl, heard: Heard) -> Result<Self, StoreError> {
        let (outbox, inbox) = mpsc::channel();
        let (tell_trouble, trouble) = watch::channel(None);
        let post = Post { url: url.clone(), heard, trouble: tell_trouble, line: None };
        let run = move || post.run(&inbox);
        let spawned = thread::Builder::new().name("sexton-wakeups".to_owned()).spawn(run);
        spawned.map_err(|source| StoreError::File {
            path: "(thread sexton-wakeups)".into(),
            source,
        })?;
        let tell = move |news| {
            // A thread that is gone has said why; the heartbeats of the others look anyway.
            let _gone = outbox.send(news);
        };
        Ok(Self { tell: Arc::new(tell), trouble })
    }

    /// Another one, which has no trouble that it knows of.
    #[must_use]
    pub fn through(tell: impl Fn(News) + Send + Sync + 'static) -> Self {
        Self { tell: Arc::new(tell), trouble: watch::channel(None).1 }
    }

    /// Says something to all other nodes, soon.
    pub fn tell(&self, news: News) {
        (self.tell)(news);
    }

    /// Why messages do not arrive, while they do not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }
}

impl fmt::Debug for Wakeups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakeups").field("trouble", &self.trouble).finish_non_exhaustive()
    }
}

/// The thread.
struct Post {
    url: DatabaseUrl,
    heard: Heard,
    trouble: watch::Sender<Option<String>>,
    line: Option<Line>,
}

/// A connection that listens.
struct Line {
    conn: PgConnection,
    /// The server's process behind it, by which our own messages are known.
    own: i32,
    /// How often it was looked without our own first message having come back; `None` once it has.
    deaf_for: Option<u32>,
}

impl Post {
    fn run(mut self, inbox: &mpsc::Receiver<News>) {
        let mut unsent: BTreeSet<News> = BTreeSet::new();
        loop {
            match inbox.recv_timeout(LOOK_EVERY) {
                Ok(news) => {
                    unsent.insert(news);
                    unsent.extend(inbox.try_iter());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Err(error) = self.exchange(&mut unsent) {
                let why = format!("nodes cannot wake each other: {}", Chain(&error));
                self.note(Some(why));
                self.line = None;
                reconnect::wait(RECONNECT_AFTER);
            }
        }
    }

    /// Sends what is to be sent, and passes on what has arrived.
    fn exchange(&mut self, unsent: &mut BTreeSet<News>) -> Result<(), StoreError> {
        let line = match &mut self.line {
            Some(line) => line,
            none => none.insert(Line::open(&self.url)?),
        };
        if !unsent.is_empty() {
            for news in unsent.iter() {
                notify(&mut line.conn, news.as_str())?;
            }
            unsent.clear();
            pause(SPACING);
        }
        let mut arrived: BTreeSet<News> = BTreeSet::new();
        let mut is_heard = false;
        for message in line.conn.notifications_iter() {
            let message = message?;
            if message.process_id == line.own {
                is_heard = true;
            } else {
                arrived.extend(message.payload.parse::<News>());
            }
        }
        let hearing = line.hearing(is_heard);
        arrived.into_iter().for_each(&self.heard);
        match hearing {
            Hearing::Unknown => {}
            Hearing::Good => self.note(None),
            Hearing::None => self.note(Some(
                "nodes cannot wake each other, because the server's notifications do not arrive: is there a pooler in between that \
                 works by transaction? They look for work with each heartbeat instead; give `database.url` a way around the pooler"
                    .to_owned(),
            )),
        }
        Ok(())
    }

    /// Says what is wrong once, and that it is over.
    fn note(&self, trouble: Option<String>) {
        self.trouble.send_if_modified(|known| {
            let is_new = known.is_some() != trouble.is_some();
            match &trouble {
                Some(why) if is_new => tracing::warn!("{why}"),
                None if is_new => tracing::info!("nodes can wake each other again"),
                _ => {}
            }
            *known = trouble;
            is_new
        });
    }
}

enum Hearing {
    Unknown,
    Good,
    None,
}

impl Line {
    fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let Conn::Postgres(mut conn) = url.connect(Purpose::Write)? else {
            return Err(StoreError::Closed);
        };
        let own = diesel::select(diesel::dsl::sql::<Integer>("pg_backend_pid()"));
        let own = own.get_result(&mut conn)?;
        conn.batch_execute(&format!("LISTEN {CHANNEL}"))?;
        notify(&mut conn, "hello")?;
        Ok(Self { conn, own, deaf_for: Some(0) })
    }

    /// What is known of whether messages arrive, after one more look.
    fn hearing(&mut self, is_heard: bool) -> Hearing {
        let Some(looks) = &mut self.deaf_for else { return Hearing::Unknown };
        *looks += 1;
        if is_heard {
            self.deaf_for = None;
            return Hearing::Good;
        }
        if *looks == DEAF_AFTER_LOOKS { Hearing::None } else { Hearing::Unknown }
    }
}

fn notify(conn: &mut PgConnection, payload: &str) -> Result<(), StoreError> {
    diesel::sql_query("SELECT pg_notify($1, $2)")
        .bind::<Text, _>(CHANNEL)
        .bind::<Text, _>(payload)
        .execute(conn)?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "this thread has nothing else to do meanwhile")]
fn pause(length: Duration) {
    thread::sleep(length);
}
