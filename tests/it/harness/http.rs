//! Speaks HTTP to a daemon: one connection a request, which is a hundred times cheaper than a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
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
    let reply = ask_socket(socket, patience, (method, path), head, body)?;
    // A document that was cut off by a kill is no answer.
    let value = serde_json::from_str(&reply.body).ok()?;
    Some((reply.status, value))
}

/// The same, with the answer as it came.
pub(crate) fn ask_socket(
    socket: &Path,
    patience: Duration,
    request: (&str, &str),
    head: &str,
    body: Option<&Value>,
) -> Option<Reply> {
    let stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    exchange(stream, request, &format!("Host: sexton\r\n{head}"), body)
}

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Its status.
    pub(crate) status: u16,
    /// The lines of its head.
    pub(crate) head: String,
    /// What followed; nothing where the answer does not end.
    pub(crate) body: String,
}

impl Reply {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Asks over TCP with these lines in the head of the request, each with its line end.
pub(crate) fn ask(
    address: SocketAddr,
    request: (&str, &str),
    head: &str,
    body: Option<&Value>,
) -> Option<Reply> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    exchange(stream, request, head, body)
}

fn exchange(
    mut stream: impl Read + Write,
    (method, path): (&str, &str),
    head: &str,
    body: Option<&Value>,
) -> Option<Reply> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nConnection: close\r\n{head}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // A request that is refused before its end is not read to its end.
    let _refused = stream.write_all(request.as_bytes());
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut body = String::new();
    if !head.to_ascii_lowercase().contains("text/event-stream") {
        let _reset = reader.read_to_string(&mut body);
    }
    Some(Reply { status, head, body })
}
