//! The format as its authors see it.

use proptest::prelude::*;
use serde::Deserialize;

use super::super::definition::{CatchUpPolicy, Overlap, Requirement};
use super::super::diagnostic::{Look, render, render_all};
use super::super::{Trigger, Weekdays};
use super::*;
use crate::jobs::{Params, check_as};
use crate::model::{Backoff, Concurrency, HumanDuration, OnEnd, Priority};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only parsed")]
struct Sweep {
    roots: Vec<String>,
    older_than: Option<HumanDuration>,
    #[serde(default)]
    limits: SweepLimits,
    password: Option<String>,
    since: Option<String>,
    extra: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SweepLimits {
    max_files: u32,
}

impl Params for Sweep {}

const SWEEP: Kind = Kind::built_in("sweep", "sweeps", check_as::<Sweep>);
const IDLE: Kind = Kind::built_in("idle", "does nothing", |_| Vec::new());
const KINDS: &[Kind] = &[SWEEP, IDLE];

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn parse(text: &str) -> Parsed {
    parse_file(&Path::new("schedules/tidy.toml").into(), text, &Defaults::default(), KINDS, now())
}

fn good(text: &str) -> Schedule {
    let parsed = parse(text);
    assert!(!parsed.has_errors(), "{}", render_all(&parsed.diagnostics, Look::Plain));
    parsed.schedules.into_iter().next().unwrap()
}

/// The findings, one a line, without the file's name.
fn findings(text: &str) -> Vec<String> {
    let parsed = parse(text);
    let lines = parsed.diagnostics.iter().map(ToString::to_string);
    lines.map(|line| line.replace("schedules/tidy.toml:", "").trim().to_owned()).collect()
}

#[test]
fn a_whole_file_is_read() {
    let schedule = good(
        r#"
        description = "Remove stale uploads"
        enabled = false
        tags = ["prod", "disk", "prod"]
        owner = "ops@example.org"
        runbook = "https://wiki.example.org/cleanup"

        [when]
        every = "15m"
        daily = ["02:30", 14:00:00]
        weekdays = ["mon-wed", "fri"]
        cron = "30 2 * * 1"
        at = [2026-12-01T03:00:00+01:00, "2026-12-02T03:00:00"]
        timezone = "Europe/Berlin"
        jitter = "5m"
        offset = "10m"
        catch_up = "all"
        catch_up_window = "6h"
        catch_up_max = 7
        dst = { gap = "skip", repeat = "both" }
        not_before = 2026-01-01
        not_after = "2027-12-31"
        blackout = ["2026-12-24/2026-12-27"]

        [run]
        priority = "low"
        queue = "disk"
        timeout = "30m"
        total_timeout = "2h"
        overlap = "queue_one"
        retries = { max = 2, backoff = "exponential", base = "10s", max_delay = "1m", jitter = false }
        requires = ["path:/data", "mounted:/data", "free:/data>=5GiB"]
        labels = { team = "ops" }

        [sweep]
        roots = ["/tmp/a"]
        older_than = "7d"
        since = 2026-01-01T00:00:00Z
        limits.max_files = 10
        "#,
    );
    assert_eq!(schedule.id.as_str(), "tidy");
    assert!(!schedule.enabled);
    assert_eq!(schedule.tags, ["disk", "prod"]);
    let when = &schedule.when;
    assert_eq!(when.rule.zone.iana_name(), Some("Europe/Berlin"));
    assert_eq!(when.rule.triggers.len(), 5);
    let days: Weekdays = "mon-wed,fri".parse().unwrap();
    assert!(when.rule.triggers.iter().any(
        |trigger| matches!(trigger, Trigger::Daily { times, weekdays } if times.len() == 2 && *weekdays == days)
    ));
    let local: Timestamp = "2026-12-02T02:00:00Z".parse().unwrap();
    assert!(when.rule.triggers.contains(&Trigger::At(local)));
    assert_eq!(when.catch_up.policy, CatchUpPolicy::All);
    assert_eq!(when.catch_up.max, 7);
    assert_eq!(when.not_before, Some("2025-12-31T23:00:00Z".parse().unwrap()));
    assert_eq!(when.not_after, Some("2027-12-31T22:59:59.999999Z".parse().unwrap()));
    let run = &schedule.run;
    assert_eq!(run.priority, Priority::LOW);
    assert_eq!(run.overlap, Overlap::QueueOne);
    assert_eq!(run.retry.max_attempts, 3);
    assert!(matches!(run.retry.backoff, Backoff::Exponential { jitter: false, .. }));
    assert!(
        matches!(&run.requires[2], Requirement::Free { at_least, .. } if at_least.0 == 5 << 30)
    );
    assert_eq!(schedule.params.value()["since"], "2026-01-01T00:00:00Z");
    assert_eq!(schedule.params.value()["limits"]["max_files"], 10);
}

#[test]
fn what_is_left_out_comes_from_the_settings() {
    let defaults = Defaults {
        queue: "slow".to_owned(),
        priority: Priority::HIGH,
        timezone: jiff::tz::TimeZone::get("Asia/Tokyo").unwrap(),
        ..Defaults::default()
    };
    let parsed = parse_file(&Path::new("a.toml").into(), "[idle]", &defaults, KINDS, now());
    let schedule = &parsed.schedules[0];
    assert!(schedule.when.is_manual());
    assert_eq!(schedule.when.rule.zone, defaults.timezone);
    assert_eq!((schedule.run.queue.as_str(), schedule.run.priority), ("slow", Priority::HIGH));
    assert_eq!(schedule.run.retry, defaults.retry);
}

#[test]
fn every_error_of_a_file_is_reported_in_one_pass_with_its_place() {
    assert_eq!(
        findings(
            "descripton = \"x\"\n\
             [when]\nevery = \"15\"\njiter = \"5m\"\ntimezone = \"Europe/Berln\"\n\
             [run]\npriority = 11\noverlap = \"skipp\"\ntimeout = 5\n\
             [sweep]\nroots = \"/tmp\"\nolder_then = \"7d\"\nlimits.max_files = \"lots\"\n"
        ),
        [
            "1:1: error[S014]: unknown key `descripton` in the file (did you mean `description`?)",
            "3:9: error[S016]: `every`: `15` is not a length of time: it has no unit; write it like 90s, 15m, 1h 30m or 7d",
            "4:1: error[S014]: unknown key `jiter` in [when] (did you mean `jitter`?)",
            "5:12: error[S027]: the time zone `Europe/Berln` is not known here (did you mean `Europe/Berlin`?)",
            "7:12: error[S016]: `priority`: 11 is outside 1 to 10",
            "8:11: error[S016]: `overlap`: `skipp` is not one of `skip`, `queue_one`, `queue_all`, `cancel_previous` or `allow` (did you mean `skip`?)",
            "9:11: error[S013]: `timeout` must be a length of time like \"30m\", and this is an integer",
            "11:9: error[S021]: invalid type: string \"/tmp\", expected a list",
            "12:1: error[S014]: unknown key `older_then` in [sweep] (did you mean `older_than`?)",
            "13:20: error[S021]: invalid type: string \"lots\", expected a whole number that is not negative",
        ]
    );
}

#[test]
fn a_file_with_an_error_yields_no_schedule_at_all() {
    let parsed = parse(
        "[[schedule]]\nid = \"a\"\n[schedule.idle]\n[[schedule]]\nid = \"B\"\n[schedule.idle]\n",
    );
    assert!(parsed.has_errors());
    assert!(parsed.schedules.is_empty());
}

#[test]
fn an_error_is_shown_as_a_compiler_shows_it() {
    let parsed = parse("[sweep]\nroots = []\nolder_then = \"7d\"\n");
    insta::assert_snapshot!(render(&parsed.diagnostics[0], Look::Plain), @r#"
    error[S014]: unknown key `older_then` in [sweep]
     --> schedules/tidy.toml:3:1
      |
    3 | older_then = "7d"
      | ^^^^^^^^^^
      |
      = help: did you mean `older_than`?
    "#);
    let coloured = render(&parsed.diagnostics[0], Look::Colour);
    assert!(coloured.contains("\u{1b}["), "{coloured}");
}

#[test]
fn a_diagnostic_has_a_machine_form() {
    let parsed = parse("[idle]\n[run]\nqueue = \"a b\"\n");
    let json = serde_json::to_value(&parsed.diagnostics).unwrap();
    assert_eq!(
        json,
        serde_json::json!([{
            "severity": "error", "code": "S016", "file": "schedules/tidy.toml",
            "line": 3, "col": 9, "end_line": 3, "end_col": 14,
            "message": "`queue`: `a b` cannot be a queue's name: use 1 to 64 of a-z, 0-9, `-` and `_`, starting with a letter or digit",
        }])
    );
}

#[test]
fn a_syntax_error_hides_nothing_that_stands_before_it() {
    assert_eq!(
        findings("enabeld = true\n[when]\nevery = \"5m\n[idle]\n"),
        [
            "1:1: error[S014]: unknown key `enabeld` in the file (did you mean `enabled`?)",
            "3:12: error[S010]: invalid basic string, expected `\"`",
        ]
    );
}

#[test]
fn a_schedule_does_exactly_one_thing() {
    assert_eq!(
        findings("enabled = true\n"),
        [
            "1:1: error[S020]: this schedule does not say what to do (add one table: `sweep` or `idle`)"
        ]
    );
    assert_eq!(
        findings("[idle]\n[sweep]\nroots = []\n"),
        [
            "1:2: error[S020]: [idle] is the second thing to do in one schedule (a schedule does one thing; write two schedules)"
        ]
    );
    assert!(findings("[swep]\nroots = []\n")[0].contains("did you mean `sweep`?"));
}

#[test]
fn what_is_not_supported_yet_is_refused_and_not_ignored() {
    let text = "[run]\nhistory = { keep = \"90d\" }\n\
                [idle]\n[notify]\non = [\"late\"]\n[[test]]\nat = 2026-01-01\n";
    let found = findings(text);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found.iter().all(|line| line.contains("error[S017]")), "{found:#?}");
}

#[test]
fn a_schedule_may_follow_others_and_require_their_success() {
    let text = "[when]\nafter = [{ schedule = \"dump\" }, { schedule = \"sync\", on = \"failure\" }]\n\
                daily = \"04:00\"\n\
                [run]\nrequires = [\"fresh:dump:24h\", \"path:/data\"]\nrequires_wait = \"1h\"\n[idle]\n";
    let schedule = good(text);
    let follows: Vec<(&str, OnEnd)> =
        schedule.when.rule.follows().map(|(id, on)| (id.as_str(), on)).collect();
    assert_eq!(follows, [("dump", OnEnd::Success), ("sync", OnEnd::Failure)]);
    let within = "24h".parse().unwrap();
    let fresh = Requirement::Fresh { schedule: "dump".parse().unwrap(), within };
    assert_eq!(schedule.run.requires[0], fresh);
    assert_eq!(fresh.to_string(), "fresh:dump:1d");
    assert_eq!(schedule.run.requires_wait, Some("1h".parse().unwrap()));
    assert_eq!(
        schedule.when.rule.describe(),
        "Every day at 04:00, after dump succeeded and after sync failed, UTC time."
    );
    let fields = crate::schedule::rule_fields(&schedule);
    assert_eq!(fields["when.after"], "dump success; sync failure");
    let places: Vec<(&str, u32, u32)> = schedule
        .source
        .references
        .iter()
        .map(|named| (named.schedule.as_str(), named.place.line, named.place.col))
        .collect();
    assert_eq!(places, [("dump", 2, 23), ("sync", 2, 46), ("dump", 5, 13)]);
    assert!(!good("[when]\nafter = { schedule = \"x\" }\n[idle]\n").when.is_manual());
}

#[test]
fn what_cannot_be_followed_or_required_is_told_at_its_place() {
    for (line, place, what) in [
        ("after = \"dump\"", "2:9", "must be a table like"),
        ("after = {}", "2:9", "needs the name of a `schedule`"),
        ("after = []", "2:9", "is an empty list"),
        ("after = { schedule = \"No\" }", "2:22", "cannot be a schedule's name"),
        ("after = { schedule = \"x\", on = \"sucess\" }", "2:32", "did you mean `success`?"),
        ("after = { schedule = \"x\", when = 1 }", "2:27", "unknown key `when`"),
    ] {
        let found = findings(&format!("[when]\n{line}\n[idle]\n"));
        assert_eq!(found.len(), 1, "{line}: {found:#?}");
        assert!(found[0].starts_with(place) && found[0].contains(what), "{line}: {found:#?}");
    }
    for (line, what) in [
        ("requires = [\"fresh:x\"]", "like \"fresh:backup:24h\""),
        ("requires = [\"fresh:x:0s\"]", "nothing is fresher"),
        ("requires = [\"fresh:x:soon\"]", "is not a length of time"),
        ("requires = [\"fresh:X y:1h\"]", "cannot be a schedule's name"),
        ("timeout = \"0s\"", "leave it out for that of its queue or of the settings"),
        ("total_timeout = \"0s\"", "leave it out for no limit"),
        ("requires_wait = \"1h\"", "belongs to `requires`"),
        ("requires = [\"path:/x\"]\nrequires_wait = \"8d\"", "is longer than 7d"),
        ("requires = [\"path:/x\"]\nrequires_wait = \"0s\"", "leave it out to wait not at all"),
    ] {
        let found = findings(&format!("[run]\n{line}\n[idle]\n"));
        assert_eq!(found.len(), 1, "{line}: {found:#?}");
        assert!(found[0].contains("error[S016]") && found[0].contains(what), "{line}: {found:#?}");
    }
}

#[test]
fn a_group_is_a_concurrency_of_one() {
    let run = good("[run]\ngroup = \"disk\"\n[idle]\n").run;
    assert_eq!(run.concurrency, Some(Concurrency { key: "group:disk".to_owned(), max: 1 }));
    let run = good("[run]\nconcurrency = { key = \"host:a/b\", max = 2 }\n[idle]\n").run;
    assert_eq!(run.concurrency, Some(Concurrency { key: "host:a/b".to_owned(), max: 2 }));
    for wrong in [
        "group = \"a b\"",
        "concurrency = 3",
        "concurrency = { key = \"\", max = 1 }",
        "concurrency = { key = \"a\" }",
        "concurrency = { key = \"a\", max = 0 }",
        "group = \"a\"\nconcurrency = { key = \"a\", max = 1 }",
    ] {
        assert_eq!(findings(&format!("[run]\n{wrong}\n[idle]\n")).len(), 1, "{wrong}");
    }
}

#[test]
fn a_file_of_several_schedules_gives_each_an_id() {
    let parsed = parse(
        "[[schedule]]\nid = \"a\"\nwhen.every = \"1h\"\nidle = {}\n\n[[schedule]]\nid = \"b\"\n[schedule.when]\ncron = \"@daily\"\n[schedule.idle]\n",
    );
    assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics);
    let ids: Vec<(&str, u32)> =
        parsed.schedules.iter().map(|it| (it.id.as_str(), it.source.line)).collect();
    assert_eq!(ids, [("a", 1), ("b", 6)]);
}

