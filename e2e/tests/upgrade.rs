//! Connections that leave HTTP: for WebSocket, or for another protocol that a client asks for.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::{Close, Wire};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

const WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A server that answers each head with the same bytes, and echoes after an answer that switches
/// protocols.
struct Server {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    /// Connections that have not ended.
    open: Arc<AtomicUsize>,
}

impl Server {
    fn start(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let this = Self {
            address: listener.local_addr().unwrap(),
            heads: Arc::clone(&heads),
            open: Arc::default(),
        };
        let open = Arc::clone(&this.open);
        let answer = answer.to_owned();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (heads, answer) = (Arc::clone(&heads), answer.clone());
                let open = Arc::clone(&open);
                open.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    serve(stream.unwrap(), &heads, &answer);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        this
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, heads: &Mutex<Vec<String>>, answer: &str) {
    let mut wire = Wire::new(stream, 0);
    loop {
        let Ok(head) = wire.read_head(Some(Instant::now() + SOON)) else {
            return;
        };
        let head = String::from_utf8(head).unwrap();
        heads.lock().unwrap().push(head);
        wire.send(answer.as_bytes()).unwrap();
        if answer.starts_with("HTTP/1.1 101") {
            break;
        }
    }
    let early = wire.take_pending();
    let mut stream = wire.stream().try_clone().unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let _sent = stream.write_all(&early);
    let mut piece = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut piece) {
        if stream.write_all(piece.get(..read).unwrap()).is_err() {
            return;
        }
    }
    let _open = stream.write_all(b"bye");
    let _open = stream.shutdown(Shutdown::Write);
}

fn start(server: &Server, more: &str) -> Plimsoll {
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\nsite * {{ listen 127.0.0.1:{{port}}; log {{dir}}/access.log; {more}\n\
         route {{ proxy app }} }}\npool app {{ server {{server}} }}\n"
    );
    Start::run(&text).set("server", server.address).start()
}

/// All up to the end of the head that comes.
fn head(client: &mut Raw) -> String {
    let response = client.try_response("HEAD").unwrap();
    String::from_utf8(response.raw_head).unwrap()
}

#[test]
fn what_both_ends_say_passes_through_to_the_last_byte() {
    let server = Server::start(SWITCHED);
    let plimsoll = start(&server, "");
    let mut client = Raw::connect(plimsoll.address());
    client.send(format!("{WEBSOCKET}early")).unwrap();
    let mut text = String::new();
    while !text.ends_with("early") {
        let bytes = client.read_at_least(1, SOON).unwrap();
        text.push_str(&String::from_utf8(bytes).unwrap());
    }
    let (head, said) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for line in [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ] {
        assert!(head.lines().any(|l| l == line), "{line} in {head}");
    }
    let mut got = said.to_owned();
    client.send("later").unwrap();
    client.finish();
    let rest = client.read_to_close(SOON);
    assert_eq!(rest.close, Close::Fin);
    got.push_str(&String::from_utf8(rest.bytes).unwrap());
    assert_eq!(got, "earlylaterbye");
    let asked = server.heads().remove(0);
    for line in ["Connection: Upgrade", "Upgrade: websocket"] {
        assert_eq!(asked.lines().filter(|l| *l == line).count(), 1, "{asked}");
    }
    let log = plimsoll.wait_log("access.log", 1, SOON).remove(0);
    let fields = "\"status\":101,\"req_bytes\":10,\"res_bytes\":13,";
    assert!(log.contains(fields), "{log}");
}

#[test]
fn megabytes_pass_both_ways_at_once() {
    let server = Server::start(SWITCHED);
    let plimsoll = start(&server, "");
    let mut client = Raw::connect(plimsoll.address());
    client.send(WEBSOCKET).unwrap();
    let first = client.read_at_least(1, SOON).unwrap();
    let piece: Vec<u8> = (0..=255).cycle().take(1024 * 1024).collect();
    let mut sender = client.try_clone().unwrap();
    let sent = piece.clone();
    let sending = thread::spawn(move || {
        for _ in 0..20 {
            sender.send(&sent).unwrap();
        }
        sender.finish();
    });
    let rest = client.read_to_close(SOON).bytes;
    sending.join().unwrap();
    let all = [first, rest].concat();
    let at = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let body = all.get(at + 4..).unwrap();
    assert!(body == [piece.repeat(20), b"bye".to_vec()].concat());
}

