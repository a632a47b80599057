//! Group K: somebody else writes to the tree, by accident or not.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, mkdirat, openat};

use super::*;

/// Exchanges a directory and a symbolic link to a directory outside, as fast as it can.
fn exchange(one: &Path, other: &Path, is_over: &AtomicBool) -> u64 {
    let mut swaps = 0;
    while !is_over.load(Ordering::Relaxed) {
        rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
        swaps += 1;
    }
    swaps
}

#[tokio::test(flavor = "multi_thread")]
async fn k1_a_directory_exchanged_for_a_symlink_never_leads_outside() {
    const ROUNDS: usize = 150;
    let tree = Tree::new();
    let canaries = tree.beside("canaries");
    fs::create_dir_all(canaries.join("sub")).unwrap();
    let names: Vec<String> = (0..20).map(|index| format!("file-{index}")).collect();
    for name in &names {
        fs::write(canaries.join(name), "canary").unwrap();
        fs::write(canaries.join("sub").join(name), "canary").unwrap();
    }
    let (victim, link) = (tree.root.join("victim"), tree.root.join("link"));
    fs::create_dir(&victim).unwrap();
    symlink(&canaries, &link).unwrap();
    // Through a handle, because the name `victim` is the link half of the time.
    let directory: OwnedFd = fs::File::open(&victim).unwrap().into();
    mkdirat(&directory, "sub", Mode::RWXU).unwrap();
    let is_over = AtomicBool::new(false);
    let deleted = AtomicU64::new(0);
    let swaps = std::thread::scope(|scope| {
        let attacker = scope.spawn(|| exchange(&victim, &link, &is_over));
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for _ in 0..ROUNDS {
                for name in &names {
                    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
                    openat(&directory, name.as_str(), flags, Mode::RWXU).unwrap();
                    openat(&directory, format!("sub/{name}"), flags, Mode::RWXU).unwrap();
                }
                let answer = runtime.block_on(tree.clean(json!({"skip_locked": false})));
                let (Answer::Done(result) | Answer::Failed(Failure { result: Some(result), .. })) =
                    answer
                else {
                    panic!("{answer:?}")
                };
                deleted.fetch_add(result["deleted"]["files"].as_u64().unwrap(), Ordering::Relaxed);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        attacker.join().unwrap()
    });
    for name in &names {
        assert!(canaries.join(name).exists(), "{name} outside of the root was deleted");
        assert!(canaries.join("sub").join(name).exists(), "{name} in `sub` outside was deleted");
    }
    assert!(swaps > 1000, "only {swaps} exchanges");
    assert!(
        deleted.load(Ordering::Relaxed) > 0,
        "the attack must not be survived by doing nothing"
    );
}

#[tokio::test]
async fn k2_a_root_behind_a_symlink_is_refused() {
    let tree = Tree::new();
    tree.file("inner/old");
    symlink(&tree.root, tree.beside("link")).unwrap();
    for root in [tree.beside("link"), tree.beside("link/inner")] {
        let failure = failed(tree.clean(json!({"roots": [root]})).await);
        assert!(failure.message.contains("symbolic link"), "{}", failure.message);
    }
    assert_eq!(tree.left(), ["inner", "inner/old"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn k3_a_directory_moved_out_of_the_root_in_the_middle_keeps_the_rest() {
    let tree = Tree::new();
    let outside = tree.beside("outside");
    fs::create_dir(&outside).unwrap();
    for index in 0..300 {
        tree.file(&format!("a/b/{index:03}"));
    }
    let (context, _data) = tree.context(json!({}));
    let (progress, mut reports) = crate::jobs::Progress::channel();
    let context = Context { progress, ..context };
    let from = tree.root.join("a/b");
    let to = outside.join("b");
    // As soon as the first deletion is told, the directory goes.
    let mover = tokio::spawn(async move {
        reports.wait_for(|report| report.message.starts_with("cleaning")).await.unwrap();
        fs::rename(from, to).unwrap();
    });
    let result = done(run(context).await);
    mover.await.unwrap();
    let left = fs::read_dir(outside.join("b")).unwrap().count() as u64;
    let deleted = result["deleted"]["files"].as_u64().unwrap();
    let skipped = result["skipped_total"].as_u64().unwrap();
    assert_eq!((deleted + left, left), (300, skipped), "{result}");
}

#[tokio::test]
async fn k3_what_was_moved_away_after_the_plan_is_not_followed() {
    let tree = Tree::new();
    tree.file("a/b/c/old");
    tree.file("a/old");
    let (from, to) = (tree.root.join("a/b"), tree.beside("b"));
    let moved = to.clone();
    let meanwhile = move || fs::rename(&from, &to).unwrap();
    let result = done(tree.clean_while(json!({"delete_empty_dirs": true}), meanwhile).await);
    assert!(moved.join("c/old").exists());
    assert_eq!(result["planned"], json!({"files": 2, "bytes": 14, "dirs": 3}));
    assert_eq!(result["deleted"], json!({"files": 1, "bytes": 7, "dirs": 1}));
    assert_eq!(result["skipped_total"], 3, "the file, the directory it was in, and that one's");
}

#[tokio::test]
async fn k1_what_was_exchanged_after_the_plan_stays() {
    let tree = Tree::new();
    for path in ["linked/old", "rewritten", "replaced", "removed", "refilled/old", "untouched"] {
        tree.file(path);
    }
    let canaries = tree.beside("canaries");
    fs::create_dir(&canaries).unwrap();
    fs::write(canaries.join("old"), "content").unwrap();
    let (root, target) = (tree.root.clone(), canaries.clone());
    let meanwhile = move || {
        fs::rename(root.join("linked"), root.join("was-linked")).unwrap();
        symlink(&target, root.join("linked")).unwrap();
        fs::write(root.join("rewritten"), "more content").unwrap();
        fs::write(root.join("new"), "content").unwrap();
        fs::rename(root.join("new"), root.join("replaced")).unwrap();
        fs::remove_file(root.join("removed")).unwrap();
        fs::write(root.join("refilled/new"), "x").unwrap();
    };
    let result = done(tree.clean_while(json!({"delete_empty_dirs": true}), meanwhile).await);
    assert!(canaries.join("old").exists());
    let left = [
        "linked",
        "refilled",
        "refilled/new",
        "replaced",
        "rewritten",
        "was-linked",
        "was-linked/old",
    ];
    assert_eq!(tree.left(), left);
    assert_eq!(result["deleted"], json!({"files": 2, "bytes": 14, "dirs": 0}));
    let skipped = result["skipped"].as_array().unwrap();
    let reason = |name: &str| {
        let note = skipped.iter().find(|note| note["path"].as_str().unwrap().ends_with(name));
        note.unwrap()["reason"].as_str().unwrap().to_owned()
    };
    assert!(reason("/linked/old").contains("exchanged"));
    assert!(reason("/linked").contains("changed"));
    assert!(reason("/rewritten").contains("changed"));
    assert!(reason("/replaced").contains("changed"));
    assert!(reason("/removed").contains("gone"));
    assert!(reason("/refilled").contains("not empty"));
}

#[tokio::test]
async fn k5_of_a_hard_link_only_the_name_goes() {
    let tree = Tree::new();
    let precious = tree.beside("precious");
    fs::write(&precious, "precious").unwrap();
    fs::hard_link(&precious, tree.root.join("one")).unwrap();
    fs::hard_link(&precious, tree.root.join("two")).unwrap();
    let result = done(tree.clean(json!({})).await);
    // Removing the first name moves the change time of the second one, which is no reason to leave it.
    assert_eq!(result["deleted"]["files"], 2);
    assert_eq!(tree.left(), [""; 0]);
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
}

#[tokio::test]
async fn k7_odd_names_go_and_are_told_on_one_line() {
    let tree = Tree::new();
    let longest = "x".repeat(255);
    let names: [&[u8]; 6] = [b"-rf", b"*", b"a\nb", b"\xff\xfe", b"$HOME", longest.as_bytes()];
    for name in names {
        fs::write(tree.root.join(OsStr::from_bytes(name)), "x").unwrap();
    }
    let (context, _data) = tree.context(json!({}));
    let output = context.output.clone();
    let result = done(run(context).await);
    assert_eq!(result["deleted"]["files"], 6);
    assert_eq!(tree.left(), [""; 0]);
    let tail = output.summary().tail.unwrap();
    assert_eq!(tail.lines().filter(|line| line.starts_with("delete ")).count(), 6, "{tail}");
    assert!(tail.contains(r"a\nb") && tail.contains(r"\xff\xfe"), "{tail}");
}

#[tokio::test]
async fn k7_a_tree_of_ten_thousand_levels_goes_without_stack_or_handles_running_out() {
    const LEVELS: u64 = 10_000;
    let tree = Tree::new();
    let mut here: OwnedFd = fs::File::open(&tree.root).unwrap().into();
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for _ in 0..LEVELS {
        mkdirat(&here, "d", Mode::RWXU).unwrap();
        here = openat(&here, "d", directory, Mode::empty()).unwrap();
    }
    openat(&here, "old", OFlags::WRONLY | OFlags::CREATE, Mode::RWXU).unwrap();
    let rule = json!({"delete_empty_dirs": true});
    let result = done(tree.clean(rule).await);
    assert_eq!(result["deleted"]["files"], 1);
    assert_eq!(result["deleted"]["dirs"], LEVELS);
    assert_eq!(tree.left(), [""; 0]);
}

#[tokio::test]
async fn k8_a_forged_modification_time_does_not_make_a_file_old() {
    let tree = Tree::new();
    let path = tree.file("forged");
    let long_ago = "2001-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap();
    let times = FileTimes::new().set_modified(std::time::SystemTime::from(long_ago));
    fs::File::open(&path).unwrap().set_times(times).unwrap();
    let (context, _data) = tree.context(json!({}));
    let tomorrow = SystemClock.now() + DAY;
    let result = done(run(context.clone().at(tomorrow)).await);
    assert_eq!(result["roots"][0]["kept_because"], json!({"too_young": 1}));
    assert_eq!(tree.left(), ["forged"]);
    // Who asks for `mtime` alone gets it.
    let (context, _data) = tree.context(json!({"age_by": ["mtime"]}));
    done(run(context.at(tomorrow)).await);
    assert_eq!(tree.left(), [""; 0]);
}

#[tokio::test]
async fn a_timestamp_from_the_future_never_matches() {
    let tree = Tree::new();
    tree.file("future");
    set_modified(&tree.root.join("future"), 31 * DAY);
    let result = done(tree.clean(json!({})).await);
    assert_eq!(result["roots"][0]["kept_because"], json!({"from_the_future": 1}));
    assert_eq!(tree.left(), ["future"]);
}

#[tokio::test]
async fn k9_locked_files_and_directories_stay() {
    let tree = Tree::new();
    tree.file("free");
    tree.file("in-locked/old");
    let locked = fs::File::open(tree.file("locked")).unwrap();
    let directory = fs::File::open(tree.root.join("in-locked")).unwrap();
    flock(&locked, FlockOperation::NonBlockingLockExclusive).unwrap();
    flock(&directory, FlockOperation::NonBlockingLockExclusive).unwrap();
    let result = done(tree.clean(json!({})).await);
    assert_eq!(tree.left(), ["in-locked", "in-locked/old", "locked"]);
    assert_eq!(result["roots"][0]["kept_because"], json!({"locked": 1}));
    assert_eq!(result["skipped_total"], 1);
    assert!(result["skipped"][0]["reason"].as_str().unwrap().contains("lock"), "{result}");
    done(tree.clean(json!({"skip_locked": false})).await);
    assert_eq!(tree.left(), ["in-locked"]);
}

#[tokio::test]
async fn what_belongs_to_the_file_system_stays() {
    let tree = Tree::new();
    for path in ["lost+found/#1234", "aquota.user", "sub/lost+found/old", "old"] {
        tree.file(path);
    }
    let result = done(tree.clean(json!({"delete_empty_dirs": true})).await);
    let left = [
        "aquota.user",
        "lost+found",
        "lost+found/#1234",
        "sub",
        "sub/lost+found",
        "sub/lost+found/old",
    ];
    assert_eq!(tree.left(), left);
    assert_eq!(result["roots"][0]["protected"], 3);
}

#[tokio::test]
async fn sockets_and_pipes_stay() {
    let tree = Tree::new();
    let _listener = std::os::unix::net::UnixListener::bind(tree.root.join("socket")).unwrap();
    rustix::fs::mknodat(CWD, tree.root.join("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0)
        .unwrap();
    let result = done(tree.clean(json!({"types": ["file", "symlink"]})).await);
    assert_eq!(tree.left(), ["pipe", "socket"]);
    assert_eq!(result["roots"][0]["kept_because"], json!({"other_type": 2}));
}