#[test]
fn entries_share_no_header_and_no_id() {
    assert_eq!(
        findings(
            "enabled = true\n[[schedule]]\nid = \"a\"\nidle = {}\n[[schedule]]\nid = \"a\"\nidle = {}\n[[schedule]]\nidle = {}\n"
        ),
        [
            "1:1: error[S022]: `enabled` beside [[schedule]] (in a file with [[schedule]], every setting belongs to one of them)",
            "6:6: error[S008]: `a` is already defined in line 2",
            "8:1: error[S015]: an entry of [[schedule]] needs an `id`",
        ]
    );
}

#[test]
fn e5_entries_past_the_limit_are_refused() {
    let text = "[[schedule]]\n".repeat(MAX_SCHEDULES + 1);
    let parsed = parse(&text);
    assert!(parsed.diagnostics.iter().any(|found| found.code == Code::TooMany));
    assert!(parsed.diagnostics.len() <= 101);
}

#[test]
fn e5_a_nesting_bomb_is_an_error_and_not_a_crash() {
    let dotted = format!("{} = 1", vec!["a"; 300_000].join("."));
    let header = format!("[idle.{}]", vec!["a"; 60].join("."));
    let lists = format!("idle.a = {}{}", "[".repeat(300_000), "]".repeat(300_000));
    let inline_level = format!("{{{} = ", vec!["a"; 70].join("."));
    let mixed = format!("idle.a = {}1{}", inline_level.repeat(75), "}".repeat(75));
    for text in [dotted, header, lists, mixed] {
        // As small a stack as the reader ever runs on.
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        let found = thread.spawn(move || parse(&text).has_errors()).unwrap();
        assert!(found.join().unwrap());
    }
}

