//! Results that no daemon was there to record, each in a file for the next one.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::messages::End;
use crate::jobs::RunPaths;
use crate::model::AttemptName;

const EXTENSION: &str = "ended";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    attempt: AttemptName,
    end: End,
}

/// Writes what came of an attempt, so that it is there after a power cut.
///
/// # Errors
/// What the file system says.
pub(super) fn write(paths: &RunPaths, attempt: AttemptName, end: &End) -> io::Result<()> {
    let folder = paths.running();
    std::fs::create_dir_all(&folder)?;
    let (path, draft) = (path(&folder, attempt), folder.join(format!("{attempt}.draft")));
    let mut file = File::create(&draft)?;
    file.write_all(&serde_json::to_vec(&Record { attempt, end: end.clone() })?)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    File::open(&folder)?.sync_all()
}

/// Every result that was written.
///
/// # Errors
/// When the folder cannot be read. A file that cannot be understood is left out.
pub(super) fn all(paths: &RunPaths) -> io::Result<Vec<(AttemptName, End)>> {
    let entries = match std::fs::read_dir(paths.running()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut results = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            match read(&path) {
                Ok(result) => results.push(result),
                Err(error) => tracing::warn!(
                    %error,
                    file = %path.display(),
                    "what a program came to cannot be read; its job runs again"
                ),
            }
        }
    }
    Ok(results)
}

fn read(path: &Path) -> io::Result<(AttemptName, End)> {
    let Record { attempt, end } = serde_json::from_slice(&std::fs::read(path)?)?;
    Ok((attempt, end))
}

/// Removes the result of an attempt, if there is one.
pub(super) fn remove(paths: &RunPaths, attempt: AttemptName) {
    // One that stays is offered again at the next start, and refused then.
    let _gone = std::fs::remove_file(path(&paths.running(), attempt));
}

fn path(folder: &Path, attempt: AttemptName) -> PathBuf {
    folder.join(format!("{attempt}.{EXTENSION}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::messages::Report;
    use super::*;
    use crate::jobs::{Answer, Failure, ProgressReport};
    use crate::model::{ItemEnd, ItemReport, JobId, JsonText};

    #[test]
    fn a_result_is_read_as_it_was_written_and_a_damaged_one_harms_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let paths = RunPaths::under(folder.path());
        assert_eq!(all(&paths).unwrap(), []);
        let attempt = AttemptName { job: JobId(7), number: 2 };
        let report = ProgressReport {
            percent: Some(40),
            message: "page 4".to_owned(),
            checkpoint: Some(JsonText::from(&json!({ "page": 4 }))),
        };
        let failure = Failure::answer("exited with code 3").with_exit_code(Some(3));
        let end = End {
            answer: Answer::Failed(failure.with_result(json!({ "exit_code": 3 })).for_good()),
            items: vec![ItemReport {
                position: 3,
                end: ItemEnd::Failed(Some("no such page".to_owned())),
                result: Some(JsonText::from(&json!({ "rows": [1.5, "ä"] }))),
            }],
            tail: Some("ä\n".to_owned()),
            report: Report::from(&report),
            took: std::time::Duration::from_micros(1_234_567),
            database: "seed".to_owned(),
            unread: None,
        };
        write(&paths, attempt, &end).unwrap();
        std::fs::write(paths.running().join("8-1.ended"), "{\"attempt\":").unwrap();
        std::fs::write(paths.running().join("9-1.draft"), "{}").unwrap();
        assert_eq!(all(&paths).unwrap(), [(attempt, end.clone())]);
        assert_eq!(ProgressReport::from(end.report), report);
        remove(&paths, attempt);
        assert_eq!(all(&paths).unwrap(), []);
    }

    #[test]
    fn of_a_result_that_cannot_be_read_there_is_still_that_the_attempt_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let paths = RunPaths::under(folder.path());
        let attempt = AttemptName { job: JobId(7), number: 2 };
        let deep = (0..130).fold(json!(1), |inner, _| json!([inner]));
        let report = ProgressReport {
            checkpoint: Some(JsonText::from(&json!({ "page": 4 }))),
            ..ProgressReport::default()
        };
        let end = End {
            answer: Answer::Done(json!({ "output": deep })),
            items: Vec::new(),
            tail: Some("page 4".to_owned()),
            report: Report::from(&report),
            took: std::time::Duration::from_secs(3),
            database: "seed".to_owned(),
            unread: None,
        };
        write(&paths, attempt, &end).unwrap();
        let mut found = all(&paths).unwrap();
        let (name, read) = found.pop().expect("the attempt is there");
        assert_eq!(name, attempt);
        let Answer::Failed(failure) = &read.answer else { panic!("{:?}", read.answer) };
        assert!(failure.message.contains("recursion limit exceeded"), "{}", failure.message);
        assert!(!failure.is_answer, "that is an error");
        assert!(read.unread.is_some());
        assert_eq!(read, End { answer: read.answer.clone(), unread: read.unread.clone(), ..end });
    }
}
