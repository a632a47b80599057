//! From a directory.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::time::{Duration, SystemTime};

use super::*;
use crate::jobs::RetryAdvice;

const TREE: &str = "tree";
const FILE: &str = "file";

#[tokio::test]
async fn a_mirror_becomes_like_its_source_and_a_second_run_does_nothing() {
    for atomic in [FILE, TREE] {
        let bench = Bench::new();
        bench.write("from/a", "new");
        bench.write("from/d/b", "b");
        symlink("d/b", bench.path("from/link")).unwrap();
        bench.write("to/a", "old!");
        bench.write("to/gone/x", "x");
        let mode = fs::Permissions::from_mode(0o750);
        fs::set_permissions(bench.path("from/a"), mode).unwrap();
        let result = bench.done(json!({ "atomic": atomic })).await;
        assert_eq!(bench.tree("to"), bench.tree("from"), "{atomic}");
        assert!(!bench.path("to/gone").exists(), "{atomic}: emptied directories go too");
        assert_eq!(result["plan"]["copy"]["files"], 2, "{result}");
        assert_eq!(result["plan"]["update"]["files"], 1, "{result}");
        assert_eq!(result["deleted"], 1, "{result}");
        assert_eq!(result["transferred"], json!({"files": 3, "bytes": 4}));
        let (from, to) = (bench.path("from/a"), bench.path("to/a"));
        let facts = |path| {
            let meta = fs::metadata(path).unwrap();
            (meta.mode(), meta.mtime(), meta.mtime_nsec())
        };
        assert_eq!(facts(from), facts(to));
        let again = bench.done(json!({ "atomic": atomic })).await;
        assert_eq!(again["unchanged"], 3, "{again}");
        assert_eq!((&again["transferred"]["files"], &again["deleted"]), (&json!(0), &json!(0)));
        let beside: Vec<_> = fs::read_dir(bench.folder.path()).unwrap().collect();
        assert_eq!(beside.len(), 2, "{atomic}: nothing is left beside the destination");
    }
}