#[test]
fn e6_names_with_hidden_characters_are_refused() {
    for id in ["a\\u202eb", "a\\u0000", "é", "../x", "A", ""] {
        let found = findings(&format!("[[schedule]]\nid = \"{id}\"\nidle = {{}}\n"));
        assert!(found[0].contains("error[S011]"), "{id}: {found:?}");
        assert!(!found[0].contains('\u{202e}'));
    }
    let parsed =
        parse_file(&Path::new("Tidy Up.toml").into(), "[idle]", &Defaults::default(), KINDS, now());
    assert_eq!(parsed.diagnostics[0].code, Code::BadId);
}

#[test]
fn e6_windows_line_ends_are_read_like_any_other() {
    assert_eq!(good("\u{feff}[when]\r\nevery = \"1h\"\r\n[idle]\r\n").kind, "idle");
}

#[test]
fn e15_what_cannot_be_meant_is_an_error() {
    for text in [
        "[when]\nevery = \"-5m\"",
        "[when]\nevery = \"10ms\"",
        "[when]\nevery = []",
        "[when]\nevery = \"5m\"\nfrom = \"middle\"",
        "[when]\nfrom = \"end\"\ndaily = \"02:30\"",
        "[when]\ndaily = \"24:00\"",
        "[when]\nweekdays = [\"mon\"]\nevery = \"1h\"",
        "[when]\ndaily = \"02:30\"\nweekdays = []",
        "[when]\nat = 2026-12-01",
        "[when]\nat = \"tomorrow\"",
        "[when]\nevery = \"1h\"\nblackout = [\"2026-12-27/2026-12-24\"]",
        "[when]\nevery = \"1h\"\nnot_before = 2027-01-01\nnot_after = 2026-01-01",
        "[when]\nevery = \"1h\"\ncatch_up_max = 0",
        "[when]",
        "[run]\ntimeout = \"0s\"",
        "[run]\nretries = { max = -1 }",
        "[run]\nretries = { backoff = \"fixed\" }",
        "[run]\nretries = { backoff = \"fixed\", delay = \"5s\", base = \"1s\" }",
        "[run]\nretries = { delays = [] }",
        "[run]\nretries = { factor = 0.5 }",
        "[run]\nretries = { base = \"1h\", max_delay = \"1m\" }",
        "[run]\nrequires = [\"path:data\"]",
        "[run]\nrequires = [\"free:/data>=lots\"]",
        "[run]\nlabels = { \"a=b\" = \"c\" }",
        "enabled = \"yes\"",
        "when = 5",
    ] {
        let parsed = parse(&format!("{text}\n[idle]\n"));
        assert!(parsed.has_errors(), "{text}");
        assert!(parsed.diagnostics.iter().all(|found| found.place.is_some()), "{text}");
    }
}

