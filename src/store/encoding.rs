//! The encoding of a PostgreSQL database.
//!
//! Text of jobs is Unicode: what programs print, params, reasons. In a database with another encoding the first letter that this lacks
//! makes the server refuse whatever it stands in, also the end of a job, and with that all that would be recorded with it, for ever.

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::{Conn, DatabaseUrl, StoreError};

/// Encodings that take any text. SQL_ASCII is the name for bytes that nobody looks at.
const ANY_TEXT: [&str; 2] = ["UTF8", "SQL_ASCII"];

/// Refuses a database that cannot keep every text.
///
/// # Errors
/// When it is one, or cannot be asked.
pub fn check(conn: &mut Conn, url: &DatabaseUrl) -> Result<(), StoreError> {
    const ENCODING: &str = "SELECT current_setting('server_encoding') AS name";
    let Conn::Postgres(conn) = conn else { return Ok(()) };
    let Encoding { name } = diesel::sql_query(ENCODING).get_result(conn)?;
    if ANY_TEXT.contains(&name.as_str()) {
        return Ok(());
    }
    Err(StoreError::Encoding { url: url.to_string(), encoding: name })
}

#[derive(QueryableByName)]
struct Encoding {
    #[diesel(sql_type = Text)]
    name: String,
}
