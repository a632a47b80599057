//! Facts of the database itself, one text each.

use diesel::prelude::*;

use super::schema::meta;
use super::{Conn, StoreError, on_each_backend};

/// What is kept under a key.
///
/// # Errors
/// When the database refuses.
pub fn read(conn: &mut Conn, key: &str) -> Result<Option<String>, StoreError> {
    Ok(meta::table.find(key).select(meta::value).first(conn).optional()?)
}

/// Keeps a value under a key, in place of what was there.
///
/// # Errors
/// When the database refuses.
pub fn write(conn: &mut Conn, key: &str, value: &str) -> Result<(), StoreError> {
    on_each_backend!(conn, |inner| diesel::insert_into(meta::table)
        .values((meta::key.eq(key), meta::value.eq(value)))
        .on_conflict(meta::key)
        .do_update()
        .set(meta::value.eq(value))
        .execute(inner)?);
    Ok(())
}
