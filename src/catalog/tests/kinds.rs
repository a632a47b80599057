//! Kinds that files declare, together with the schedules that are of them.

use super::super::next::look;
use super::super::scan::scan;
use super::*;

const KIND: &str =
    "[command]\nargv = [\"true\"]\n[params]\ntype = \"object\"\nproperties.a.type = \"integer\"\n";

fn next(previous: &Catalog, place: &Place) -> Catalog {
    let reading = Reading { kind_dirs: vec![place.root().join("kinds")], ..reading() };
    look(previous, |known| scan(&[place.directory()], known, later()), &reading, later())
}

/// A directory with a kind and a schedule of that kind.
fn place() -> (Place, Catalog) {
    let place = Place::new();
    fs::create_dir(place.root().join("kinds")).unwrap();
    write_kind(&place, KIND);
    place.write("nightly.toml", "[when]\ndaily = \"02:00\"\n[weigh]\na = 1\n");
    let first = next(&Catalog::empty(), &place);
    assert!(first.is_sound(), "{:?}", first.diagnostics);
    (place, first)
}

fn write_kind(place: &Place, text: &str) {
    fs::write(place.root().join("kinds/weigh.toml"), text).unwrap();
}

fn nightly(catalog: &Catalog) -> &crate::schedule::Schedule {
    catalog.get(&"nightly".parse().unwrap()).unwrap()
}

fn has_weigh(catalog: &Catalog) -> bool {
    catalog.kinds().iter().any(|kind| kind.name == "weigh")
}

#[test]
fn a_schedule_can_be_of_a_declared_kind_and_takes_what_it_gives() {
    let (place, first) = place();
    assert_eq!(nightly(&first).kind, "weigh");
    write_kind(&place, &format!("[run]\nqueue = \"scales\"\n{KIND}"));
    let second = next(&first, &place);
    assert_eq!(nightly(&second).run.queue, "scales");
    let diff = Diff::between(&first, &second, later());
    assert_eq!(diff.kinds.get("weigh"), Some(&KindChange::Changed));
    assert_eq!(diff.changed.len(), 1);
    assert_ne!(first.revision, second.revision);
}

#[test]
fn a_kind_file_that_breaks_keeps_what_it_declared_last() {
    let (place, first) = place();
    write_kind(&place, "[command\n");
    let second = next(&first, &place);
    assert!(!second.is_sound() && has_weigh(&second));
    assert_eq!(first.revision, second.revision);
    write_kind(&place, KIND);
    assert!(next(&second, &place).is_sound());
}

#[test]
fn a_schedule_whose_kind_refuses_its_params_now_stays_as_it_was() {
    let (place, first) = place();
    write_kind(&place, &KIND.replace("integer", "string"));
    let second = next(&first, &place);
    let broken = second.stale.get(&"nightly".parse().unwrap()).expect("it is stale");
    assert_eq!(broken.error.place.unwrap().line, 4, "{}", broken.error);
}

#[test]
fn a_kind_whose_file_is_deleted_is_gone_and_its_schedules_stay_as_they_were() {
    let (place, first) = place();
    fs::write(place.root().join("kinds/other.toml"), KIND).unwrap();
    let first = next(&first, &place);
    fs::remove_file(place.root().join("kinds/weigh.toml")).unwrap();
    let second = next(&first, &place);
    assert!(!has_weigh(&second));
    assert!(second.stale.contains_key(&"nightly".parse().unwrap()));
}

#[test]
fn a_directory_of_kinds_that_is_gone_keeps_its_kinds() {
    let (place, first) = place();
    fs::rename(place.root().join("kinds"), place.root().join("away")).unwrap();
    let lost = next(&first, &place);
    assert!(has_weigh(&lost) && !lost.is_sound());
    assert!(lost.stale.is_empty());
    fs::rename(place.root().join("away"), place.root().join("kinds")).unwrap();
    assert!(next(&lost, &place).is_sound());
}

#[test]
fn nobody_has_to_declare_kinds() {
    let place = Place::new();
    place.write("a.toml", schedule("1"));
    assert!(next(&Catalog::empty(), &place).is_sound());
}
