//! First messages that no usual client sends, and many of them at once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::tls::{curl, pair};
use plimsoll_e2e::wait;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn start(own: &Authority) -> Plimsoll {
    start_with(own, "")
}

fn start_with(own: &Authority, more: &str) -> Plimsoll {
    Start::run(&format!(
        "workers 1\nadmin 127.0.0.1:{{port:admin}}\n\
         site a.example {{ listen 127.0.0.1:{{port}} ; {} ; {more}\nroute {{ respond 200 here }} }}\n",
        pair(own)
    ))
    .start()
}

fn vector(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap();
    [&len.to_be_bytes()[..], bytes].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(content)].concat()
}

/// The extension that says which names are wanted.
fn names(names: &[&str]) -> Vec<u8> {
    let entries = names
        .iter()
        .map(|name| [&[0][..], &vector(name.as_bytes())].concat());
    extension(0, &vector(&entries.collect::<Vec<_>>().concat()))
}

/// A first message of TLS 1.3 with these extensions beside those that it needs, without records.
fn message(more: &[Vec<u8>]) -> Vec<u8> {
    let share = [&[0, 0x1d][..], &vector(&[9; 32])].concat();
    let needed = [
        extension(0x2b, &[2, 3, 4]),
        extension(0x0a, &vector(&[0, 0x1d])),
        extension(0x0d, &vector(&[4, 3])),
        extension(0x33, &vector(&share)),
    ];
    let extensions = [more, &needed].concat().concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &vector(&[0x13, 1, 0x13, 3]),
        &[1, 0],
        &vector(&extensions),
    ]
    .concat();
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1][..], &len[1..], &body].concat()
}

/// The message in records of at most so many bytes.
fn records(message: &[u8], most: usize) -> Vec<u8> {
    let parts = message.chunks(most);
    let records = parts.map(|part| [&[22, 3, 1][..], &vector(part)].concat());
    records.collect::<Vec<_>>().concat()
}

/// How a client is answered.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// With a first message of the server.
    Hello,
    /// With an alert of this number.
    Alert(u8),
    /// With the end of the connection.
    End,
}

fn answer(plimsoll: &Plimsoll, bytes: &[u8], piece: usize) -> Answer {
    let mut stream = TcpStream::connect(plimsoll.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    for piece in bytes.chunks(piece) {
        if stream.write_all(piece).is_err() {
            break; // it was refused before the end
        }
    }
    let mut head = [0; 7];
    match stream.read_exact(&mut head) {
        Ok(()) if head[0] == 22 && head[5] == 2 => Answer::Hello,
        Ok(()) if head[0] == 21 => Answer::Alert(head[6]),
        Ok(()) => unreachable!("{head:?}"),
        Err(error) => {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "no answer");
            Answer::End
        }
    }
}

#[test]
fn strange_first_messages_are_answered_or_refused_and_others_served() {
    let own = Authority::make("DNS:a.example");
    let plimsoll = start(&own);
    let name = || names(&["a.example"]);
    // What an outer message of ECH looks like, of a client that has no key for it (RFC 9849 §6.2).
    let grease = [
        &[0, 0, 1, 0, 1, 42][..],
        &vector(&[5; 32]),
        &vector(&[6; 144]),
    ]
    .concat();
    for (what, more, expected) in [
        ("a name", vec![name()], Answer::Hello),
        ("none", vec![], Answer::Hello),
        (
            "another name",
            vec![names(&["b.example"])],
            Answer::Alert(112),
        ),
        (
            "two names",
            vec![names(&["a.example", "b.example"])],
            Answer::Alert(50),
        ),
        ("a name twice", vec![name(), name()], Answer::Alert(50)),
        ("an address", vec![names(&["127.0.0.1"])], Answer::Hello),
        (
            "a dot at its end",
            vec![names(&["a.example."])],
            Answer::Hello,
        ),
        (
            "what no name has",
            vec![names(&["a\0.example"])],
            Answer::Alert(47),
        ),
        ("an empty name", vec![names(&[""])], Answer::Alert(50)),
        (
            "ECH that is none",
            vec![name(), extension(0xfe0d, &grease)],
            Answer::Hello,
        ),
        (
            "GREASE",
            vec![name(), extension(0x4a4a, b"x")],
            Answer::Hello,
        ),
    ] {
        let message = message(&more);
        for (record, piece) in [(16_384, 65_536), (1, 65_536), (16_384, 1), (1, 1), (7, 5)] {
            let got = answer(&plimsoll, &records(&message, record), piece);
            assert_eq!(got, expected, "{what} {record} {piece}");
        }
    }
    let got = curl(&plimsoll, &own, "https://a.example/", &[]);
    assert_eq!(got.as_deref(), Some("here 200"));
}

#[test]
fn long_first_messages_have_a_bound() {
    let own = Authority::make("DNS:a.example");
    let plimsoll = start(&own);
    let of = |padding: usize| {
        let padding = extension(21, &vec![0; padding]);
        let message = message(&[names(&["a.example"]), padding]);
        answer(&plimsoll, &records(&message, 16_384), 65_536)
    };
    // The last one fills the longest message that there is.
    for padding in [1000, 16_000, 60_000, 65_300] {
        assert_eq!(of(padding), Answer::Hello, "{padding}");
    }
    let endless = [&[1, 16, 0, 0][..], &[0; 200_000]].concat();
    // The rest of it, which nobody reads, may take the alert away.
    let refused = answer(&plimsoll, &records(&endless, 16_384), 65_536);
    assert_ne!(refused, Answer::Hello);
    let got = curl(&plimsoll, &own, "https://a.example/", &[]);
    assert_eq!(got.as_deref(), Some("here 200"));
}

