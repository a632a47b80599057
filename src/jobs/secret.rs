//! Secrets: params say where one is, and the value is read when an attempt needs it.
//!
//! So no secret is ever in a schedule file, in the database, in an answer of the API or in a log.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest secret that is read, in bytes. More is a mistake in the path.
const MAX_BYTES: u64 = 64 * 1024;

/// Where a secret is: `credential:NAME` (a systemd credential), `file:/ABSOLUTE/PATH` or `env:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretRef {
    /// A file of that name in `$CREDENTIALS_DIRECTORY`, where systemd's `LoadCredential=` puts it.
    Credential(String),
    /// A file.
    File(PathBuf),
    /// A variable of the daemon's environment.
    Env(String),
}

/// A secret's value. It cannot be printed or serialised; [`Secret::expose`] marks the places that need it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a text is not a reference to a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a secret is never written here itself: name it as `credential:NAME`, `file:/ABSOLUTE/PATH` or `env:NAME`"
)]
pub struct NotAReference;

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There are no credentials.
    #[error(
        "secret {0}: $CREDENTIALS_DIRECTORY is not set; add LoadCredential= to the unit, or use `file:` or `env:`"
    )]
    NoCredentials(SecretRef),
    /// The variable is not there.
    #[error("secret {0}: the daemon's environment has no such variable, or it is not UTF-8")]
    NoVariable(SecretRef),
    /// The file cannot be read.
    #[error("secret {reference}: cannot read {}", .path.display())]
    Unreadable {
        /// The reference.
        reference: SecretRef,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The value is empty.
    #[error("secret {0}: it is empty")]
    Empty(SecretRef),
}

impl Secret {
    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A value that is known already.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// `text` with every occurrence of the secret blacked out, for what others wrote and may echo it.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&self.0, "[redacted]") }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

impl SecretRef {
    /// Whether a text looks like a reference, right or wrong.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        ["credential:", "file:", "env:"].iter().any(|prefix| text.starts_with(prefix))
    }

    /// Reads the secret. A line end after it is not part of it.
    ///
    /// # Errors
    /// When it is not there, cannot be read or is empty. The error shows the reference, never the value.
    pub fn resolve(&self) -> Result<Secret, SecretError> {
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        self.resolve_with(folder.as_deref(), |name| std::env::var(name).ok())
    }

    fn resolve_with(
        &self,
        credentials: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Secret, SecretError> {
        let value = match self {
            Self::Credential(name) => {
                let folder = credentials.ok_or_else(|| SecretError::NoCredentials(self.clone()))?;
                self.read(folder.join(name))?
            }
            Self::File(path) => self.read(path.clone())?,
            Self::Env(name) => {
                environment(name).ok_or_else(|| SecretError::NoVariable(self.clone()))?
            }
        };
        let value = value.trim_end_matches(['\r', '\n']);
        if value.is_empty() {
            return Err(SecretError::Empty(self.clone()));
        }
        Ok(Secret::new(value))
    }

    fn read(&self, path: PathBuf) -> Result<String, SecretError> {
        read_bounded(&path).map_err(|source| SecretError::Unreadable {
            reference: self.clone(),
            path,
            source,
        })
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut value = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut value)?;
    if value.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 64 KiB"));
    }
    Ok(value)
}

impl FromStr for SecretRef {
    type Err = NotAReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (place, name) = text.split_once(':').ok_or(NotAReference)?;
        let is_file_name = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
        match place {
            "credential" if is_file_name => Ok(Self::Credential(name.to_owned())),
            "file" if name.starts_with('/') => Ok(Self::File(name.into())),
            "env" if !name.is_empty() && !name.contains('=') => Ok(Self::Env(name.to_owned())),
            _ => Err(NotAReference),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "credential:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
        }
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The text is not repeated in the error: it may be the secret.
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> SecretRef {
        text.parse().unwrap()
    }

    #[test]
    fn a_secret_comes_from_credentials_files_and_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        let environment = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        for text in ["credential:token", &format!("file:{}", path.display()), "env:TOKEN"] {
            let secret = reference(text).resolve_with(Some(folder.path()), environment).unwrap();
            assert_eq!(secret.expose(), "s3cret", "{text}");
            assert_eq!(reference(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_missing_or_empty_is_named_by_its_reference() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        let nothing = |_: &str| None;
        for (text, credentials, expected) in [
            ("credential:token", None, "LoadCredential"),
            ("credential:token", Some(folder.path()), "cannot read"),
            ("credential:empty", Some(folder.path()), "empty"),
            ("env:TOKEN", None, "no such variable"),
        ] {
            let error = reference(text).resolve_with(credentials, nothing).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(expected) && message.contains(text), "{message}");
        }
    }

    #[test]
    fn only_references_are_taken_and_the_text_is_not_repeated() {
        for bad in ["hunter2", "credential:", "credential:../etc/shadow", "file:relative", "env:"] {
            let error = bad.parse::<SecretRef>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"));
            let error = serde_json::from_value::<SecretRef>(bad.into()).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn j11_a_secret_does_not_print() {
        let secret = Secret::new("canary");
        assert!(!format!("{secret:?}").contains("canary"));
        assert_eq!(secret.redact("say canary twice: canary"), "say [redacted] twice: [redacted]");
    }
}
