//! The beginning of a session with a client: who serves it, and how, is chosen by what it says first.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::ServerConnection;
use rustls::server::{AcceptedAlert, Acceptor, ClientHello, ServerConfig};

use super::invalid;

/// A fatal alert, as it is sent before anything is agreed on (RFC 8446 §6, RFC 6066 §3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// The most that is kept of what a client says first: the longest message, in records of the usual length.
/// One that is cut into more of them is not known.
const HEARD_BYTES_MAX: usize = 72 * 1024;

/// What a client is told that speaks HTTP where TLS is spoken.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 62\r\nConnection: close\r\n\r\n\
    this port is for HTTPS: write https:// in front of the address";

/// Finds out who a client wants to talk to, and how.
pub trait Choose: fmt::Debug + Send + Sync {
    /// Tells whether what clients say first is wanted as it came.
    fn is_curious(&self) -> bool {
        false
    }

    /// What is to be known later of what a client said first, with the records around it.
    fn note(&self, _records: &[u8]) -> Option<Box<str>> {
        None
    }

    /// What serves this client; nothing refuses it.
    fn choose(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>>;

    /// Takes note that a client and we have agreed.
    fn opened(&self, connection: &ServerConnection);
}

/// What a client has said so far.
pub(super) struct Hello {
    acceptor: Acceptor,
    pub(super) choose: Arc<dyn Choose>,
    /// Whether the first byte begins a method, and not TLS; nothing before it has come.
    is_plain: Option<bool>,
    /// What came, where somebody wants to know.
    heard: Option<Vec<u8>>,
}

/// Why nobody serves a client.
pub(super) struct Refusal {
    /// What it is told.
    pub(super) words: Vec<u8>,
    pub(super) error: io::Error,
}

impl Hello {
    pub(super) fn new(choose: Arc<dyn Choose>) -> Self {
        Self {
            acceptor: Acceptor::default(),
            is_plain: None,
            heard: choose.is_curious().then(Vec::new),
            choose,
        }
    }

    /// Takes a part of what came.
    pub(super) fn read(&mut self, cipher: &mut &[u8]) -> io::Result<usize> {
        let begins = cipher.first().map(u8::is_ascii_uppercase);
        self.is_plain = self.is_plain.or(begins);
        let came = *cipher;
        let read = self.acceptor.read_tls(cipher)?;
        if let Some(heard) = &mut self.heard
            && heard.len() < HEARD_BYTES_MAX
        {
            heard.extend_from_slice(came.get(..read).unwrap_or_default());
        }
        Ok(read)
    }

    /// What is to be known later of what the client has said.
    pub(super) fn note(&self) -> Option<Box<str>> {
        self.choose.note(self.heard.as_deref()?)
    }

    /// The session, once the client has said enough.
    pub(super) fn greet(&mut self) -> Result<Option<ServerConnection>, Refusal> {
        let accepted = match self.acceptor.accept() {
            Ok(None) => return Ok(None),
            Ok(Some(accepted)) => accepted,
            Err((error, _)) if self.is_plain == Some(true) => {
                return Err(Refusal {
                    words: PLAIN_HTTP.to_vec(),
                    error: invalid(error),
                });
            }
            Err((error, alert)) => return Err(refuse(error, alert)),
        };
        let Some(config) = self.choose.choose(&accepted.client_hello()) else {
            return Err(Refusal {
                words: UNRECOGNIZED_NAME.to_vec(),
                error: invalid("no site for this name"),
            });
        };
        let connection = accepted.into_connection(config);
        connection
            .map(Some)
            .map_err(|(error, alert)| refuse(error, alert))
    }
}

fn refuse(error: rustls::Error, mut alert: AcceptedAlert) -> Refusal {
    let mut words = Vec::new();
    let _fits = alert.write_all(&mut words); // memory takes all
    Refusal {
        words,
        error: invalid(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nobody;

    impl Choose for Nobody {
        fn choose(&self, _: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
            None
        }

        fn opened(&self, _: &ServerConnection) {}
    }

    /// What a client is told whose bytes come in these pieces.
    fn told(pieces: &[&[u8]]) -> Vec<u8> {
        let mut hello = Hello::new(Arc::new(Nobody));
        for piece in pieces {
            let mut piece = *piece;
            hello.read(&mut piece).unwrap();
        }
        hello.greet().err().unwrap().words
    }

    #[test]
    fn the_first_byte_alone_tells_a_method_from_tls() {
        assert_eq!(told(&[b"GET / HTTP/1.1\r\n"]), PLAIN_HTTP);
        assert_eq!(told(&[b"G", b"ET / HTTP/1.1\r\n"]), PLAIN_HTTP);
        // A message that is none, of which a piece begins as methods do.
        assert_ne!(told(&[&[22, 3, 1, 0, 4], b"ABCD"]), PLAIN_HTTP);
    }
}
