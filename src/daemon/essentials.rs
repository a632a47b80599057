//! Parts that must not end on their own.
//!
//! A handler that panics costs one attempt. A part of the daemon that panics would leave a daemon that looks alive and, say, never
//! schedules again; so its end is the daemon's end, and whoever started it (systemd) starts it anew.

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Follows the parts of a daemon.
#[derive(Debug, Default)]
pub(super) struct Essentials(watch::Sender<Option<String>>);

impl Essentials {
    /// Follows a part. The handle that is returned ends with it.
    pub(super) fn follow(&self, name: &'static str, part: JoinHandle<()>) -> JoinHandle<()> {
        let broken = self.0.clone();
        tokio::spawn(async move {
            if let Err(error) = part.await
                && error.is_panic()
            {
                tracing::error!(%error, "{name} has panicked");
                broken.send_replace(Some(format!("{name} has panicked: {error}")));
            }
        })
    }

    /// Waits until a part has panicked, and says which.
    pub(super) async fn broken(&self) -> String {
        let mut broken = self.0.subscribe();
        match broken.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(what)) => what.clone(),
            // The sender is ours, so this does not happen.
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_is_named_and_one_that_ends_is_not() {
        let essentials = Essentials::default();
        essentials.follow("the quiet one", tokio::spawn(async {})).await.unwrap();
        let panicking = async { panic!("on purpose") };
        essentials.follow("the scheduler", tokio::spawn(panicking)).await.unwrap();
        let what = essentials.broken().await;
        assert!(what.contains("the scheduler") && what.contains("on purpose"), "{what}");
    }
}
