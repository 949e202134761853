//! Somebody who sits between two ends, and passes on what he likes of what they say.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

/// The kind of a record with an alert (RFC 5246 §6.2.1).
const ALERT: u8 = 21;

/// How long one is in TLS 1.3, which hides the kind: two bytes, their kind and a tag.
const ALERT_BYTES: usize = 2 + 1 + 16;

/// Passes everything on but the alerts of a server with TLS: who closes does not say so.
///
/// It listens until the test ends.
pub struct NoGoodbye {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl NoGoodbye {
    /// Sits before `server`.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let stopped = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stopped);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_stopped.load(SeqCst) {
                    return;
                }
                if let Ok(server) = TcpStream::connect(server) {
                    join(client, server);
                }
            }
        });
        Self { address, stopped }
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for NoGoodbye {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        TcpStream::connect(self.address).ok(); // wakes the listener, which then sees the flag
    }
}

fn join(client: TcpStream, server: TcpStream) {
    let (Ok(mut from), Ok(mut to)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    thread::spawn(move || {
        std::io::copy(&mut from, &mut to).ok(); // it ends when either end does
        to.shutdown(Shutdown::Write).ok();
    });
    thread::spawn(move || {
        let (mut server, mut client) = (server, client);
        while let Some(record) = record(&mut server) {
            let is_alert = record.first() == Some(&ALERT) || record.len() == 5 + ALERT_BYTES;
            if !is_alert && client.write_all(&record).is_err() {
                break;
            }
        }
        client.shutdown(Shutdown::Both).ok();
    });
}

/// The next record of TLS, with its head of five bytes.
fn record(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).ok()?;
    let [_, _, _, high, low] = head;
    let mut record = head.to_vec();
    record.resize(5 + usize::from(u16::from_be_bytes([high, low])), 0);
    stream.read_exact(record.get_mut(5..)?).ok()?;
    Some(record)
}
