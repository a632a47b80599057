//! Schedules that name others, through edits of either.

use super::super::next::look;
use super::super::scan::scan;
use super::*;

fn next(previous: &Catalog, place: &Place) -> Catalog {
    let directories = [place.directory()];
    look(previous, |known| scan(&directories, known, later()), &reading(), later())
}

fn after(others: &[&str]) -> String {
    let triggers: Vec<String> =
        others.iter().map(|other| format!("{{ schedule = \"{other}\" }}")).collect();
    format!("[when]\nafter = [{}]\n[idle]\n", triggers.join(", "))
}

fn whom<'a>(catalog: &'a Catalog, id: &str) -> Vec<&'a str> {
    let rule = &catalog.schedules[&id.parse().unwrap()].when.rule;
    rule.follows().map(|(other, _)| other.as_str()).collect()
}

/// What is wrong, without the directory.
fn told(catalog: &Catalog, place: &Place) -> Vec<String> {
    let directory = format!("{}/", place.directory().display());
    catalog.diagnostics.iter().map(|found| found.to_string().replace(&directory, "")).collect()
}

#[test]
fn a_circle_is_refused_where_it_closes_and_the_rest_stays_in_force() {
    let place = Place::new();
    for (name, others) in [("a", &["b"]), ("b", &["c"]), ("c", &["a"])] {
        place.write(&format!("{name}.toml"), after(others));
    }
    let catalog = next(&Catalog::empty(), &place);
    assert_eq!(ids(&catalog), ["a", "b"], "it is the last one that closes it");
    assert_eq!(
        told(&catalog, &place),
        [
            "b.toml:2:23: warning[S037]: there is no schedule `c` yet, and `b` waits for it (c.toml has an error and defines nothing yet)",
            "c.toml:2:23: error[S036]: `c` follows `a` (a.toml:1), which follows `b` (b.toml:1), which follows `c`: they would run each \
             other for ever (take one `after` out of the circle)",
        ]
    );
    // The edit of another file opens it.
    place.write("a.toml", after(&[]).replace("after = []", "every = \"1h\""));
    let opened = next(&catalog, &place);
    assert_eq!((ids(&opened), opened.is_sound()), (vec!["a", "b", "c"], true));
    assert!(opened.diagnostics.is_empty(), "{:?}", told(&opened, &place));
}

#[test]
fn an_edit_that_would_close_a_circle_leaves_the_last_good_version_in_force() {
    let place = Place::new();
    place.write("a.toml", schedule("one"));
    place.write("b.toml", after(&["a"]));
    let before = next(&Catalog::empty(), &place);
    place.write("a.toml", after(&["b"]));
    let edited = next(&before, &place);
    assert_eq!((description(&edited, "a"), whom(&edited, "b")), ("one", vec!["a"]));
    assert_eq!(edited.stale[&"a".parse().unwrap()].error.code, Code::Circle);
    // Both turn round in one deployment: there is no moment at which they are a circle.
    place.write("b.toml", schedule("two"));
    let turned = next(&edited, &place);
    assert!(turned.is_sound(), "{:?}", told(&turned, &place));
    assert_eq!((whom(&turned, "a"), description(&turned, "b")), (vec!["b"], "two"));
    // A file that breaks keeps what it followed, so the circle is still seen.
    place.write("a.toml", "nonsense");
    place.write("b.toml", after(&["a"]));
    let broken = next(&turned, &place);
    assert_eq!((whom(&broken, "a"), description(&broken, "b")), (vec!["b"], "two"));
    assert!(told(&broken, &place).iter().any(|line| line.contains("b.toml:2:23: error[S036]")));
}

#[test]
fn a_schedule_neither_follows_nor_requires_itself() {
    let place = Place::new();
    place.write("a.toml", after(&["a"]));
    place.write("b.toml", "[run]\nrequires = [\"fresh:b:1h\"]\n[idle]\n");
    place.write(
        "c.toml",
        "[[schedule]]\nid = \"c1\"\nwhen.after = { schedule = \"c2\" }\nidle = {}\n\
         [[schedule]]\nid = \"c2\"\nwhen.after = { schedule = \"c1\" }\nidle = {}\n",
    );
    let catalog = next(&Catalog::empty(), &place);
    assert!(catalog.schedules.is_empty());
    assert_eq!(codes(&catalog.diagnostics), [Code::Circle; 4]);
    let told = told(&catalog, &place);
    assert!(told[0].starts_with("a.toml:2:23: error[S036]: `a` follows itself"), "{told:#?}");
    assert!(told[1].starts_with("b.toml:2:13: error[S036]: `b` requires its own"), "{told:#?}");
    assert!(told[2].starts_with("c.toml:3:27: error[S036]: `c1` follows `c2`"), "{told:#?}");
}

#[test]
fn a_name_that_nobody_has_is_a_warning_with_the_nearest_one_until_somebody_has_it() {
    let place = Place::new();
    place.write("backup.toml", schedule("one"));
    place.write("report.toml", after(&["bakcup"]));
    place.write("check.toml", "[run]\nrequires = [\"fresh:report-x:1h\"]\n[idle]\n");
    let catalog = next(&Catalog::empty(), &place);
    assert!(catalog.is_sound() && ids(&catalog).len() == 3);
    let found = told(&catalog, &place);
    assert!(
        found[1].ends_with(
            "there is no schedule `bakcup` yet, and `report` waits for it (did you mean `backup`?)"
        ),
        "{found:#?}"
    );
    assert!(found[0].starts_with("check.toml:2:13: warning[S037]"), "{found:#?}");
    place.write("bakcup.toml", schedule("two"));
    place.write("report-x.toml", schedule("two"));
    assert!(next(&catalog, &place).diagnostics.is_empty());
    // Somebody who asks about one file is not told of others that were not asked for.
    assert!(check(&[place.file("report.toml")], &reading(), later()).diagnostics.is_empty());
}
