//! Somebody who stands before an issuer: hears what is asked, and answers it or has the issuer do so.

use crate::body::Body;
use crate::head::RequestHead;
use crate::issuer;
use crate::nginx::Nginx;
use crate::pebble::Pebble;
use crate::ports;
use crate::raw::{PATIENCE, Raw};
use crate::wire::Wire;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// A front. NGINX speaks TLS for it, with the certificate of the issuer, on both sides.
///
/// It listens until it is dropped.
pub struct Front {
    port: u16,
    ca: String,
    listener: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stopped: Arc<AtomicBool>,
    _nginx: Nginx,
}

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When.
    pub at: Instant,
    /// The host that it was asked of, with its port.
    pub host: String,
    /// The path, with its query.
    pub path: String,
    /// What the signed message says; nothing where there is none.
    pub payload: String,
    method: String,
    bytes: Vec<u8>,
}

/// The way to the issuer.
#[derive(Clone, Copy)]
pub struct Through(SocketAddr);

/// What is answered.
#[derive(Clone, Debug)]
pub struct Said {
    status: u16,
    fields: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Front {
    /// Stands before an issuer; `script` answers each request.
    ///
    /// # Panics
    /// If there is no port, or no NGINX.
    #[must_use]
    pub fn before(
        issuer: &Pebble,
        script: impl Fn(&Asked, Through) -> Said + Send + 'static,
    ) -> Self {
        let inside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
        let listener = inside.local_addr().expect("a bound socket has an address");
        let port = ports::free();
        // What comes with TLS is for us, and what comes from us is for the issuer.
        let nginx = Nginx::start(&format!(
            "{} set $to http://{listener}; if ($scheme = http) {{ set $to https://{}; }}\n\
             location / {{ proxy_pass $to; proxy_set_header Host $http_host; }}",
            issuer.authority().listen(port),
            issuer.address(),
        ));
        let through = Through(nginx.address());
        let (asked, stopped) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (all, is_stopped) = (Arc::clone(&asked), Arc::clone(&stopped));
        thread::spawn(move || {
            for client in inside.incoming().flatten() {
                if is_stopped.load(SeqCst) {
                    return;
                }
                serve(client, &all, |asked| script(asked, through));
            }
        });
        Self {
            port,
            ca: issuer.ca(),
            listener,
            asked,
            stopped,
            _nginx: nginx,
        }
    }

    /// Returns a directive that names the issuer, by this way.
    #[must_use]
    pub fn issuer(&self) -> String {
        let (port, ca) = (self.port, &self.ca);
        format!("acme-issuer https://127.0.0.1:{port}/dir ca={ca}")
    }

    /// Returns what was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        let asked = self.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        TcpStream::connect(self.listener).ok(); // wakes the listener, which then sees the flag
    }
}

impl Through {
    /// Has the issuer answer.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn pass(self, asked: &Asked) -> Said {
        let mut client = Raw::connect(self.0);
        client.send(&asked.bytes).expect("NGINX reads");
        let answer = client.response(&asked.method);
        let is_ours = |name: &str| !["content-length", "connection"].contains(&name);
        let fields = answer.head.fields.0.iter();
        Said {
            status: answer.status(),
            fields: fields
                .filter(|(name, _)| is_ours(&name.to_ascii_lowercase()))
                .cloned()
                .collect(),
            body: answer.text(),
        }
    }
}

impl Said {
    /// Says this.
    #[must_use]
    pub fn new(status: u16, fields: &[(&str, &str)], body: impl Into<String>) -> Self {
        let fields = fields.iter();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            status,
            fields: fields.map(owned).collect(),
            body: body.into(),
        }
    }

    /// Says what is wrong (RFC 8555 §6.7).
    #[must_use]
    pub fn problem(status: u16, kind: &str, fields: &[(&str, &str)]) -> Self {
        let body = format!(r#"{{"type": "urn:ietf:params:acme:error:{kind}", "detail": "no"}}"#);
        let kind = ("Content-Type", "application/problem+json");
        Self::new(status, &[fields, &[kind]].concat(), body)
    }

    fn encode(&self) -> Vec<u8> {
        let length = self.body.len();
        let mut text = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.fields {
            write!(text, "{name}: {value}\r\n").expect("a text takes all");
        }
        write!(text, "Content-Length: {length}\r\n\r\n{}", self.body).expect("a text takes all");
        text.into_bytes()
    }
}

/// Answers the one request of a connection; NGINX makes one for each.
fn serve(client: TcpStream, all: &Mutex<Vec<Asked>>, script: impl Fn(&Asked) -> Said) {
    let mut wire = Wire::new(client, 0);
    let Some(asked) = read(&mut wire) else { return };
    let noted = asked.clone();
    all.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(noted);
    wire.send(&script(&asked).encode()).ok(); // or nobody waits any more
}

fn read(wire: &mut Wire) -> Option<Asked> {
    let deadline = Some(Instant::now() + PATIENCE);
    let raw = wire.read_head(deadline).ok()?;
    let head = RequestHead::parse(&raw).ok()?;
    let mut body = Body::default();
    let framing = head.framing().ok()?;
    wire.read_body(framing, &mut body, deadline).ok()?;
    let message = String::from_utf8_lossy(&body.bytes);
    Some(Asked {
        at: Instant::now(),
        host: head.fields.first("host").unwrap_or_default().to_owned(),
        path: head.target,
        payload: payload(&message),
        method: head.method,
        bytes: [raw, body.bytes.clone()].concat(),
    })
}

/// What a signed message says (RFC 7515 §7.2.2).
fn payload(message: &str) -> String {
    let text = message.split_once(r#""payload":""#);
    let text = text.and_then(|(_, rest)| rest.split('"').next());
    let bytes = issuer::from_base64url(text.unwrap_or_default());
    String::from_utf8_lossy(&bytes).into_owned()
}
