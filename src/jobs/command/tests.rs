//! Real programs under the handler. No test waits by the clock: programs report through FIFOs, and what is checked is gone
//! or recorded when the handler has answered.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::super::ports::process::{Running, adopt_orphans};
use super::record::RunRecord;
use super::*;
use crate::clock::SystemClock;
use crate::jobs::testing::context;
use crate::jobs::{Output, Progress, RetryAdvice};

/// An attempt of a command, with a log in a file.
fn attempt(params: Value) -> (Context, TempDir) {
    adopt_orphans().unwrap();
    let (mut context, folder) = context("command", params);
    context.clock = Arc::new(SystemClock);
    context.output = Output::lazy(context.paths.attempt_log(context.job.id, 1), 1 << 20);
    (context, folder)
}

async fn run(params: Value) -> (Answer, Context, TempDir) {
    let (context, folder) = attempt(params);
    let answer = CommandHandler::new().run(context.clone()).await;
    (answer, context, folder)
}

fn tail(context: &Context) -> String {
    context.output.summary().tail.unwrap_or_default()
}

fn failure(answer: Answer) -> Failure {
    match answer {
        Answer::Failed(failure) => failure,
        other => panic!("a failure was expected, not {other:?}"),
    }
}

fn result(answer: Answer) -> Value {
    match answer {
        Answer::Done(result) => result,
        other => panic!("success was expected, not {other:?}"),
    }
}

fn fifo(folder: &Path) -> PathBuf {
    let path = folder.join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path
}

/// What a program writes into the FIFO. Waits until it does.
async fn heard(fifo: &Path) -> String {
    tokio::fs::read_to_string(fifo).await.unwrap()
}

fn is_there(pid: &str) -> bool {
    Path::new("/proc").join(pid.trim()).exists()
}

#[tokio::test]
async fn a_program_runs_without_a_shell_and_its_output_is_kept() {
    let hostile = "$HOME; echo `id` > /tmp/x && * ?";
    let (answer, context, _folder) = run(json!({"argv": ["printf", "%s|%s", hostile, "-n"]})).await;
    let result = result(answer);
    assert_eq!(tail(&context), format!("{hostile}|-n"), "L4: arguments are data");
    assert_eq!(
        (&result["exit_code"], &result["output_bytes"]),
        (&json!(0), &json!(hostile.len() + 3))
    );
    context.output.surface();
    let log = fs::read_to_string(context.paths.attempt_log(context.job.id, 1)).unwrap();
    assert_eq!(log, tail(&context));
}

#[tokio::test]
async fn a_shell_runs_when_asked_for() {
    let (answer, context, _folder) = run(json!({"shell": "for i in 1 2; do echo $i; done"})).await;
    result(answer);
    assert_eq!(tail(&context), "1\n2\n");
}

#[tokio::test]
async fn input_arrives_on_standard_input_and_in_variables() {
    let params = json!({
        "shell": "cat; echo; echo \"$SEXTON_INPUT_NAME|$SEXTON_JOB_ID|$SEXTON_ATTEMPT|$SEXTON_KIND\"",
        "input": {"name": "a b; $(id)", "deep": [1, 2]},
    });
    let (answer, context, _folder) = run(params).await;
    result(answer);
    let output = tail(&context);
    let (json, variables) = output.split_once('\n').unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(json).unwrap(),
        json!({"name": "a b; $(id)", "deep": [1, 2]})
    );
    assert_eq!(variables, "a b; $(id)|1|1|command\n");
}

#[tokio::test]
async fn input_that_is_not_read_is_no_failure() {
    let input = json!({"text": "x".repeat(1 << 20)});
    let (answer, _context, _folder) = run(json!({"argv": ["true"], "input": input})).await;
    result(answer);
}

