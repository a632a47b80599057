//! Instants as both databases keep them.

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::BigInt;
use jiff::Timestamp;

/// UTC microseconds since 1970. The databases' own time types differ, so both keep a BIGINT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = BigInt)]
pub struct Micros(pub i64);

impl From<Timestamp> for Micros {
    fn from(instant: Timestamp) -> Self {
        Self(instant.as_microsecond())
    }
}

impl From<Micros> for Timestamp {
    /// A number outside the calendar (only a damaged row has one) is shown as its nearest end.
    fn from(micros: Micros) -> Self {
        Timestamp::from_microsecond(micros.0).unwrap_or(if micros.0 < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    }
}

impl<DB> ToSql<BigInt, DB> for Micros
where
    DB: Backend,
    i64: ToSql<BigInt, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.0.to_sql(out)
    }
}

impl<DB> FromSql<BigInt, DB> for Micros
where
    DB: Backend,
    i64: FromSql<BigInt, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        i64::from_sql(bytes).map(Self)
    }
}
