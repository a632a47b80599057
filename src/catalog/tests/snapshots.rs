//! From snapshot to snapshot, without a task or a watch.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::super::next::look;
use super::super::scan::{Content, Listing, scan};
use super::*;

fn next(previous: &Catalog, directories: &[PathBuf]) -> Catalog {
    look(previous, |known| scan(directories, known, later()), &reading(), later())
}

fn first(place: &Place) -> Catalog {
    next(&Catalog::empty(), &[place.directory()])
}

#[test]
fn a_broken_file_keeps_its_last_good_definition_and_the_others_apply() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    place.write("b.toml", schedule("one"));
    let before = first(&place);
    assert!(before.is_sound(), "{:?}", before.diagnostics);

    place.write("a.toml", "descripton = \"two\"\n[idle]\n");
    place.write("b.toml", schedule("two"));
    let after = next(&before, &[place.directory()]);
    assert_eq!((description(&after, "a"), description(&after, "b")), ("one", "two"));
    let stale = &after.stale[&"a".parse().unwrap()];
    assert_eq!((stale.error.code, stale.since), (Code::UnknownKey, later()));
    assert!(!after.is_sound());
    let diff = Diff::between(&before, &after, later());
    assert_eq!(diff.changed.len(), 1);
    assert!(diff.to_string().contains("! a stays as it was"), "{diff}");

    let again = next(&after, &[place.directory()]);
    assert!(Diff::between(&after, &again, later()).is_empty());
    assert_eq!(again.stale, after.stale);

    place.write("a.toml", schedule("three"));
    let repaired = next(&again, &[place.directory()]);
    assert_eq!(description(&repaired, "a"), "three");
    assert!(repaired.stale.is_empty() && repaired.is_sound());
    assert_eq!(Diff::between(&again, &repaired, later()).recovered.len(), 1);
}

#[test]
fn a_broken_file_without_an_earlier_version_is_invalid_and_defines_nothing() {
    let place = Place::new();
    place.write("a.toml", "nonsense");
    place.write("b.toml", schedule("one"));
    let catalog = first(&place);
    assert_eq!(ids(&catalog), ["b"]);
    assert_eq!(catalog.invalid[&place.file("a.toml")].error.code, Code::Syntax);
    place.remove("a.toml");
    assert!(next(&catalog, &[place.directory()]).invalid.is_empty());
}

#[test]
fn e4_a_deleted_file_removes_its_schedules_even_if_it_is_the_last_one() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    place.write("b.toml", schedule("one"));
    let before = first(&place);
    place.remove("a.toml");
    let after = next(&before, &[place.directory()]);
    assert_eq!(ids(&after), ["b"]);
    place.remove("b.toml");
    let empty = next(&after, &[place.directory()]);
    assert!(empty.schedules.is_empty() && empty.is_sound());
    assert_eq!(Diff::between(&before, &empty, later()).removed.len(), 2);
}

#[test]
fn e4_a_directory_that_is_suddenly_empty_keeps_everything_until_a_file_is_back() {
    let place = Place::new();
    for name in ["a.toml", "b.toml", "c.toml"] {
        place.write(name, schedule("one"));
    }
    let before = first(&place);
    for name in ["a.toml", "b.toml", "c.toml"] {
        place.remove(name);
    }
    let emptied = next(&before, &[place.directory()]);
    assert_eq!(ids(&emptied), ["a", "b", "c"]);
    assert_eq!(codes(&emptied.diagnostics), [Code::DirectoryLost]);
    assert!(emptied.diagnostics[0].message.contains("all 3 files"), "{:?}", emptied.diagnostics);
    let still = next(&emptied, &[place.directory()]);
    assert_eq!((ids(&still).len(), still.is_sound()), (3, false));
    place.write("b.toml", schedule("two"));
    let back = next(&still, &[place.directory()]);
    assert_eq!((ids(&back), description(&back, "b")), (vec!["b"], "two"));
    assert!(back.is_sound());
    let restarted = next(&Catalog::empty(), &[place.directory()]);
    assert_eq!(ids(&restarted), ["b"]);
}

