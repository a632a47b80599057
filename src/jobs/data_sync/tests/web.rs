//! From web servers.

use super::*;
use crate::jobs::RetryAdvice;
use crate::jobs::ports::http::testing::serve;

const CONTENT: &str = "0123456789";

fn is_head(request: &str) -> bool {
    request.starts_with("HEAD ")
}

fn head(status: &str, length: usize, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n")
}

/// A server with one version of one file. It knows ranges, and cuts the first `cut` whole downloads in the middle.
fn file(etag: &'static str, cut: usize) -> impl Fn(&str) -> Vec<u8> + Send + 'static {
    let cuts = std::sync::atomic::AtomicUsize::new(cut);
    move |request: &str| {
        let facts = format!("ETag: {etag}\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        let request = request.to_ascii_lowercase();
        let from = request.lines().find_map(|line| {
            line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
        });
        let is_same = request.lines().any(|line| line == format!("if-range: {etag}"));
        if let (Some(from), true) = (from, is_same) {
            let range = format!("{facts}Content-Range: bytes {from}-9/10\r\n");
            return (head("206 Partial Content", 10 - from, &range) + &CONTENT[from..]).into();
        }
        let whole = head("200 OK", CONTENT.len(), &facts);
        if request.starts_with("head ") {
            return whole.into();
        }
        let is_cut = cuts.fetch_update(
            std::sync::atomic::Ordering::SeqCst,
            std::sync::atomic::Ordering::SeqCst,
            |left| left.checked_sub(1),
        );
        (whole + if is_cut.is_ok() { &CONTENT[..4] } else { CONTENT }).into()
    }
}

fn from(url: &str) -> Value {
    json!({"from": format!("{url}/data/kb.txt?key=canary"), "mode": "copy", "allow_private": true})
}

#[tokio::test]
async fn a_file_is_fetched_once_and_then_only_asked_about() {
    for atomic in ["file", "tree"] {
        let (url, seen) = serve(file("\"v1\"", 0)).await;
        let bench = Bench::new();
        let params = || {
            let mut params = from(&url);
            params["atomic"] = atomic.into();
            params
        };
        let result = bench.done(params()).await;
        assert_eq!(bench.tree("to")["kb.txt"], CONTENT);
        assert_eq!(result["sources"][0]["etag"], "\"v1\"");
        let modified = fs::metadata(bench.path("to/kb.txt")).unwrap().modified().unwrap();
        let epoch = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(epoch.as_secs(), 784_111_777, "Last-Modified is kept");
        let again = bench.done(params()).await;
        assert_eq!(again["unchanged"], 1, "{again}");
        let gets = seen.lock().unwrap().iter().filter(|request| !is_head(request)).count();
        assert_eq!(gets, 1, "{atomic}");
        assert!(!format!("{result}{:?}", bench.context.output.summary()).contains("canary"));
    }
}

#[tokio::test]
async fn a_file_that_was_changed_at_the_destination_is_fetched_again() {
    let (url, _seen) = serve(file("\"v1\"", 0)).await;
    let bench = Bench::new();
    bench.done(from(&url)).await;
    bench.write("to/kb.txt", "tampered!!");
    assert_eq!(bench.done(from(&url)).await["transferred"]["files"], 1);
    assert_eq!(bench.tree("to")["kb.txt"], CONTENT);
}

#[tokio::test]
async fn l5_a_download_that_was_cut_goes_on_where_it_was() {
    for atomic in ["file", "tree"] {
        let (url, seen) = serve(file("\"v1\"", 1)).await;
        let bench = Bench::new();
        let mut params = from(&url);
        params["atomic"] = atomic.into();
        let failure = bench.failed(params.clone()).await;
        assert!(!failure.is_answer, "{failure:?}");
        assert!(!bench.path("to/kb.txt").exists(), "no partial file under its final name");
        let result = bench.done(params).await;
        assert_eq!(result["transferred"]["bytes"], 6, "only the rest came");
        assert_eq!(bench.tree("to")["kb.txt"], CONTENT);
        assert_eq!(bench.tree("to").len(), 1);
        assert!(seen.lock().unwrap().iter().any(|request| request.contains("bytes=4-")));
    }
}

#[tokio::test]
async fn a_download_does_not_go_on_with_another_version() {
    let (url, _seen) = serve(file("\"v1\"", 1)).await;
    let bench = Bench::new();
    bench.failed(from(&url)).await;
    let (other, _seen) = serve(file("\"v2\"", 0)).await;
    let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
    // The same URL answers with another version: what is remembered is moved over to the other server's URL.
    let state = bench.context.paths.state.join("data_sync");
    let memory = fs::read_dir(&state)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "json"))
        .unwrap();
    let hash = |url: &str| {
        let url = format!("{url}/data/kb.txt?key=canary");
        blake3::hash(url.as_bytes()).to_hex().to_string()
    };
    assert_ne!(port(&url), port(&other));
    let text = fs::read_to_string(&memory).unwrap().replace(&hash(&url), &hash(&other));
    assert!(!text.contains("canary"), "{text}");
    fs::write(&memory, text).unwrap();
    let result = bench.done(from(&other)).await;
    assert_eq!(result["transferred"]["bytes"], 10);
    assert_eq!(bench.tree("to")["kb.txt"], CONTENT);
}

