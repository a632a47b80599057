//! Commands about tokens of the API.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use crate::model::{Rate, Role};

/// What to do with a token.
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Make a token. Its secret is printed this once.
    Create(TokenCreate),
    /// List the tokens, also those that are expired or revoked.
    List,
    /// Change what may be done with a token, how fast or until when. It counts from the next request on.
    Set(TokenSet),
    /// Take a token out of use, for good.
    Revoke {
        /// The token.
        name: String,
    },
}

/// `token create`.
#[derive(Debug, Args)]
pub struct TokenCreate {
    /// A name that no token has or had: 1 to 64 of a-z, 0-9, - and _.
    pub name: String,
    /// read: look; submit: hand in jobs as well; operate: whatever may be done on the socket.
    #[arg(long, value_name = "ROLE")]
    pub role: Role,
    /// How many jobs may be handed in with it, or other changes made: 10/s, "100/m burst 20".
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,
    /// Until when it is valid: a time, or how long from now (90d).
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
}

/// `token set`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("setting").required(true).multiple(true),
    override_usage = "sexton token set [OPTIONS] <NAME> <--role ROLE|--rate RATE|--expires TIME|--unset SETTING>..."
)]
pub struct TokenSet {
    /// The token.
    pub name: String,
    /// read, submit or operate.
    #[arg(long, value_name = "ROLE", group = "setting")]
    pub role: Option<Role>,
    /// How many jobs may be handed in with it, or other changes made: 10/s, "100/m burst 20".
    #[arg(long, value_name = "RATE", group = "setting")]
    pub rate: Option<Rate>,
    /// Until when it is valid: a time, or how long from now (90d).
    #[arg(long, value_name = "TIME", group = "setting")]
    pub expires: Option<String>,
    /// Let it do as much as it wants, or be valid until it is revoked.
    #[arg(long, value_name = "SETTING", group = "setting")]
    pub unset: Vec<TokenSetting>,
}

/// What a token can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenSetting {
    /// How much may be done with it.
    Rate,
    /// Until when it is valid.
    Expires,
}
