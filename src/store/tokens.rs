//! Tokens of the API, and what is left of the rate of each.

use diesel::prelude::*;
use jiff::Timestamp;

use super::limits::read_rate;
use super::schema::api_tokens;
use super::{Conn, Micros, StoreError, buckets, on_each_backend};
use crate::model::{Actor, Rate, Role, TokenChange, TokenHash, TokenName};
use crate::queue::{Bucket, TooFew};

/// How long the last use of a token that is in use is left as it was noted, in microseconds: it is for people, and a request that reads
/// should not cost a write.
const USE_NOTED_EVERY_MICROS: i64 = 60 * 1_000_000;

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Its name.
    pub name: TokenName,
    /// What may be done with it.
    pub role: Role,
    /// How fast.
    pub rate: Option<Rate>,
    /// Since when there is it.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Until when it is valid.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// Since when it is not valid any more, and who saw to that.
    pub revoked: Option<(Timestamp, String)>,
}

impl StoredToken {
    /// Whether it counts at that time.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires_at.is_none_or(|until| now < until)
    }
}

/// A token that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its name.
    pub name: TokenName,
    /// What is kept of its secret.
    pub hash: TokenHash,
    /// What may be done with it.
    pub role: Role,
    /// How fast.
    pub rate: Option<Rate>,
    /// Until when it is valid.
    pub expires_at: Option<Timestamp>,
}

/// A name and role; the rate; since when and by whom; until when and when last used; since when it is revoked and by whom.
type Row = (
    (String, String),
    Option<String>,
    (Micros, String),
    (Option<Micros>, Option<Micros>),
    (Option<Micros>, Option<String>),
);
type Columns = (
    (api_tokens::name, api_tokens::role),
    api_tokens::rate,
    (api_tokens::created_at, api_tokens::created_by),
    (api_tokens::expires_at, api_tokens::last_used_at),
    (api_tokens::revoked_at, api_tokens::revoked_by),
);
const COLUMNS: Columns = (
    (api_tokens::name, api_tokens::role),
    api_tokens::rate,
    (api_tokens::created_at, api_tokens::created_by),
    (api_tokens::expires_at, api_tokens::last_used_at),
    (api_tokens::revoked_at, api_tokens::revoked_by),
);

fn read(row: Row) -> Result<StoredToken, StoreError> {
    let ((name, role), rate, (created_at, created_by), (expires_at, last_used_at), revoked) = row;
    let damaged = |what, error: &dyn std::fmt::Display| StoreError::Damaged {
        what,
        detail: format!("that of the token {}: {error}", name.escape_debug()),
    };
    Ok(StoredToken {
        role: role.parse().map_err(|error| damaged("role", &error))?,
        rate: rate.map(|rate| read_rate(&format!("the token {name}"), &rate)).transpose()?,
        created_at: created_at.into(),
        created_by,
        expires_at: expires_at.map(Timestamp::from),
        last_used_at: last_used_at.map(Timestamp::from),
        revoked: match revoked {
            (Some(at), by) => Some((at.into(), by.unwrap_or_default())),
            (None, _) => None,
        },
        name: name.parse().map_err(|error| damaged("name", &error))?,
    })
}

/// Makes a token.
///
/// # Errors
/// When there is or was one of that name, or the database refuses.
pub fn create(
    conn: &mut Conn,
    new: &NewToken,
    by: &Actor,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (hash, rate) = (new.hash.to_string(), new.rate.map(|rate| rate.to_string()));
    let row = (
        api_tokens::name.eq(new.name.as_str()),
        api_tokens::secret_sha256.eq(&hash),
        api_tokens::role.eq(new.role.as_str()),
        api_tokens::rate.eq(rate.as_deref()),
        api_tokens::created_at.eq(now.as_microsecond()),
        api_tokens::created_by.eq(by.as_str()),
        api_tokens::expires_at.eq(new.expires_at.map(Timestamp::as_microsecond)),
    );
    let is_new = on_each_backend!(conn, |inner| diesel::insert_into(api_tokens::table)
        .values(row)
        .on_conflict(api_tokens::name)
        .do_nothing()
        .execute(inner)?);
    if is_new == 0 {
        return Err(StoreError::Conflict(format!(
            "there is or was a token `{}`; take another name, so that the audit log stays clear",
            new.name
        )));
    }
    Ok(())
}

/// All tokens by name, also those that count no more.
///
/// # Errors
/// When the database refuses, or holds one that cannot be read.
pub fn list(conn: &mut Conn) -> Result<Vec<StoredToken>, StoreError> {
    let rows = api_tokens::table.order(api_tokens::name).select(COLUMNS);
    let rows: Vec<Row> = on_each_backend!(conn, |inner| rows.load(inner)?);
    rows.into_iter().map(read).collect()
}

/// The token of that name.
///
/// # Errors
/// When there is none, it cannot be read, or the database refuses.
pub fn find(conn: &mut Conn, name: &TokenName) -> Result<StoredToken, StoreError> {
    let row = api_tokens::table.find(name.as_str()).select(COLUMNS);
    let row: Option<Row> = on_each_backend!(conn, |inner| row.first(inner).optional()?);
    let unknown = || StoreError::NotFound(format!("there is no token `{name}`"));
    read(row.ok_or_else(unknown)?)
}

