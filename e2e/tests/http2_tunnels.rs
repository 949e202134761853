//! WebSocket where one side or both speak HTTP/2 (RFC 8441), and connections for more than one site.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::frame::{Frame, code, setting};
use plimsoll_e2e::h2raw::{End, Peer, field};
use plimsoll_e2e::h2server::H2Server;
use plimsoll_e2e::hpack;
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{PATIENCE, Raw};
use plimsoll_e2e::recorder::{Recorder, Request};
use plimsoll_e2e::script::{Answer, Step};
use plimsoll_e2e::wait;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

const CONNECTS: (u16, u32) = (setting::ENABLE_CONNECT_PROTOCOL, 1);

fn before(server: SocketAddr, pool: &str) -> Plimsoll {
    let text = format!(
        "workers 1\nadmin off\nsite * {{ listen 127.0.0.1:{{port}}; log {{dir}}/access.log; timeout tunnel=5s\n\
         route /local {{ respond 200 local }}\nroute {{ proxy app }} }}\npool app {{ server {server}; {pool} }}\n"
    );
    Start::run(&text).start()
}

/// Asks for WebSocket.
fn open(peer: &mut Peer, path: &str, more: &[(&str, &str)]) -> u32 {
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "test"),
        (":path", path),
    ];
    let stream = peer.open();
    let block = hpack::block(&[&fields, more].concat());
    peer.send(&Frame::headers(stream, block)).unwrap();
    stream
}

const VERSION: (&str, &str) = ("sec-websocket-version", "13");

/// What a server of HTTP/1.1 answers to this key, found out by OpenSSL.
fn accept(key: &str) -> String {
    let script = format!(
        "printf %s {key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11 | openssl dgst -sha1 -binary | openssl base64"
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn switch(request: &Request) -> Answer {
    let key = request
        .head
        .fields
        .first("sec-websocket-key")
        .unwrap_or_default();
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello",
        accept(key)
    );
    Answer(vec![Step::Send(head.into()), Step::Hold])
}

#[test]
fn from_http_2_to_http_1() {
    let server = Recorder::start(switch);
    let plimsoll = before(server.address(), "");
    let mut peer = Peer::connect(plimsoll.address());
    assert!(peer.wait(PATIENCE, |peer| {
        peer.settings.contains_key(&setting::MAX_CONCURRENT_STREAMS)
    }));
    assert_eq!(
        peer.settings.get(&setting::ENABLE_CONNECT_PROTOCOL),
        Some(&1)
    );
    let stream = open(
        &mut peer,
        "/chat",
        &[
            VERSION,
            ("sec-websocket-protocol", "chat"),
            ("origin", "http://test"),
        ],
    );
    assert!(peer.wait(PATIENCE, |peer| {
        peer.messages
            .get(&stream)
            .is_some_and(|m| m.body == b"hello")
    }));
    let message = &peer.messages[&stream];
    assert_eq!((message.status(), message.end), (200, None));
    assert_eq!(
        message.field("sec-websocket-protocol").as_deref(),
        Some("chat")
    );
    for none in ["sec-websocket-accept", "upgrade", "connection"] {
        assert_eq!(message.field(none), None, "{none}");
    }
    assert!(peer.send_body(stream, b"from the client", false));
    let came = || {
        server.connections()[0]
            .received
            .ends_with(b"\r\n\r\nfrom the client")
    };
    wait::expect("what the client says", PATIENCE, came);
    let head = server.requests().remove(0).head;
    assert_eq!((&*head.method, &*head.target), ("GET", "/chat"));
    assert!(
        head.fields.lists("connection", "upgrade") && head.fields.lists("upgrade", "websocket")
    );
    assert_eq!(head.fields.all("sec-websocket-key").count(), 1);
    // Other streams of the connection live on, and so does it when the tunnel ends.
    let other = peer.get("/local");
    assert_eq!(peer.message(other).text(), "local");
    peer.send(&Frame::reset(stream, code::CANCEL)).unwrap();
    wait::expect("the end at the server", PATIENCE, || server.open() == 0);
    let other = peer.get("/local");
    assert_eq!(peer.message(other).text(), "local");
}

/// S-47: a success that is none is not told as one: its client would speak WebSocket with nobody.
#[test]
fn servers_that_do_not_switch() {
    let answers = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Some(502)),
        ("HTTP/1.1 204 No Content\r\n\r\n", Some(502)),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
            Some(403),
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n",
            Some(502),
        ),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Some(502)),
    ];
    for (answer, status) in answers {
        let server = Recorder::start(move |_| Answer::bytes(answer));
        let plimsoll = before(server.address(), "");
        let mut peer = Peer::connect(plimsoll.address());
        let stream = open(&mut peer, "/chat", &[VERSION]);
        assert!(peer.wait(PATIENCE, |peer| peer.messages.contains_key(&stream)));
        assert_eq!(Some(peer.messages[&stream].status()), status, "{answer}");
        let plain = peer.get("/local");
        assert_eq!(peer.message(plain).text(), "local");
    }
    // A server of HTTP/2 that does not offer it gets no tunnel, and we neither.
    let server = H2Server::answering(|_| (200, b"ok".to_vec()));
    let plimsoll = before(server.address(), "http 2");
    let mut peer = Peer::connect(plimsoll.address());
    let stream = open(&mut peer, "/chat", &[VERSION]);
    assert!(peer.wait(PATIENCE, |peer| peer.messages.contains_key(&stream)));
    assert_eq!(peer.messages[&stream].status(), 502);
    assert!(
        server
            .heads()
            .iter()
            .all(|(_, head)| field(head, ":protocol").is_none())
    );
    // What we answer ourselves is no success either; one of another version is malformed.
    let stream = open(&mut peer, "/local", &[VERSION]);
    assert!(
        matches!(peer.end(stream), End::Reset(_)),
        "{:?}",
        peer.messages.get(&stream)
    );
    for version in [&[][..], &[("sec-websocket-version", "12")]] {
        let stream = open(&mut peer, "/chat", version);
        assert_eq!(
            peer.end(stream),
            End::Reset(code::PROTOCOL_ERROR),
            "{version:?}"
        );
    }
}

