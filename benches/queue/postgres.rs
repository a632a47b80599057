//! A database of its own on the server of `SEXTON_TEST_POSTGRES_URL`. It goes with the server.

use diesel::Connection;
use diesel::connection::SimpleConnection;
use sexton::store::DatabaseUrl;

pub(crate) fn fresh() -> DatabaseUrl {
    let server =
        std::env::var("SEXTON_TEST_POSTGRES_URL").expect("SEXTON_TEST_POSTGRES_URL names a server");
    let name = format!("sexton_bench_{}", uuid::Uuid::new_v4().simple());
    let mut conn = diesel::PgConnection::establish(&server).expect("the server answers");
    conn.batch_execute(&format!("CREATE DATABASE {name}")).expect("a fresh database");
    let (place, options) = server.split_once('?').unwrap_or((&server, ""));
    let (host, _database) = place.rsplit_once('/').expect("a URL with a database");
    format!("{host}/{name}?{options}").parse().expect("a URL")
}
