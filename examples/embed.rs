//! Sexton inside a program: a kind of its own, jobs of several sorts, and a clean end.
//!
//! ```console
//! $ cargo run --example embed              # in a temporary directory
//! $ cargo run --example embed var/embed    # in this one; run it twice and the numbers of the jobs go on
//! ```
//!
//! It counts the words of the documents in `docs/`: one job a document, a job that adds them up when all are counted, the same again as a
//! batch, one job for later and one that is cancelled while it runs.
#![expect(clippy::print_stdout, reason = "it shows what happens")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::SignedDuration;
use serde_json::{Value, json};
use sexton::clock::{Clock, SystemClock};
use sexton::embed::{Answer, Client, Context, Embedded, Failure, Handler, Job, Priority};

/// Counts the words of the text file that `params.path` names.
struct CountWords;

impl Handler for CountWords {
    fn run(&self, context: Context) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            // Trying again does not bring a path into the params.
            let Some(path) = context.job.params["path"].as_str() else {
                return Failure::answer("params.path names the file to count").for_good().into();
            };
            let text = match tokio::fs::read_to_string(path).await {
                Ok(text) => text,
                Err(error) => return Failure::error(format!("cannot read {path}: {error}")).into(),
            };
            let (mut words, lines) = (0, text.lines().count() as u64);
            for (line, number) in text.lines().zip(1..) {
                words += line.split_whitespace().count();
                context.progress.steps(number, lines, format!("line {number} of {lines}"));
            }
            Answer::Done(json!({ "words": words }))
        })
    }
}

/// Adds up the results of other jobs. A handler may hold what it needs; here, a client.
struct AddUp(tokio::sync::watch::Receiver<Option<Client>>);

impl AddUp {
    async fn add_up(&self, jobs: &Value) -> Result<u64, Box<dyn Error + Send + Sync>> {
        let mut client = self.0.clone();
        let client = client.wait_for(Option::is_some).await?.clone().ok_or("there is no client")?;
        let mut words = 0;
        for id in jobs.as_array().into_iter().flatten().filter_map(Value::as_i64) {
            let job = client.job(sexton::embed::JobId(id)).await?;
            words += job.result.and_then(|result| result["words"].as_u64()).unwrap_or(0);
        }
        Ok(words)
    }
}

impl Handler for AddUp {
    fn run(&self, context: Context) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            match self.add_up(&context.job.params["jobs"]).await {
                Ok(words) => Answer::Done(json!({ "words": words })),
                Err(error) => Failure::error(error.to_string()).into(),
            }
        })
    }
}

/// Does nothing until it is told to stop.
struct WaitForEver;

impl Handler for WaitForEver {
    fn run(&self, context: Context) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            context.progress.steps(1, 100, "waiting to be cancelled");
            context.stop.cancelled().await;
            Answer::Stopped { result: None }
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let directory = std::env::args_os().nth(1).map_or(temporary.path().into(), PathBuf::from);

    let (known, client) = tokio::sync::watch::channel(None);
    let sexton = Embedded::in_directory(directory)
        .kind("count_words", CountWords)
        .kind("add_up", AddUp(client))
        .kind("wait_for_ever", WaitForEver)
        .start()
        .await?;
    let client = sexton.client("example");
    known.send_replace(Some(client.clone()));

    count_and_add_up(&client).await?;
    count_as_a_batch(&client).await?;
    later_and_never(&client).await?;

    sexton.stop(Duration::from_secs(10)).await;
    println!("stopped");
    Ok(())
}

/// The documents of this repository.
fn documents() -> Result<Vec<PathBuf>, std::io::Error> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let entries: Result<Vec<_>, _> = std::fs::read_dir(folder)?.collect();
    let mut paths: Vec<PathBuf> = entries?.iter().map(std::fs::DirEntry::path).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Jobs of one call, and one that waits for all of them.
async fn count_and_add_up(client: &Client) -> Result<(), Box<dyn Error>> {
    let count = |path: &PathBuf| {
        Job::new("count_words", json!({ "path": path }))
            .priority(Priority::HIGH)
            .label("document", name(path))
            .timeout(Duration::from_secs(60))
    };
    let documents = documents()?;
    let counted = client.submit_all(documents.iter().map(count).collect()).await?;
    let all = json!({ "jobs": counted.iter().map(|id| id.0).collect::<Vec<_>>() });
    let sum = counted.iter().fold(Job::new("add_up", all), |sum, id| sum.after(*id));
    let sum = client.wait(client.submit(sum).await?).await?;
    for id in &counted {
        let job = client.job(*id).await?;
        println!("job {id}: {} {} {:?}", job.labels["document"], job.state, job.result);
    }
    println!("job {}: {} {:?}", sum.id, sum.state, sum.result);
    Ok(())
}

/// The same as one job with items.
async fn count_as_a_batch(client: &Client) -> Result<(), Box<dyn Error>> {
    let mut batch = Job::new("count_words", json!({})).priority(Priority::LOW);
    for path in documents()? {
        batch = batch.item(name(&path), json!({ "path": path }));
    }
    let id = client.submit(batch).await?;
    let mut watch = client.watch(id);
    while let Some(job) = watch.next().await? {
        match job.batch {
            Some(counts) => println!("batch {id}: {} of {} items", counts.completed, counts.total),
            None => println!("batch {id}: {} {:?}", job.state, job.result),
        }
    }
    let items = client.items(id).await?;
    let words = items.iter().filter_map(|item| item.result.as_ref()?["words"].as_u64());
    println!("batch {id}: {} words in {} items", words.sum::<u64>(), items.len());
    Ok(())
}

/// A job for another day, one that is cancelled while it runs, and one that is refused.
async fn later_and_never(client: &Client) -> Result<(), Box<dyn Error>> {
    let tomorrow = SystemClock.now() + SignedDuration::from_hours(24);
    let later = Job::new("count_words", json!({ "path": "README.md" })).run_at(tomorrow);
    let later = client.submit(later.unique("readme")).await?;
    println!("job {later}: {} until tomorrow", client.job(later).await?.state);

    let id = client.submit(Job::new("wait_for_ever", json!({}))).await?;
    let mut watch = client.watch(id);
    while let Some(job) = watch.next().await? {
        println!("job {id}: {} {}", job.state, job.message.as_deref().unwrap_or(""));
        if job.message.is_some() && !job.cancel_requested {
            client.cancel(id).await?;
        }
    }
    if let Err(error) = client.submit(Job::new("count_letters", json!({}))).await {
        println!("refused: {error}");
    }
    Ok(())
}
