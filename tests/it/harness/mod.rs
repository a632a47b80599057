//! What tests are made with.

pub(crate) mod daemon;
mod database;
mod dice;
pub(crate) mod http;
mod proxy;
mod queue;
pub(crate) mod standby;

pub(crate) use database::TestDatabase;
pub(crate) use dice::Dice;
pub(crate) use proxy::Proxy;
pub(crate) use queue::{Queue, at, beat, depending, ended, job, retried, soon, succeeded};

use std::future::Future;

/// Instantiates guarantees, which are `async fn(Queue)`, once for each backend.
///
/// They are named in a list and not wrapped, so that they stay ordinary functions; one that is forgotten here is dead code,
/// which the lints refuse.
macro_rules! on_both_backends {
    ($($guarantee:ident),* $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $guarantee() {
                $crate::harness::on_sqlite(super::$guarantee);
            })*
        }
        mod postgres {
            $(#[test]
            fn $guarantee() {
                $crate::harness::on_postgres(super::$guarantee);
            })*
        }
    };
}
pub(crate) use on_both_backends;

/// Runs a guarantee on a fresh SQLite file.
pub(crate) fn on_sqlite<F: Future<Output = ()>>(guarantee: impl FnOnce(Queue) -> F) {
    run(TestDatabase::sqlite(), guarantee);
}

/// Runs a guarantee on a fresh PostgreSQL database, where there is a server.
pub(crate) fn on_postgres<F: Future<Output = ()>>(guarantee: impl FnOnce(Queue) -> F) {
    if let Some(database) = TestDatabase::postgres() {
        run(database, guarantee);
    }
}

fn run<F: Future<Output = ()>>(database: TestDatabase, guarantee: impl FnOnce(Queue) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async { guarantee(Queue::open(database).await).await });
}