#[test]
fn e4_a_directory_that_is_gone_or_replaced_by_an_empty_one_keeps_everything() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    let before = first(&place);

    let away = place.root().join("away");
    fs::rename(place.directory(), &away).unwrap();
    let lost = next(&before, &[place.directory()]);
    assert_eq!(ids(&lost), ["a"]);
    assert_eq!(codes(&lost.diagnostics), [Code::DirectoryLost]);
    assert!(!lost.is_sound());

    // As a disk that is not mounted: the mount point is there and empty.
    fs::create_dir(place.directory()).unwrap();
    let replaced = next(&lost, &[place.directory()]);
    assert_eq!(ids(&replaced), ["a"]);
    assert_eq!(codes(&replaced.diagnostics), [Code::DirectoryLost]);
    let directly = next(&before, &[place.directory()]);
    assert_eq!(ids(&directly), ["a"], "the empty directory is another one");

    fs::remove_dir(place.directory()).unwrap();
    fs::rename(&away, place.directory()).unwrap();
    let back = next(&replaced, &[place.directory()]);
    assert_eq!(ids(&back), ["a"]);
    assert!(back.is_sound());
}

#[test]
fn e4_a_directory_that_cannot_be_read_keeps_everything() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    let before = first(&place);
    fs::remove_dir_all(place.directory()).unwrap();
    fs::write(place.directory(), "a file in its place").unwrap();
    let after = next(&before, &[place.directory()]);
    assert_eq!(ids(&after), ["a"]);
    assert_eq!(codes(&after.diagnostics), [Code::DirectoryLost]);
}

#[test]
fn a_directory_that_never_was_is_worth_a_warning() {
    let place = Place::new();
    let catalog = next(&Catalog::empty(), &[place.root().join("nowhere"), place.directory()]);
    assert!(catalog.is_sound());
    assert_eq!(codes(&catalog.diagnostics), [Code::DirectoryLost]);
}

#[test]
fn a_later_directory_overrides_and_masks_files_of_the_same_name() {
    let (vendor, admin) = (Place::new(), Place::new());
    for name in ["a.toml", "b.toml", "c.toml"] {
        vendor.write(name, schedule("vendor"));
    }
    admin.write("b.toml", schedule("admin"));
    symlink("/dev/null", admin.file("c.toml")).unwrap();
    let directories = [vendor.directory(), admin.directory()];
    let before = next(&Catalog::empty(), &directories);
    assert_eq!(ids(&before), ["a", "b"]);
    assert_eq!(description(&before, "b"), "admin");
    admin.remove("b.toml");
    admin.remove("c.toml");
    let after = next(&before, &directories);
    assert_eq!((ids(&after), description(&after, "b")), (vec!["a", "b", "c"], "vendor"));
}

#[test]
fn a_broken_override_does_not_bring_back_what_it_overrides() {
    let (vendor, admin) = (Place::new(), Place::new());
    vendor.write("a.toml", schedule("vendor"));
    admin.write("a.toml", schedule("admin"));
    let directories = [vendor.directory(), admin.directory()];
    let before = next(&Catalog::empty(), &directories);
    admin.write("a.toml", "nonsense");
    let after = next(&before, &directories);
    assert_eq!(description(&after, "a"), "admin");
}

#[test]
fn e7_what_is_not_a_regular_file_is_refused_without_hanging() {
    let place = Place::new();
    fs::create_dir(place.file("folder.toml")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, place.file("pipe.toml"), rustix::fs::Mode::RUSR).unwrap();
    let _socket = UnixListener::bind(place.file("socket.toml")).unwrap();
    symlink("/dev/zero", place.file("device.toml")).unwrap();
    symlink("gone", place.file("dangling.toml")).unwrap();
    place.write("good.toml", schedule("one"));
    symlink("good.toml", place.file("linked.toml")).unwrap();
    let catalog = first(&place);
    assert_eq!(ids(&catalog), ["good", "linked"]);
    assert_eq!(
        codes(&catalog.diagnostics),
        [Code::Unreadable, Code::NotAFile, Code::NotAFile, Code::NotAFile, Code::NotAFile]
    );
}