#[test]
fn retries_count_what_comes_after_the_first_attempt() {
    let retry = |text: &str| good(&format!("[run]\nretries = {text}\n[idle]\n")).run.retry;
    assert_eq!(retry("0").max_attempts, 1);
    assert_eq!(retry("{ max = 3 }").max_attempts, 4);
    let listed = retry("{ delays = [0, \"30s\", 300] }");
    assert_eq!(listed.max_attempts, 4);
    let delays = [0, 30, 300].map(HumanDuration::from_secs).to_vec();
    assert_eq!(listed.backoff, Backoff::Delays { delays });
    let fixed = retry("{ backoff = \"fixed\", delay = \"5s\" }");
    assert_eq!(fixed.backoff, Backoff::Fixed { delay: HumanDuration::from_secs(5) });
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let found = findings(
        "[when]\nat = 2020-01-01T00:00:00Z\n[sweep]\nroots = []\npassword = \"hunter2\"\n",
    );
    assert_eq!(
        found,
        [
            "2:6: warning[S032]: every time this schedule names has passed",
            "5:1: warning[S034]: `password` holds its secret in plain text (put it elsewhere and write credential:NAME, file:PATH or env:NAME)",
        ]
    );
    assert!(findings("[sweep]\nroots = []\npassword = \"credential:db\"\n").is_empty());
}

