//! Whole runs over real folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Answer, Context, Handler, KbValidationHandler, on_deep_stack};
use crate::jobs::{RetryAdvice, kind, testing};

/// A folder with these files.
fn kb(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        put(folder.path(), path, text);
    }
    folder
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The params with the root put in.
fn params(root: &Path, mut params: Value) -> Value {
    params["root"] = json!(root.to_str().unwrap());
    params
}

fn run(root: &Path, settings: Value) -> Answer {
    let (context, _data) = testing::context("kb_validation", params(root, settings));
    answer(&context)
}

/// The result of an attempt that had an answer.
fn result(answer: &Answer) -> &Value {
    match answer {
        Answer::Done(result) => result,
        Answer::Failed(failure) => {
            failure.result.as_ref().unwrap_or_else(|| panic!("{}", failure.message))
        }
        other => panic!("{other:?}"),
    }
}

fn found(answer: &Answer) -> Vec<String> {
    let findings = result(answer)["findings"].as_array().unwrap();
    let place = |finding: &Value| {
        let rule = finding["rule"].as_str().unwrap();
        let line = finding["line"].as_u64().map(|line| format!(":{line}")).unwrap_or_default();
        format!("{rule} {}{line}", finding["path"].as_str().unwrap())
    };
    findings.iter().map(place).collect()
}

