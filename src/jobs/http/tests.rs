//! The whole kind against a real socket.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::jobs::ports::http::client;
use crate::jobs::ports::http::testing::{self, Seen};
use crate::jobs::testing::context;

/// A server that gives the same answer to every request; `{echo}` in it becomes the request.
async fn serve(answer: &'static str) -> (String, Seen) {
    testing::serve(move |request| answer.replace("{echo}", request).into_bytes()).await
}

async fn run(params: Value) -> (Answer, Context) {
    let (context, _folder) = context("http", params);
    (HttpHandler::new(client()).run(context.clone()).await, context)
}

fn failure(answer: Answer) -> Failure {
    match answer {
        Answer::Failed(failure) => failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[tokio::test]
async fn a_post_arrives_whole_and_its_answer_is_the_result() {
    let (url, seen) = serve("HTTP/1.1 201 Created\r\nContent-Type: text/plain\r\nSet-Cookie: s=1\r\nConnection: close\r\n\r\nfine\x1b[31m").await;
    let params = json!({"url": url, "method": "POST", "json": {"a": 1}, "allow_private": true});
    let (answer, _context) = run(params).await;
    let Answer::Done(result) = answer else { panic!("{answer:?}") };
    assert_eq!(result["status"], 201);
    assert_eq!(result["bytes"], 9);
    assert_eq!(result["headers"], json!({"content-type": "text/plain"}));
    assert_eq!(result["body_tail"], r"fine\u{1b}[31m");
    let request = seen.lock().unwrap()[0].to_ascii_lowercase();
    assert!(request.starts_with("post / http/1.1"), "{request}");
    assert!(request.contains("idempotency-key: sexton-1\r\n"), "{request}");
    assert!(request.ends_with("{\"a\":1}"), "{request}");
}

#[tokio::test]
async fn j11_a_secret_that_the_server_echoes_is_blacked_out_everywhere() {
    let (url, seen) =
        serve("HTTP/1.1 500 Oops\r\nServer: canary-secret\r\nConnection: close\r\n\r\n{echo}")
            .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "canary-secret").unwrap();
    let params = json!({
        "url": format!("{url}/x?key=canary-secret"), "allow_private": true,
        "bearer": format!("file:{}", path.display()),
    });
    let (answer, context) = run(params).await;
    assert!(seen.lock().unwrap()[0].contains("canary-secret"), "the server did get it");
    let failure = failure(answer);
    let everything = format!("{failure:?} {:?}", context.output.summary());
    assert!(failure.result.is_some());
    assert!(!everything.contains("canary-secret"), "{everything}");
}

#[tokio::test]
async fn l1_the_inside_is_out_of_reach_unless_it_is_allowed() {
    let (url, seen) = serve("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
    let refused = failure(run(json!({ "url": url })).await.0);
    assert_eq!((refused.is_answer, refused.retry), (false, super::super::RetryAdvice::Never));
    assert!(refused.message.contains("allow_private"), "{}", refused.message);
    assert!(seen.lock().unwrap().is_empty());
    let (answer, _context) = run(json!({ "url": url, "allow_hosts": ["127.0.0.1"] })).await;
    assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
}

#[tokio::test]
async fn l2_a_redirect_to_the_inside_is_refused() {
    let (inside, seen) = serve("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
    let answer = format!("HTTP/1.1 302 Found\r\nLocation: {inside}\r\nConnection: close\r\n\r\n")
        .replace("127.0.0.1", "[::ffff:127.0.0.1]");
    let (url, _seen) = serve(answer.leak()).await;
    let failed = failure(run(json!({ "url": url, "allow_hosts": ["127.0.0.1"] })).await.0);
    assert!(failed.message.contains("loopback"), "{}", failed.message);
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn l3_an_endless_body_is_cut_at_the_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _peer) = listener.accept().await.unwrap();
        let _request = stream.read(&mut [0; 4096]).await;
        let _head = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
        while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
    });
    let params = json!({"url": url, "allow_private": true, "max_response": "10kB"});
    let (answer, _context) = run(params).await;
    let Answer::Done(result) = answer else { panic!("{answer:?}") };
    assert_eq!((&result["bytes"], &result["truncated"]), (&json!(10_000), &json!(true)));
}

#[tokio::test]
async fn a_cancelled_request_stops_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (context, _folder) = context("http", json!({"url": url, "allow_private": true}));
    let stop = context.stop.clone();
    let handler = HttpHandler::new(client());
    let running = handler.run(context);
    let cancel = async {
        let _connection = listener.accept().await.unwrap();
        stop.cancel();
        // Held open until the handler has answered.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = running => assert_eq!(answer, Answer::Stopped { result: None }),
        () = cancel => unreachable!("it never ends"),
    }
}

#[tokio::test]
async fn a_dry_run_sends_nothing() {
    let (url, seen) = serve("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
    let params = json!({"url": url, "method": "DELETE", "allow_private": true});
    let (context, _folder) = context("http", params);
    let context = context.dry_run();
    let answer = HttpHandler::new(client()).run(context.clone()).await;
    assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
    assert!(seen.lock().unwrap().is_empty());
    let printed = context.output.summary().tail.unwrap();
    assert!(
        printed.starts_with("DRY RUN — nothing will be changed\n* DELETE http://"),
        "{printed}"
    );
}