#[tokio::test]
async fn h7_h11_a_program_gets_its_own_descriptors_and_a_quiet_standard_input() {
    // What this test process was itself given without close-on-exec is not the handler's to close.
    let inherited: Vec<String> = fs::read_dir("/proc/self/fdinfo")
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let info = fs::read_to_string(entry.path()).ok()?;
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
            let is_kept = u32::from_str_radix(flags.trim(), 8).ok()? & 0o2_000_000 == 0;
            is_kept.then(|| entry.file_name().into_string().unwrap())
        })
        .collect();
    // A program that runs meanwhile: nothing of it may reach the other one, or its pipes would stay open with that.
    let folder = tempfile::tempdir().unwrap();
    let fifo = fifo(folder.path());
    let (waits, goes_on) = (format!("cat {}", fifo.display()), fifo.clone());
    let neighbour = tokio::spawn(async move { run(json!({ "shell": waits })).await.0 });
    tokio::task::yield_now().await;
    // `ls` looks at the shell, because a shell that looks at itself has the directory open.
    let script = "readlink /proc/$$/fd/0; echo $SEXTON_PROTOCOL_FD; ls /proc/$$/fd; true";
    let (answer, context, _folder) = run(json!({"shell": script})).await;
    result(answer);
    let output = tail(&context);
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some("/dev/null"));
    let protocol = lines.next().unwrap();
    let own: Vec<&str> = lines.filter(|fd| !inherited.iter().any(|kept| kept == fd)).collect();
    assert!(own.contains(&protocol), "{protocol}: {own:?}");
    assert!(own.iter().all(|fd| ["0", "1", "2", protocol].contains(fd)), "{protocol}: {own:?}");
    tokio::fs::write(&goes_on, "go on").await.unwrap();
    result(neighbour.await.unwrap());
}

#[tokio::test]
async fn h11_directory_and_umask_are_as_the_params_say() {
    let folder = tempfile::tempdir().unwrap();
    let params = json!({"argv": ["sh", "-c", "umask; pwd"], "cwd": folder.path(), "umask": "0137"});
    let (answer, context, _folder) = run(params).await;
    result(answer);
    let folder = folder.path().canonicalize().unwrap();
    assert_eq!(tail(&context), format!("0137\n{}\n", folder.display()));
}

#[tokio::test]
async fn limits_hold_for_the_program_and_what_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = fifo(folder.path());
    // The limits are set right after the start, so the script waits until they are.
    let params = json!({
        "shell": "read go < $FIFO; ulimit -n; ulimit -c; nice; sh -c 'ulimit -n'",
        "env": {"FIFO": fifo}, "nice": 7, "limits": {"open_files": 33, "core": 0},
    });
    let (context, _data) = attempt(params);
    let mut progress = Progress::channel();
    let context = Context { progress: progress.0.clone(), ..context };
    let running = tokio::spawn({
        let context = context.clone();
        async move { CommandHandler::new().run(context).await }
    });
    progress.1.wait_for(|report| report.message.starts_with("runs as process")).await.unwrap();
    // `confine` comes before the next await of the attempt, so a write that is waited for comes after it.
    tokio::fs::write(&fifo, "go\n").await.unwrap();
    result(running.await.unwrap());
    assert_eq!(tail(&context), "33\n0\n7\n33\n");
}

