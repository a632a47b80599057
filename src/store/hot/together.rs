//! Statements that need nothing of each other's answers, sent together.
//!
//! PostgreSQL takes them as one that has the others in its `WITH`. All of them see the rows as they were before, so the last one must not
//! ask for what the others write.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::methods::LoadQuery;

use super::many::{ForMany, Many, ROWS_AT_ONCE, execute_each, load_each};
use crate::store::{Conn, StoreError};

/// Two statements about many rows, and a question about many.
pub(in crate::store) struct Three<A: ForMany, B: ForMany, C: ForMany>(Many<A>, Many<B>, Many<C>);

impl<A: ForMany, B: ForMany, C: ForMany> QueryId for Three<A, B, C> {
    type QueryId = (
        <Many<A> as QueryId>::QueryId,
        <Many<B> as QueryId>::QueryId,
        <Many<C> as QueryId>::QueryId,
    );
    const HAS_STATIC_QUERY_ID: bool =
        A::HAS_STATIC_QUERY_ID && B::HAS_STATIC_QUERY_ID && C::HAS_STATIC_QUERY_ID;
}

impl<A: ForMany, B: ForMany, C: ForMany> QueryFragment<Pg> for Three<A, B, C> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH first AS (");
        self.0.walk_ast(out.reborrow())?;
        out.push_sql("), second AS (");
        self.1.walk_ast(out.reborrow())?;
        out.push_sql(") ");
        self.2.walk_ast(out)
    }
}

impl<A: ForMany, B: ForMany, C: ForMany + Query> Query for Three<A, B, C> {
    type SqlType = C::SqlType;
}

impl<A: ForMany, B: ForMany, C: ForMany, T> RunQueryDsl<T> for Three<A, B, C> {}

/// Runs two statements for each of their rows, and asks a third one, which does not ask for what they write.
pub(in crate::store) fn execute_and_load<'query, A, B, C, R>(
    conn: &mut Conn,
    (first, second): (Vec<A>, Vec<B>),
    asked: Vec<C>,
) -> Result<Vec<R>, StoreError>
where
    A: ForMany,
    B: ForMany,
    C: ForMany + LoadQuery<'query, SqliteConnection, R>,
    Many<C>: LoadQuery<'query, PgConnection, R>,
    Three<A, B, C>: LoadQuery<'query, PgConnection, R>,
{
    let can_travel = |rows: usize| (1..=ROWS_AT_ONCE).contains(&rows);
    match conn {
        Conn::Postgres(conn)
            if [first.len(), second.len(), asked.len()].into_iter().all(can_travel) =>
        {
            Ok(Three(Many::of(first), Many::of(second), Many::of(asked)).load(conn)?)
        }
        conn => {
            execute_each(conn, first)?;
            execute_each(conn, second)?;
            load_each(conn, asked)
        }
    }
}
