//! Breakers: a host that fails, is left alone, and recovers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::harness::daemon::{Daemon, Home, eventually, items};

/// A web server that says 503 until it is well, and counts how often it is asked.
struct Host {
    address: SocketAddr,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    is_well: AtomicBool,
    is_over: AtomicBool,
    requests: AtomicUsize,
}

impl Host {
    fn serve() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State::default());
        let its = Arc::clone(&state);
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if its.is_over.load(Ordering::SeqCst) {
                    break;
                }
                // A client that hangs up ends its answer, as it should.
                let _hung_up = stream.and_then(|stream| its.answer(stream));
            }
        });
        Self { address, state, acceptor: Some(acceptor) }
    }

    fn recovers(&self) {
        self.state.is_well.store(true, Ordering::SeqCst);
    }

    fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// A job that asks it, of which eight may do so at once.
    fn job(&self) -> Value {
        json!({
            "kind": "http",
            "params": { "url": format!("http://{}/", self.address), "allow_private": true },
            "concurrency": { "key": "host:it", "max": 8 },
            "max_attempts": 5,
            "backoff": { "backoff": "fixed", "delay": "100ms" },
        })
    }
}

impl State {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        let status = if self.is_well.load(Ordering::SeqCst) { "200 OK" } else { "503 Unavailable" };
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        let _wakes_the_acceptor = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _panicked = acceptor.join();
        }
    }
}

fn limit(daemon: &Daemon) -> Value {
    let list = daemon.cli(["limits", "--json"]).exits(0).json();
    items(&list).iter().find(|limit| limit["name"] == "key:host:it").expect("it").clone()
}

fn audited(daemon: &Daemon, event: &str) -> usize {
    let told = daemon.cli(["audit", "--json", "--limit", "1000"]).exits(0).json();
    items(&told).iter().filter(|line| line["event"] == event).count()
}

#[test]
fn i1_a_host_at_which_ten_thousand_jobs_fail_is_left_alone_until_a_probe_succeeds() {
    let host = Host::serve();
    let daemon = Daemon::start(|home: &Home| home.settings("[workers]\ncount = 16\n"));
    daemon.cli(["limits", "set", "key:host:it", "--breaker", "5 in 1m for 2s"]).exits(0);
    let made = daemon.post("/api/v1/jobs", &json!(vec![host.job(); 10_000]));
    let last = items(&made)[9_999]["id"].as_i64().expect("an id");

    eventually("the breaker trips", || limit(&daemon)["tripped"].is_object().then_some(()));
    // What had begun when it tripped is at most what may run at once, and a probe is one more.
    let other = daemon.submit("true", &[])["id"].as_i64().expect("an id");
    daemon.job_in(other, "completed");
    let waiting = daemon.job(last);
    assert_eq!((&waiting["state"], &waiting["attempt"]), (&json!("pending"), &json!(0)));
    assert_eq!(waiting["held_by"][0]["breaker"], "key:host:it", "{waiting:#}");
    let why = waiting["held_by"][0]["why"].as_str().expect("a reason");
    assert!(why.ends_with("the server answered 503"), "{why}");
    let shown = daemon.cli(["job", &last.to_string()]).exits(0).stdout;
    assert!(shown.contains("held by   the breaker of key:host:it: "), "{shown}");
    eventually("two probes fail", || (audited(&daemon, "breaker.tripped") >= 3).then_some(()));
    let trips = audited(&daemon, "breaker.tripped");
    let asked = host.requests();
    assert!(asked < 5 + 8 + trips + 1, "{asked} requests for {trips} trips");
    let queue = daemon.cli(["queues"]).exits(0).stdout;
    assert!(queue.contains("waits for the breaker of key:host:it"), "{queue}");

    host.recovers();
    eventually("the probe succeeds", || limit(&daemon)["tripped"].is_null().then_some(()));
    assert_eq!(audited(&daemon, "breaker.reset"), 1);
    eventually("jobs flow again", || (host.requests() > asked + 200).then_some(()));
    let failed = daemon.cli(["jobs", "--state", "failed", "--json"]).exits(0).json();
    assert_eq!(items(&failed).len(), 0, "no job has used up its attempts");
}