#[tokio::test]
async fn an_unreadable_source_changes_nothing() {
    for (status, is_final) in [("404 Not Found", true), ("503 Busy", false)] {
        let (url, _seen) = serve(move |_| head(status, 0, "Retry-After: 7\r\n").into()).await;
        let bench = Bench::new();
        bench.write("to/own", "own");
        let mut params = from(&url);
        params["mode"] = "mirror".into();
        let failure = bench.failed(params).await;
        assert!(
            failure.is_answer && failure.message.contains("cannot read the source"),
            "{failure:?}"
        );
        let expected = if is_final {
            RetryAdvice::Never
        } else {
            RetryAdvice::After(std::time::Duration::from_secs(7))
        };
        assert_eq!(failure.retry, expected);
        assert_eq!(bench.tree("to").len(), 1);
    }
}

#[tokio::test]
async fn l1_the_inside_is_out_of_reach_unless_it_is_allowed() {
    let (url, seen) = serve(file("\"v1\"", 0)).await;
    let mut params = from(&url);
    params["allow_private"] = false.into();
    let failure = Bench::new().failed(params).await;
    assert!(failure.message.contains("loopback"), "{failure:?}");
    assert_eq!(failure.retry, RetryAdvice::Never);
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_without_etags_and_head_does_not_cause_a_change_every_time() {
    let (url, _seen) = serve(|request| {
        if is_head(request) {
            return head("405 Method Not Allowed", 0, "").into();
        }
        (head("200 OK", CONTENT.len(), "") + CONTENT).into()
    })
    .await;
    let bench = Bench::new();
    assert_eq!(bench.done(from(&url)).await["transferred"]["files"], 1);
    let before = fs::metadata(bench.path("to/kb.txt")).unwrap().modified().unwrap();
    let again = bench.done(from(&url)).await;
    assert_eq!((&again["transferred"]["files"], &again["unchanged"]), (&json!(0), &json!(1)));
    assert_eq!(fs::metadata(bench.path("to/kb.txt")).unwrap().modified().unwrap(), before);
}

#[tokio::test]
async fn l3_a_file_of_unknown_size_cannot_grow_past_max_bytes() {
    let (url, _seen) = serve(|request| {
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_owned();
        if is_head(request) { head.into() } else { (head + &"x".repeat(100_000)).into() }
    })
    .await;
    let bench = Bench::new();
    let mut params = from(&url);
    params["max_bytes"] = "10kB".into();
    let failure = bench.failed(params).await;
    assert!(failure.message.contains("max_bytes"), "{failure:?}");
    assert_eq!(failure.retry, RetryAdvice::Never);
    assert!(!bench.path("to/kb.txt").exists());
}

#[tokio::test]
async fn l5_a_body_that_ends_early_without_a_length_is_noticed() {
    let (url, _seen) = serve(|request| {
        if is_head(request) {
            return head("200 OK", 10, "").into();
        }
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0123".into()
    })
    .await;
    let bench = Bench::new();
    let failure = bench.failed(from(&url)).await;
    assert!(failure.message.contains("4 bytes came of 10"), "{failure:?}");
    assert!(!bench.path("to/kb.txt").exists());
}
