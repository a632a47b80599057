//! Schedule files, and what their authors do to them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sexton::jobs::KINDS;
use sexton::schedule::{Defaults, Schedule, parse_file};

use super::dice::Dice;

/// How many schedules there are at the most.
const SCHEDULES: u64 = 4;

/// The directory of schedule files, and every definition that was ever in it.
pub(super) struct Files {
    folder: PathBuf,
    defaults: Defaults,
    /// What is written at the moment, by schedule: its text, which may be broken.
    texts: BTreeMap<String, String>,
    /// Every version that could be read, by schedule and content hash.
    pub(super) versions: BTreeMap<(String, String), Schedule>,
    edits: u64,
}

impl Files {
    pub(super) fn new(folder: PathBuf, defaults: Defaults) -> Self {
        std::fs::create_dir_all(&folder).expect("a folder for schedules");
        Self { folder, defaults, texts: BTreeMap::new(), versions: BTreeMap::new(), edits: 0 }
    }

    /// The names of all schedules that may exist.
    pub(super) fn names() -> Vec<String> {
        (0..SCHEDULES).map(|number| format!("s{number}")).collect()
    }

    /// Writes every schedule, described for the trace.
    pub(super) fn write_all(&mut self, dice: &mut Dice, now: Timestamp) -> Vec<String> {
        Self::names().iter().map(|name| self.write(name, dice, now)).collect()
    }

    fn write(&mut self, name: &str, dice: &mut Dice, now: Timestamp) -> String {
        let text = definition(dice, now, &self.others(name));
        let shown = text.replace('\n', " ");
        self.put(name, text, now);
        format!("{name} is now {shown}")
    }

    /// One edit, described for the trace.
    pub(super) fn edit(&mut self, dice: &mut Dice, now: Timestamp) -> String {
        let name = dice.pick(&Self::names()).clone();
        let there = self.texts.contains_key(&name);
        match dice.between(0, 10) {
            0 | 1 if there => {
                self.remove(&name);
                format!("{name} is deleted")
            }
            2 | 3 if there => {
                let text = format!("{}\n[when\nbroken", self.texts[&name]);
                self.put(&name, text, now);
                format!("{name} is broken")
            }
            4 if there => {
                // The same rule under other policies.
                let text = format!(
                    "description = \"edit {}\"\n{}",
                    self.edits,
                    without_description(&self.texts[&name])
                );
                self.put(&name, text, now);
                format!("{name} is described anew")
            }
            _ => self.write(&name, dice, now),
        }
    }

    /// The schedules beside this one that are there, or that may be where none is.
    fn others(&self, name: &str) -> Vec<String> {
        let there: Vec<String> =
            self.texts.keys().filter(|other| *other != name).cloned().collect();
        if there.is_empty() { Self::names() } else { there }
    }

    /// Switches every schedule off, those in broken files included.
    pub(super) fn disable_all(&mut self, now: Timestamp) {
        for name in Self::names() {
            self.put(
                &name,
                "enabled = false\n[when]\nevery = \"1h\"\n[command]\nargv = [\"true\"]\n"
                    .to_owned(),
                now,
            );
        }
    }

    fn put(&mut self, name: &str, text: String, now: Timestamp) {
        self.edits += 1;
        let path = self.path(name);
        // Written aside and renamed, as editors do: a new file each time, which no file system's clock can hide.
        let aside = self.folder.join(format!(".{name}.{}", self.edits));
        std::fs::write(&aside, &text).expect("a schedule file is written");
        std::fs::rename(&aside, &path).expect("a schedule file is put in place");
        let parsed = parse_file(&path.as_path().into(), &text, &self.defaults, KINDS, now);
        for schedule in parsed.schedules {
            self.versions.insert((name.to_owned(), schedule.hash.to_string()), schedule);
        }
        self.texts.insert(name.to_owned(), text);
    }

    fn remove(&mut self, name: &str) {
        std::fs::remove_file(self.path(name)).expect("a schedule file is deleted");
        self.texts.remove(name);
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.folder).join(format!("{name}.toml"))
    }
}

fn without_description(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with("description"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// A definition, in which everything that bears on when and whether a job is made varies.
fn definition(dice: &mut Dice, now: Timestamp, others: &[String]) -> String {
    let soon = now + dice.seconds(5, 600);
    let rule = match dice.between(0, 18) {
        0..=3 => format!("every = \"{}s\"", dice.between(15, 300)),
        4 => format!("every = \"{}s\"\nfrom = \"end\"", dice.between(10, 90)),
        5 => format!("cron = \"*/{} * * * *\"", dice.pick(&[1, 2, 5, 15])),
        6 => format!("cron = \"{} * * * * *\"", dice.pick(&["*/20", "30", "7,37"])),
        7 => "daily = [\"01:30\", \"02:30\", \"12:00\"]".to_owned(),
        8 => format!(
            "cron = \"{}\"",
            dice.pick(&["30 2 * * *", "*/10 1-3 * * *", "0 0 1 * *", "H * * * *"])
        ),
        9 => format!("at = \"{soon:.0}\""),
        10 => format!("every = \"{}s\"\ncron = \"*/3 * * * *\"", dice.between(40, 100)),
        11..=16 => {
            let on = dice.pick(&["success", "success", "failure", "finished"]);
            let other = dice.pick(others).clone();
            let besides = if dice.chance(20) { "cron = \"*/4 * * * *\"\n" } else { "" };
            format!("{besides}after = {{ schedule = \"{other}\", on = \"{on}\" }}")
        }
        _ => format!("every = \"{}m\"", dice.between(1, 90)),
    };
    let zone = dice.pick(&["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]);
    let mut text = format!("[when]\n{rule}\ntimezone = \"{zone}\"\n");
    if dice.chance(60) {
        text += &format!("catch_up = \"{}\"\n", dice.pick(&["none", "latest", "all"]));
    }
    if dice.chance(20) {
        text += &format!("catch_up_window = \"{}m\"\n", dice.between(1, 60));
    }
    if dice.chance(20) {
        text += &format!("catch_up_max = {}\n", dice.between(1, 6));
    }
    if dice.chance(20) {
        text += &format!("jitter = \"{}s\"\n", dice.between(1, 40));
    }
    if dice.chance(15) {
        text += &format!("offset = \"{}s\"\n", dice.between(1, 40));
    }
    if dice.chance(10) {
        let until = soon + dice.seconds(30, 300);
        text += &format!("blackout = [\"{soon:.0}/{until:.0}\"]\n");
    }
    text += "[run]\n";
    text += &format!(
        "overlap = \"{}\"\n",
        dice.pick(&["skip", "queue_one", "queue_all", "cancel_previous", "allow"])
    );
    text +=
        &format!("queue = \"{}\"\npriority = {}\n", dice.pick(&super::QUEUES), dice.between(1, 11));
    if dice.chance(15) {
        let other = dice.pick(others).clone();
        text += &format!("requires = [\"fresh:{other}:{}m\"]\n", dice.between(1, 30));
        if dice.chance(60) {
            text += &format!("requires_wait = \"{}s\"\n", dice.between(5, 400));
        }
    }
    if dice.chance(50) {
        text += &format!("retries = {}\n", dice.between(0, 4));
    }
    if dice.chance(40) {
        text += &format!("timeout = \"{}s\"\n", dice.between(2, 60));
    }
    if dice.chance(10) {
        text += &format!("total_timeout = \"{}s\"\n", dice.between(60, 200));
    }
    if dice.chance(5) {
        text = format!("enabled = false\n{text}");
    }
    text + "[command]\nargv = [\"true\"]\n"
}