/// A server of HTTP/2 that takes WebSocket, and sends back what it hears.
fn echo() -> H2Server {
    H2Server::start(&[CONNECTS], |peer, _| {
        while let Some(stream) = peer.next_request() {
            peer.send(&Frame::headers(
                stream,
                hpack::block(&[(":status", "200"), ("sec-websocket-protocol", "chat")]),
            ))
            .ok();
            let mut said = 0;
            while peer.messages[&stream].end.is_none() {
                let body = peer.messages[&stream].body[said..].to_vec();
                said += body.len();
                if !body.is_empty() {
                    peer.send_body(stream, &body, false);
                } else if !peer.step(None) {
                    return;
                }
            }
            peer.send(&Frame::data(stream, "").ending()).ok();
        }
    })
}

#[test]
fn from_http_2_to_http_2() {
    let server = echo();
    let plimsoll = before(server.address(), "http 2");
    let mut peer = Peer::connect(plimsoll.address());
    let stream = open(&mut peer, "/chat", &[VERSION]);
    assert!(peer.send_body(stream, b"one", false));
    assert!(peer.wait(PATIENCE, |peer| {
        peer.messages.get(&stream).is_some_and(|m| m.body == b"one")
    }));
    let long = b"x".repeat(500_000);
    for piece in long.chunks(100_000) {
        assert!(peer.send_body(stream, piece, false));
    }
    assert!(peer.wait(PATIENCE, |peer| peer.messages[&stream].length == 500_003));
    peer.send(&Frame::data(stream, "").ending()).unwrap();
    assert_eq!(peer.end(stream), End::Complete);
    let (_, head) = server.heads().remove(0);
    for (name, value) in [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":path", "/chat"),
        (":authority", "test"),
    ] {
        assert_eq!(field(&head, name).as_deref(), Some(value));
    }
    assert_eq!(field(&head, "sec-websocket-key"), None);
}