#[test]
fn a_breaker_is_shown_reset_by_hand_and_unset() {
    let host = Host::serve();
    let daemon = Daemon::start(|_| {});
    daemon.cli(["limits", "set", "key:host:it", "--breaker", "2 for 1h"]).exits(0);
    let made = daemon.post("/api/v1/jobs", &json!(vec![host.job(); 20]));
    let jobs: Vec<i64> =
        items(&made).iter().map(|job| job["id"].as_i64().expect("an id")).collect();
    eventually("the breaker trips", || limit(&daemon)["tripped"].is_object().then_some(()));
    let shown = daemon.cli(["limits"]).exits(0).stdout;
    assert!(shown.contains("2 for 1h") && shown.contains("tripped, rests until"), "{shown}");
    assert!(shown.contains("the server answered 503"), "{shown}");

    host.recovers();
    daemon.cli(["limits", "reset", "key:host:it"]).exits(0);
    for job in &jobs {
        daemon.job_in(*job, "completed");
    }
    assert_eq!(limit(&daemon)["breaker"], "2 for 1h");
    let again = daemon.cli(["limits", "reset", "key:host:it"]);
    assert!(again.stderr.contains("no breaker `key:host:it` has tripped"), "{again:?}");
    daemon.cli(["limits", "unset", "key:host:it"]).exits(0);
    let list = daemon.cli(["limits", "--json"]).exits(0).json();
    assert!(items(&list).iter().all(|limit| limit["name"] != "key:host:it"), "{list:#}");
}

#[test]
fn a_breaker_that_cannot_be_meant_is_refused_and_changes_nothing() {
    let daemon = Daemon::start(|_| {});
    for (breaker, why) in [
        ("5", "for how long"),
        ("5 in 1m, 10m", "write it like"),
        ("0 for 1m", "a whole number from 1"),
        ("5 for 0s", "100ms"),
        ("5 in parsec for 1m", "after `in`"),
    ] {
        let refused = daemon.cli(["limits", "set", "key:host:it", "--breaker", breaker]).exits(2);
        assert!(refused.stderr.contains(why), "{breaker}: {}", refused.stderr);
    }
    let body = json!({ "name": "key:host:it", "breaker": "often" });
    let problem = daemon.post("/api/v1/limits", &body);
    assert_eq!(problem["errors"][0]["pointer"], "/breaker", "{problem:#}");
    let list = daemon.cli(["limits", "--json"]).exits(0).json();
    assert_eq!(items(&list).len(), 0, "{list:#}");
}

/// A kind's breaker stands in its file, and its jobs are not those of a schedule or a key.
#[test]
fn a_kind_file_declares_a_breaker() {
    let mut home = Home::new();
    let kinds = home.path("kinds");
    std::fs::create_dir(&kinds).expect("a folder");
    let kind = "description = \"Fails\"\n[run]\nbreaker = \"3 for 1h\"\nretries = 0\n\
                [command]\nargv = [\"false\"]\n[params]\ntype = \"object\"\n";
    std::fs::write(kinds.join("fails.toml"), kind).expect("a kind file");
    home.variable("SEXTON_KINDS__DIRS", kinds);
    home.settings("[workers]\ncount = 1\n");
    let daemon = Daemon::start_in(home);
    let made = daemon.post("/api/v1/jobs", &json!(vec![json!({ "kind": "fails" }); 6]));
    let jobs: Vec<i64> =
        items(&made).iter().map(|job| job["id"].as_i64().expect("an id")).collect();
    let held = eventually("the fourth job is held back", || {
        let job = daemon.job(jobs[3]);
        job["held_by"].is_array().then(|| job["held_by"][0].clone())
    });
    assert_eq!(held["breaker"], "kind:fails");
    let state = |id| daemon.job(id)["state"].as_str().expect("a state").to_owned();
    let states: Vec<String> = jobs.iter().map(|id| state(*id)).collect();
    assert_eq!(states, ["failed", "failed", "failed", "pending", "pending", "pending"]);
    let shown = daemon.cli(["kinds", "fails", "--json"]).exits(0).json();
    assert_eq!(shown["breaker"], "3 for 1h");
    let list = daemon.cli(["limits", "--json"]).exits(0).json();
    assert_eq!(items(&list)[0]["declared_breaker"], "3 for 1h");
}
