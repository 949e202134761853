//! A server that keeps what connections begin with, whatever that is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

/// How long whoever is expected may take to come.
const PATIENCE: Duration = Duration::from_secs(15);

/// Takes connections, and answers each with 200 once it has seen a blank line behind the signature of the
/// PROXY protocol, which holds one.
pub struct Greeted {
    address: SocketAddr,
    seen: Receiver<Vec<u8>>,
}

impl Greeted {
    /// Starts on a port of the system's choice.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (tell, seen) = sync_channel(64);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (mut all, mut block) = (Vec::new(), [0; 4096]);
                while !all.get(12..).unwrap_or_default().ends_with(b"\r\n\r\n") {
                    match stream.read(&mut block) {
                        Ok(count @ 1..) => all.extend(block.iter().take(count)),
                        _ => break,
                    }
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(answer).ok(); // who only checks has gone
                if tell.send(all).is_err() {
                    return;
                }
            }
        });
        Self { address, seen }
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what came on the next connection.
    ///
    /// # Panics
    /// If nobody comes.
    #[must_use]
    pub fn next(&self) -> Vec<u8> {
        let seen = self.seen.recv_timeout(PATIENCE);
        seen.unwrap_or_else(|_| panic!("nobody came"))
    }
}
