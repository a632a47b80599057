//! Tokens of the API.

use serde::{Deserialize, Serialize};

use super::given;
use crate::model::{Rate, Role};

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// read, submit or operate.
    pub role: String,
    /// valid, expired or revoked.
    pub state: String,
    /// How many jobs may be handed in with it, or other changes made.
    pub rate: Option<String>,
    /// Since when there is it.
    pub created_at: String,
    /// Who made it.
    pub created_by: String,
    /// Until when it is valid; null until it is revoked.
    pub expires_at: Option<String>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<String>,
    /// When it was revoked.
    pub revoked_at: Option<String>,
    /// By whom.
    pub revoked_by: Option<String>,
}

/// A token that was just made. This is the only answer that its secret is in.
#[derive(Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct NewToken {
    /// The secret, for the header `Authorization: Bearer`. It cannot be shown again.
    pub secret: String,
    /// What it is the secret of.
    #[serde(flatten)]
    pub token: Token,
}

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Its name, which no token has or had.
    pub name: String,
    /// What may be done with it.
    #[schema(value_type = String)]
    pub role: Role,
    /// How many jobs may be handed in with it, or other changes made: `100/m burst 20`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub rate: Option<Rate>,
    /// Until when it is valid: RFC 3339, or for how long by the daemon's clock (`2h`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// What is to become of a token: what is left out stays as it is, and null takes a rate or an end away.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenChangeRequest {
    /// What may be done with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub role: Option<Role>,
    /// How many jobs may be handed in with it, or other changes made: `100/m burst 20`.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub rate: Option<Option<Rate>>,
    /// Until when it is valid: RFC 3339, or for how long by the daemon's clock (`2h`).
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Option<String>>,
}