#[tokio::test]
async fn h2_a_tree_that_ignores_term_forks_twice_and_leaves_its_session_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = fifo(folder.path());
    // Four generations: the script, a plain child, one that leaves the session, and one whose parents are gone.
    let script = r#"
        trap '' TERM
        sleep 600 & plain=$!
        setsid sh -c 'trap "" TERM; sleep 600 & echo $! > s2; echo $$ > s1; wait' &
        ( setsid sh -c '(trap "" TERM; sh -c "echo \$PPID > d1; exec sleep 600" & wait) & ' & )
        until [ -s s1 ] && [ -s s2 ] && [ -s d1 ]; do :; done
        echo $$ $plain $(cat s1 s2 d1) > "$FIFO"
        wait
    "#;
    let params = json!({
        "shell": script, "cwd": folder.path(), "env": {"FIFO": fifo}, "kill_grace": "50ms",
    });
    let (context, _data) = attempt(params);
    let running = tokio::spawn({
        let context = context.clone();
        async move { CommandHandler::new().run(context).await }
    });
    let pids = heard(&fifo).await;
    assert_eq!(pids.split_whitespace().count(), 5);
    assert!(pids.split_whitespace().all(is_there), "{pids}");
    context.stop.cancel();
    let answer = running.await.unwrap();
    let Answer::Stopped { result: Some(result) } = answer else { panic!("{answer:?}") };
    assert_eq!(result["signal"], "SIGKILL");
    let left: Vec<&str> = pids.split_whitespace().filter(|pid| is_there(pid)).collect();
    assert!(left.is_empty(), "still there: {left:?}");
    assert_eq!(fs::read_dir(context.paths.running()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_program_that_ends_on_term_is_not_killed() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = fifo(folder.path());
    let script =
        // Not `sleep 600 & wait`: a signal right before the `wait` would be acted on after it.
        "trap 'echo cleaned up; exit 9' TERM; echo up > $FIFO; while :; do sleep 0.1; done";
    let (context, _data) =
        attempt(json!({"shell": script, "env": {"FIFO": fifo}, "kill_grace": "1h"}));
    let running = tokio::spawn({
        let context = context.clone();
        async move { CommandHandler::new().run(context).await }
    });
    heard(&fifo).await;
    context.stop.cancel();
    let answer = running.await.unwrap();
    let Answer::Stopped { result: Some(result) } = answer else { panic!("{answer:?}") };
    assert_eq!(result["exit_code"], 9);
    assert!(tail(&context).contains("cleaned up"));
}

#[tokio::test]
async fn h4_a_hundred_megabytes_in_one_binary_line_neither_block_nor_fill_anything() {
    let params = json!({
        "shell": "echo start; head -c 100000000 /dev/zero; head -c 1000 /dev/urandom; echo; echo end",
        "max_output": "200kB",
    });
    let (answer, context, _folder) = run(params).await;
    let result = result(answer);
    assert_eq!(result["output_bytes"], 100_001_011);
    assert_eq!(result["truncated"], true);
    assert!(tail(&context).ends_with("end\n"));
    context.output.finish();
    let size = fs::metadata(context.paths.attempt_log(context.job.id, 1)).unwrap().len();
    assert!((150_000..201_000).contains(&size), "{size}");
}

#[tokio::test]
async fn h5_a_grandchild_that_holds_the_pipe_does_not_hold_up_the_result() {
    let (answer, context, _folder) = run(json!({"shell": "sleep 600 & echo $!; exit 3"})).await;
    let failure = failure(answer);
    assert_eq!(failure.exit_code, Some(3));
    let result = failure.result.unwrap();
    assert_eq!(result["leftovers"], 1);
    let output = tail(&context);
    assert!(!is_there(output.lines().next().unwrap()), "{output}");
    assert!(output.contains("left 1 processes running"), "{output}");
}

#[tokio::test]
async fn h5_a_program_that_closes_its_output_early_is_still_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = fifo(folder.path());
    let params = json!({"shell": "exec >&- 2>&-; read go < $FIFO; exit 4", "env": {"FIFO": fifo}});
    let (context, _data) = attempt(params);
    let running = tokio::spawn(async move { CommandHandler::new().run(context).await });
    tokio::fs::write(&fifo, "go\n").await.unwrap();
    assert_eq!(failure(running.await.unwrap()).exit_code, Some(4));
}

