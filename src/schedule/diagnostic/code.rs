//! The stable names of everything that can be wrong with a schedule file.

use std::fmt;

use serde::{Serialize, Serializer};

/// What kind of finding it is. `docs/schedule-errors.md` explains each; numbers are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// S001: the file could not be read.
    Unreadable,
    /// S002: the file is too large.
    TooLarge,
    /// S003: the file is not clean UTF-8 text.
    NotText,
    /// S004: it is not a regular file.
    NotAFile,
    /// S005: everybody may change the file.
    WorldWritable,
    /// S006: more people than its owner may change the file or directory.
    LooselyWritable,
    /// S007: a directory of schedules is gone or cannot be read.
    DirectoryLost,
    /// S008: two files define the same id.
    DuplicateId,
    /// S009: the reload itself failed.
    Internal,
    /// S010: not TOML.
    Syntax,
    /// S011: not a schedule's name.
    BadId,
    /// S012: too many schedules, or too many findings, in one file.
    TooMany,
    /// S013: a value of the wrong type.
    WrongType,
    /// S014: a key that nothing knows.
    UnknownKey,
    /// S015: a key that is needed.
    MissingKey,
    /// S016: a value that cannot be meant.
    BadValue,
    /// S017: something that this version does not do.
    Unsupported,
    /// S018: tables inside tables without end.
    TooDeep,
    /// S020: not exactly one kind table.
    KindTable,
    /// S021: the kind refuses its params.
    BadParams,
    /// S022: settings beside `[[schedule]]`.
    StrayHeader,
    /// S025: `[when]` says no time.
    NoTrigger,
    /// S026: a cron expression that cannot be read.
    BadCron,
    /// S027: a time zone that is not known.
    UnknownZone,
    /// S031: a rule that never fires.
    NeverFires,
    /// S032: an instant that has passed.
    PastInstant,
    /// S033: delays longer than the interval.
    LongDelay,
    /// S034: a secret in plain text.
    InlineSecret,
    /// S035: jobs that are made to catch up, and skipped.
    SkippedCatchUp,
    /// S036: schedules that follow each other in a circle.
    Circle,
    /// S037: a schedule that does not exist.
    UnknownSchedule,
}

impl Code {
    /// Every code, in order.
    pub const ALL: [Self; 31] = [
        Self::Unreadable,
        Self::TooLarge,
        Self::NotText,
        Self::NotAFile,
        Self::WorldWritable,
        Self::LooselyWritable,
        Self::DirectoryLost,
        Self::DuplicateId,
        Self::Internal,
        Self::Syntax,
        Self::BadId,
        Self::TooMany,
        Self::WrongType,
        Self::UnknownKey,
        Self::MissingKey,
        Self::BadValue,
        Self::Unsupported,
        Self::TooDeep,
        Self::KindTable,
        Self::BadParams,
        Self::StrayHeader,
        Self::NoTrigger,
        Self::BadCron,
        Self::UnknownZone,
        Self::NeverFires,
        Self::PastInstant,
        Self::LongDelay,
        Self::InlineSecret,
        Self::SkippedCatchUp,
        Self::Circle,
        Self::UnknownSchedule,
    ];

    /// The name, such as `S014`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "S001",
            Self::TooLarge => "S002",
            Self::NotText => "S003",
            Self::NotAFile => "S004",
            Self::WorldWritable => "S005",
            Self::LooselyWritable => "S006",
            Self::DirectoryLost => "S007",
            Self::DuplicateId => "S008",
            Self::Internal => "S009",
            Self::Syntax => "S010",
            Self::BadId => "S011",
            Self::TooMany => "S012",
            Self::WrongType => "S013",
            Self::UnknownKey => "S014",
            Self::MissingKey => "S015",
            Self::BadValue => "S016",
            Self::Unsupported => "S017",
            Self::TooDeep => "S018",
            Self::KindTable => "S020",
            Self::BadParams => "S021",
            Self::StrayHeader => "S022",
            Self::NoTrigger => "S025",
            Self::BadCron => "S026",
            Self::UnknownZone => "S027",
            Self::NeverFires => "S031",
            Self::PastInstant => "S032",
            Self::LongDelay => "S033",
            Self::InlineSecret => "S034",
            Self::SkippedCatchUp => "S035",
            Self::Circle => "S036",
            Self::UnknownSchedule => "S037",
        }
    }

    /// The chapter of `docs/schedule-errors.md` about it, for `sexton explain S014`.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        let document = include_str!("../../../docs/schedule-errors.md");
        let start = document.find(&format!("\n## {} ", self.as_str())).map_or(0, |at| at + 1);
        let chapter = &document[start..];
        let end = chapter.find("\n## ").unwrap_or(chapter.len());
        chapter[..end].trim()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_name_and_a_chapter_in_the_documentation() {
        let names: std::collections::BTreeSet<&str> =
            Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            let chapter = code.explanation();
            assert!(chapter.starts_with(&format!("## {code} ")), "{code} is not documented");
            assert!(chapter.lines().count() > 2, "{code} is named and not explained");
        }
    }
}
