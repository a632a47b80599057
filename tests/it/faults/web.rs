//! A web server on a port of its own that answers well, slowly, or never.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What it does with a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Manner {
    /// Answers with this text.
    Says(&'static str),
    /// Promises a large file and gives a byte now and then.
    Trickles,
    /// Takes the request and is silent.
    Silent,
}

/// Serves until it goes out of scope.
pub(super) struct Web {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Web {
    pub(super) fn serve(manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let acceptor = std::thread::spawn(move || {
            let mut answering = Vec::new();
            for stream in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let (stream, ends) = (stream.unwrap(), Arc::clone(&ends));
                answering.push(std::thread::spawn(move || {
                    // A client that hangs up ends its answer, as it should.
                    let _hung_up = answer(stream, manner, &ends);
                }));
            }
            answering.into_iter().for_each(|thread| thread.join().unwrap());
        });
        Self { address, is_over, acceptor: Some(acceptor) }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _wakes_the_acceptor = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _panicked = acceptor.join();
        }
    }
}

fn answer(mut stream: TcpStream, manner: Manner, ends: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let length = match manner {
        Manner::Says(text) => text.len(),
        Manner::Trickles | Manner::Silent => 100 << 20,
    };
    if !matches!(manner, Manner::Silent) {
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n")?;
    }
    if request.starts_with("HEAD ") && !matches!(manner, Manner::Silent) {
        return Ok(());
    }
    match manner {
        Manner::Says(text) => stream.write_all(text.as_bytes()),
        Manner::Trickles => {
            while !ends.load(Ordering::Relaxed) {
                stream.write_all(b".")?;
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        }
        Manner::Silent => {
            while !ends.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        }
    }
}
