//! Against the real kernel. Programs report through FIFOs, so nothing here waits by the clock.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::*;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        adopt_orphans().unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["up", "down"] {
            let mode = Mode::RUSR | Mode::WUSR;
            mknodat(CWD, folder.path().join(name), FileType::Fifo, mode, 0).unwrap();
        }
        Self(folder)
    }

    /// A script that may write to the FIFO `up` and read from `down`.
    fn start(&self, script: &str, key: &str) -> Running {
        let program = Program {
            file: "/bin/sh".into(),
            name: "sh".to_owned(),
            arguments: vec!["-c".into(), script.into()],
            cwd: Some(self.0.path().to_owned()),
            environment: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
            has_stdin: false,
            key: key.to_owned(),
        };
        Machine.launch(&program).unwrap()
    }

    fn fifo(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Waits until the script writes.
    fn heard(&self) -> String {
        fs::read_to_string(self.fifo("up")).unwrap().trim().to_owned()
    }

    /// Waits until the script reads.
    fn tell(&self) {
        fs::write(self.fifo("down"), "go\n").unwrap();
    }
}

fn descriptor(pid: &str) -> OwnedFd {
    pidfd_open(Pid::from_raw(pid.parse().unwrap()).unwrap(), PidfdFlags::empty()).unwrap()
}

fn wait_for_end(process: &OwnedFd) {
    poll(&mut [PollFd::new(process, PollFlags::IN)], None).unwrap();
}

fn exists(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

#[tokio::test]
async fn reaping_orphans_leaves_the_exit_status_of_those_who_are_waited_for() {
    let place = Place::new();
    let running = place.start("exit 7", "status");
    running.ended().await.unwrap();
    reaper::reap_ended_orphans();
    assert_eq!(running.reap().unwrap().code(), Some(7));
}

#[tokio::test]
async fn an_orphan_is_adopted_and_reaped_when_it_ends() {
    let place = Place::new();
    let script = "(setsid sh -c 'echo $$ > up; read go < down' > /dev/null 2>&1 &)";
    let running = place.start(script, "orphan");
    let orphan = place.heard();
    let process = descriptor(&orphan);
    running.ended().await.unwrap();
    assert!(running.family().has_orphans());
    running.reap().unwrap();
    place.tell();
    wait_for_end(&process);
    reaper::reap_ended_orphans();
    assert!(!exists(&orphan));
}

#[tokio::test]
async fn a_program_that_leaves_nothing_has_no_orphans_whatever_others_do() {
    let place = Place::new();
    let other = place.start("(setsid sh -c 'echo $$ > up; read go < down' &)", "other");
    place.heard();
    let running = place.start("true", "tidy");
    running.ended().await.unwrap();
    assert!(!running.family().has_orphans());
    drop(other);
}

#[tokio::test]
async fn h6_a_process_with_another_start_time_is_not_signalled() {
    let place = Place::new();
    let running = place.start("echo up > up; read go < down", "recycled");
    place.heard();
    let name = running.family().main.unwrap();
    let earlier = ProcessName { started: name.started - 1, ..name };
    let stranger = Family { key: "no such key".to_owned(), main: Some(earlier) };
    assert_eq!(stranger.end(Duration::ZERO), Ended::default());
    place.tell();
    running.ended().await.unwrap();
    assert!(running.reap().unwrap().success(), "it was left alone");
}

#[tokio::test]
async fn a_family_that_grows_while_it_is_killed_is_killed_to_the_last() {
    let place = Place::new();
    // Killing a `sleep` makes its parent start another one.
    let script = r#"
        trap '' TERM
        echo up > up
        i=0; while [ $i -lt 8 ]; do (trap '' TERM; while :; do sleep 600 & wait; done) & i=$((i+1)); done
        while :; do sh -c 'exec sleep 600' & wait $!; done
    "#;
    let running = place.start(script, "growing");
    place.heard();
    let family = running.family().clone();
    let ended = tokio::task::spawn_blocking(move || family.end(Duration::from_millis(50)));
    let ended = ended.await.unwrap();
    assert!(ended.killed >= 9 && ended.survivors.is_empty(), "{ended:?}");
    running.ended().await.unwrap();
    assert!(!running.family().has_orphans());
    running.reap().unwrap();
}

#[test]
fn j11_a_program_does_not_print_its_environment() {
    let program = Program {
        file: "/bin/true".into(),
        name: "true".to_owned(),
        arguments: Vec::new(),
        cwd: None,
        environment: BTreeMap::from([("TOKEN".into(), "canary".into())]),
        has_stdin: false,
        key: "k".to_owned(),
    };
    let shown = format!("{program:?}");
    assert!(shown.contains("TOKEN") && !shown.contains("canary"), "{shown}");
}

/// Programs are started and so is something else, at the same time and often enough that each beginning meets others.
#[test]
fn what_is_no_program_of_a_job_is_not_given_the_channel_of_one() {
    const STARTS: usize = 100;
    let place = Place::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let _runtime = runtime.enter();
                for _ in 0..STARTS {
                    drop(place.start(":", "channels"));
                }
            });
        }
        let number = reserve_channel().unwrap();
        for _ in 0..STARTS {
            let descriptor = format!("/proc/self/fd/{number}");
            let mut other = std::process::Command::new("readlink");
            let started = apart_from_channels(|| {
                other.arg(descriptor).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
            });
            let said = started.unwrap().wait_with_output().unwrap().stdout;
            assert_eq!(String::from_utf8_lossy(&said), "", "it has what is a job's");
        }
    });
}
