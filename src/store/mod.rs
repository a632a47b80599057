//! The only place that names diesel: connections, migrations, rows and queries, for `SQLite` and `PostgreSQL`.

pub mod schema;