#[test]
fn comments_and_formatting_do_not_change_the_hash() {
    let one = good("[when]\nevery = \"1h\"\n[idle]\nb = 1\na = \"x\"\n");
    let two = good("# a comment\nidle = { a = 'x', b = 0x1 } # one\n[when]\nevery = \"60m\"\n");
    assert_eq!(one.hash, two.hash);
    for other in
        ["every = \"2h\"\n[idle]\nb = 1\na = \"x\"", "every = \"1h\"\n[idle]\nb = 2\na = \"x\""]
    {
        assert_ne!(one.hash, good(&format!("[when]\n{other}\n")).hash);
    }
}

#[test]
fn a_number_that_json_cannot_keep_is_refused() {
    for number in ["inf", "nan", "99999999999999999999"] {
        assert!(parse(&format!("[idle]\na = {number}\n")).has_errors(), "{number}");
    }
    assert_eq!(good("[idle]\na = 18446744073709551615\n").params.value()["a"], u64::MAX);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _ = render_all(&parse(&text).diagnostics, Look::Plain);
    }

    #[test]
    fn no_nearly_right_file_makes_the_reader_panic(
        lines in prop::collection::vec(
            prop::sample::select(vec![
                "[when]", "[run]", "[sweep]", "[[schedule]]", "[schedule.when]", "id = \"a\"", "every = \"5m\"",
                "every = [\"5m\", 3]", "daily = '''02:30'''", "daily = [02:30:00, \"\\u00e9\"]", "weekdays = \"mon\"",
                "cron = \"é * * * *\"", "cron = \"\\u00e9 * 61 * *\"", "at = 2026-12-01T00:00:00", "when.every = 1",
                "timezone = \"x\"", "jitter = \"9d\"", "retries = {}", "retries.max = 1", "blackout = \"a/b\"",
                "roots = [1, {a = 2}]", "limits.max_files = {}", "\u{feff}", "\"", "= 1", "requires = [\"free:/>=\"]",
                "labels = { a = 1 }", "idle = {}", "idle = 1", "schedule = 1", "dst = { gap = 1 }", "\r\n",
            ]),
            0..12,
        )
    ) {
        let parsed = parse(&lines.join("\n"));
        prop_assert!(parsed.schedules.is_empty() || !parsed.has_errors());
        let _ = render_all(&parsed.diagnostics, Look::Colour);
        for found in &parsed.diagnostics {
            prop_assert!(found.place.is_none_or(|place| place.line >= 1 && place.col >= 1));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(text) = text_of(&bytes) {
            let _ = parse(text);
        }
    }
}

