use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::jobs::data_sync::params::SyncParams;
use crate::jobs::parse_params;

fn filter(include: &[&str], exclude: &[&str]) -> Filter {
    let params = json!({
        "from": "/a", "to": "/b", "mode": "copy", "include": include, "exclude": exclude,
    });
    parse_params::<SyncParams>(&params).unwrap().filter()
}

fn rules(mode: Mode) -> Rules {
    Rules {
        mode,
        compare: Compare::SizeAndMtime,
        filter: filter(&["**"], &["*.skip"]),
        compare_mode: true,
        delete_excluded: false,
    }
}

fn file(size: u64, age: i64) -> Entry {
    let mtime = Timestamp::from_second(1_700_000_000 - age).ok();
    Entry::File(Facts { size: Some(size), mtime, mode: Some(0o644), ..Facts::default() })
}

fn listing(entries: &[(&str, Entry)]) -> Listing {
    let entries = entries.iter().map(|(path, entry)| ((*path).into(), entry.clone())).collect();
    Listing { entries, ..Listing::default() }
}

/// The destination after the plan was carried out.
fn carried_out(plan: &Plan, source: &Listing, destination: &Listing) -> Listing {
    let mut after = destination.clone();
    for (path, step) in &plan.steps {
        match step.action {
            Action::Copy | Action::Update => {
                after.entries.insert(path.clone(), source.entries[path].clone());
            }
            Action::Delete => {
                after.entries.remove(path);
            }
            Action::Keep => {}
        }
    }
    after
}

fn any_listing() -> impl Strategy<Value = Listing> {
    let name = prop::sample::select(vec!["a", "b", "c", "d/e", "d/f", "g.skip", "h.skip"]);
    let entry = prop_oneof![
        4 => (0_u64..3, 0_i64..3).prop_map(|(size, age)| file(size, age)),
        1 => prop::sample::select(vec!["a", "b"]).prop_map(|target| Entry::Link(target.into())),
    ];
    prop::collection::btree_map(name.prop_map(PathBuf::from), entry, 0..7)
        .prop_map(|entries| Listing { entries, ..Listing::default() })
}

proptest! {
    #[test]
    fn a_mirror_makes_the_destination_like_the_filtered_source(
        source in any_listing(), destination in any_listing(),
    ) {
        let rules = rules(Mode::Mirror);
        let plan = plan(&source, &destination, &rules);
        let after = carried_out(&plan, &source, &destination);
        let covered = |listing: &Listing| -> BTreeMap<_, _> {
            let entries = listing.entries.clone().into_iter();
            entries.filter(|(path, _)| rules.filter.covers(path)).collect()
        };
        prop_assert_eq!(covered(&after), covered(&source));
        for (path, entry) in destination.entries.iter().filter(|(path, _)| !rules.filter.covers(path)) {
            prop_assert_eq!(after.entries.get(path), Some(entry), "excluded files stay");
        }
    }

    #[test]
    fn copy_and_update_never_delete(source in any_listing(), destination in any_listing()) {
        for mode in [Mode::Copy, Mode::Update] {
            let plan = plan(&source, &destination, &rules(mode));
            prop_assert_eq!(plan.count(Action::Delete).files, 0);
        }
    }

    #[test]
    fn update_never_replaces_what_is_as_new(source in any_listing(), destination in any_listing()) {
        let plan = plan(&source, &destination, &rules(Mode::Update));
        for path in plan.of(Action::Update) {
            let pair = (&source.entries[path], &destination.entries[path]);
            let (Entry::File(new), Entry::File(old)) = pair else { panic!("{pair:?}") };
            prop_assert!(new.mtime > old.mtime);
        }
    }

    #[test]
    fn a_second_run_has_nothing_to_do(source in any_listing(), destination in any_listing()) {
        for mode in [Mode::Mirror, Mode::Copy, Mode::Update] {
            let rules = rules(mode);
            let after = carried_out(&plan(&source, &destination, &rules), &source, &destination);
            let again = plan(&source, &after, &rules);
            prop_assert!(again.steps.values().all(|step| step.action == Action::Keep), "{:?}", again);
        }
    }
}

