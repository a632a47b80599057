//! Statements about one row that are given many at once.
//!
//! On SQLite a statement is a function call, and the fastest way to write a thousand rows is to run the prepared statement a thousand
//! times. On PostgreSQL it is a round trip, so there the rows travel together, as an array a column: the statement has one
//! text for any number of rows and stays prepared.
//!
//! Which columns there are is said once, and both forms are made of that.

use std::marker::PhantomData;

use diesel::connection::Connection;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::methods::LoadQuery;
use diesel::sqlite::Sqlite;

use crate::store::{Conn, StoreError};

/// How many rows travel together at the most. More are not faster, and a submission of ten thousand jobs need not be in memory a second time.
pub(super) const ROWS_AT_ONCE: usize = 1000;

/// A statement about one row, which PostgreSQL also takes about many.
pub(in crate::store) trait ForMany:
    QueryId + QueryFragment<Sqlite> + QueryFragment<Pg>
{
    /// What is bound, a vector for each column.
    type Columns;

    /// Turns rows into columns.
    fn columns(rows: Vec<Self>) -> Self::Columns
    where
        Self: Sized;

    /// The statement about all of them.
    fn walk_many<'b>(columns: &'b Self::Columns, out: AstPass<'_, 'b, Pg>) -> QueryResult<()>;
}

/// A statement about many rows.
pub(in crate::store) struct Many<S: ForMany>(S::Columns);

impl<S: ForMany> Many<S> {
    pub(super) fn of(rows: Vec<S>) -> Self {
        Self(S::columns(rows))
    }
}

/// Its name in the cache of prepared statements.
pub(in crate::store) struct ManyId<T>(PhantomData<T>);

impl<S: ForMany> QueryId for Many<S> {
    type QueryId = ManyId<S::QueryId>;
    const HAS_STATIC_QUERY_ID: bool = S::HAS_STATIC_QUERY_ID;
}

impl<S: ForMany> QueryFragment<Pg> for Many<S> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        S::walk_many(&self.0, out)
    }
}

impl<S: ForMany + Query> Query for Many<S> {
    type SqlType = S::SqlType;
}

impl<S: ForMany, C> RunQueryDsl<C> for Many<S> {}

/// Runs a statement for each of these rows. Returns how many rows it has changed.
pub(in crate::store) fn execute_each<S: ForMany>(
    conn: &mut Conn,
    rows: impl IntoIterator<Item = S>,
) -> Result<usize, StoreError> {
    let mut rows = rows.into_iter();
    let mut changed = 0;
    match conn {
        Conn::Sqlite(conn) => {
            for row in rows {
                changed += conn.execute_returning_count(&row)?;
            }
        }
        Conn::Postgres(conn) => {
            while let Some(some) = next(&mut rows) {
                changed += conn.execute_returning_count(&Many::of(some))?;
            }
        }
    }
    Ok(changed)
}

/// Runs a statement for each of these rows, and returns what it finds for all of them.
pub(in crate::store) fn load_each<'query, S, R>(
    conn: &mut Conn,
    rows: impl IntoIterator<Item = S>,
) -> Result<Vec<R>, StoreError>
where
    S: ForMany + LoadQuery<'query, SqliteConnection, R>,
    Many<S>: LoadQuery<'query, PgConnection, R>,
{
    let mut rows = rows.into_iter();
    let mut found = Vec::with_capacity(rows.size_hint().0);
    match conn {
        Conn::Sqlite(conn) => {
            for row in rows {
                for one in row.load_iter(conn)? {
                    found.push(one?);
                }
            }
        }
        Conn::Postgres(conn) => {
            while let Some(some) = next(&mut rows) {
                found.extend(Many::of(some).load(conn)?);
            }
        }
    }
    Ok(found)
}

/// As many rows as travel together; none when there are no more.
fn next<S>(rows: &mut impl Iterator<Item = S>) -> Option<Vec<S>> {
    let some: Vec<S> = rows.take(ROWS_AT_ONCE).collect();
    (!some.is_empty()).then_some(some)
}