#[tokio::test]
async fn leftovers_stay_when_the_params_say_so() {
    let params = json!({
        "shell": "setsid sleep 600 > /dev/null 2>&1 & echo $!", "leftovers": "leave",
    });
    let (answer, context, _folder) = run(params).await;
    assert_eq!(result(answer)["leftovers"], 0);
    let pid = tail(&context);
    assert!(is_there(&pid));
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn h8_what_does_not_start_says_why_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let no_interpreter = file("no-interpreter", "#!/no/such/thing -x\n", 0o755);
    let no_format = file("no-format", "\u{1}\u{2}garbage", 0o755);
    let no_permission = file("no-permission", "#!/bin/sh\n", 0o644);
    let here = folder.path().display().to_string();
    let path = json!({ "PATH": here });
    let huge = "x".repeat(120_000);
    let too_much: Vec<&str> =
        std::iter::once("true").chain(std::iter::repeat_n(huge.as_str(), 60)).collect();
    for (params, expected) in [
        (json!({"argv": ["no-such-program"]}), "was not found in PATH"),
        (json!({"argv": ["/no/such/program"]}), "`/no/such/program` does not exist"),
        (json!({"argv": [no_interpreter]}), "its interpreter `/no/such/thing` does not exist"),
        (json!({"argv": [no_format]}), "no `#!` line"),
        (json!({"argv": [no_permission]}), "chmod +x"),
        (json!({"argv": ["no-permission"], "env": path}), "chmod +x"),
        (json!({"argv": [here]}), "is a directory"),
        (json!({"argv": ["true"], "cwd": "/no/such/place"}), "cannot start in `/no/such/place`"),
        (json!({"argv": ["true"], "cwd": "/dev/null"}), "not a directory"),
        (json!({"argv": too_much}), "too large together"),
        (json!({"argv": ["true"], "env": {"T": "credential:none"}}), "LoadCredential"),
    ] {
        let (answer, context, _data) = run(params).await;
        let failure = failure(answer);
        assert!(failure.message.contains(expected), "{} has no `{expected}`", failure.message);
        assert!(!failure.is_answer, "the job has not spoken: {}", failure.message);
        assert_eq!(failure.retry, RetryAdvice::ByPolicy);
        let records = fs::read_dir(context.paths.running()).map_or(0, Iterator::count);
        assert_eq!(records, 0);
    }
}

#[tokio::test]
async fn a_relative_program_is_looked_for_in_its_directory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tool");
    fs::write(&path, "#!/bin/sh\necho found\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let (answer, context, _data) = run(json!({"argv": ["./tool"], "cwd": folder.path()})).await;
    result(answer);
    assert_eq!(tail(&context), "found\n");
}

/// A machine that is out of something for the first few starts.
#[derive(Debug)]
struct Short {
    error: rustix::io::Errno,
    times: AtomicUsize,
}

impl Launch for Short {
    fn launch(&self, program: &Program) -> io::Result<Running> {
        let left = self.times.load(Ordering::Relaxed);
        if left == 0 {
            return Machine.launch(program);
        }
        self.times.store(left - 1, Ordering::Relaxed);
        Err(self.error.into())
    }
}

async fn run_when_short(error: rustix::io::Errno, times: usize) -> Answer {
    let (context, _folder) = attempt(json!({"argv": ["true"]}));
    let short = Short { error, times: AtomicUsize::new(times) };
    CommandHandler::with(Arc::new(short)).run(context).await
}

#[tokio::test(start_paused = true)]
async fn h9_a_shortage_that_passes_does_not_cost_the_attempt() {
    use rustix::io::Errno;
    for error in [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::TXTBSY] {
        result(run_when_short(error, 3).await);
    }
}

#[tokio::test(start_paused = true)]
async fn h9_a_shortage_that_stays_puts_the_job_off_uncharged_and_says_what_is_short() {
    let answer = run_when_short(rustix::io::Errno::AGAIN, usize::MAX).await;
    let Answer::Snooze { delay, reason } = answer else { panic!("{answer:?}") };
    assert!(delay > Duration::ZERO && reason.contains("TasksMax"), "{delay:?}: {reason}");
}