/// The token whose secret has that hash, if there is one, valid or not.
///
/// # Errors
/// When it cannot be read, or the database refuses.
pub fn of_secret(conn: &mut Conn, hash: &TokenHash) -> Result<Option<StoredToken>, StoreError> {
    let presented = hash.to_string();
    let row = api_tokens::table
        .filter(api_tokens::secret_sha256.eq(&presented))
        .select((api_tokens::secret_sha256, COLUMNS));
    let row: Option<(String, Row)> = on_each_backend!(conn, |inner| row.first(inner).optional()?);
    let is_that_one = hash.is_that_of(row.as_ref().map(|(stored, _)| stored.as_str()));
    row.filter(|_| is_that_one).map(|(_, row)| read(row)).transpose()
}

/// Changes a token that is not revoked. Returns whether that was anything new.
///
/// # Errors
/// When there is none of that name, it is revoked, or the database refuses.
pub fn change(conn: &mut Conn, name: &TokenName, change: TokenChange) -> Result<bool, StoreError> {
    let before = find(conn, name)?;
    if before.revoked.is_some() {
        let detail = format!("the token `{name}` is revoked, and stays so; create another one");
        return Err(StoreError::Conflict(detail));
    }
    let TokenChange { role, rate, expires_at } = change;
    let is_new = role.is_some_and(|role| role != before.role)
        || rate.is_some_and(|rate| rate != before.rate)
        || expires_at.is_some_and(|at| at != before.expires_at);
    if !is_new {
        return Ok(false);
    }
    let rate = rate.map(|rate| rate.map(|rate| rate.to_string()));
    // Only what is given is written: another node may be changing the rest.
    let given = (
        role.map(|role| api_tokens::role.eq(role.as_str())),
        rate.as_ref().map(|rate| api_tokens::rate.eq(rate.as_deref())),
        expires_at.map(|at| api_tokens::expires_at.eq(at.map(Timestamp::as_microsecond))),
    );
    let row = api_tokens::table.find(name.as_str());
    on_each_backend!(conn, |inner| diesel::update(row).set(given).execute(inner)?);
    Ok(true)
}

/// Takes a token out of use, for good. Returns whether it was in use.
///
/// # Errors
/// When there is none of that name, or the database refuses.
pub fn revoke(
    conn: &mut Conn,
    name: &TokenName,
    by: &Actor,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let set =
        (api_tokens::revoked_at.eq(now.as_microsecond()), api_tokens::revoked_by.eq(by.as_str()));
    let row = api_tokens::table
        .filter(api_tokens::name.eq(name.as_str()).and(api_tokens::revoked_at.is_null()));
    let revoked = on_each_backend!(conn, |inner| diesel::update(row).set(set).execute(inner)?);
    if revoked == 0 {
        find(conn, name)?;
    }
    Ok(revoked > 0)
}

/// Whether a use at that time is to be noted with [`note_use`].
#[must_use]
pub fn is_use_new(token: &StoredToken, now: Timestamp) -> bool {
    token
        .last_used_at
        .is_none_or(|at| at.as_microsecond() <= now.as_microsecond() - USE_NOTED_EVERY_MICROS)
}

/// Notes when a token was used, unless that was done a moment ago.
///
/// # Errors
/// When the database refuses.
pub fn note_use(conn: &mut Conn, name: &TokenName, now: Timestamp) -> Result<(), StoreError> {
    let micros = now.as_microsecond();
    let is_old = api_tokens::last_used_at
        .is_null()
        .or(api_tokens::last_used_at.le(micros - USE_NOTED_EVERY_MICROS));
    let row = api_tokens::table.filter(api_tokens::name.eq(name.as_str())).filter(is_old);
    on_each_backend!(conn, |inner| diesel::update(row)
        .set(api_tokens::last_used_at.eq(micros))
        .execute(inner)?);
    Ok(())
}

/// What is to be taken of a token's rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toll {
    /// Of which token.
    pub token: TokenName,
    /// Its rate.
    pub rate: Rate,
}

/// Takes so much of what is left of a token's rate, or nothing; for all nodes, by the clock that rates go by.
///
/// # Errors
/// When the database refuses.
pub fn charge(
    conn: &mut Conn,
    toll: &Toll,
    count: u32,
    now: Timestamp,
) -> Result<Result<(), Shortage>, StoreError> {
    hold(conn, &toll.token)?;
    // After it is held: it may have taken a while.
    let time = buckets::time(conn, now)?;
    let name = toll.token.qualified();
    let mut bucket = Bucket::new(toll.rate, buckets::full_at(conn, &name)?, time);
    let taken = bucket.take_together(count);
    // Also where nothing is taken: a bucket that is cut, after the rate was raised or the clock set back, has to be stored so.
    buckets::store(conn, &[(name, bucket)].into())?;
    Ok(taken.map_err(|too_few| match too_few {
        TooFew::Until(then) => Shortage::For(then.duration_since(time)),
        TooFew::Ever => Shortage::Ever,
    }))
}

/// Why a request is more than what is left of a token's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Others came before. After so long there is enough.
    For(jiff::SignedDuration),
    /// It is more than the burst, so there is never enough.
    Ever,
}

/// Lets no other node take of the rate until this transaction ends: two that look at the same time would take the same. SQLite has one
/// writer anyway.
fn hold(conn: &mut Conn, name: &TokenName) -> Result<(), StoreError> {
    if let Conn::Postgres(conn) = conn {
        let row = api_tokens::table.find(name.as_str()).select(api_tokens::name).for_update();
        row.first::<String>(conn).optional()?;
    }
    Ok(())
}
