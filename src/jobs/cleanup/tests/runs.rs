//! What a run does, from rule to result.

use std::os::unix::fs::{MetadataExt, symlink};

use super::*;
use crate::clock::{CautiousClock, ManualClock};
use crate::jobs::RetryAdvice;

#[tokio::test]
async fn what_matches_goes_and_the_result_says_so() {
    let tree = Tree::new();
    tree.file("old.tmp");
    tree.file("sub/old.tmp");
    tree.file("sub/old.txt");
    tree.file("keep/golden/old.tmp");
    tree.file_of_age("young.tmp", DAY);
    let rule = json!({"include": ["*.tmp"], "protect": ["**/golden/**"]});
    let result = done(tree.clean(rule).await);
    assert_eq!(
        tree.left(),
        ["keep", "keep/golden", "keep/golden/old.tmp", "sub", "sub/old.txt", "young.tmp"]
    );
    assert_eq!(result["schema_version"], 1);
    assert_eq!(result["dry_run"], false);
    assert_eq!(result["planned"], json!({"files": 2, "bytes": 14, "dirs": 0}));
    assert_eq!(result["deleted"], result["planned"]);
    let root = &result["roots"][0];
    assert_eq!(root["root"], tree.root.to_str().unwrap());
    assert_eq!((&root["scanned"], &root["matched"]), (&json!(5), &json!(2)));
    assert_eq!((&root["kept"], &root["protected"]), (&json!(3), &json!(1)));
    let because = json!({"not_included": 1, "protected": 1, "too_young": 1});
    assert_eq!(root["kept_because"], because);
    assert_eq!(result["sample"].as_array().unwrap().len(), 2);
    assert_eq!(result["sample"][0]["rule"], "older_than");
}

#[tokio::test]
async fn a_dry_run_plans_the_same_and_changes_nothing() {
    let tree = Tree::new();
    tree.file("a/old.tmp");
    tree.file("old.tmp");
    let before = tree.left();
    let rule = json!({"delete_empty_dirs": true});
    let (context, _data) = tree.context(rule.clone());
    let output = context.output.clone();
    let planned = done(run(context.dry_run()).await);
    assert_eq!(tree.left(), before);
    let tail = output.summary().tail.unwrap();
    assert!(tail.starts_with("DRY RUN — nothing will be changed\n"), "{tail}");
    assert_eq!(tail.matches("would delete ").count(), 4, "three things and the sum: {tail}");
    assert_eq!(planned["deleted"], json!({"files": 0, "bytes": 0, "dirs": 0}));
    let real = done(tree.clean(rule).await);
    assert_eq!(real["deleted"], planned["planned"]);
    assert_eq!(tree.left(), [""; 0]);
}

#[tokio::test]
async fn each_deletion_has_its_line_with_size_age_and_rule() {
    let tree = Tree::new();
    tree.file("two\nlines");
    let (context, _data) = tree.context(json!({}));
    let output = context.output.clone();
    done(run(context).await);
    let tail = output.summary().tail.unwrap();
    let line = tail.lines().next().unwrap();
    let root = tree.root.to_str().unwrap();
    assert_eq!(line, format!(r"delete {root}/two\nlines (7 B, 30d old, older_than)"));
}