#[tokio::test]
async fn b7_without_room_for_its_run_record_nothing_is_started_and_nothing_is_charged() {
    let (context, folder) = attempt(json!({"shell": "touch ran"}));
    // Every file in there is as good as /dev/full.
    std::fs::create_dir_all(context.paths.running()).unwrap();
    let record =
        context.paths.running().join(format!("{}-{}.pid", context.job.id, context.job.attempt));
    std::os::unix::fs::symlink("/dev/full", record).unwrap();
    let answer = CommandHandler::new().run(context).await;
    let Answer::Snooze { reason, .. } = answer else { panic!("{answer:?}") };
    assert!(reason.contains("run record") && reason.contains("space"), "{reason}");
    assert!(!folder.path().join("ran").exists());
}

#[tokio::test]
async fn a_stop_during_a_shortage_is_obeyed() {
    let (context, _folder) = attempt(json!({"argv": ["true"]}));
    context.stop.cancel();
    let short = Short { error: rustix::io::Errno::AGAIN, times: AtomicUsize::new(usize::MAX) };
    let answer = CommandHandler::with(Arc::new(short)).run(context).await;
    assert_eq!(answer, Answer::Stopped { result: None });
}

#[tokio::test]
async fn h10_a_program_killed_by_a_signal_is_recorded_as_such() {
    let (answer, _context, _folder) = run(json!({"shell": "kill -USR1 $$"})).await;
    let failure = failure(answer);
    assert_eq!(failure.message, "`shell script` was killed by SIGUSR1");
    assert!(failure.is_answer);
    assert_eq!(failure.result.unwrap()["signal"], "SIGUSR1");
}

#[tokio::test]
async fn the_last_line_becomes_the_result_when_asked_for() {
    let params = json!({"shell": "echo working; echo '{\"rows\": 3}'", "result": "last_line"});
    let (answer, _context, _folder) = run(params).await;
    assert_eq!(result(answer)["output"], json!({"rows": 3}));
}

#[tokio::test]
async fn a_dry_run_shows_what_would_run_and_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let touched = folder.path().join("touched");
    let params = json!({
        "argv": ["touch", touched], "env": {"TOKEN": "canary", "PLAIN": "x"}, "input": {"a": 1},
    });
    let (context, _data) = attempt(params);
    let context = context.dry_run();
    let result = result(CommandHandler::new().run(context.clone()).await);
    assert!(!touched.exists());
    assert_eq!((&result["dry_run"], &result["argv"][0]), (&json!(true), &json!("touch")));
    let shown = format!("{}{result}", tail(&context));
    assert!(shown.starts_with("DRY RUN"), "{shown}");
    assert!(shown.contains("TOKEN") && !shown.contains("canary"), "J11: values are not shown");
}

#[tokio::test]
async fn an_attempt_that_is_given_up_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = fifo(folder.path());
    let script = "trap '' TERM; setsid sleep 600 & echo $$ $! > $FIFO; wait";
    let (context, _data) = attempt(json!({"shell": script, "env": {"FIFO": fifo}}));
    let running = tokio::spawn(async move { CommandHandler::new().run(context).await });
    let pids = heard(&fifo).await;
    let watched: Vec<_> = pids.split_whitespace().map(pidfd).collect();
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    for process in watched {
        // Becomes readable when the process has ended; otherwise this waits for ever.
        let mut one = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut one, None).unwrap();
    }
}

fn pidfd(pid: &str) -> std::os::fd::OwnedFd {
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
}