/// A client of the library with which each handshake is a whole one.
struct Client(Arc<ClientConfig>);

type Session = StreamOwned<ClientConnection, TcpStream>;

impl Client {
    fn of(own: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        let trusted = CertificateDer::from_pem_file(own.trusted()).unwrap();
        roots.add(trusted).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots);
        let mut config = config.with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Self(Arc::new(config))
    }

    fn open(&self, plimsoll: &Plimsoll) -> Session {
        let session = ClientConnection::new(Arc::clone(&self.0), "a.example".try_into().unwrap());
        let stream = TcpStream::connect(plimsoll.address()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        StreamOwned::new(session.unwrap(), stream)
    }
}

fn ask(stream: &mut Session) {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"here") {
        let mut part = [0; 1024];
        let read = stream.read(&mut part).unwrap();
        assert_ne!(read, 0, "the connection has ended");
        answer.extend_from_slice(part.get(..read).unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
}

/// S-155: a worker has one thread, so handshakes and requests take turns: who is connected is answered
/// while others begin, however many they are.
#[test]
fn who_is_connected_is_answered_while_many_begin() {
    const BEGIN: u32 = 300;
    let own = Authority::make("DNS:a.example");
    let plimsoll = start(&own);
    let client = Client::of(&own);
    let mut connected = client.open(&plimsoll);
    ask(&mut connected);
    let (begun, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    let mut between = 0;
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    let mut stream = client.open(&plimsoll);
                    while stream.conn.is_handshaking() {
                        stream.conn.complete_io(&mut stream.sock).unwrap();
                    }
                    begun.fetch_add(1, Relaxed);
                }
            });
        }
        while begun.load(Relaxed) < BEGIN {
            ask(&mut connected);
            between += 1;
        }
        is_over.store(true, Relaxed);
    });
    // As many waited at any time as there were threads: turns are taken one by one, so the requests were
    // not kept back until all had begun.
    assert!(
        between * 16 > BEGIN,
        "{between} answers while {BEGIN} began"
    );
}

/// Has this many clients greet while nobody listens, so that all of them wait at once when Plimsoll goes on.
fn greet_at_once(plimsoll: &mut Plimsoll, count: usize) -> Vec<TcpStream> {
    let hello = records(&message(&[names(&["a.example"])]), 16_384);
    plimsoll.signal(Signal::STOP);
    let greet = |_| {
        let mut stream = TcpStream::connect(plimsoll.address()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(&hello).unwrap();
        stream
    };
    let waiting = (0..count).map(greet).collect();
    plimsoll.signal(Signal::CONT);
    waiting
}

/// S-155: the next handshake goes on only when whoever is connected has had his turn.
#[test]
fn who_is_connected_does_not_wait_for_all_who_have_greeted() {
    const GREET: usize = 400;
    let own = Authority::make_slow("DNS:a.example");
    let mut plimsoll = start(&own);
    let mut connected = Client::of(&own).open(&plimsoll);
    ask(&mut connected);
    let waiting = greet_at_once(&mut plimsoll, GREET);
    for _ in 0..5 {
        ask(&mut connected);
    }
    let is_answered = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        stream.peek(&mut [0]).is_ok()
    };
    let answered = waiting.iter().filter(is_answered).count();
    // There are one handshake or two between any two requests, and more while this test has no processor.
    assert!(answered < GREET, "all were answered first");
}

/// S-155: who waits for his turn does so under the deadline that began when he came.
#[test]
fn a_handshake_that_comes_to_its_turn_too_late_is_closed_and_counted() {
    const GREET: usize = 400;
    const HEADER: Duration = Duration::from_millis(500);
    let own = Authority::make_slow("DNS:a.example");
    let mut plimsoll = start_with(&own, "timeout header=500ms");
    let waiting = greet_at_once(&mut plimsoll, GREET);
    let is_answered = |mut stream: &TcpStream| {
        let read = stream.read(&mut [0; 5]);
        read.is_ok_and(|read| read > 0)
    };
    assert!(is_answered(&waiting[0]));
    plimsoll.signal(Signal::STOP);
    thread::sleep(HEADER * 2);
    plimsoll.signal(Signal::CONT);
    let answered = 1 + waiting[1..].iter().filter(|one| is_answered(one)).count();
    assert!((1..GREET).contains(&answered), "{answered}");
    let address = plimsoll.address();
    let late = format!("plimsoll_tls_handshakes_late_total{{listener=\"{address}\"}}");
    let due = u32::try_from(GREET - answered).unwrap();
    wait::expect("a count", SOON, || {
        plimsoll.metric(&late) == Some(f64::from(due))
    });
    wait::expect("an empty line", SOON, || {
        plimsoll.metric("plimsoll_tls_handshakes_waiting") == Some(0.0)
    });
}
