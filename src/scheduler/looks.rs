//! Looks at file systems for requirements. One that hangs (a server of network mounts that is away) must not hold up other schedules, nor use up a
//! thread each time that it is due.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::HumanDuration;

/// How long the file systems of one schedule's requirements may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The paths at which a look that was given up has not come back yet. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Looks(Arc<Mutex<HashSet<PathBuf>>>);

impl Looks {
    /// What `look` finds at `paths`, on a thread of its own; or that a file system does not answer.
    pub(super) async fn look(
        &self,
        paths: Vec<PathBuf>,
        patience: Duration,
        look: impl FnOnce() -> Option<String> + Send + 'static,
    ) -> Option<String> {
        if let Some(path) = self.first_that_hangs(&paths) {
            return Some(format!("{} has not answered since an earlier look", path.display()));
        }
        let looks = self.clone();
        let asked = paths.clone();
        // Held while the look is under way, so that its end cannot come between giving it up and noting that.
        let is_over = Arc::new(Mutex::new(false));
        let ends = Arc::clone(&is_over);
        let task = tokio::task::spawn_blocking(move || {
            let found = look();
            *ends.lock().unwrap_or_else(PoisonError::into_inner) = true;
            looks.hanging().retain(|path| !asked.contains(path));
            found
        });
        match tokio::time::timeout(patience, task).await {
            Ok(Ok(found)) => found,
            Ok(Err(_panicked)) => Some("the requirements could not be checked".to_owned()),
            Err(_elapsed) => {
                let is_over = is_over.lock().unwrap_or_else(PoisonError::into_inner);
                if !*is_over {
                    self.hanging().extend(paths);
                }
                let patience = HumanDuration(patience);
                Some(format!("a file system of the requirements has not answered for {patience}"))
            }
        }
    }

    fn first_that_hangs<'a>(&self, paths: &'a [PathBuf]) -> Option<&'a Path> {
        let hanging = self.hanging();
        paths.iter().find(|path| hanging.contains(*path)).map(PathBuf::as_path)
    }

    fn hanging(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_file_system_that_hangs_is_given_up_and_not_asked_again_until_it_answers() {
        let looks = Looks::default();
        let paths = || vec![PathBuf::from("/srv/away"), PathBuf::from("/srv/there")];
        let (comes_back, hangs) = mpsc::channel::<()>();
        let (gone, ended) = tokio::sync::oneshot::channel::<()>();
        let hanging = move || {
            hangs.recv().ok();
            drop(gone);
            None
        };
        let why = looks.look(paths(), Duration::from_millis(10), hanging).await.unwrap();
        assert_eq!(why, "a file system of the requirements has not answered for 10ms");
        let again = || panic!("it is not asked again");
        let why = looks.look(paths(), PATIENCE, again).await.unwrap();
        assert_eq!(why, "/srv/away has not answered since an earlier look");
        let other = vec![PathBuf::from("/srv/other")];
        assert_eq!(looks.look(other, PATIENCE, || None).await, None, "others are");

        drop(comes_back);
        assert!(ended.await.is_err(), "the look has come back");
        while looks.first_that_hangs(&paths()).is_some() {
            tokio::task::yield_now().await;
        }
        assert_eq!(looks.look(paths(), PATIENCE, || None).await, None);
    }
}
