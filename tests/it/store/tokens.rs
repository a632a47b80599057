//! Tokens of the API, and the rate of each.
//!
//! On PostgreSQL rates go by the database's clock, so rates here are so slow that the test's own time does not matter.

use jiff::Timestamp;
use sexton::model::{Actor, Rate, Role, TokenChange, TokenHash, TokenName, TokenSecret};
use sexton::store::tokens::{self, NewToken, Shortage, StoredToken, Toll};
use sexton::store::{Conn, Store, StoreError};

use crate::harness::{Queue, at, on_both_backends};

on_both_backends![
    j3_a_token_is_found_by_its_secret_and_counts_until_it_expires_or_is_revoked,
    a_name_means_one_token_for_ever,
    a_change_is_new_only_once_and_a_revoked_token_does_not_change,
    one_that_cannot_be_read_is_refused_and_can_be_revoked,
    the_use_of_a_token_is_noted_once_a_minute,
    nodes_share_the_rate_of_a_token_and_what_is_left_outlives_them,
    what_is_too_much_takes_nothing_and_says_when_it_is_not,
    a_raised_rate_of_a_token_counts_at_once,
];

fn name(text: &str) -> TokenName {
    text.parse().unwrap()
}

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

fn secret(byte: u8) -> TokenSecret {
    TokenSecret::of([byte; 32])
}

fn new(called: &str, byte: u8) -> NewToken {
    NewToken {
        name: name(called),
        hash: secret(byte).hash(),
        role: Role::Submit,
        rate: None,
        expires_at: None,
    }
}

async fn create(queue: &Queue, new: NewToken) -> Result<(), StoreError> {
    let by = Actor::named("operator");
    queue.store.write(move |conn| tokens::create(conn, &new, &by, at(5))).await
}

async fn find(queue: &Queue, called: &'static str) -> StoredToken {
    queue.read(move |conn| tokens::find(conn, &name(called))).await
}

async fn of_secret(queue: &Queue, text: String) -> Option<TokenName> {
    let hash = TokenHash::of(text.as_bytes());
    queue.read(move |conn| tokens::of_secret(conn, &hash)).await.map(|token| token.name)
}

async fn revoke(queue: &Queue, called: &'static str, second: i64) -> Result<bool, StoreError> {
    let by = Actor::named("operator");
    queue.store.write(move |conn| tokens::revoke(conn, &name(called), &by, at(second))).await
}

async fn charge(store: &Store, toll: Toll, count: u32) -> Result<(), Shortage> {
    let write = move |conn: &mut Conn| tokens::charge(conn, &toll, count, at(0));
    store.write_quietly(write).await.expect("the database takes it")
}

fn toll(called: &str, text: &str) -> Toll {
    Toll { token: name(called), rate: rate(text) }
}

async fn j3_a_token_is_found_by_its_secret_and_counts_until_it_expires_or_is_revoked(queue: Queue) {
    let expires_at = Some(at(100));
    create(&queue, NewToken { expires_at, ..new("ci", 1) }).await.unwrap();
    create(&queue, new("other", 2)).await.unwrap();
    let text = secret(1).reveal();
    assert_eq!(of_secret(&queue, text.clone()).await, Some(name("ci")));
    for wrong in ["", "ci", &text[..70], &text.to_uppercase(), &secret(3).reveal()] {
        assert_eq!(of_secret(&queue, wrong.to_owned()).await, None, "{wrong}");
    }
    let token = find(&queue, "ci").await;
    assert!(token.is_valid(at(99)) && !token.is_valid(at(100)));
    assert!(revoke(&queue, "ci", 50).await.unwrap());
    let token = find(&queue, "ci").await;
    assert_eq!(token.revoked, Some((at(50), "operator".to_owned())));
    assert!(!token.is_valid(at(99)));
    assert!(find(&queue, "other").await.is_valid(Timestamp::MAX));
}

async fn a_name_means_one_token_for_ever(queue: Queue) {
    create(&queue, new("ci", 1)).await.unwrap();
    assert!(revoke(&queue, "ci", 6).await.unwrap());
    assert!(!revoke(&queue, "ci", 7).await.unwrap(), "once is enough");
    let again = create(&queue, new("ci", 2)).await.unwrap_err();
    assert!(matches!(&again, StoreError::Conflict(why) if why.contains("`ci`")), "{again}");
    assert_eq!(find(&queue, "ci").await.revoked, Some((at(6), "operator".to_owned())));
    let unknown = revoke(&queue, "nobody", 7).await.unwrap_err();
    assert!(matches!(unknown, StoreError::NotFound(_)), "{unknown}");
}