#[test]
fn e5_a_file_of_nothing_but_mistakes_is_not_reported_at_full_length() {
    let text: String = (0..50_000).map(|number| format!("k{number} = 1\n")).collect();
    let found = parse(&text).diagnostics;
    assert_eq!(found.len(), 101);
    assert_eq!(found[0].place.map(|place| place.line), Some(1));
    assert_eq!(found[100].code, Code::TooMany);
}

#[test]
fn many_warnings_neither_make_a_file_invalid_nor_hide_its_errors() {
    let entry = |number: usize, cron: &str| {
        format!("[[schedule]]\nid = \"s{number}\"\nwhen.at = {cron}\nidle = {{}}\n")
    };
    let past = "2020-01-01T00:00:00Z";
    let odd: String = (0..700).map(|number| entry(number, past)).collect();
    let parsed = parse(&odd);
    assert_eq!((parsed.schedules.len(), parsed.has_errors()), (700, false));
    let wrong = parse(&format!("{odd}{}", entry(700, "5")));
    assert!(wrong.schedules.is_empty());
    assert!(wrong.diagnostics.iter().any(|found| found.code == Code::WrongType));
}

#[test]
fn e15_a_wrong_cron_field_is_marked_inside_its_text() {
    let parsed = parse("[when]\ncron = [\"0 3 * * *\", '0 25 * * mon']\n[idle]\n");
    insta::assert_snapshot!(render_all(&parsed.diagnostics, Look::Plain), @r#"
    error[S026]: hour 25 is outside 0-23
     --> schedules/tidy.toml:2:25
      |
    2 | cron = ["0 3 * * *", '0 25 * * mon']
      |                         ^^

    1 error, 0 warnings
    "#);
    // Written with escapes, its bytes are not those of the file, and all of it is marked.
    let parsed = parse("[when]\ncron = \"0 25 \\u002a * *\"\n[idle]\n");
    assert_eq!(parsed.diagnostics[0].place.map(|place| (place.col, place.end_col)), Some((8, 25)));
}

#[test]
fn d9_a_rule_that_never_fires_is_a_warning_at_the_rule() {
    let parsed = parse("[when]\ncron = \"0 0 31 2 *\"\n[idle]\n");
    assert_eq!(parsed.schedules.len(), 1);
    insta::assert_snapshot!(render_all(&parsed.diagnostics, Look::Plain), @r#"
    warning[S031]: this schedule never fires
     --> schedules/tidy.toml:2:8
      |
    2 | cron = "0 0 31 2 *"
      |        ^^^^^^^^^^^^
      |
      = help: no such time exists: At 00:00 on day 31 of the month in February, UTC time.

    0 errors, 1 warning
    "#);
}

#[test]
fn a_jitter_as_long_as_the_interval_is_a_warning() {
    let found = findings("[when]\nevery = \"5m\"\njitter = \"10m\"\n[idle]\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("3:10: warning[S033]"), "{found:?}");
    assert!(findings("[when]\ndaily = \"02:30\"\njitter = \"10m\"\n[idle]\n").is_empty());
}

#[test]
fn i2_jobs_that_are_made_to_catch_up_and_skipped_at_once_are_a_warning() {
    let file = |overlap: &str| {
        format!(
            "[when]\nevery = \"1m\"\ncatch_up = \"all\"\n[run]\noverlap = \"{overlap}\"\n[idle]\n"
        )
    };
    for overlap in ["skip", "queue_one", "cancel_previous"] {
        let found = findings(&file(overlap));
        assert_eq!(found.len(), 1, "{overlap}: {found:?}");
        assert!(found[0].contains("warning[S035]") && found[0].contains(overlap), "{found:?}");
    }
    for sound in [file("queue_all"), file("allow"), file("skip").replace("all", "latest")] {
        assert_eq!(findings(&sound), [""; 0], "{sound}");
    }
}
