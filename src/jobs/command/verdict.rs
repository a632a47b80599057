//! What the end of a program means. Pure.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::Signal;
use serde_json::{Map, Value, json};

use super::params::CommandParams;
use super::protocol::{Advice, Said};
use crate::jobs::{Answer, Failure, RetryAdvice};

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Exited(i32),
    Killed { signal: i32, dumped_core: bool },
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Killed { signal, dumped_core: status.core_dumped() },
            // Only a stopped or continued program has neither, and those are not waited for.
            (None, None) => Self::Exited(-1),
        }
    }
}

/// What is known of an attempt whose program has ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Facts {
    pub(super) end: End,
    pub(super) duration_ms: u64,
    pub(super) output_bytes: u64,
    pub(super) truncated: bool,
    /// What the program said its result is.
    pub(super) output: Option<Value>,
    /// Processes it left behind that had to be ended.
    pub(super) leftovers: usize,
    /// What it said beside its output.
    pub(super) said: Said,
}

impl Facts {
    /// The machine-readable result.
    pub(super) fn result(&self) -> Value {
        let (exit_code, signal, dumped_core) = match self.end {
            End::Exited(code) => (Some(code), None, false),
            End::Killed { signal, dumped_core } => (None, Some(signal_name(signal)), dumped_core),
        };
        let mut result = json!({
            "schema_version": 1,
            "exit_code": exit_code,
            "signal": signal,
            "dumped_core": dumped_core,
            "duration_ms": self.duration_ms,
            "output_bytes": self.output_bytes,
            "truncated": self.truncated,
            "leftovers": self.leftovers,
        });
        if let Some(output) = self.said.result.as_ref().or(self.output.as_ref()) {
            result["output"] = output.clone();
        }
        if !self.said.metrics.is_empty() {
            result["metrics"] = json!(self.said.metrics);
        }
        if self.said.malformed > 0 {
            result["malformed_lines"] = self.said.malformed.into();
        }
        result
    }
}

/// The answer for a program that ended by itself. Its own word on what is to happen next comes before what its exit code means, except that
/// nothing is tried again that it did well.
pub(super) fn answer(params: &CommandParams, name: &str, facts: &Facts) -> Answer {
    let by_code = by_code(params, name, facts);
    match (&facts.said.advice, by_code) {
        (Some(Advice::Snooze { delay, reason }), _) => {
            Answer::Snooze { delay: *delay, reason: reason.clone() }
        }
        (Some(Advice::Final(why)), answer) => {
            let (exit_code, result) = match answer {
                Answer::Failed(failure) => (failure.exit_code, failure.result),
                _ => (None, Some(facts.result())),
            };
            let failure = Failure { result, ..Failure::answer(format!("`{name}`: {why}")) };
            failure.with_exit_code(exit_code).for_good().into()
        }
        (Some(Advice::RetryAfter(delay)), Answer::Failed(mut failure)) => {
            if failure.retry != RetryAdvice::Never {
                failure.retry = RetryAdvice::After(*delay);
            }
            failure.into()
        }
        (_, answer) => answer,
    }
}

fn by_code(params: &CommandParams, name: &str, facts: &Facts) -> Answer {
    let result = facts.result();
    let code = match facts.end {
        End::Exited(code) => code,
        End::Killed { signal, dumped_core } => {
            return Failure::answer(killed(name, signal, dumped_core)).with_result(result).into();
        }
    };
    let is_in = |codes: &std::collections::BTreeSet<u8>| {
        u8::try_from(code).is_ok_and(|code| codes.contains(&code))
    };
    if is_in(&params.success_codes) {
        return Answer::Done(result);
    }
    if is_in(&params.skip_codes) {
        return Answer::Done(skipped(result, code));
    }
    let message = format!("`{name}` exited with code {code}{}", meaning(code));
    let failure = Failure::answer(message).with_exit_code(Some(code)).with_result(result);
    let is_final = is_in(&params.final_codes)
        || (!params.retry_codes.is_empty() && !is_in(&params.retry_codes));
    if is_final { failure.for_good().into() } else { failure.into() }
}

fn skipped(mut result: Value, code: i32) -> Value {
    let fields: Option<&mut Map<String, Value>> = result.as_object_mut();
    if let Some(fields) = fields {
        fields.insert("skipped".to_owned(), true.into());
        fields.insert("note".to_owned(), format!("exit code {code}: nothing to do").into());
    }
    result
}

/// What a shell means by the codes that it makes itself.
fn meaning(code: i32) -> String {
    match code {
        126 => ", by which a shell says that a program in it could not be executed".to_owned(),
        127 => ", by which a shell says that it did not find a program".to_owned(),
        129..=192 => {
            let signal = code - 128;
            format!(
                ", by which a shell says that a program in it was killed by {}{}",
                signal_name(signal),
                out_of_memory(signal)
            )
        }
        _ => String::new(),
    }
}

/// What is behind most kills that nobody remembers.
fn out_of_memory(signal: i32) -> &'static str {
    if signal == Signal::KILL.as_raw() {
        "; if nobody did that by hand, the machine ran out of memory: see `journalctl -k`"
    } else {
        ""
    }
}

fn killed(name: &str, signal: i32, dumped_core: bool) -> String {
    let core = if dumped_core { " (core dumped)" } else { "" };
    format!("`{name}` was killed by {}{core}{}", signal_name(signal), out_of_memory(signal))
}

