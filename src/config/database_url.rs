//! Which database to use.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// A text that must not turn up in logs, errors or output. It has no `Serialize`, and its `Debug` says nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum DatabaseUrl {
    /// A file on this machine: `sqlite:PATH`.
    Sqlite(PathBuf),
    /// A server that several nodes may share: `postgres://…`. The whole URL, as libpq reads it.
    Postgres(Secret),
}

/// Why a text does not name a database. It never repeats the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// The scheme is neither of the two.
    #[error("it starts with neither `sqlite:` nor `postgres://`")]
    Scheme,
    /// `sqlite:` and nothing more.
    #[error("`sqlite:` must be followed by the path of the database file")]
    NoPath,
    /// An in-memory database is forgotten with the process, and each connection would see one of its own.
    #[error("an in-memory database would forget every job; give the path of a file")]
    InMemory,
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(Secret::new(text)));
        }
        let path = text.strip_prefix("sqlite:").ok_or(DatabaseUrlError::Scheme)?;
        // `sqlite://PATH` and `sqlite:///PATH` are what other programs write for the same file.
        let path = path.strip_prefix("//").unwrap_or(path);
        match path {
            "" => Err(DatabaseUrlError::NoPath),
            ":memory:" => Err(DatabaseUrlError::InMemory),
            path => Ok(Self::Sqlite(PathBuf::from(path))),
        }
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = DatabaseUrlError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for DatabaseUrl {
    /// With the password masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(&without_password(url.expose())),
        }
    }
}

/// Masks the password before `@` and in a `password=` parameter.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let (address, query) = match rest.split_once('?') {
        Some((address, query)) => (address, Some(query)),
        None => (rest, None),
    };
    // A password may itself hold an unescaped `@`, so the last one before the path is the separator.
    let address = match address.rsplit_once('@') {
        Some((login, host)) => match login.split_once(':') {
            Some((user, _password)) => format!("{user}:***@{host}"),
            None => address.to_owned(),
        },
        None => address.to_owned(),
    };
    let query = query.map(|query| {
        let masked = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if name.to_ascii_lowercase().contains("password") => {
                format!("{name}=***")
            }
            _ => pair.to_owned(),
        });
        format!("?{}", masked.collect::<Vec<_>>().join("&"))
    });
    format!("{scheme}://{address}{}", query.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_a_file_or_a_server() {
        for (text, path) in [("sqlite:a.db", "a.db"), ("sqlite:///x/a.db", "/x/a.db")] {
            assert_eq!(text.parse(), Ok(DatabaseUrl::Sqlite(path.into())));
        }
        assert!("postgresql://h/d".parse::<DatabaseUrl>().is_ok());
        assert_eq!("mysql://h".parse::<DatabaseUrl>(), Err(DatabaseUrlError::Scheme));
        assert_eq!("sqlite:".parse::<DatabaseUrl>(), Err(DatabaseUrlError::NoPath));
        assert_eq!("sqlite::memory:".parse::<DatabaseUrl>(), Err(DatabaseUrlError::InMemory));
    }

    #[test]
    fn j11_a_password_is_never_shown() {
        for url in [
            "postgres://me:canary@db/x",
            "postgres://me:can@ary:canary@db:5432/x?sslmode=require",
            "postgres://db/x?user=me&password=canary",
            "postgres://db/x?sslpassword=canary",
        ] {
            let parsed: DatabaseUrl = url.parse().unwrap();
            assert!(!format!("{parsed} {parsed:?}").contains("canary"), "{parsed} {parsed:?}");
        }
        let parsed: DatabaseUrl = "postgres://me:secret@db:5432/x?sslmode=require".parse().unwrap();
        assert_eq!(parsed.to_string(), "postgres://me:***@db:5432/x?sslmode=require");
    }
}
