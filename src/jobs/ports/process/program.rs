//! What is needed to start a program, as a value that can be handed to another process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A program to start. Its environment is exactly [`Program::environment`] plus [`KEY_VARIABLE`](super::KEY_VARIABLE) and
/// [`PROTOCOL_VARIABLE`](super::PROTOCOL_VARIABLE).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The file. It is not searched for.
    pub file: PathBuf,
    /// `argv[0]`, which some programs look at.
    pub name: String,
    /// `argv[1..]`.
    #[serde(with = "texts")]
    pub arguments: Vec<OsString>,
    /// Where it starts; `None` for this process's own working directory.
    pub cwd: Option<PathBuf>,
    /// Its whole environment.
    #[serde(with = "entries")]
    pub environment: BTreeMap<OsString, OsString>,
    /// Whether it gets a pipe as standard input; otherwise that is `/dev/null`.
    pub has_stdin: bool,
    /// Marks all processes that come of it. Different for each start.
    pub key: String,
}

impl fmt::Debug for Program {
    /// Without the values of the environment, some of which are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("file", &self.file)
            .field("arguments", &self.arguments)
            .field("cwd", &self.cwd)
            .field("environment", &self.environment.keys())
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// What programs are given need not be text, but nearly always is.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Utf8(String),
    Bytes(Vec<u8>),
}

impl From<OsString> for Text {
    fn from(text: OsString) -> Self {
        match text.into_string() {
            Ok(text) => Self::Utf8(text),
            Err(bytes) => Self::Bytes(bytes.into_vec()),
        }
    }
}

impl From<Text> for OsString {
    fn from(text: Text) -> Self {
        match text {
            Text::Utf8(text) => text.into(),
            Text::Bytes(bytes) => Self::from_vec(bytes),
        }
    }
}

mod texts {
    use super::{Deserialize, Deserializer, OsString, Serializer, Text};

    pub(super) fn serialize<S: Serializer>(texts: &[OsString], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(texts.iter().cloned().map(Text::from))
    }

    pub(super) fn deserialize<'de, D>(from: D) -> Result<Vec<OsString>, D::Error>
    where
        D: Deserializer<'de>,
    {
        Ok(Vec::<Text>::deserialize(from)?.into_iter().map(OsString::from).collect())
    }
}

/// `NAME=value`, as the program itself gets them: a name has no `=`.
mod entries {
    use super::{
        BTreeMap, Deserialize as _, Deserializer, OsStrExt, OsString, OsStringExt, Serializer, Text,
    };

    pub(super) fn serialize<S: Serializer>(
        entries: &BTreeMap<OsString, OsString>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(entries.iter().map(|(name, value)| {
            let mut entry = name.clone();
            entry.push("=");
            entry.push(value);
            Text::from(entry)
        }))
    }

    pub(super) fn deserialize<'de, D>(from: D) -> Result<BTreeMap<OsString, OsString>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let split = |entry: Text| {
            let entry = OsString::from(entry);
            let at = entry.as_bytes().iter().position(|byte| *byte == b'=')?;
            let (name, value) = entry.as_bytes().split_at(at);
            Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value[1..].to_vec())))
        };
        Ok(Vec::<Text>::deserialize(from)?.into_iter().filter_map(split).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(pattern: &'static str) -> impl Strategy<Value = OsString> {
        let text = pattern.prop_map(OsString::from);
        let other = prop::collection::vec(1_u8..=255, 0..8).prop_map(|mut bytes| {
            bytes.retain(|byte| *byte != b'=');
            OsString::from_vec(bytes)
        });
        prop_oneof![text, other]
    }

    proptest! {
        #[test]
        fn a_program_arrives_in_another_process_as_it_was(
            arguments in prop::collection::vec(bytes(".*"), 0..4),
            environment in prop::collection::btree_map(bytes("[A-Z_]{1,8}"), bytes("[^=]*"), 0..4),
            value in "a=b=.*",
        ) {
            let mut environment = environment;
            environment.insert("VALUE".into(), value.into());
            let program = Program {
                file: "/bin/sh".into(),
                name: "sh".to_owned(),
                arguments,
                cwd: Some("/srv".into()),
                environment,
                has_stdin: true,
                key: "1-1-0".to_owned(),
            };
            let line = serde_json::to_string(&program).unwrap();
            prop_assert_eq!(serde_json::from_str::<Program>(&line).unwrap(), program);
        }
    }
}
