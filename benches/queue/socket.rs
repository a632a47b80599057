//! The built program, asked over its Unix socket as an application would: one connection a caller, kept open.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sexton::bench::{Figure, milliseconds, params_text, percentile};
use tempfile::TempDir;

use crate::shown::Shown;

/// Submissions over the socket into a queue that is paused, so that only they are measured.
pub(crate) fn figures(repeats: usize) {
    for (callers, rounds, jobs) in [(1, 2_000, 1), (64, 200, 1), (1, 20, 1000)] {
        let name = match jobs {
            1 => format!("socket, {callers} callers"),
            _ => "socket, 1,000 in a call".to_owned(),
        };
        let mut rate = Figure::new(&name, "jobs/s");
        let mut waits = Figure::new(&format!("{name}: wait, p50"), "ms");
        let mut tails = Figure::new(&format!("{name}: wait, p99"), "ms");
        for _ in 0..repeats {
            let daemon = Daemon::start();
            let start = Instant::now();
            let measured = daemon.submit(callers, rounds, jobs);
            let took = start.elapsed().as_secs_f64();
            rate.add((callers * rounds * jobs) as f64 / took);
            waits.add(percentile(&measured, 50.0));
            tails.add(percentile(&measured, 99.0));
        }
        rate.print();
        waits.print();
        tails.print();
    }
}

struct Daemon {
    child: Child,
    socket: PathBuf,
    _home: TempDir,
}

impl Daemon {
    fn start() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let schedules = home.path().join("schedules");
        std::fs::create_dir(&schedules).expect("a folder");
        let child = Command::new(env!("CARGO_BIN_EXE_sexton"))
            .arg("serve")
            .env_clear()
            .env("SEXTON_DATA_DIR", home.path().join("data"))
            .env("SEXTON_SCHEDULES__DIRS", schedules)
            .current_dir(home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let socket = home.path().join("data/sexton.sock");
        let daemon = Self { child, socket, _home: home };
        let pause = json!({ "reason": "measured" }).to_string();
        let start = Instant::now();
        loop {
            if daemon.socket.exists() {
                let mut caller = Caller::connect(&daemon.socket);
                let (status, _) = caller.call("/api/v1/queues/held/pause", &pause);
                assert_eq!(status, 200, "the queue is paused");
                return daemon;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "the daemon does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Each caller makes `rounds` calls of `jobs` submissions. Returns how long each call took, in milliseconds.
    fn submit(&self, callers: usize, rounds: usize, jobs: usize) -> Vec<f64> {
        let params: Value = serde_json::from_str(&params_text()).expect("JSON");
        let params = json!({ "argv": ["true"], "env": { "INPUT": params["input"]["text"] } });
        let one = json!({ "kind": "command", "queue": "held", "params": params });
        let body = match jobs {
            1 => one.to_string(),
            _ => Value::Array(vec![one; jobs]).to_string(),
        };
        std::thread::scope(|scope| {
            let calling = (0..callers).map(|_| {
                scope.spawn(|| {
                    let mut caller = Caller::connect(&self.socket);
                    let mut waits = Vec::with_capacity(rounds);
                    for _ in 0..rounds {
                        let start = Instant::now();
                        let (status, answer) = caller.call("/api/v1/jobs", &body);
                        waits.push(milliseconds(start.elapsed()));
                        assert_eq!(status, 202, "{}", String::from_utf8_lossy(&answer));
                    }
                    waits
                })
            });
            let calling: Vec<_> = calling.collect();
            calling.into_iter().flat_map(|caller| caller.join().expect("it ends")).collect()
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// One connection that is kept open. No HTTP library, so that the caller costs the machine as little as it can.
struct Caller {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Caller {
    fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the daemon listens");
        Self { stream, buffer: vec![0; 1 << 16] }
    }

    /// Posts a body, and gives the status and the answer's body.
    fn call(&mut self, path: &str, body: &str) -> (u16, Vec<u8>) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: sexton\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).expect("it is sent");
        let mut answer = Vec::new();
        loop {
            let read = self.stream.read(&mut self.buffer).expect("an answer");
            assert!(read > 0, "the connection was closed");
            answer.extend_from_slice(&self.buffer[..read]);
            let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let text = std::str::from_utf8(&answer[..head]).expect("a head").to_ascii_lowercase();
            let length = text.split("content-length: ").nth(1).expect("a length");
            let length: usize =
                length.lines().next().unwrap_or("").trim().parse().expect("a number");
            if answer.len() >= head + 4 + length {
                let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
                return (status.expect("a status"), answer.split_off(head + 4));
            }
        }
    }
}
