//! From params to a started program, and what to tell people when it does not start.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Access;
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::environment::search_path;
use super::params::{CommandParams, Invocation};
use crate::jobs::Failure;
use crate::jobs::ports::process::{Launch, Program, Running};
use crate::model::for_shell;

const SHELL: &str = "/bin/sh";

/// How long to wait between tries when the machine is out of processes, descriptors or memory. Such shortages pass
/// within seconds or after minutes; for the second kind the job comes back later.
const WAITS: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// The program to start for these params.
///
/// # Errors
/// When the working directory or the program is not there, or the program cannot be executed.
pub(super) fn program(
    params: &CommandParams,
    invocation: Invocation<'_>,
    environment: std::collections::BTreeMap<OsString, OsString>,
    key: String,
) -> Result<Program, Failure> {
    if let Some(cwd) = &params.cwd {
        check_cwd(cwd)?;
    }
    let (file, name, arguments) = match invocation {
        Invocation::Argv { program, arguments } => {
            let file = find(program, params.cwd.as_deref(), search_path(&environment))?;
            (file, program.to_owned(), arguments.iter().map(OsString::from).collect())
        }
        Invocation::Shell(script) => {
            (SHELL.into(), "sh".to_owned(), vec!["-c".into(), script.into()])
        }
    };
    let program = Program {
        file,
        name,
        arguments,
        cwd: params.cwd.clone(),
        environment,
        has_stdin: params.input.is_some(),
        key,
    };
    Ok(match params.umask {
        Some(umask) => with_umask(program, umask),
        None => program,
    })
}

/// A process's umask can only be set from within, and the code between fork and exec is not ours (it would be unsafe).
/// So a shell sets it and becomes the program.
fn with_umask(program: Program, umask: super::params::Umask) -> Program {
    let script = format!("umask {umask} && exec \"$@\"");
    let mut arguments = vec!["-c".into(), script.into(), program.name.clone().into()];
    arguments.push(program.file.into_os_string());
    arguments.extend(program.arguments);
    Program { file: SHELL.into(), name: "sh".to_owned(), arguments, ..program }
}

fn check_cwd(cwd: &Path) -> Result<(), Failure> {
    let problem = match std::fs::metadata(cwd) {
        Ok(place) if place.is_dir() => return Ok(()),
        Ok(_file) => "it is not a directory".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Failure::error(format!(
        "cannot start in `{}`: {problem}; create the directory or change `cwd`",
        cwd.display()
    )))
}

/// The file that a program's name means: itself with a slash in it (from `cwd` where it is relative), else the first
/// executable file of that name on the search path.
fn find(program: &str, cwd: Option<&Path>, search_path: &OsStr) -> Result<PathBuf, Failure> {
    if program.contains('/') {
        return Ok(cwd.unwrap_or(Path::new("")).join(program));
    }
    // An empty part means the working directory to a shell; nobody wants that of a daemon.
    let folders =
        search_path.as_bytes().split(|byte| *byte == b':').filter(|part| !part.is_empty());
    let mut not_executable = None;
    for folder in folders {
        let file = Path::new(OsStr::from_bytes(folder)).join(program);
        if !file.is_file() {
            continue;
        }
        if rustix::fs::access(&file, Access::EXEC_OK).is_ok() {
            return Ok(file);
        }
        not_executable.get_or_insert(file);
    }
    Err(Failure::error(match not_executable {
        Some(file) => not_executable_message(&file),
        None => format!(
            "program `{program}` was not found in PATH ({}); install it, give its full path, or set PATH in `env`",
            search_path.display()
        ),
    }))
}

fn not_executable_message(file: &Path) -> String {
    format!(
        "`{path}` is not executable for the daemon's user; see `ls -l {word}` and `chmod +x {word}`, or whether its file system is mounted noexec",
        path = file.display(),
        word = for_shell(file)
    )
}

/// Why a program was not started.
#[derive(Debug)]
pub(super) enum NotStarted {
    /// The attempt was told to stop meanwhile.
    Stopped,
    /// The machine is short of something, and has been for longer than an attempt should wait. That is not the job's fault.
    Short(String),
    /// It cannot be started as it is.
    Failed(Failure),
}

/// Starts a program; waits and tries again while the machine is short of something (H9).
///
/// # Errors
/// When it was not started.
pub(super) async fn start(
    launch: &dyn Launch,
    program: &Program,
    stop: &CancellationToken,
) -> Result<Running, NotStarted> {
    let mut waits = WAITS.iter();
    loop {
        let error = match launch.launch(program) {
            Ok(running) => return Ok(running),
            Err(error) => error,
        };
        if !is_shortage(&error) {
            return Err(NotStarted::Failed(explain(&error, program)));
        }
        let Some(wait) = waits.next() else {
            return Err(NotStarted::Short(format!(
                "cannot start `{}`: {error}, even after {} more tries; the machine or the service is at a limit (TasksMax, LimitNOFILE, memory)",
                program.file.display(),
                WAITS.len()
            )));
        };
        tokio::select! {
            () = tokio::time::sleep(*wait) => {}
            () = stop.cancelled() => return Err(NotStarted::Stopped),
        }
    }
}

/// Whether the machine lacks something that may be there again in a moment. A program that is being written
/// (`ETXTBSY`) counts: deployments do that.
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::AGAIN | Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::TXTBSY)
    )
}

/// What the kernel's answer means and what to do about it (H8).
fn explain(error: &io::Error, program: &Program) -> Failure {
    let file = program.file.display();
    let message = match Errno::from_io_error(error) {
        Some(Errno::NOENT) => match interpreter(&program.file) {
            Some(interpreter) if program.file.exists() => format!(
                "cannot start `{file}`: its interpreter `{interpreter}` does not exist; correct its first line or install it"
            ),
            _ if program.file.exists() => format!(
                "cannot start `{file}`: its dynamic loader does not exist; it was built for another system"
            ),
            _ => format!("program `{file}` does not exist; install it or correct `argv`"),
        },
        Some(Errno::ACCESS) if program.file.is_dir() => {
            format!("cannot start `{file}`: it is a directory")
        }
        Some(Errno::ACCESS | Errno::PERM) => not_executable_message(&program.file),
        Some(Errno::NOEXEC) => format!(
            "cannot start `{file}`: it is not a program of this machine and has no `#!` line naming its interpreter"
        ),
        Some(Errno::TOOBIG) => format!(
            "cannot start `{file}`: its arguments and environment are too large together; pass data in `input`"
        ),
        _ => format!("cannot start `{file}`: {error}"),
    };
    Failure::error(message)
}

/// The program that a script's first line names.
fn interpreter(script: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut start = Vec::new();
    std::fs::File::open(script).ok()?.take(256).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    line.split_ascii_whitespace().next().map(str::to_owned)
}