#[tokio::test]
async fn a2_what_a_killed_daemon_left_running_is_ended_by_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = fifo(folder.path());
    // It clears its environment, so only the record's process and its descendants lead to it.
    let script =
        "exec env -i sh -c \"trap '' TERM; setsid sleep 600 & echo \\$\\$ \\$! > $FIFO; wait\"";
    let (context, _data) = attempt(json!({"shell": script, "env": {"FIFO": fifo}}));
    let running = tokio::spawn({
        let context = context.clone();
        async move { CommandHandler::new().run(context).await }
    });
    let pids = heard(&fifo).await;
    let paths = context.paths.clone();
    let leftovers = tokio::task::spawn_blocking(move || {
        kill_leftovers(&paths, &[], Duration::from_millis(50)).unwrap()
    })
    .await
    .unwrap();
    assert_eq!(leftovers.len(), 1);
    assert_eq!((leftovers[0].job, leftovers[0].attempt), (context.job.id, 1));
    assert_eq!(leftovers[0].ended.asked, 2);
    assert!(leftovers[0].ended.survivors.is_empty());
    // Its own daemon is alive in this test and sees the program killed.
    assert_eq!(failure(running.await.unwrap()).result.unwrap()["signal"], "SIGKILL");
    let left: Vec<&str> = pids.split_whitespace().filter(|pid| is_there(pid)).collect();
    assert!(left.is_empty(), "still there: {left:?}");
    assert_eq!(fs::read_dir(context.paths.running()).unwrap().count(), 0);
}

#[tokio::test]
async fn h6_a_record_whose_pid_is_somebody_elses_by_now_harms_nobody() {
    let (context, _data) = attempt(json!({"argv": ["true"]}));
    let own = i32::try_from(std::process::id()).unwrap();
    let mut record = RunRecord::create(&context.paths, context.job.name(), "1-1-none").unwrap();
    record.started(super::super::ports::process::ProcessName { pid: own, started: 1 }).unwrap();
    std::mem::forget(record);
    fs::write(context.paths.running().join("2-1.pid"), "cut sho").unwrap();
    assert_eq!(kill_leftovers(&context.paths, &[], Duration::ZERO).unwrap(), []);
    assert_eq!(fs::read_dir(context.paths.running()).unwrap().count(), 0);
    assert_eq!(kill_leftovers(&context.paths, &[], Duration::ZERO).unwrap(), []);
}

#[tokio::test]
async fn params_that_are_not_valid_fail_for_good() {
    let (answer, _context, _folder) = run(json!({"argv": [], "nice": 99})).await;
    let failure = failure(answer);
    assert_eq!(failure.retry, RetryAdvice::Never);
    assert!(failure.message.contains("nothing to run") && failure.message.contains("nice"));
}

#[tokio::test]
async fn a_program_speaks_on_its_descriptor() {
    let script = r#"
        exec 1>&2
        say() { printf '%s\n' "$1" >"/proc/self/fd/$SEXTON_PROTOCOL_FD"; }
        say '{"progress": 50, "message": "half"}'
        say 'what?'
        say '{"metric": "rows", "value": 2}'
        say '{"checkpoint": [1, 2]}'
        say '{"log": "done", "fields": {"rows": 2}}'
        say '{"result": {"ok": true}}'
    "#;
    let (context, _folder) = attempt(json!({ "shell": script }));
    let (progress, reports) = Progress::channel();
    let context = Context { progress, ..context };
    let result = result(CommandHandler::new().run(context.clone()).await);
    assert_eq!(result["output"], json!({ "ok": true }));
    assert_eq!(result["metrics"], json!({ "rows": 2.0 }));
    assert_eq!(result["malformed_lines"], 1);
    let report = reports.borrow().clone();
    assert_eq!((report.percent, &*report.message), (Some(50), "half"));
    assert_eq!(report.checkpoint.unwrap().as_str(), "[1,2]");
    let log = tail(&context);
    assert!(log.contains("info: done {\"rows\":2}"), "{log}");
    assert!(log.contains("not understood") && log.contains("what?"), "{log}");
}

#[tokio::test]
async fn a_program_gets_the_checkpoint_of_an_earlier_attempt() {
    let (mut context, _folder) = attempt(json!({ "shell": "echo \"$SEXTON_CHECKPOINT\"" }));
    Arc::make_mut(&mut context.job).checkpoint =
        Some(crate::model::JsonText::from(&json!({ "page": 7 })));
    result(CommandHandler::new().run(context.clone()).await);
    assert_eq!(tail(&context), "{\"page\":7}\n");
}
