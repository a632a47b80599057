//! Tokens of the API: who may do what with which secret.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Actor, Rate, ScheduleId};

/// A token's name. It is written like a schedule's and means the same token for ever, also when that is revoked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenName(ScheduleId);

/// Why a text is not a token's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a token's name has 1 to 64 of a-z, 0-9, - and _, and starts with a letter or digit")]
pub struct TokenNameError;

impl TokenName {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Who did what was done with it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::named(self.qualified())
    }

    /// `token:NAME`, as what is left of its rate is stored under.
    #[must_use]
    pub fn qualified(&self) -> String {
        format!("token:{self}")
    }
}

impl FromStr for TokenName {
    type Err = TokenNameError;

    fn from_str(text: &str) -> Result<Self, TokenNameError> {
        text.parse().map(Self).map_err(|_schedule| TokenNameError)
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What may be done with a token. Each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything but the tokens.
    Read,
    /// Hand in jobs.
    Submit,
    /// Whatever may be done on the socket.
    Operate,
}

/// Why a text is not a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a role is read, submit or operate")]
pub struct RoleError;

impl Role {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Operate => "operate",
        }
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let all = [Self::Read, Self::Submit, Self::Operate];
        all.into_iter().find(|role| role.as_str() == text).ok_or(RoleError)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is to become of a token: what is left out stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenChange {
    /// What may be done with it.
    pub role: Option<Role>,
    /// How fast; `Some(None)`: as fast as it goes.
    pub rate: Option<Option<Rate>>,
    /// Until when; `Some(None)`: until it is revoked.
    pub expires_at: Option<Option<Timestamp>>,
}

/// The secret of a token, which is shown once. It cannot be printed, compared or serialised.
pub struct TokenSecret([u8; 32]);

impl TokenSecret {
    /// What every secret's text begins with, so that programs that look for leaked secrets find it.
    pub const PREFIX: &'static str = "sexton_";

    /// How long the text is, in bytes.
    pub const TEXT_BYTES: usize = Self::PREFIX.len() + 64;

    /// A secret of bytes that nobody else can know.
    #[must_use]
    pub fn of(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// The text that whoever asks shows.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{}{}", Self::PREFIX, hex(&self.0))
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.reveal().as_bytes())
    }
}

/// The SHA-256 of a secret's text. A secret has 256 random bits, so that nothing slower is needed to keep it from being guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Of what somebody has shown, whatever it is.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Whether it is the stored one, in a time that does not tell how much of it is right; the same time where none is stored.
    #[must_use]
    pub fn is_that_of(&self, stored: Option<&str>) -> bool {
        let nothing = "0".repeat(64);
        self.to_string().as_bytes().ct_eq(stored.unwrap_or(&nothing).as_bytes()).into()
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j3_a_secret_is_known_by_its_hash_and_by_nothing_else() {
        let secret = TokenSecret::of([0xa5; 32]);
        let text = secret.reveal();
        assert_eq!((text.len(), &text[..10]), (TokenSecret::TEXT_BYTES, "sexton_a5a"));
        let stored = secret.hash().to_string();
        assert!(!stored.contains("a5a5") && stored.len() == 64, "{stored}");
        assert!(TokenHash::of(text.as_bytes()).is_that_of(Some(&stored)));
        for wrong in ["", &text[..70], &text.to_uppercase(), &format!("{text} ")] {
            assert!(!TokenHash::of(wrong.as_bytes()).is_that_of(Some(&stored)), "{wrong}");
        }
        assert!(!secret.hash().is_that_of(None) && !secret.hash().is_that_of(Some("")));
    }

    #[test]
    fn each_role_may_do_what_those_before_it_may() {
        assert!(Role::Read < Role::Submit && Role::Submit < Role::Operate);
        for role in ["read", "submit", "operate"] {
            assert_eq!(role.parse::<Role>().unwrap().to_string(), role);
        }
        assert_eq!("admin".parse::<Role>(), Err(RoleError));
    }

    #[test]
    fn a_name_stands_in_the_audit_log_without_quotes() {
        assert_eq!("ci-2".parse::<TokenName>().unwrap().actor().as_str(), "token:ci-2");
        for bad in ["", "CI", "a b", "-a", "token:x", &"a".repeat(65)] {
            assert_eq!(bad.parse::<TokenName>(), Err(TokenNameError), "{bad}");
        }
    }
}