fn broken(answer: Answer) -> String {
    match answer {
        Answer::Failed(failure) => {
            assert!(!failure.is_answer && failure.result.is_none(), "{failure:?}");
            failure.message
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_clean_folder_succeeds_and_a_broken_file_is_a_failure_for_good() {
    let folder = kb(&[("a.json", "{}"), ("b.md", "# B\n[a](a.json)\n")]);
    let (context, _data) = testing::context("kb_validation", params(folder.path(), json!({})));
    let answer = KbValidationHandler.run(context.clone()).await;
    let Answer::Done(result) = answer else { panic!("{answer:?}") };
    assert_eq!(result["files"], json!({"scanned": 2, "checked": 2, "unchanged": 0}));
    assert_eq!(result["counts"], json!({"error": 0, "warning": 0, "info": 0}));
    put(folder.path(), "a.json", "{\"a\": }");
    let answer = KbValidationHandler.run(context.clone()).await;
    let Answer::Failed(failure) = answer else { panic!("{answer:?}") };
    assert!(failure.is_answer && failure.retry == RetryAdvice::Never);
    assert!(failure.message.contains("1 error in"), "{}", failure.message);
    assert!(failure.message.contains("first: a.json:1:7: error B020"), "{}", failure.message);
    assert!(context.output.summary().tail.unwrap().contains("a.json:1:7: error B020"));
}

#[test]
fn every_kind_of_file_is_checked_without_any_settings() {
    let folder = kb(&[
        ("a.json", "{\"k\": 1,\n \"k\": 2}"),
        ("b.yaml", "a: [\n"),
        ("c.toml", "a = \n"),
        ("d.csv", "x,y\n1\n"),
        ("e.md", "[x](none.md) ![y](none.png) [z](#none)\n"),
        ("f.txt", "\0"),
        ("g.png", "\0"),
        (".git/h.json", "{"),
    ]);
    let answer = run(folder.path(), json!({}));
    let expected = [
        "B021 a.json:2",
        "B022 b.yaml:1",
        "B023 c.toml:1",
        "B030 d.csv:2",
        "B040 e.md:1",
        "B042 e.md:1",
        "B041 e.md:1",
        "B011 f.txt:1",
    ];
    assert_eq!(found(&answer), expected);
}

#[test]
fn files_are_held_to_size_age_name_presence_and_emptiness() {
    let folder = kb(&[
        ("ok.txt", "x"),
        ("BAD.txt", "x"),
        ("big.txt", "xxxxxxxxxxx"),
        ("old.bak", "x"),
        ("empty.txt", ""),
    ]);
    let settings = json!({
        "required": ["ok.txt", "docs/**/index.md"], "forbid": ["**/*.bak"], "exclude": ["*.skip"],
        "files": {"max_size": "10B", "empty": "error", "names": "^[a-z.]+$"},
    });
    let answer = run(folder.path(), settings);
    assert_eq!(
        found(&answer),
        ["B001 .", "B006 BAD.txt", "B003 big.txt", "B004 empty.txt", "B002 old.bak"]
    );
    // A file's age is counted from the clock that is handed in.
    let written = fs::metadata(folder.path().join("ok.txt")).unwrap().modified().unwrap();
    let later =
        Timestamp::try_from(written).unwrap() + std::time::Duration::from_secs(11 * 24 * 3600);
    let settings =
        params(folder.path(), json!({"files": {"max_age": "10d"}, "exclude": ["[!o]*", "*.bak"]}));
    let (context, _data) = testing::context("kb_validation", settings);
    assert_eq!(found(&answer_at(&context, later)), ["B005 ok.txt"]);
}

fn answer_at(context: &Context, now: Timestamp) -> Answer {
    answer(&context.clone().at(now))
}

/// As the handler does it, on its own stack.
fn answer(context: &Context) -> Answer {
    on_deep_stack(context)
}

#[test]
fn fail_on_decides_between_success_and_failure() {
    let folder = kb(&[("a.txt", "\u{feff}x")]);
    for (fail_on, fails) in [("error", false), ("warning", true), ("never", false)] {
        let answer = run(folder.path(), json!({"fail_on": fail_on}));
        assert_eq!(matches!(answer, Answer::Failed(_)), fails, "{fail_on}");
        assert_eq!(found(&answer), ["B012 a.txt:1"]);
    }
}

#[test]
fn a_schema_is_followed_to_the_line_and_through_references_and_branches() {
    let schema = json!({
        "$id": "https://example.com/schemas/order.json",
        "type": "object",
        "required": ["id"],
        "additionalProperties": false,
        "properties": {
            "id": {"$ref": "common.json#/definitions/id"},
            "items": {"type": "array", "items": {"anyOf": [
                {"type": "string"},
                {"type": "object", "required": ["kind", "size"], "properties": {"kind": {"const": "box"}, "size": {"type": "number"}}},
                {"type": "object", "required": ["kind"], "properties": {"kind": {"const": "bag"}}},
            ]}},
        },
    });
    let common = json!({
        "$id": "https://example.com/schemas/common.json",
        "definitions": {"id": {"type": "integer", "minimum": 1}},
    });
    let folder = kb(&[
        ("schemas/order.json", &schema.to_string()),
        ("schemas/common.json", &common.to_string()),
        ("data/good.json", "{\"id\": 1, \"items\": [\"a\", {\"kind\": \"bag\"}]}"),
        (
            "data/bad.json",
            "{\"id\": 0,\n\"items\": [\n{\"kind\": \"box\",\n \"size\": \"L\"}],\n\"extra\": 1}",
        ),
        ("data/bad.yaml", "items:\n  - kind: box\n"),
        ("data/bad.toml", "id = 'x'\n"),
    ]);
    let settings = json!({"check": [{"match": "data/*", "schema": "schemas/order.json"}]});
    let answer = run(folder.path(), settings);
    assert_eq!(
        found(&answer),
        [
            "B024 data/bad.json:1",
            "B024 data/bad.json:4",
            "B024 data/bad.json:5",
            "B024 data/bad.toml:1",
            "B024 data/bad.yaml:1",
            "B024 data/bad.yaml:2"
        ]
    );
    let messages: Vec<&str> = result(&answer)["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|found| found["message"].as_str())
        .collect();
    assert!(messages[1].starts_with("/items/0/size: \"L\" is not of type"), "{messages:#?}");
    assert!(messages[5].contains("\"size\" is a required property"), "{messages:#?}");
}

#[test]
fn a_schema_by_name_may_be_missing_and_a_named_one_may_not() {
    let folder = kb(&[
        ("a.json", "{}"),
        ("bad.json", "{"),
        ("s/a.schema.json", "false"),
        ("loop.json", "{\"$ref\": \"#\"}"),
    ]);
    let by_name = json!({"check": [{"match": "a.json", "schema": "s/{stem}.schema.json"}], "exclude": ["bad.json"]});
    assert_eq!(found(&run(folder.path(), by_name)), ["B024 a.json:1"]);
    let missing =
        json!({"check": [{"match": "*.json", "schema": "x/{stem}.json"}], "exclude": ["bad.json"]});
    assert_eq!(found(&run(folder.path(), missing)), ["B025 a.json", "B025 loop.json"]);
    let named = |schema: &str| json!({"check": [{"match": "a.json", "schema": schema}]});
    assert!(broken(run(folder.path(), named("none.json"))).contains("none.json does not exist"));
    assert!(broken(run(folder.path(), named("bad.json"))).contains("bad.json is not JSON"));
    put(folder.path(), "bad.json", "{\"type\": 5}");
    assert!(broken(run(folder.path(), named("bad.json"))).contains("bad.json cannot be used"));
    put(folder.path(), "bad.json", "{\"$ref\": \"https://example.com/x.json\"}");
    let message = broken(run(folder.path(), named("bad.json")));
    assert!(message.contains("https://example.com/x.json"), "{message}");
    put(folder.path(), "bad.json", "{\"$ref\": \"../../../etc/hostname\"}");
    broken(run(folder.path(), named("bad.json")));
}

#[test]
fn e5_a_schema_that_refers_to_itself_ends() {
    let circles = [
        json!({"$ref": "#"}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"anyOf": [{"$ref": "#"}, {"not": {"$ref": "#"}}]}),
        json!({"$ref": "other.json"}),
        json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$dynamicRef": "#x", "$dynamicAnchor": "x"}),
        json!({"if": {"$ref": "#"}, "then": {"$ref": "#"}, "unevaluatedProperties": {"$ref": "#"}}),
    ];
    for circle in circles {
        let folder = kb(&[
            ("a.json", "{\"a\": 1}"),
            ("s.json", &circle.to_string()),
            ("other.json", "{\"$ref\": \"s.json\"}"),
        ]);
        let answer =
            run(folder.path(), json!({"check": [{"match": "a.json", "schema": "s.json"}]}));
        assert_eq!(found(&answer), Vec::<String>::new(), "{circle}");
    }
}

#[test]
fn pages_are_checked_against_each_other() {
    let folder = kb(&[
        ("index.md", "---\nid: a\n---\n[one](one.md#part)\n"),
        ("one.md", "---\nid: a\n---\n# Part\n[img](drafts/x.md)\n"),
        ("two.md", "---\ntitle: T\n---\n[self](two.md)\n"),
        ("drafts/x.md", "[broken](none.md)"),
    ]);
    let settings = json!({"exclude": ["drafts/*"], "check": [
        {"match": "**/*.md", "orphans": "warning", "front_matter": {"required": ["id"], "unique": ["id"]}},
    ]});
    assert_eq!(
        found(&run(folder.path(), settings)),
        ["B047 one.md:2", "B045 two.md:1", "B048 two.md"]
    );
}

#[test]
fn checksums_and_duplicates_are_found() {
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let manifest = format!("{abc}  a.bin\n{abc}  b.bin\n{abc}  gone.bin\n{abc}  ../../out\n");
    let folder = kb(&[
        ("m/SUMS", &manifest),
        ("m/a.bin", "abc"),
        ("m/b.bin", "abd"),
        ("c.bin", "abc"),
        ("d.bin", ""),
    ]);
    let settings = json!({
        "checksums": {"manifest": "m/SUMS", "unlisted": "info"}, "duplicates": {}, "exclude": ["d.bin"],
    });
    assert_eq!(
        found(&run(folder.path(), settings)),
        ["B051 m/SUMS:3", "B054 m/SUMS:4", "B050 m/b.bin", "B060 m/a.bin", "B052 c.bin"]
    );
    assert!(
        broken(run(folder.path(), json!({"checksums": {"manifest": "none"}})))
            .contains("manifest none")
    );
}

#[test]
fn a_missing_root_is_an_error_and_not_a_finding() {
    let message = broken(run(Path::new("/nonexistent/kb"), json!({})));
    assert!(message.contains("cannot open the root /nonexistent/kb"), "{message}");
}

#[test]
fn the_result_lists_the_worst_and_counts_all() {
    let folder = kb(&[("a.md", "[](b)\u{0}\n[x](n1)[x](n2)[x](n3)[e]()"), ("b", "")]);
    let answer = run(folder.path(), json!({"max_findings": 2}));
    assert_eq!(found(&answer), ["B011 a.md:1", "B040 a.md:2"]);
    assert_eq!(result(&answer)["truncated"], json!(true));
    assert_eq!(result(&answer)["counts"], json!({"error": 4, "warning": 1, "info": 0}));
}

#[test]
fn a_stopped_run_says_so_and_goes_on_from_there() {
    let folder = kb(&[("a.json", "{}")]);
    let (context, _data) = testing::context("kb_validation", params(folder.path(), json!({})));
    context.stop.cancel();
    assert_eq!(answer(&context), Answer::Stopped { result: None });
}

#[test]
fn a_dry_run_finds_the_same_and_leaves_no_trace() {
    let folder = kb(&[("a.json", "{")]);
    let (context, data) = testing::context("kb_validation", params(folder.path(), json!({})));
    let dry = answer(&context.clone().dry_run());
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
    assert_eq!(dry, answer(&context));
    assert_eq!(fs::read_dir(data.path().join("state/kb_validation")).unwrap().count(), 1);
}

#[test]
fn the_kind_is_on_the_list() {
    let kind = kind(crate::jobs::KINDS, "kb_validation").unwrap();
    assert_eq!(kind.check(&json!({"root": "docs"})), []);
}

/// An instant when every file written by a test has long been settled.
const LATER: &str = "2100-01-01T00:00:00Z";

#[test]
fn unchanged_files_are_not_read_again_until_a_full_run_is_due() {
    let folder = kb(&[("a.json", "{"), ("b.json", "{}")]);
    let settings = params(folder.path(), json!({"full_every": "7d"}));
    let (context, _data) = testing::context("kb_validation", settings);
    let day = |days: u64| {
        let later: Timestamp = LATER.parse().unwrap();
        later + std::time::Duration::from_secs(days * 24 * 3600)
    };
    let files = |answer: &Answer| result(answer)["files"].clone();
    let all = json!({"scanned": 2, "checked": 2, "unchanged": 0});
    let none = json!({"scanned": 2, "checked": 0, "unchanged": 2});
    let first = answer_at(&context, day(0));
    assert_eq!(files(&first), all);
    let second = answer_at(&context, day(1));
    assert_eq!((files(&second), found(&second)), (none, found(&first)));
    put(folder.path(), "b.json", "{]");
    let third = answer_at(&context, day(2));
    assert_eq!(files(&third), json!({"scanned": 2, "checked": 1, "unchanged": 1}));
    assert_eq!(found(&third), ["B020 a.json:1", "B020 b.json:1"]);
    assert_eq!(files(&answer_at(&context, day(7))), all);
    // A clock that went back makes everything due.
    assert_eq!(files(&answer_at(&context, day(3))), all);
}

#[test]
fn another_schema_or_other_settings_check_again() {
    let folder = kb(&[
        ("a.json", "{}"),
        ("b.json", "{}"),
        ("s.json", "{\"$ref\": \"t.json\"}"),
        ("t.json", "true"),
    ]);
    let settings = json!({"check": [{"match": "a.json", "schema": "s.json"}]});
    let (mut context, _data) = testing::context("kb_validation", params(folder.path(), settings));
    let later: Timestamp = LATER.parse().unwrap();
    assert_eq!(found(&answer_at(&context, later)), Vec::<String>::new());
    put(folder.path(), "t.json", "false");
    let changed = answer_at(&context, later);
    assert_eq!(found(&changed), ["B024 a.json:1"]);
    assert_eq!(result(&changed)["files"], json!({"scanned": 4, "checked": 2, "unchanged": 2}));
    let job = std::sync::Arc::make_mut(&mut context.job);
    job.params["check"][0]["rules"] = json!({"schema": "info"});
    let other = answer_at(&context, later);
    assert_eq!(result(&other)["counts"], json!({"error": 0, "warning": 0, "info": 1}));
}

#[test]
fn a_damaged_cache_is_rebuilt() {
    let folder = kb(&[("a.json", "{")]);
    let (context, data) = testing::context("kb_validation", params(folder.path(), json!({})));
    let first = answer(&context);
    let state = data.path().join("state/kb_validation");
    let cache = fs::read_dir(&state).unwrap().next().unwrap().unwrap().path();
    fs::write(&cache, "garbage").unwrap();
    assert_eq!(answer(&context), first);
    assert!(fs::read_to_string(&cache).unwrap().contains("a.json"));
}

#[test]
fn e5_bombs_are_findings() {
    let folder = kb(&[
        ("deep.json", &"[".repeat(200_000)),
        ("deep.yaml", &"[".repeat(200_000)),
        ("deep.toml", &format!("a = {}", "[".repeat(200_000))),
    ]);
    fs::File::create(folder.path().join("huge.json")).unwrap().set_len(1 << 30).unwrap();
    let pipe = folder.path().join("pipe.json");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert_eq!(
        found(&run(folder.path(), json!({}))),
        [
            "B020 deep.json:1",
            "B023 deep.toml:1",
            "B022 deep.yaml:1",
            "B014 huge.json",
            "B007 pipe.json"
        ]
    );
}

/// What an edit may make of a file.
const TEXTS: [(&str, &str); 8] = [
    ("a.md", "# A\n[b](b.md#b)\n"),
    ("a.md", "---\nid: 1\n---\n# A\n\n[c](sub/c.md)\n"),
    ("b.md", "# B\n[a](a.md#a) [x](none.md)\n"),
    ("b.md", "---\nid: 1\n---\n# Other\n"),
    ("sub/c.md", "[up](../a.md)"),
    ("d.json", "{\"a\": 1, \"a\": 2}"),
    ("d.json", "{\"n\": \"x\"}"),
    ("s.json", "{\"properties\": {\"n\": {\"type\": \"number\"}}}"),
];

fn edits() -> impl Strategy<Value = Vec<Vec<(usize, bool)>>> {
    let edit = (0..TEXTS.len(), prop::bool::weighted(0.8));
    prop::collection::vec(prop::collection::vec(edit, 0..4), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_cache_never_changes_what_is_found(rounds in edits()) {
        let folder = kb(&[("s.json", "true")]);
        let check = json!([
            {"match": "d.json", "schema": "s.json"},
            {"match": "**/*.md", "orphans": "warning", "front_matter": {"unique": ["id"]}},
        ]);
        let cached = params(folder.path(), json!({"check": check, "required": ["a.md"], "duplicates": {}}));
        let mut full = cached.clone();
        full["changed_only"] = json!(false);
        let (cached, _data) = testing::context("kb_validation", cached);
        let (full, _other) = testing::context("kb_validation", full);
        // The clock of the tests is before the files were written, where stamps prove nothing; later on they do.
        for (round, edits) in rounds.iter().enumerate() {
            for (text, writes) in edits {
                let (path, text) = TEXTS[*text];
                if *writes {
                    put(folder.path(), path, text);
                } else if path != "s.json" {
                    let _ = fs::remove_file(folder.path().join(path));
                }
            }
            let now: Timestamp = if round % 2 == 0 { LATER } else { testing::NOW }.parse().unwrap();
            let (with, without) = (answer_at(&cached, now), answer_at(&full, now));
            for key in ["findings", "counts", "truncated"] {
                prop_assert_eq!(&result(&with)[key], &result(&without)[key]);
            }
        }
    }

    #[test]
    fn a_fingerprint_stays_when_lines_move(blank in 1_usize..20) {
        let texts = [
            ("a.md", "# A\n[x](none.md)\n[x](none.md) [y](#no)\n"),
            ("b.json", "{\"a\": 1,\n\"a\": 2, \"u\": [1, 1]}"),
            ("c.yaml", "a: 1\na: 2\n"),
            ("d.toml", "a = 1\na = 2\n"),
            ("e.csv", "x,y\n1,2,3\n"),
        ];
        let settings = json!({"check": [{"match": "b.json", "unique": ["$.u[*]"]}]});
        let prints = |blank: usize| -> BTreeMap<String, String> {
            let moved: Vec<(&str, String)> =
                texts.iter().map(|(path, text)| (*path, format!("{}{text}", "\n".repeat(blank)))).collect();
            let files: Vec<(&str, &str)> = moved.iter().map(|(path, text)| (*path, text.as_str())).collect();
            let answer = run(kb(&files).path(), settings.clone());
            let findings = result(&answer)["findings"].as_array().unwrap().clone();
            findings.iter().map(|found| (found["fingerprint"].to_string(), found["rule"].to_string())).collect()
        };
        let before = prints(0);
        prop_assert_eq!(before.len(), 8);
        prop_assert_eq!(before, prints(blank));
    }

    #[test]
    fn any_bytes_in_any_kind_of_file_are_checked_without_harm(bytes: Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.json", "a.yaml", "a.toml", "a.csv", "a.md", "SUMS.txt"] {
            fs::write(folder.path().join(name), &bytes).unwrap();
        }
        let settings = json!({"duplicates": {}, "check": [{"match": "*.json", "unique": ["$[*]"]}, {"match": "a.csv", "table": {"unique": ["a"]}}]});
        result(&run(folder.path(), settings));
    }
}