#[tokio::test]
async fn keep_newest_keeps_so_many_of_each_directory() {
    let tree = Tree::new();
    for directory in ["a", "b"] {
        for days in [10, 11, 12, 13] {
            tree.file_of_age(&format!("{directory}/{days}"), days * DAY);
        }
    }
    tree.file_of_age("b/14", 14 * DAY);
    // The change time is that of all; `mtime` alone tells them apart.
    let rule = json!({"age_by": ["mtime"], "keep": {"newest": 2, "group_by": "directory"}});
    let result = done(tree.clean(rule).await);
    assert_eq!(tree.left(), ["a", "a/10", "a/11", "b", "b/10", "b/11"]);
    assert_eq!(result["roots"][0]["kept_because"], json!({"keep_newest": 4}));
    assert_eq!(result["roots"][0]["kept_sample"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn directories_that_are_or_become_empty_go_when_they_are_old() {
    let tree = Tree::new();
    tree.file("a/b/c/old");
    tree.file("full/old");
    tree.file_of_age("full/young", DAY);
    std::fs::create_dir_all(tree.root.join("empty/inner")).unwrap();
    std::fs::create_dir(tree.root.join("fresh")).unwrap();
    set_modified(&tree.root.join("fresh"), 29 * DAY);
    std::fs::create_dir_all(tree.root.join("golden")).unwrap();
    let rule = json!({"delete_empty_dirs": true, "protect": ["golden"]});
    let result = done(tree.clean(rule).await);
    assert_eq!(tree.left(), ["fresh", "full", "full/young", "golden"]);
    assert_eq!(result["deleted"], json!({"files": 2, "bytes": 14, "dirs": 5}));
}

#[tokio::test]
async fn an_empty_directory_that_is_not_included_stays() {
    let tree = Tree::new();
    tree.file("emptied/old.tmp");
    std::fs::create_dir(tree.root.join("queue")).unwrap();
    let rule = json!({"include": ["*.tmp"], "delete_empty_dirs": true});
    done(tree.clean(rule).await);
    assert_eq!(tree.left(), ["queue"]);
}

#[tokio::test]
async fn k12_limits_abort_before_the_first_delete() {
    let tree = Tree::new();
    for name in ["a", "b", "c", "d"] {
        tree.file(name);
    }
    let before = tree.left();
    for (limits, name) in [
        (json!({"max_files": 3}), "max_files"),
        (json!({"max_bytes": 27}), "max_bytes"),
        (json!({"max_fraction": 0.75}), "max_fraction"),
    ] {
        let failure = failed(tree.clean(json!({"limits": limits})).await);
        assert_eq!(tree.left(), before, "{name}");
        assert!(failure.is_answer, "{name}");
        assert_eq!(failure.retry, RetryAdvice::Never, "{name}");
        assert!(failure.message.contains(name), "{}", failure.message);
        let result = failure.result.unwrap();
        assert_eq!(result["planned"]["files"], 4, "{name}");
        assert_eq!(result["deleted"]["files"], 0, "{name}");
        assert_eq!(result["exceeded"].as_array().unwrap().len(), 1, "{name}");
    }
    let (context, _data) = tree.context(json!({"limits": {"max_fraction": 0.5}}));
    let output = context.output.clone();
    assert!(failed(run(context.dry_run()).await).is_answer, "a dry run says that it would not run");
    let tail = output.summary().tail.unwrap();
    assert_eq!(tail.matches("would delete ").count(), 4, "and shows what is too much: {tail}");
    let limits = json!({"max_files": 4, "max_bytes": 28, "max_fraction": 1.0});
    done(tree.clean(json!({"limits": limits})).await);
    assert_eq!(tree.left(), [""; 0]);
}

#[tokio::test]
async fn k13_a_second_run_finds_nothing_to_do() {
    let tree = Tree::new();
    tree.file("a/old");
    tree.file("old");
    let rule = json!({"delete_empty_dirs": true});
    assert_eq!(done(tree.clean(rule.clone()).await)["deleted"]["files"], 2);
    let again = done(tree.clean(rule).await);
    assert_eq!(again["planned"], json!({"files": 0, "bytes": 0, "dirs": 0}));
    assert_eq!(again["skipped_total"], 0);
}

#[tokio::test]
async fn a_missing_root_is_an_error_and_no_other_root_is_touched() {
    let tree = Tree::new();
    tree.file("old");
    let rule = json!({"roots": [tree.root, tree.beside("missing")]});
    let failure = failed(tree.clean(rule).await);
    assert!(!failure.is_answer);
    assert_eq!(failure.retry, RetryAdvice::ByPolicy);
    assert!(failure.message.contains("does not exist"), "{}", failure.message);
    assert_eq!(tree.left(), ["old"]);
}

#[tokio::test]
async fn a_root_that_is_being_cleaned_is_left_for_later() {
    let tree = Tree::new();
    tree.file("old");
    let other = std::fs::File::open(&tree.root).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let failure = failed(tree.clean(json!({})).await);
    assert!(!failure.is_answer);
    assert_eq!(failure.retry, RetryAdvice::ByPolicy);
    assert_eq!(tree.left(), ["old"]);
}

#[tokio::test]
async fn the_daemons_own_data_below_a_root_is_not_entered() {
    let tree = Tree::new();
    tree.file("data/sexton.db");
    tree.file("old");
    let (mut context, _data) = tree.context(json!({}));
    context.paths = Arc::new(crate::jobs::RunPaths::under(tree.root.join("data")));
    let result = done(run(context).await);
    assert_eq!(tree.left(), ["data", "data/sexton.db"]);
    assert_eq!(result["roots"][0]["kept_because"], json!({"own_data": 1}));
}

#[tokio::test]
async fn symbolic_links_go_only_when_asked_and_never_their_targets() {
    let tree = Tree::new();
    let target = tree.beside("target");
    std::fs::write(&target, "x").unwrap();
    symlink(&target, tree.root.join("link")).unwrap();
    symlink("nowhere", tree.root.join("broken")).unwrap();
    done(tree.clean(json!({})).await);
    assert_eq!(tree.left(), ["broken", "link"]);
    done(tree.clean(json!({"types": ["symlink"]})).await);
    assert_eq!(tree.left(), [""; 0]);
    assert!(target.exists());
}

#[tokio::test]
async fn a_run_that_is_told_to_stop_says_what_it_did() {
    let tree = Tree::new();
    tree.file("old");
    let (context, _data) = tree.context(json!({}));
    context.stop.cancel();
    let answer = run(context).await;
    let Answer::Stopped { result: Some(result) } = answer else { panic!("{answer:?}") };
    assert_eq!(result["deleted"]["files"], 0);
    assert_eq!(tree.left(), ["old"]);
}

#[tokio::test]
async fn wrong_params_of_an_old_job_fail_for_good() {
    let tree = Tree::new();
    let failure = failed(tree.clean(json!({"older_then": "7d"})).await);
    assert_eq!(failure.retry, RetryAdvice::Never);
    assert!(failure.message.contains("older_then"), "{}", failure.message);
}

#[tokio::test]
async fn d4_after_a_jump_of_ten_years_only_what_was_old_before_it_goes() {
    let tree = Tree::new();
    tree.file("old");
    tree.file_of_age("young", DAY);
    let (mut context, _data) = tree.context(json!({}));
    let wall = ManualClock::new(context.clock.now());
    let cautious = CautiousClock::new(Arc::new(wall.clone()), None);
    wall.step_to(wall.now() + 3650 * DAY);
    context.clock = Arc::new(wall);
    let handler = CleanupHandler::new(Arc::new(NoHistory), cautious);
    done(handler.run(context).await);
    assert_eq!(tree.left(), ["young"]);
}

#[tokio::test]
async fn history_is_pruned_by_instants_and_only_counted_in_a_dry_run() {
    let history = Arc::new(FakeHistory::default());
    let params = json!({"history": {"completed": "30d", "failed": "90d"}});
    let (context, _data) = testing::context("cleanup", params);
    let clock = Arc::clone(&context.clock);
    let handler = CleanupHandler::new(Arc::<FakeHistory>::clone(&history), clock);
    let now = context.clock.now();
    let planned = done(handler.run(context.clone().dry_run()).await);
    assert!(history.pruned.lock().unwrap().is_empty());
    assert_eq!(planned["history"]["planned"]["completed"], 5);
    assert_eq!(planned["history"]["deleted"]["completed"], 0);
    let result = done(handler.run(context).await);
    assert_eq!(result["history"]["deleted"], json!({"completed": 5, "failed": 2, "cancelled": 0}));
    let rule = HistoryRule {
        completed_before: Some(now - 30 * DAY),
        failed_before: Some(now - 90 * DAY),
        cancelled_before: None,
        keep_last_per_schedule: 0,
    };
    assert_eq!(*history.pruned.lock().unwrap(), [rule]);
}

#[tokio::test]
async fn a_big_tree_is_cleaned_and_counted_exactly() {
    let tree = Tree::new();
    for index in 0..500 {
        tree.file(&format!("{}/{}/{index}", index % 7, index % 31));
    }
    let bytes: u64 = 500 * std::fs::metadata(tree.root.join("0/0/0")).unwrap().size();
    let result = done(tree.clean(json!({"delete_empty_dirs": true})).await);
    assert_eq!(result["deleted"], json!({"files": 500, "bytes": bytes, "dirs": 7 + 7 * 31}));
    assert_eq!(result["sample"].as_array().unwrap().len(), 100);
    assert_eq!(tree.left(), [""; 0]);
}
