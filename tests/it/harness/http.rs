//! Speaks HTTP to a daemon's socket: one connection a request, which is a hundred times cheaper than a process.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// Asks, and gives the status and the document; `None` when nobody answered to the end.
pub(crate) fn call(
    socket: &Path,
    patience: Duration,
    (method, path): (&str, &str),
    body: Option<&Value>,
) -> Option<(u16, Value)> {
    call_with(socket, patience, (method, path), "", body)
}

/// The same with more lines in the head of the request, each with its line end.
pub(crate) fn call_with(
    socket: &Path,
    patience: Duration,
    (method, path): (&str, &str),
    head: &str,
    body: Option<&Value>,
) -> Option<(u16, Value)> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: sexton\r\nConnection: close\r\n{head}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let status = std::str::from_utf8(&answer[..head]).ok()?.split(' ').nth(1)?.parse().ok()?;
    // A document that was cut off by a kill is no answer.
    let value = serde_json::from_slice(&answer[head + 4..]).ok()?;
    Some((status, value))
}