async fn a_change_is_new_only_once_and_a_revoked_token_does_not_change(queue: Queue) {
    create(&queue, new("ci", 1)).await.unwrap();
    let change = async |change: TokenChange| {
        queue.store.write(move |conn| tokens::change(conn, &name("ci"), change)).await
    };
    let to_rate = TokenChange { rate: Some(Some(rate("2/m"))), ..TokenChange::default() };
    assert!(change(to_rate).await.unwrap());
    assert!(!change(to_rate).await.unwrap());
    let to_end = TokenChange {
        role: Some(Role::Read),
        expires_at: Some(Some(at(9))),
        ..TokenChange::default()
    };
    assert!(change(to_end).await.unwrap());
    let token = find(&queue, "ci").await;
    let now = (token.role, token.rate, token.expires_at);
    assert_eq!(now, (Role::Read, Some(rate("2/m")), Some(at(9))));
    let none = TokenChange { rate: Some(None), expires_at: Some(None), ..TokenChange::default() };
    assert!(change(none).await.unwrap());
    let token = find(&queue, "ci").await;
    assert_eq!((token.role, token.rate, token.expires_at), (Role::Read, None, None));
    revoke(&queue, "ci", 7).await.unwrap();
    let refused = change(to_rate).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Conflict(why) if why.contains("revoked")), "{refused}");
}

/// Another version may know more roles.
async fn one_that_cannot_be_read_is_refused_and_can_be_revoked(queue: Queue) {
    create(&queue, new("ci", 1)).await.unwrap();
    queue.database.execute("UPDATE api_tokens SET role = 'admire'");
    let hash = secret(1).hash();
    let refused = queue.store.read(move |conn| tokens::of_secret(conn, &hash)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { what: "role", .. }), "{refused}");
    assert!(revoke(&queue, "ci", 7).await.unwrap());
}

async fn the_use_of_a_token_is_noted_once_a_minute(queue: Queue) {
    create(&queue, new("ci", 1)).await.unwrap();
    for (second, noted) in [(10, 10), (69, 10), (70, 70), (3, 70)] {
        let is_new = tokens::is_use_new(&find(&queue, "ci").await, at(second));
        queue.write(move |conn| tokens::note_use(conn, &name("ci"), at(second))).await;
        let after = find(&queue, "ci").await.last_used_at;
        assert_eq!((is_new, after), (second == noted, Some(at(noted))), "{second}");
    }
}

async fn nodes_share_the_rate_of_a_token_and_what_is_left_outlives_them(queue: Queue) {
    for (called, byte) in [("ci", 1), ("cd", 2)] {
        create(&queue, new(called, byte)).await.unwrap();
    }
    let (other, _) = queue.another_node().await;
    let ci = || toll("ci", "1/h burst 5");
    let mut taken = 0;
    for _ in 0..4 {
        let both = tokio::join!(charge(&queue.store, ci(), 1), charge(&other, ci(), 1));
        taken += [both.0, both.1].iter().filter(|came| came.is_ok()).count();
    }
    assert_eq!(taken, 5);
    other.close();
    let queue = queue.reopen().await;
    assert!(charge(&queue.store, ci(), 1).await.is_err());
    assert_eq!(charge(&queue.store, toll("cd", "1/h burst 5"), 5).await, Ok(()), "its own");
}

async fn what_is_too_much_takes_nothing_and_says_when_it_is_not(queue: Queue) {
    create(&queue, new("ci", 1)).await.unwrap();
    let ci = || toll("ci", "1/h burst 10");
    assert_eq!(charge(&queue.store, ci(), 11).await, Err(Shortage::Ever));
    assert_eq!(charge(&queue.store, ci(), 8).await, Ok(()));
    let Err(Shortage::For(wait)) = charge(&queue.store, ci(), 5).await else {
        panic!("two are left")
    };
    assert!((3 * 3600 - 60..=3 * 3600).contains(&wait.as_secs()), "{wait}");
    assert_eq!(charge(&queue.store, ci(), 2).await, Ok(()), "nothing was taken of them");
}

async fn a_raised_rate_of_a_token_counts_at_once(queue: Queue) {
    create(&queue, new("ci", 1)).await.unwrap();
    assert_eq!(charge(&queue.store, toll("ci", "1/h burst 10"), 10).await, Ok(()));
    let Err(Shortage::For(wait)) = charge(&queue.store, toll("ci", "1/m burst 10"), 1).await else {
        panic!("none is left")
    };
    assert!(wait.as_secs() <= 60, "{wait}");
    // As if that much time had passed.
    queue.database.execute("UPDATE rate_buckets SET full_at = full_at - 61000000");
    assert_eq!(charge(&queue.store, toll("ci", "1/m burst 10"), 1).await, Ok(()));
}