#[tokio::test]
async fn copy_keeps_what_the_source_lacks_in_both_ways_of_writing() {
    for atomic in [FILE, TREE] {
        let bench = Bench::new();
        bench.write("from/a", "a");
        bench.write("to/own/x", "x");
        fs::create_dir(bench.path("to/empty")).unwrap();
        bench.done(json!({ "atomic": atomic, "mode": "copy" })).await;
        let expected = [("a", "a"), ("own/x", "x")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(bench.tree("to"), expected.into(), "{atomic}");
        assert!(bench.path("to/empty").is_dir(), "{atomic}");
    }
}

#[tokio::test]
async fn a_tree_that_changes_never_shows_a_mix() {
    let bench = Bench::new();
    for name in ["a", "b"] {
        bench.write(&format!("to/{name}"), "one");
        bench.write(&format!("from/{name}"), "two!");
    }
    let before = fs::metadata(bench.path("to")).unwrap().ino();
    bench.done(json!({ "atomic": "tree" })).await;
    assert_ne!(fs::metadata(bench.path("to")).unwrap().ino(), before, "another directory is there");
    assert_eq!(bench.tree("to"), bench.tree("from"));
}

#[tokio::test]
async fn an_empty_or_missing_source_changes_nothing() {
    let bench = Bench::new();
    bench.write("to/a", "a");
    let failure = bench.failed(json!({})).await;
    assert!(failure.is_answer && failure.message.contains("allow_empty_source"), "{failure:?}");
    let failure = bench.failed(json!({ "from": bench.path("missing") })).await;
    assert!(
        !failure.is_answer && failure.message.contains("cannot open the source"),
        "{failure:?}"
    );
    assert_eq!(bench.tree("to").len(), 1);
    let allowed = json!({"delete": {"allow_empty_source": true, "max_fraction": 1.0}});
    assert_eq!(bench.done(allowed).await["deleted"], 1);
}

#[tokio::test]
async fn k12_a_plan_that_goes_too_far_fails_at_once_with_the_plan_and_without_a_change() {
    let bench = Bench::new();
    bench.write("from/a", "a");
    for name in ["x", "y", "z"] {
        bench.write(&format!("to/{name}"), "1");
    }
    for delete in [json!({}), json!({"max_files": 2, "max_fraction": 1.0})] {
        let failure = bench.failed(json!({ "delete": delete })).await;
        assert!(failure.is_answer && failure.retry == RetryAdvice::Never, "{failure:?}");
        assert_eq!(failure.result.unwrap()["plan"]["delete"]["files"], 3);
        assert_eq!(bench.tree("to").len(), 3);
    }
    let failure = bench.failed(json!({"mode": "copy", "max_bytes": 0})).await;
    assert!(failure.message.contains("max_bytes"), "{failure:?}");
}

#[tokio::test]
async fn excluded_files_are_neither_copied_nor_deleted() {
    for atomic in [FILE, TREE] {
        let bench = Bench::new();
        bench.write("from/a", "a");
        bench.write("from/drafts/x", "x");
        bench.write("to/drafts/own", "own");
        bench.done(json!({"exclude": ["drafts/**"], "atomic": atomic})).await;
        let names: Vec<_> = bench.tree("to").into_keys().collect();
        assert_eq!(names, ["a", "drafts/own"], "{atomic}");
    }
}

#[tokio::test]
async fn nothing_is_deleted_when_anything_went_wrong() {
    let bench = Bench::new();
    bench.write("from/a", "a");
    bench.write("from/b", "b");
    bench.write("to/a/in-the-way", "x");
    bench.write("to/gone", "gone");
    let failure = bench.failed(json!({})).await;
    assert!(failure.message.contains("held back"), "{failure:?}");
    assert_eq!(failure.result.unwrap()["error_count"], 1);
    let names: Vec<_> = bench.tree("to").into_keys().collect();
    assert_eq!(names, ["a/in-the-way", "b", "gone"]);
}

#[tokio::test]
async fn k2_links_at_the_destination_are_never_written_through() {
    let bench = Bench::new();
    bench.write("outside/canary", "canary");
    bench.write("from/file", "from the source");
    bench.write("from/folder/canary", "from the source");
    fs::create_dir(bench.path("to")).unwrap();
    symlink(bench.path("outside/canary"), bench.path("to/file")).unwrap();
    symlink(bench.path("outside"), bench.path("to/folder")).unwrap();
    bench.failed(json!({})).await;
    assert_eq!(fs::read_to_string(bench.path("outside/canary")).unwrap(), "canary");
    assert!(!bench.path("to/file").is_symlink(), "the link itself was replaced by the file");
    fs::remove_dir_all(bench.path("to")).unwrap();
    symlink(bench.path("outside"), bench.path("to")).unwrap();
    let failure = bench.failed(json!({})).await;
    assert!(failure.message.contains("a link is not followed"), "{failure:?}");
    assert_eq!(bench.tree("outside").len(), 1);
}

#[tokio::test]
async fn l5_links_out_of_the_source_are_left_out_and_told() {
    let bench = Bench::new();
    bench.write("from/a", "a");
    symlink("/etc/passwd", bench.path("from/passwd")).unwrap();
    symlink("../outside", bench.path("from/up")).unwrap();
    bench.write("to/up", "kept, for its absence proves nothing");
    let result = bench.done(json!({})).await;
    assert_eq!(result["skipped"], 2);
    let names: Vec<_> = bench.tree("to").into_keys().collect();
    assert_eq!(names, ["a", "up"]);
}

#[tokio::test]
async fn trees_inside_each_other_are_refused_also_through_links() {
    let bench = Bench::new();
    bench.write("from/a", "a");
    symlink(bench.path("from"), bench.path("alias")).unwrap();
    let failure = bench.failed(json!({ "to": bench.path("alias/below") })).await;
    assert!(failure.message.contains("inside each other"), "{failure:?}");
    assert_eq!(bench.tree("from").len(), 1);
}

#[tokio::test]
async fn a_checksum_sees_what_size_and_time_hide() {
    let bench = Bench::new();
    bench.write("from/a", "one");
    bench.write("to/a", "two");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for path in ["from/a", "to/a"] {
        fs::File::open(bench.path(path)).unwrap().set_modified(time).unwrap();
    }
    assert_eq!(bench.done(json!({})).await["transferred"]["files"], 0);
    assert_eq!(bench.done(json!({"compare": "checksum"})).await["transferred"]["files"], 1);
    assert_eq!(bench.tree("to"), bench.tree("from"));
}

#[tokio::test]
async fn a_dry_run_shows_the_plan_and_changes_nothing() {
    let bench = Bench::new();
    bench.write("from/a", "same");
    bench.write("from/b", "new");
    bench.write("from/c", "longer");
    bench.done(json!({"include": ["a"]})).await;
    bench.write("to/c", "old");
    bench.write("to/d", "gone");
    let before = bench.tree("to");
    let context = bench.context(&json!({})).dry_run();
    let answer = DataSyncHandler::new(client()).run(context.clone()).await;
    let Answer::Done(result) = answer else { panic!("{answer:?}") };
    assert_eq!(result["dry_run"], true);
    assert_eq!(bench.tree("to"), before);
    let printed = context.output.summary().tail.unwrap();
    let shown = printed.split_once("DRY RUN — nothing will be changed\n").unwrap().1;
    assert_eq!(shown, "= a\n+ b (new)\n* c (the size differs)\n- d (not in the source)\n");
}

#[tokio::test]
async fn l5_what_a_crash_left_is_cleared_and_never_published() {
    for atomic in [FILE, TREE] {
        let bench = Bench::new();
        bench.write("from/a", "a");
        bench.write("to/.sexton-partial-0123456789abcdef", "half");
        bench.write(".sexton-staging-to/half", "half");
        bench.write(".sexton-staging-to/.sexton-partial-0123456789abcdef", "half");
        bench.done(json!({ "atomic": atomic })).await;
        let names: Vec<_> = bench.tree("to").into_keys().collect();
        assert_eq!(names, ["a"], "{atomic}");
    }
}

#[tokio::test]
async fn l5_a_crash_between_the_two_renames_of_a_swap_is_repaired() {
    let bench = Bench::new();
    bench.write("from/a", "a");
    bench.write(".sexton-old-to/own", "own");
    bench.done(json!({ "atomic": "tree", "mode": "copy" })).await;
    let names: Vec<_> = bench.tree("to").into_keys().collect();
    assert_eq!(names, ["a", "own"]);
    assert!(!bench.path(".sexton-old-to").exists());
}

#[tokio::test]
async fn an_interrupted_tree_goes_on_with_the_files_that_were_finished() {
    let bench = Bench::new();
    bench.write("from/a", "aaaa");
    bench.write("from/b", "b");
    bench.write(".sexton-staging-to/a", "AAAA");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for path in ["from/a", ".sexton-staging-to/a"] {
        fs::File::open(bench.path(path)).unwrap().set_modified(time).unwrap();
        let mode = fs::Permissions::from_mode(0o644);
        fs::set_permissions(bench.path(path), mode).unwrap();
    }
    let result = bench.done(json!({ "atomic": "tree" })).await;
    assert_eq!(result["transferred"], json!({"files": 2, "bytes": 1}));
    assert_eq!(bench.tree("to")["a"], "AAAA", "taken as it was");
}

#[tokio::test]
async fn a_cancelled_sync_stops_and_leaves_no_half_file() {
    for atomic in [FILE, TREE] {
        let bench = Bench::new();
        bench.write("from/big", &"x".repeat(2_000_000));
        let context = bench.context(&json!({"bandwidth": "1kB/s", "atomic": atomic}));
        let (progress, mut reports) = crate::jobs::Progress::channel();
        let stop = tokio_util::sync::CancellationToken::new();
        let context = Context { progress, stop: stop.clone(), ..context };
        let handler = DataSyncHandler::new(client());
        let running = handler.run(context);
        let cancel = async {
            reports.wait_for(|report| report.percent.is_some_and(|done| done > 0)).await.unwrap();
            stop.cancel();
        };
        let (answer, ()) = tokio::join!(running, cancel);
        assert_eq!(answer, Answer::Stopped { result: None });
        assert!(!bench.path("to/big").exists(), "{atomic}");
        bench.done(json!({ "atomic": atomic })).await;
        let names: Vec<_> = bench.tree("to").into_keys().collect();
        assert_eq!(names, ["big"], "{atomic}");
    }
}

#[tokio::test]
async fn k7_names_of_any_bytes_are_synced() {
    use std::os::unix::ffi::OsStrExt as _;
    let bench = Bench::new();
    for name in [&b"-rf"[..], b"*", b"new\nline", b"\xff\xfe", &[b'n'; 255]] {
        fs::write(bench.path("from").join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
    }
    assert_eq!(bench.done(json!({})).await["transferred"]["files"], 5);
    assert_eq!(fs::read_dir(bench.path("to")).unwrap().count(), 5);
}