#[test]
fn what_is_in_the_way_is_a_conflict_and_not_a_victim() {
    let source = listing(&[("a", file(1, 0)), ("b/c", file(1, 0)), ("m/x", file(1, 0))]);
    let mut destination = listing(&[("b", Entry::Link("/etc".into()))]);
    destination.folders.insert("a".into());
    destination.skipped.insert("m".into(), "another file system");
    let plan = plan(&source, &destination, &rules(Mode::Mirror));
    let conflicts: Vec<_> = plan.conflicts.keys().map(|path| path.display().to_string()).collect();
    assert_eq!(conflicts, ["a", "b/c", "m/x"]);
    assert_eq!(plan.transfers().files, 0);
}

#[test]
fn what_the_source_hides_is_not_deleted_at_the_destination() {
    let mut source = listing(&[("a", file(1, 0))]);
    source.skipped.insert("out".into(), "a link out of the source");
    let destination = listing(&[("out", file(1, 0)), ("out/x", file(1, 0)), ("gone", file(1, 0))]);
    let plan = plan(&source, &destination, &rules(Mode::Mirror));
    assert_eq!(plan.of(Action::Delete).collect::<Vec<_>>(), [Path::new("gone")]);
}

#[test]
fn excluded_files_are_deleted_only_when_asked() {
    let destination = listing(&[("x.skip", file(1, 0))]);
    let keep = plan(&Listing::default(), &destination, &rules(Mode::Mirror));
    assert!(keep.steps.is_empty());
    let rules = Rules { delete_excluded: true, ..rules(Mode::Mirror) };
    let delete = plan(&Listing::default(), &destination, &rules);
    assert_eq!(delete.count(Action::Delete).files, 1);
}

#[test]
fn every_way_of_comparing_sees_its_own_difference() {
    let facts = |tag: Option<&str>, content: &[u8]| {
        Entry::File(Facts {
            size: Some(1),
            tag: tag.map(str::to_owned),
            digest: Some(blake3::hash(content)),
            ..Facts::default()
        })
    };
    let reason = |compare, source: Entry, destination: Entry| {
        let rules = Rules { compare, ..rules(Mode::Copy) };
        difference(&source, &destination, &rules)
    };
    assert_eq!(reason(Compare::Checksum, facts(None, b"x"), facts(None, b"x")), None);
    assert!(reason(Compare::Checksum, facts(None, b"x"), facts(None, b"y")).is_some());
    assert_eq!(reason(Compare::Etag, facts(Some("1"), b""), facts(Some("1"), b"")), None);
    assert!(reason(Compare::Etag, facts(Some("2"), b""), facts(Some("1"), b"")).is_some());
    assert!(reason(Compare::Etag, facts(None, b""), facts(None, b"")).is_some());
    assert!(reason(Compare::SizeAndMtime, facts(None, b""), file(1, 0)).is_some());
    assert_eq!(reason(Compare::SizeAndMtime, file(1, 0), file(1, 0)), None);
    assert!(reason(Compare::SizeAndMtime, file(1, 0), file(2, 0)).is_some());
}

#[test]
fn k12_limits_are_held_against_the_plan() {
    let destination = listing(&[("a", file(5, 0)), ("b", file(5, 0)), ("c", file(5, 0))]);
    let source = listing(&[("a", file(5, 0)), ("n", file(100, 0))]);
    let plan = plan(&source, &destination, &rules(Mode::Mirror));
    let free = DeleteRules { max_fraction: 1.0, ..DeleteRules::default() };
    assert_eq!(plan.exceeds(&free, None, 3), None);
    let one = DeleteRules { max_files: Some(1), ..free };
    assert!(plan.exceeds(&one, None, 3).unwrap().contains("max_files"));
    assert!(plan.exceeds(&DeleteRules::default(), None, 3).unwrap().contains("max_fraction"));
    assert!(plan.exceeds(&free, Some(ByteSize(99)), 3).unwrap().contains("max_bytes"));
}
