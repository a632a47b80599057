//! The command line: a client of the API, except for what must work without a daemon.

mod args;
mod bench;
mod client;
mod database;
mod doctor;
mod files;
mod follow;
mod held;
mod jobs;
mod nodes;
mod orders;
mod output;
mod queues;
mod schedules;
mod session;
mod system;
mod tokens;
mod wait;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};

pub use args::Cli;
use args::Command;
use output::{Exit, Failure, Outcome, note};
use session::Session;

use crate::jobs::ports::process::{PROTOCOL_NUMBER, reserve_channel};
use crate::telemetry::logs::stderr_is_journal;

/// How long a daemon that must not go on has to let go of what runs.
const ABANDON_TIME: Duration = Duration::from_secs(2);

/// Runs the program with these arguments, the first of which is its name.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Before anything else is opened, so that programs find it where they expect it.
    let channel = reserve_channel();
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help to stdout and errors to stderr, and knows their codes.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let _printed = error.print();
            return ExitCode::from(code);
        }
    };
    let outcome = run(cli, channel).and_then(|exit| match output::lost() {
        // How a job or a check ended says more.
        Some(lost) if exit == Exit::Ok => Err(lost),
        _ => Ok(exit),
    });
    let exit = match outcome {
        Ok(exit) => exit,
        Err(Failure { exit, message }) => {
            let message = format!("error: {}", output::plain(&message));
            // The journal takes lines for informations unless they begin with their priority, see sd-daemon(3).
            note(match stderr_is_journal() {
                true => format!("<3>{}", message.replace('\n', "\n<3>")),
                false => message,
            });
            exit
        }
    };
    ExitCode::from(exit as u8)
}

fn run(cli: Cli, channel: io::Result<i32>) -> Outcome {
    match cli.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sexton", &mut script);
            output::out(&String::from_utf8_lossy(&script));
            Ok(Exit::Ok)
        }
        Command::Man => man(),
        Command::Serve => is_promised(channel).and_then(|()| serve(&cli)),
        Command::Keep { data, socket } => {
            let kept = crate::jobs::command::keep(&data, &socket);
            kept.map(|()| Exit::Ok).map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot keep programs: {error}"))
            })
        }
        command => {
            let session = Session::new(cli.config.as_deref(), cli.json)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))?;
            runtime.block_on(dispatch(&session, command))
        }
    }
}

/// Makes sure that programs find their descriptor under the promised number. What was open there when the daemon was started would be open in all of
/// them, and they would write into it what is meant for the daemon.
fn is_promised(channel: io::Result<i32>) -> Result<(), Failure> {
    let number = channel.map_err(|error| {
        Failure::new(Exit::Failed, format!("/dev/null cannot be opened: {error}"))
    })?;
    if number == PROTOCOL_NUMBER {
        return Ok(());
    }
    let message = format!(
        "descriptor {PROTOCOL_NUMBER} is open already, and the programs of jobs are to speak to the daemon on it: start the daemon without it (in a shell, with `{PROTOCOL_NUMBER}>&-` at the end of the command)"
    );
    Err(Failure::new(Exit::Config, message))
}

fn serve(cli: &Cli) -> Outcome {
    let loaded = session::load_settings(cli.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))?;
    let served = runtime.block_on(crate::daemon::serve(loaded.settings));
    match served {
        Ok(()) => {
            // Handlers that were abandoned may still sit on blocking threads; they must not hold up the exit.
            runtime.shutdown_background();
            Ok(Exit::Ok)
        }
        Err(error) => {
            // Long enough for attempts to be dropped, which kills their programs.
            runtime.shutdown_timeout(ABANDON_TIME);
            let exit = match error.kind() {
                crate::daemon::FailureKind::Taken => Exit::TryAgain,
                crate::daemon::FailureKind::Data => Exit::Data,
                crate::daemon::FailureKind::Other => Exit::Failed,
            };
            Err(Failure::new(exit, crate::model::Chain(&error).to_string()))
        }
    }
}

async fn dispatch(session: &Session, command: Command) -> Outcome {
    match command {
        Command::Validate(args) => files::validate(session, &args),
        Command::Next(args) => files::next(session, &args),
        Command::Explain(args) => files::explain(session, &args),
        Command::Schedules(page) => schedules::list(session, &page).await,
        Command::Show { id } => schedules::show(session, &id).await,
        Command::Why(args) => schedules::why(session, &args).await,
        Command::Pause(args) => schedules::pause(session, &args).await,
        Command::Resume { id } => schedules::resume(session, &id).await,
        Command::Run(args) => schedules::run(session, &args).await,
        Command::Submit(args) => jobs::submit(session, &args).await,
        Command::Jobs(args) => jobs::list(session, &args).await,
        Command::Job { id } => jobs::show(session, id).await,
        Command::Items(args) => jobs::batch_items(session, &args).await,
        Command::Cancel(args) => orders::cancel(session, &args).await,
        Command::Retry(args) => orders::retry(session, &args).await,
        Command::Drop(args) => orders::discard(session, &args).await,
        Command::Reprioritise(args) => orders::reprioritise(session, &args).await,
        Command::Logs(args) => jobs::logs(session, &args).await,
        Command::Stats => system::stats(session).await,
        Command::Limits(args) => queues::limits(session, args.action).await,
        Command::Kinds { name } => system::kinds(session, name).await,
        Command::Queues(args) => queues::queues(session, args.action).await,
        Command::Workers => system::workers(session).await,
        Command::Nodes { action } => nodes::nodes(session, action).await,
        Command::Token { action } => tokens::tokens(session, action).await,
        Command::Events => system::events(session).await,
        Command::Audit(args) => system::audit(session, &args).await,
        Command::Db(command) => database::run(session, command).await,
        Command::Reload => system::reload(session).await,
        Command::Status => system::status(session).await,
        Command::Doctor => doctor::run(session).await,
        Command::Bench(args) => bench::run(session, args).await,
        Command::Config(args::Config::Show) => system::config(session),
        // Handled before a session is made.
        Command::Serve | Command::Keep { .. } | Command::Completions { .. } | Command::Man => {
            Ok(Exit::Ok)
        }
    }
}

fn man() -> Outcome {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(|error| Failure::new(Exit::Failed, format!("the manual page: {error}")))?;
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let command = command.clone();
        let manual = clap_mangen::Man::new(command.disable_help_subcommand(true));
        let rendered = manual
            .render_synopsis_section(&mut page)
            .and_then(|()| manual.render_description_section(&mut page))
            .and_then(|()| manual.render_options_section(&mut page));
        rendered
            .map_err(|error| Failure::new(Exit::Failed, format!("the manual page: {error}")))?;
    }
    output::out(&String::from_utf8_lossy(&page));
    Ok(Exit::Ok)
}
