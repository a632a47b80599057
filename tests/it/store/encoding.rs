//! Databases that cannot keep every text.

use sexton::model::Chain;
use sexton::store::copy::Copying;
use sexton::store::{DatabaseUrl, Purpose, Store, migrations};

use crate::harness::{TestDatabase, at};

const LATIN1: &str = "ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";

#[track_caller]
fn says_what_to_do(error: &(dyn std::error::Error + 'static)) {
    let said = Chain(error).to_string();
    for part in ["LATIN1", "ENCODING 'UTF8' TEMPLATE template0"] {
        assert!(said.contains(part), "it does not say `{part}`: {said}");
    }
}

#[track_caller]
fn has_no_tables(url: &DatabaseUrl) {
    let mut conn = url.connect(Purpose::Read).expect("a connection");
    assert!(migrations::status(&mut conn).expect("an answer").applied.is_empty());
}

#[test]
fn a_database_with_another_encoding_than_unicode_is_refused_before_anything_is_made_in_it() {
    let Some(database) = TestDatabase::postgres_made(LATIN1) else { return };
    says_what_to_do(&Store::open(database.url()).expect_err("not every text fits"));
    has_no_tables(database.url());
}

#[test]
fn nothing_is_copied_into_a_database_with_another_encoding_than_unicode() {
    let Some(target) = TestDatabase::postgres_made(LATIN1) else { return };
    let source = TestDatabase::sqlite();
    source.open().close();
    let copying = Copying::prepare(source.url(), target.url()).expect("a source");
    let refused = copying.run(("", ""), at(0), &mut |_, _| {});
    says_what_to_do(&refused.expect_err("not every text fits"));
    has_no_tables(target.url());
}

#[test]
fn a_database_whose_bytes_nobody_looks_at_is_taken() {
    let made = "ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";
    let Some(database) = TestDatabase::postgres_made(made) else { return };
    database.open().close();
}
