//! Planning against a model that is too simple to be wrong.

use std::ffi::OsString;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::super::plan::{Plan, Planner, Removal, exceeded};
use super::super::rules::{Because, Rules};
use super::super::{Cleanup, Limits};
use crate::jobs::ports::files::{Entry, EntryKind, Identity, Metadata, Stamps};
use crate::model::ByteSize;

/// The instant of planning, in seconds; stamps lie around it.
const NOW: i64 = 1_000_000;

fn instant(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A tree as the walk would see it.
#[derive(Debug, Clone)]
enum Node {
    File { name: String, size: u64, modified: i64, changed: i64 },
    Directory { name: String, modified: i64, nodes: Vec<Node> },
}

fn name() -> impl Strategy<Value = String> {
    // Few letters, so that groups have several members and patterns hit.
    ("[abc]{1,2}", prop_oneof![Just(""), Just(".tmp"), Just(".gold"), Just(".out")])
        .prop_map(|(stem, end)| format!("{stem}{end}"))
}

fn file() -> impl Strategy<Value = Node> {
    let stamp = || prop_oneof![NOW - 200..NOW + 20, NOW - 200..NOW + 20, Just(NOW - 100)];
    (name(), 0..5_u64, stamp(), stamp()).prop_map(|(name, size, modified, changed)| Node::File {
        name,
        size,
        modified,
        changed,
    })
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let leaf = prop::collection::vec(file(), 0..8);
    leaf.prop_recursive(4, 60, 6, |inner| {
        let directory = (name(), NOW - 200..NOW + 20, inner)
            .prop_map(|(name, modified, nodes)| Node::Directory { name, modified, nodes });
        prop::collection::vec(prop_oneof![3 => file(), 2 => directory], 0..8)
    })
    .prop_map(unique)
}

/// A directory has each name once.
fn unique(nodes: Vec<Node>) -> Vec<Node> {
    let mut seen = std::collections::HashSet::new();
    nodes
        .into_iter()
        .filter(|node| seen.insert(node.name().to_owned()))
        .map(|node| match node {
            Node::Directory { name, modified, nodes } => {
                Node::Directory { name, modified, nodes: unique(nodes) }
            }
            file @ Node::File { .. } => file,
        })
        .collect()
}

impl Node {
    fn name(&self) -> &str {
        match self {
            Self::File { name, .. } | Self::Directory { name, .. } => name,
        }
    }

    fn entry(&self) -> Entry {
        let (kind, size, modified, changed) = match self {
            Self::File { size, modified, changed, .. } => {
                (EntryKind::File, *size, *modified, *changed)
            }
            Self::Directory { modified, .. } => (EntryKind::Directory, 0, *modified, *modified),
        };
        let stamps = Stamps {
            modified: instant(modified),
            changed: instant(changed),
            accessed: instant(modified),
            born: None,
        };
        let identity = Identity { device: (0, 1), inode: 1 };
        let metadata = Metadata { identity, kind, size, stamps, is_mount_root: false };
        Entry { name: OsString::from(self.name()), metadata }
    }
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    older_than: Option<i64>,
    min_size: u64,
    newest: usize,
    includes_tmp_only: bool,
    delete_empty_dirs: bool,
}

fn rule() -> impl Strategy<Value = Rule> {
    (prop::option::of(1..150_i64), 0..3_u64, 0..4_usize, any::<bool>(), any::<bool>())
        .prop_map(|(older_than, min_size, newest, includes_tmp_only, empty)| Rule {
            older_than,
            min_size,
            newest,
            includes_tmp_only,
            delete_empty_dirs: empty && older_than.is_some(),
        })
        .prop_filter("an empty policy", |rule| {
            rule.older_than.is_some() || rule.min_size > 0 || rule.newest > 0
        })
}

impl Rule {
    fn params(self) -> Cleanup {
        let mut params = json!({
            "exclude": ["*.out"],
            "protect": ["*.gold"],
            "min_size": self.min_size,
            "keep": {"newest": self.newest},
            "delete_empty_dirs": self.delete_empty_dirs,
        });
        if let Some(seconds) = self.older_than {
            params["older_than"] = json!(format!("{seconds}s"));
        }
        if self.includes_tmp_only {
            params["include"] = json!(["*.tmp"]);
        }
        serde_json::from_value(params).unwrap()
    }
}

fn plan(rules: &Rules, nodes: &[Node]) -> Plan {
    fn walk(planner: &mut Planner<'_>, nodes: &[Node]) {
        for directory in planner.list(nodes.iter().map(Node::entry).collect()) {
            let inside = nodes.iter().find_map(|node| match node {
                Node::Directory { name, nodes, .. } if directory.name == **name => Some(nodes),
                _ => None,
            });
            planner.enter(directory);
            walk(planner, inside.unwrap());
            planner.leave();
        }
    }
    let mut planner = Planner::new(rules, instant(NOW), u64::MAX);
    walk(&mut planner, nodes);
    planner.finish()
}

/// What the model deletes in a directory, and whether nothing is left in it.
fn model(
    rule: Rule,
    path: &str,
    is_included: bool,
    nodes: &[Node],
    gone: &mut Vec<String>,
) -> bool {
    let mut is_empty = true;
    let mut matching: Vec<(i64, &str, bool)> = Vec::new();
    for node in nodes {
        let name = node.name();
        let included = is_included || !rule.includes_tmp_only || name.ends_with(".tmp");
        let stays = name.ends_with(".gold") || name.ends_with(".out");
        match node {
            Node::File { size, modified, changed, .. } => {
                let stamp = *modified.max(changed);
                if stays || !included || *size < rule.min_size || stamp > NOW {
                    is_empty = false;
                } else {
                    let is_old = rule.older_than.is_none_or(|age| stamp < NOW - age);
                    matching.push((stamp, name, is_old));
                }
            }
            Node::Directory { .. } if stays => is_empty = false,
            Node::Directory { modified, nodes, .. } => {
                let path = format!("{path}{name}");
                let before = gone.len();
                let is_bare = model(rule, &format!("{path}/"), included, nodes, gone);
                let is_emptied = gone.len() > before;
                let is_old = rule.older_than.is_some_and(|age| *modified < NOW - age);
                if rule.delete_empty_dirs && is_bare && is_old && (included || is_emptied) {
                    gone.push(path);
                } else {
                    is_empty = false;
                }
            }
        }
    }
    matching.sort_unstable();
    let newest = matching.len().saturating_sub(rule.newest);
    for (index, (_, name, is_old)) in matching.into_iter().enumerate() {
        if is_old && index < newest {
            gone.push(format!("{path}{name}"));
        } else {
            is_empty = false;
        }
    }
    is_empty
}

fn paths(plan: &Plan) -> Vec<String> {
    plan.removals().iter().map(|removal| plan.display(removal)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_is_what_the_model_says(nodes in nodes(), rule in rule()) {
        let rules = Rules::new(&rule.params(), None).unwrap();
        let plan = plan(&rules, &nodes);
        let mut expected = Vec::new();
        model(rule, "", false, &nodes, &mut expected);
        let mut found = paths(&plan);
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_directory_goes_after_everything_in_it_and_the_totals_add_up(
        nodes in nodes(),
        rule in rule(),
    ) {
        let rules = Rules::new(&rule.params(), None).unwrap();
        let plan = plan(&rules, &nodes);
        let order = paths(&plan);
        let is_directory = |removal: &Removal| removal.because == Because::EmptyDirectory;
        for (index, removal) in plan.removals().iter().enumerate() {
            let inside = format!("{}/", order[index]);
            let later = order[index..].iter().find(|path| path.starts_with(&inside));
            prop_assert!(!is_directory(removal) || later.is_none(), "{:?} after {}", later, inside);
        }
        let directories = plan.removals().iter().filter(|removal| is_directory(removal)).count();
        let bytes: u64 =
            plan.removals().iter().map(|removal| removal.metadata.size).sum();
        prop_assert_eq!(plan.totals.dirs, directories as u64);
        prop_assert_eq!(plan.totals.files, (plan.removals().len() - directories) as u64);
        prop_assert_eq!(plan.totals.bytes, bytes);
        prop_assert!(plan.totals.files <= plan.scanned);
    }

    #[test]
    fn limits_are_exact(nodes in nodes(), rule in rule()) {
        let rules = Rules::new(&rule.params(), None).unwrap();
        let plan = plan(&rules, &nodes);
        let past = |limits: Limits| !exceeded(&limits, std::iter::once(("/root", &plan))).is_empty();
        let files = |max_files| past(Limits { max_files, ..Limits::default() });
        let bytes = |most| past(Limits { max_bytes: Some(ByteSize(most)), ..Limits::default() });
        let share = |most| past(Limits { max_fraction: Some(most), ..Limits::default() });
        let most = plan.totals.files.max(plan.totals.dirs);
        prop_assert!(!files(most));
        prop_assert!(most == 0 || files(most - 1));
        prop_assert!(!bytes(plan.totals.bytes));
        prop_assert!(plan.totals.bytes == 0 || bytes(plan.totals.bytes - 1));
        if plan.totals.files > 0 {
            let exact = plan.totals.files as f64 / plan.scanned as f64;
            prop_assert!(!share(exact));
            prop_assert!(share(exact * 0.999));
        }
    }
}

#[test]
fn a_plan_past_its_limit_is_counted_in_full_and_remembered_in_part() {
    let rule = Rule {
        older_than: Some(10),
        min_size: 0,
        newest: 0,
        includes_tmp_only: false,
        delete_empty_dirs: false,
    };
    let rules = Rules::new(&rule.params(), None).unwrap();
    let mut planner = Planner::new(&rules, instant(NOW), 3);
    let old = |index: u32| Node::File {
        name: index.to_string(),
        size: 1,
        modified: NOW - 100,
        changed: NOW - 100,
    };
    planner.list((0..10).map(|index| old(index).entry()).collect());
    let plan = planner.finish();
    assert_eq!(plan.totals.files, 10);
    assert_eq!(plan.removals().len(), 3);
    let limits = Limits { max_files: 3, ..Limits::default() };
    assert_eq!(exceeded(&limits, std::iter::once(("/root", &plan))).len(), 1);
}