#[test]
fn from_http_1_to_http_2() {
    let server = echo();
    let plimsoll = before(server.address(), "http 2");
    let mut raw = Raw::connect(plimsoll.address());
    raw.send(
        "GET /chat HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .unwrap();
    let head = raw.read_at_least(50, PATIENCE).unwrap();
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(
        head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
        "{head}"
    );
    raw.send("ping").unwrap();
    assert_eq!(raw.read_at_least(4, PATIENCE).unwrap(), b"ping");
    raw.finish();
    assert_eq!(
        raw.read_to_close(PATIENCE).close,
        plimsoll_e2e::wire::Close::Fin
    );
}

/// A connection over TLS for this name, without it at this end: OpenSSL is in between.
fn over_tls(server: SocketAddr, name: &str) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = Command::new("openssl");
    command.args([
        "s_client",
        "-quiet",
        "-alpn",
        "h2",
        "-servername",
        name,
        "-connect",
        &server.to_string(),
    ]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    thread::spawn(move || {
        let (near, _) = listener.accept().unwrap();
        let mut child = command.spawn().unwrap();
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (mut from, mut to) = (near.try_clone().unwrap(), near);
        let up = thread::spawn(move || {
            let mut block = [0; 16_384];
            while let Ok(read @ 1..) = std::io::Read::read(&mut from, &mut block) {
                if input
                    .write_all(&block[..read])
                    .and_then(|()| input.flush())
                    .is_err()
                {
                    break;
                }
            }
        });
        std::io::copy(&mut output, &mut to).ok(); // it ends when either end does
        to.shutdown(std::net::Shutdown::Both).ok();
        up.join().ok();
        child.kill().ok(); // it does not end with its input
        child.wait().ok();
    });
    TcpStream::connect(address).unwrap()
}

/// R-93, RFC 9110 §7.4: a connection is for the sites whose certificate it was opened with.
#[test]
fn a_site_with_another_certificate_is_misdirected() {
    let (a, b) = (
        Authority::make("DNS:a.example,DNS:c.example"),
        Authority::make("DNS:b.example"),
    );
    let site = |name: &str, of: &Authority| {
        format!(
            "site {name} {{ listen 127.0.0.1:{{port}}; tls {} {}; route {{ respond 200 {name} }} }}\n",
            of.certificate(),
            of.key()
        )
    };
    let text = format!(
        "admin off\n{}{}{}",
        site("a.example", &a),
        site("c.example", &a),
        site("b.example", &b)
    );
    let plimsoll = Start::run(&text).start();
    let mut peer = Peer::client(over_tls(plimsoll.address(), "a.example"), &[]);
    for (host, status) in [
        ("a.example", 200),
        ("b.example", 421),
        ("c.example", 200),
        ("d.example", 404),
        ("a.example", 200),
    ] {
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", host),
            (":path", "/"),
        ];
        let stream = peer.ask(hpack::block(&fields));
        let message = peer.message(stream);
        assert_eq!(message.status(), status, "{host}");
        if status == 200 {
            assert_eq!(message.text(), host);
        }
    }
    // Many at once, as in clear.
    let streams: Vec<_> = (0..50)
        .map(|_| {
            let fields = [
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "a.example"),
                (":path", "/"),
            ];
            peer.ask(hpack::block(&fields))
        })
        .collect();
    for stream in streams {
        assert_eq!(peer.message(stream).text(), "a.example");
    }
}

/// `http 2` with `tls`: two of Plimsoll, one behind the other, with a body larger than all windows.
#[test]
fn servers_of_http_2_over_tls() {
    let authority = Authority::make("DNS:a.example");
    let server = H2Server::answering(|request| (200, request.body.clone()));
    let text = format!(
        "admin off\nsite a.example {{ listen 127.0.0.1:{{port}}; tls {} {}; route {{ proxy app }} }}\n\
         pool app {{ server {}; http 2 }}\n",
        authority.certificate(),
        authority.key(),
        server.address()
    );
    let inner = Start::run(&text).start();
    let text = format!(
        "workers 1\nadmin off\nsite * {{ listen 127.0.0.1:{{port}}; route {{ request-header set Host a.example; proxy app }} }}\n\
         pool app {{ server {}; http 2; tls sni=a.example ca={} }}\n",
        inner.address(),
        authority.trusted()
    );
    let plimsoll = Start::run(&text).start();
    let body: Vec<u8> = (0..1_500_000).map(|at| (at % 253) as u8).collect();
    let mut peer = Peer::connect(plimsoll.address());
    for _ in 0..3 {
        let stream = peer.begin("POST", "/", &[]);
        assert!(peer.send_body(stream, &body, true));
        let message = peer.message(stream);
        assert!(
            message.status() == 200 && message.body == body,
            "{} {}",
            message.status(),
            message.length
        );
    }
}