#[test]
fn without_a_switch_the_connection_goes_on_with_http() {
    for status in [
        "200 OK",
        "400 Bad Request",
        "404 Not Found",
        "426 Upgrade Required",
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno");
        let server = Server::start(&answer);
        let plimsoll = start(&server, "");
        let mut client = Raw::connect(plimsoll.address());
        // What follows the request is the next request, and nothing else.
        let next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
        client.send(format!("{WEBSOCKET}{next}")).unwrap();
        assert_eq!(client.response("GET").text(), "no", "{status}");
        assert_eq!(client.response("GET").text(), "no", "{status}");
        let heads = server.heads();
        assert!(heads.first().unwrap().starts_with("GET /chat "));
        let next = heads.get(1).unwrap();
        assert!(next.starts_with("GET /next "), "{next}");
        assert!(!next.contains("Upgrade"), "{next}");
    }
}

#[test]
fn a_server_that_switches_to_what_nobody_asked_for_is_a_bad_gateway() {
    let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (request, answer) in [
        (plain, SWITCHED.to_owned()),
        (WEBSOCKET, SWITCHED.replace("websocket", "h2c")),
        (WEBSOCKET, SWITCHED.replace("s3pP", "S3PP")),
        (WEBSOCKET, SWITCHED.replace("Connection: Upgrade", "X: y")),
    ] {
        let server = Server::start(&answer);
        let plimsoll = start(&server, "");
        let mut client = Raw::connect(plimsoll.address());
        client.send(format!("{request}secret")).unwrap();
        assert!(head(&mut client).starts_with("HTTP/1.1 502 "), "{answer}");
        let log = plimsoll.wait_log("access.log", 1, SOON).remove(0);
        assert!(log.contains("\"reason\":\"http_upgrade_failed\""), "{log}");
    }
}

#[test]
fn servers_do_not_hear_of_what_may_not_be_asked_for() {
    let server = Server::start("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let plimsoll = start(&server, "");
    let settings = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n";
    for request in [
        format!("GET / HTTP/1.1\r\nHost: a\r\n{settings}\r\n"),
        WEBSOCKET.replace("HTTP/1.1", "HTTP/1.0"),
        WEBSOCKET.replace("Version: 13", "Version: 8"),
        WEBSOCKET.replace("Connection: Upgrade", "Connection: close"),
        WEBSOCKET
            .replace("GET", "POST")
            .replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\nx"),
    ] {
        let mut client = Raw::connect(plimsoll.address());
        client.send(&request).unwrap();
        assert_eq!(client.response("GET").status(), 200, "{request}");
    }
    let heads = server.heads();
    assert_eq!(heads.len(), 5);
    for head in heads {
        let lower = head.to_ascii_lowercase();
        assert!(!lower.contains("\r\nupgrade:"), "{head}");
        assert!(!lower.contains("\r\nhttp2-settings:"), "{head}");
    }
}

#[test]
fn a_tunnel_in_which_nobody_speaks_is_closed() {
    let server = Server::start(SWITCHED);
    let plimsoll = start(&server, "timeout tunnel=300ms");
    let mut client = Raw::connect(plimsoll.address());
    client.send(WEBSOCKET).unwrap();
    client.read_at_least(1, SOON).unwrap();
    assert_ne!(client.read_to_close(SOON).close, Close::Open);
    let log = plimsoll.wait_log("access.log", 1, SOON).remove(0);
    assert!(log.contains("nothing moved for too long"), "{log}");
}

#[test]
fn when_one_end_breaks_the_other_is_told() {
    let server = Server::start(SWITCHED);
    let plimsoll = start(&server, "");
    let mut client = Raw::connect(plimsoll.address());
    client.send(WEBSOCKET).unwrap();
    client.read_at_least(1, SOON).unwrap();
    client.abort();
    let log = plimsoll.wait_log("access.log", 1, SOON).remove(0);
    assert!(log.contains("\"status\":101"), "{log}");
    wait::expect("the server to be told", SOON, || server.open() == 0);
}

#[test]
fn a_tunnel_outlives_the_order_to_drain() {
    let server = Server::start(SWITCHED);
    let mut plimsoll = start(&server, "");
    let mut client = Raw::connect(plimsoll.address());
    client.send(WEBSOCKET).unwrap();
    client.read_at_least(1, SOON).unwrap();
    plimsoll.signal(Signal::TERM);
    let refused = || Raw::try_connect(plimsoll.address()).is_err();
    wait::expect("the listener to close", SOON, refused);
    client.send("still here").unwrap();
    client.finish();
    let rest = String::from_utf8(client.read_to_close(SOON).bytes).unwrap();
    assert!(rest.ends_with("still herebye"), "{rest}");
    assert!(plimsoll.wait_exit(SOON).success());
}
