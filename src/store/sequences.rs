//! The numbers that tables give to their rows. They grow with every row and are never given twice, not even when the row is gone.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::{Conn, StoreError, on_each_backend};

/// The greatest number that a table has ever given, with the table's name.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub(super) struct Given {
    #[diesel(sql_type = Text)]
    pub(super) table: String,
    #[diesel(sql_type = BigInt)]
    pub(super) last: i64,
}

/// What the tables have given, those that have given any.
pub(super) fn given(conn: &mut Conn) -> Result<Vec<Given>, StoreError> {
    let query = match conn {
        Conn::Sqlite(_) => {
            "SELECT name AS \"table\", seq AS last FROM sqlite_sequence ORDER BY name"
        }
        Conn::Postgres(_) => {
            "SELECT replace(sequencename, '_id_seq', '') AS \"table\", last_value AS last FROM pg_sequences \
             WHERE schemaname = current_schema() AND last_value IS NOT NULL ORDER BY 1"
        }
    };
    Ok(on_each_backend!(conn, |inner| diesel::sql_query(query).load(inner)?))
}

/// Makes a table go on after a number, from the end of this transaction on.
pub(super) fn go_on_after(conn: &mut Conn, given: &Given) -> Result<(), StoreError> {
    let Given { table, last } = given;
    match conn {
        Conn::Sqlite(conn) => {
            diesel::sql_query("DELETE FROM sqlite_sequence WHERE name = ?")
                .bind::<Text, _>(table)
                .execute(conn)?;
            diesel::sql_query("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)")
                .bind::<Text, _>(table)
                .bind::<BigInt, _>(last)
                .execute(conn)?;
        }
        Conn::Postgres(conn) => {
            // `setval` alone would stay when the transaction is rolled back. After a restart it works on a copy that goes with it.
            diesel::sql_query(format!("ALTER TABLE {table} ALTER COLUMN id RESTART"))
                .execute(conn)?;
            diesel::sql_query("SELECT setval(pg_get_serial_sequence($1, 'id'), $2)")
                .bind::<Text, _>(table)
                .bind::<BigInt, _>(last)
                .execute(conn)?;
        }
    }
    Ok(())
}