#[test]
fn e8_a_file_that_everybody_may_write_is_refused_with_the_exact_chmod() {
    let place = Place::new();
    for (name, mode) in [("open.toml", 0o646), ("group.toml", 0o664), ("good.toml", 0o644)] {
        place.write(name, schedule("one"));
        fs::set_permissions(place.file(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let before = first(&place);
    assert_eq!(ids(&before), ["good", "group"]);
    assert_eq!(codes(&before.diagnostics), [Code::LooselyWritable, Code::WorldWritable]);
    let help = before.diagnostics[1].help.as_deref();
    assert_eq!(help, Some(format!("chmod o-w {}", place.file("open.toml").display()).as_str()));
    for name in ["open.toml", "group.toml"] {
        fs::set_permissions(place.file(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let after = next(&before, &[place.directory()]);
    assert_eq!(ids(&after), ["good", "group", "open"]);
    assert!(after.diagnostics.is_empty(), "{:?}", after.diagnostics);
}

#[test]
fn e8_a_directory_that_everybody_may_write_into_is_named_wherever_it_is_on_the_path() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    open(place.root(), 0o777).unwrap();
    let above = first(&place);
    assert_eq!(codes(&above.diagnostics), [Code::LooselyWritable]);
    assert!(above.diagnostics[0].message.contains("another directory in its place"));
    // The sticky bit keeps others from renaming what is not theirs.
    open(place.root(), 0o1777).unwrap();
    assert!(first(&place).diagnostics.is_empty());
    open(&place.directory(), 0o777).unwrap();
    let itself = first(&place);
    assert_eq!(codes(&itself.diagnostics), [Code::LooselyWritable]);
    assert_eq!(ids(&itself), ["a"], "a Kubernetes volume is such a directory");
}

#[test]
fn e8_a_file_with_several_names_is_used_and_worth_a_warning() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    fs::hard_link(place.file("a.toml"), place.root().join("another name")).unwrap();
    let catalog = first(&place);
    assert_eq!(ids(&catalog), ["a"]);
    assert_eq!(codes(&catalog.diagnostics), [Code::LooselyWritable]);
    assert!(catalog.diagnostics[0].message.contains("2 names"), "{:?}", catalog.diagnostics);
}

#[test]
fn e9_one_file_seen_through_two_directories_is_one_schedule() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    symlink(place.directory(), place.root().join("again")).unwrap();
    let directories = [place.directory(), place.root().join("again")];
    let catalog = next(&Catalog::empty(), &directories);
    assert_eq!(ids(&catalog), ["a"]);
    assert!(catalog.is_sound(), "{:?}", catalog.diagnostics);
    let again = next(&catalog, &directories);
    assert!(Diff::between(&catalog, &again, later()).is_empty());

    // Under another name it is another file with the same id, and both are named.
    place.write("a.toml", "[[schedule]]\nid = \"x\"\nidle = {}\n");
    symlink("a.toml", place.file("b.toml")).unwrap();
    let twice = next(&Catalog::empty(), &[place.directory()]);
    assert_eq!(ids(&twice), ["x"]);
    let [conflict] = &twice.diagnostics[..] else { panic!("{:?}", twice.diagnostics) };
    assert!(conflict.file.ends_with("b.toml") && conflict.message.contains("a.toml:1"));
}

#[test]
fn e9_an_id_stays_with_the_file_that_has_it_and_both_are_named() {
    let place = Place::new();
    let entry = |version: &str| {
        format!("[[schedule]]\nid = \"x\"\ndescription = \"{version}\"\nidle = {{}}\n")
    };
    place.write("b.toml", entry("first"));
    let before = first(&place);
    // It sorts before the other one, and still comes too late.
    place.write("a.toml", entry("second"));
    place.write("b.toml", entry("edited"));
    let after = next(&before, &[place.directory()]);
    assert_eq!(description(&after, "x"), "edited");
    let [conflict] = &after.diagnostics[..] else { panic!("{:?}", after.diagnostics) };
    assert_eq!(conflict.code, Code::DuplicateId);
    assert!(conflict.file.ends_with("a.toml") && conflict.message.contains("b.toml:1"));

    // The one that waited gets it as soon as it is free, although nothing changed in its file.
    place.remove("b.toml");
    let freed = next(&after, &[place.directory()]);
    assert_eq!(description(&freed, "x"), "second");
    assert!(freed.is_sound());
}

#[test]
fn e9_of_two_new_files_the_first_one_gets_the_id() {
    let (one, two) = (Place::new(), Place::new());
    one.write("z.toml", "[[schedule]]\nid = \"x\"\nidle = {}\n");
    two.write("x.toml", schedule("two"));
    let catalog = next(&Catalog::empty(), &[one.directory(), two.directory()]);
    assert_eq!(description(&catalog, "x"), "");
    assert_eq!(codes(&catalog.diagnostics), [Code::DuplicateId]);
}

#[test]
fn a_schedule_may_move_to_another_file() {
    let place = Place::new();
    let entry = "[[schedule]]\nid = \"x\"\nidle = {}\n";
    place.write("a.toml", entry);
    let before = first(&place);
    fs::rename(place.file("a.toml"), place.file("b.toml")).unwrap();
    let after = next(&before, &[place.directory()]);
    assert!(Diff::between(&before, &after, later()).is_empty());
    assert!(after.is_sound());
    assert_eq!(after.revision, before.revision);
}

#[test]
fn e10_what_editors_and_package_managers_leave_behind_is_ignored_and_listed() {
    let place = Place::new();
    let litter = [
        "#a.toml#",
        ".#a.toml",
        ".a.toml.swp",
        "a.toml.bak",
        "a.toml.dpkg-old",
        "a.toml.rpmsave",
        "a.toml.swx",
        "a.toml~",
        "notes.md",
    ];
    for name in litter {
        place.write(name, "nonsense");
    }
    place.write("a.toml", schedule("one"));
    fs::create_dir(place.file("folder")).unwrap();
    let catalog = first(&place);
    assert_eq!(ids(&catalog), ["a"]);
    assert!(catalog.diagnostics.is_empty());
    assert_eq!(catalog.ignored, litter.map(|name| place.file(name)));
}

#[test]
fn e5_e6_what_is_too_large_or_no_text_is_refused_before_it_is_parsed() {
    let place = Place::new();
    let large = fs::File::create(place.file("large.toml")).unwrap();
    large.set_len(1 << 30).unwrap();
    place.write("latin.toml", b"description = \"\xe4\"\n[idle]\n");
    place.write("nul.toml", b"[idle]\n\0");
    place.write("good.toml", "\u{feff}[idle]");
    let catalog = first(&place);
    assert_eq!(ids(&catalog), ["good"]);
    assert_eq!(codes(&catalog.diagnostics), [Code::TooLarge, Code::NotText, Code::NotText]);
    assert!(catalog.diagnostics[1].message.contains("byte 15"));
}

#[test]
fn a_file_that_did_not_change_is_neither_read_nor_parsed_again() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    place.write("b.toml", schedule("one"));
    let before = first(&place);
    place.write("b.toml", schedule("two"));
    let scanned = scan(&[place.directory()], &before.known(), later());
    let Listing::Entries(entries) = &scanned.directories[0].listing else { panic!("not read") };
    assert!(matches!(entries.files[0].content, Content::Same));
    assert!(matches!(entries.files[1].content, Content::Text { .. }));
    let after = next(&before, &[place.directory()]);
    let a = "a".parse().unwrap();
    assert!(std::sync::Arc::ptr_eq(&before.schedules[&a], &after.schedules[&a]));
}

#[test]
fn a_file_that_was_only_touched_changes_nothing() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    let before = first(&place);
    place.write("a.toml", schedule("one"));
    let after = next(&before, &[place.directory()]);
    assert!(Diff::between(&before, &after, later()).is_empty());
    place.write("a.toml", "# a comment\ndescription = 'one'\nidle = {}\n");
    let reformatted = next(&after, &[place.directory()]);
    assert!(Diff::between(&after, &reformatted, later()).is_empty());
    assert_eq!(reformatted.revision, before.revision);
}

#[test]
fn a_diff_names_fields_as_their_author_does_and_hides_secrets() {
    let place = Place::new();
    place.write("a.toml", "owner = \"x\"\n[idle]\nlimits.max = 1\ntoken = \"credential:a\"\n");
    let before = first(&place);
    place.write(
        "a.toml",
        "[run]\ntimeout = \"5m\"\n[idle]\nlimits.max = 2\ntoken = \"credential:b\"\n",
    );
    let after = next(&before, &[place.directory()]);
    let diff = Diff::between(&before, &after, later());
    insta::assert_snapshot!(diff.to_string(), @"
    ~ a
        idle.limits.max: 1 -> 2
        idle.token: (hidden) -> (hidden)
        owner: x -> (none)
        run.timeout: (none) -> 5m
    ");
    let json = serde_json::to_value(&diff).unwrap();
    assert_eq!(json["changed"][0]["fields"][0]["field"], "idle.limits.max");
}

#[test]
fn a_check_reads_directories_and_single_files_alike() {
    let (one, two) = (Place::new(), Place::new());
    one.write("a.toml", schedule("one"));
    one.write("a.toml.bak", "");
    two.write("b.toml", "nonsense");
    two.write("a.toml", schedule("two"));
    let paths = [one.directory(), two.file("b.toml"), two.file("a.toml"), two.file("gone.toml")];
    let report = check(&paths, &reading(), later());
    assert_eq!(report.files.len(), 3);
    assert_eq!(report.ignored, [one.file("a.toml.bak")]);
    assert_eq!(report.schedules.len(), 1);
    assert!(!report.is_sound());
    let found = codes(&report.diagnostics);
    assert!(found.contains(&Code::DuplicateId) && found.contains(&Code::Syntax), "{found:?}");
    assert!(found.contains(&Code::DirectoryLost), "{found:?}");
}
