//! A table as a whole: how many rows it has, and how to pour them into the same table of another database.

use diesel::QueryResult;

use crate::store::{Conn, StoreError};

/// How many rows are written with one statement. Both databases take 32,766 values in one, and no table has more than 16 columns.
const BATCH_ROWS: usize = 1000;

/// Told of rows as they are written.
pub(in crate::store) type Written<'a> = dyn FnMut(usize) + 'a;

/// A table of the schema; [`TABLES`](crate::store::schema::TABLES) has all of them.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    pub(in crate::store) count: fn(&mut Conn) -> Result<i64, StoreError>,
    /// Copies its rows from the first database into the second, in the order of their key. Returns how many texts the second one could
    /// not keep as they were.
    pub(in crate::store) pour:
        fn(&mut Conn, &mut Conn, &mut Written<'_>) -> Result<u64, StoreError>,
}

impl Table {
    /// Counts its rows.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn rows(&self, conn: &mut Conn) -> Result<i64, StoreError> {
        (self.count)(conn)
    }
}

/// Declares a table to Diesel and, from the same words, how to copy it: no column can be known to one and not to the other.
macro_rules! table {
    ($table:ident ($($key:ident),+) { $($column:ident -> $sql:ident $(<$inner:ident>)?,)+ }) => {
        diesel::table! {
            $table ($($key),+) {
                $($column -> $sql $(<$inner>)?,)+
            }
        }

        impl $table::table {
            pub(in crate::store) const WHOLE: $crate::store::copy::Table = $crate::store::copy::Table {
                name: stringify!($table),
                count: |conn| {
                    use diesel::prelude::*;
                    Ok($table::table.count().get_result(conn)?)
                },
                pour: |from, to, written| {
                    use diesel::connection::DefaultLoadingMode;
                    use diesel::pg::PgRowByRowLoadingMode;
                    use diesel::prelude::*;
                    use $crate::store::copy::table::{in_batches, owned};
                    use $crate::store::copy::text::Value;
                    use $crate::store::{Conn, StoreError, on_each_backend};

                    type Row = ($(owned!($sql $(<$inner>)?),)+);
                    let rows = $table::table.order(($($table::$key,)+));
                    let takes_nul = matches!(to, Conn::Sqlite(_));
                    let mut changed = 0;
                    let write = |batch: &mut [Row]| -> Result<(), StoreError> {
                        if !takes_nul {
                            for ($($column,)+) in batch.iter_mut() {
                                $(changed += u64::from($column.without_nul());)+
                            }
                        }
                        let row = |($($column,)+): &'_ Row| ($($table::$column.eq($column.clone()),)+);
                        let values: Vec<_> = batch.iter().map(row).collect();
                        on_each_backend!(&mut *to, |inner| {
                            diesel::insert_into($table::table).values(values).execute(inner)?
                        });
                        written(batch.len());
                        Ok(())
                    };
                    // Row by row: a result of PostgreSQL is otherwise held in memory as a whole.
                    match from {
                        Conn::Sqlite(from) => {
                            in_batches(rows.load_iter::<Row, DefaultLoadingMode>(from)?, write)
                        }
                        Conn::Postgres(from) => {
                            in_batches(rows.load_iter::<Row, PgRowByRowLoadingMode>(from)?, write)
                        }
                    }?;
                    Ok(changed)
                },
            };
        }
    };
}

/// What a column is in memory.
macro_rules! owned {
    (Text) => { String };
    (BigInt) => { i64 };
    (Integer) => { i32 };
    (SmallInt) => { i16 };
    (Nullable<$inner:ident>) => { Option<$crate::store::copy::table::owned!($inner)> };
}

/// Says which tables there are: to Diesel, which may join any of them, and to everybody who goes through all.
macro_rules! all_tables {
    ($($table:ident),+ $(,)?) => {
        diesel::allow_tables_to_appear_in_same_query!($($table),+);

        /// All tables.
        pub const TABLES: &[$crate::store::copy::Table] = &[$($table::table::WHOLE),+];
    };
}

pub(in crate::store) use {all_tables, owned, table};

/// Hands rows on in batches, so that a table of any length takes the memory of one batch.
pub(in crate::store) fn in_batches<Row>(
    rows: impl Iterator<Item = QueryResult<Row>>,
    mut write: impl FnMut(&mut [Row]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut batch = Vec::with_capacity(BATCH_ROWS);
    for row in rows {
        batch.push(row?);
        if batch.len() == BATCH_ROWS {
            write(&mut batch)?;
            batch.clear();
        }
    }
    if batch.is_empty() { Ok(()) } else { write(&mut batch) }
}