/// `SIGTERM` and the like; `signal 42` for those without a name.
pub(super) fn signal_name(number: i32) -> String {
    const NAMES: [(Signal, &str); 25] = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::STKFLT, "SIGSTKFLT"),
        (Signal::TTIN, "SIGTTIN"),
        (Signal::TTOU, "SIGTTOU"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::VTALARM, "SIGVTALRM"),
        (Signal::PROF, "SIGPROF"),
        (Signal::IO, "SIGIO"),
        (Signal::POWER, "SIGPWR"),
        (Signal::SYS, "SIGSYS"),
    ];
    let named = NAMES.iter().find(|(signal, _)| signal.as_raw() == number);
    named.map_or_else(|| format!("signal {number}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn facts(end: End) -> Facts {
        Facts {
            end,
            duration_ms: 5,
            output_bytes: 0,
            truncated: false,
            output: None,
            leftovers: 0,
            said: Said::default(),
        }
    }

    fn advised(advice: Advice, code: i32) -> Answer {
        let params: CommandParams =
            serde_json::from_value(json!({"argv": ["prog"], "final_codes": [4]})).unwrap();
        let said = Said { advice: Some(advice), ..Said::default() };
        answer(&params, "prog", &Facts { said, ..facts(End::Exited(code)) })
    }

    #[test]
    fn a_program_may_say_when_to_try_again() {
        let minute = Duration::from_secs(60);
        let Answer::Failed(failure) = advised(Advice::RetryAfter(minute), 1) else {
            panic!("it failed")
        };
        assert_eq!(failure.retry, RetryAdvice::After(minute));
        let Answer::Failed(failure) = advised(Advice::RetryAfter(minute), 4) else {
            panic!("it failed")
        };
        assert_eq!(failure.retry, RetryAdvice::Never, "a final code stays final");
        assert!(matches!(advised(Advice::RetryAfter(minute), 0), Answer::Done(_)));
        for code in [0, 1] {
            let closed = Advice::Snooze { delay: minute, reason: "closed".to_owned() };
            assert!(matches!(advised(closed, code), Answer::Snooze { .. }));
            let Answer::Failed(failure) = advised(Advice::Final("no such page".to_owned()), code)
            else {
                panic!("it failed")
            };
            assert_eq!(
                (failure.retry, &*failure.message),
                (RetryAdvice::Never, "`prog`: no such page")
            );
        }
    }

    fn verdict(params: &Value, end: End) -> Answer {
        let params: CommandParams = serde_json::from_value(params.clone()).unwrap();
        answer(&params, "prog", &facts(end))
    }

    #[test]
    fn exit_codes_mean_what_the_params_say() {
        let params = json!({
            "argv": ["prog"], "success_codes": [0, 2], "skip_codes": [3], "final_codes": [4],
        });
        let exited = |code| verdict(&params, End::Exited(code));
        assert!(matches!(exited(0), Answer::Done(_)));
        assert!(matches!(exited(2), Answer::Done(_)));
        let Answer::Done(result) = exited(3) else { panic!("a skip is a success") };
        assert_eq!(result["skipped"], true);
        let Answer::Failed(failure) = exited(4) else { panic!("4 is a failure") };
        assert_eq!(failure.retry, RetryAdvice::Never);
        let Answer::Failed(failure) = exited(1) else { panic!("1 is a failure") };
        assert_eq!(failure.message, "`prog` exited with code 1");
        assert_eq!((failure.retry, failure.exit_code), (RetryAdvice::ByPolicy, Some(1)));
        assert!(failure.is_answer);
    }

    #[test]
    fn with_retry_codes_every_other_failure_is_final() {
        let params = json!({"argv": ["prog"], "retry_codes": [75]});
        for (code, retry) in [(75, RetryAdvice::ByPolicy), (1, RetryAdvice::Never)] {
            let Answer::Failed(failure) = verdict(&params, End::Exited(code)) else {
                panic!("{code} is a failure")
            };
            assert_eq!(failure.retry, retry, "{code}");
        }
    }

    #[test]
    fn h10_death_by_signal_is_recorded_with_its_name_and_core_flag() {
        let end = End::Killed { signal: 11, dumped_core: true };
        let Answer::Failed(failure) = verdict(&json!({"argv": ["prog"]}), end) else {
            panic!("a killed program has failed")
        };
        assert_eq!(failure.message, "`prog` was killed by SIGSEGV (core dumped)");
        assert_eq!(failure.exit_code, None);
        let result = failure.result.unwrap();
        assert_eq!((&result["signal"], &result["dumped_core"]), (&json!("SIGSEGV"), &json!(true)));
        assert_eq!(signal_name(42), "signal 42");
    }

    #[test]
    fn a7_a_program_that_the_kernel_killed_has_failed_also_where_a_shell_tells_of_it() {
        let params = json!({"argv": ["prog"]});
        for end in [End::Killed { signal: 9, dumped_core: false }, End::Exited(137)] {
            let Answer::Failed(failure) = verdict(&params, end) else {
                panic!("{end:?} is a failure")
            };
            for part in ["SIGKILL", "out of memory"] {
                assert!(failure.message.contains(part), "{}", failure.message);
            }
        }
        let Answer::Failed(failure) = verdict(&params, End::Exited(200)) else {
            panic!("a failure")
        };
        assert_eq!(failure.message, "`prog` exited with code 200");
    }
}
