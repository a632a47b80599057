//! The statements that run once for each due instant or each changed schedule, a thousand of them in one transaction.
//!
//! Diesel prepares an `UPDATE` anew each time, because its parts may differ from call to call. These have no such parts, and
//! their types say so (`QueryId`), so each is prepared once for a connection. That takes two thirds off their cost.

use diesel::backend::Backend;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryResult, RunQueryDsl};

/// Moves a schedule's high-water mark forward, never back.
#[derive(Debug)]
pub(super) struct Advance<'a> {
    pub(super) schedule: &'a str,
    pub(super) to: i64,
}

impl<DB: Backend> QueryFragment<DB> for Advance<'_>
where
    str: ToSql<Text, DB>,
    i64: ToSql<BigInt, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql("UPDATE schedules SET decided_until = ");
        out.push_bind_param::<BigInt, _>(&self.to)?;
        out.push_sql(" WHERE id = ");
        out.push_bind_param::<Text, _>(self.schedule)?;
        out.push_sql(" AND decided_until < ");
        out.push_bind_param::<BigInt, _>(&self.to)
    }
}

impl QueryId for Advance<'_> {
    type QueryId = Advance<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<C> RunQueryDsl<C> for Advance<'_> {}

/// Gives a schedule another rule, and with it another mark.
#[derive(Debug)]
pub(super) struct Redefine<'a> {
    pub(super) schedule: &'a str,
    pub(super) rule: &'a str,
    pub(super) decided_until: i64,
}

impl<DB: Backend> QueryFragment<DB> for Redefine<'_>
where
    str: ToSql<Text, DB>,
    i64: ToSql<BigInt, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql("UPDATE schedules SET definition = ");
        out.push_bind_param::<Text, _>(self.rule)?;
        out.push_sql(", decided_until = ");
        out.push_bind_param::<BigInt, _>(&self.decided_until)?;
        out.push_sql(" WHERE id = ");
        out.push_bind_param::<Text, _>(self.schedule)
    }
}

impl QueryId for Redefine<'_> {
    type QueryId = Redefine<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<C> RunQueryDsl<C> for Redefine<'_> {}

/// Notes in an occurrence which job it made.
#[derive(Debug)]
pub(super) struct LinkJob {
    pub(super) occurrence: i64,
    pub(super) job: Option<i64>,
}

impl<DB: Backend> QueryFragment<DB> for LinkJob
where
    i64: ToSql<BigInt, DB>,
    Option<i64>: ToSql<Nullable<BigInt>, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql("UPDATE occurrences SET job_id = ");
        out.push_bind_param::<Nullable<BigInt>, _>(&self.job)?;
        out.push_sql(" WHERE id = ");
        out.push_bind_param::<BigInt, _>(&self.occurrence)
    }
}

impl QueryId for LinkJob {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<C> RunQueryDsl<C> for LinkJob {}
