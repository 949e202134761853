//! The PROXY protocol, to us and from us. HAProxy and NGINX are the peers; what is wrong is sent by hand.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::greeted::Greeted;
use plimsoll_e2e::haproxy::Haproxy;
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::nginx::Nginx;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{Raw, get};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::wire::Close;
use plimsoll_e2e::{ports, wait};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const V1: &str = "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &len, body].concat()
}

/// 192.0.2.1:56324 to 198.51.100.7:443.
const FOUR: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb];

/// A site that says who its client is.
fn start(accept: &str, more: &str) -> Plimsoll {
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\nsite * {{ listen 127.0.0.1:{{port}} ; proxy-protocol accept={accept}\n\
         timeout header=700ms\n{more}\n\
         route client=203.0.113.0/24 {{ respond 403 }}\n\
         route {{ respond 200 \"${{client.ip}}\" }} }}\n"
    );
    Start::run(&text).start()
}

fn failures(plimsoll: &Plimsoll) -> f64 {
    let address = plimsoll.address();
    let name = format!("plimsoll_proxy_protocol_failures_total{{listener=\"{address}\"}}");
    plimsoll.metric(&name).unwrap()
}

/// What is answered to `header` and a request that comes in the same segment.
fn ask(plimsoll: &Plimsoll, header: &[u8]) -> String {
    let mut raw = Raw::connect(plimsoll.address());
    raw.send([header, GET.as_bytes()].concat()).unwrap();
    raw.response("GET").text()
}

#[test]
fn the_client_is_who_the_header_says() {
    let plimsoll = start("127.0.0.0/8", "log access.log json");
    let six = [&[0x20; 16][..], &[0x21; 16], &[0, 1, 0, 2]].concat();
    let tlvs = [&FOUR[..], &[2, 0, 1, b'a', 4, 0, 2, 0, 0]].concat();
    for (header, client) in [
        (V1.as_bytes().to_vec(), "192.0.2.1"),
        (
            b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n".to_vec(),
            "2001:db8::1",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(0x21, 0x11, &FOUR), "192.0.2.1"),
        (v2(0x21, 0x11, &tlvs), "192.0.2.1"),
        (
            v2(0x21, 0x21, &six),
            "2020:2020:2020:2020:2020:2020:2020:2020",
        ),
        (v2(0x20, 0x00, b""), "127.0.0.1"),
        (v2(0x20, 0x11, &FOUR), "127.0.0.1"),
        (v2(0x21, 0x00, b"anything"), "127.0.0.1"),
    ] {
        assert_eq!(ask(&plimsoll, &header), client, "{header:?}");
    }
    // Workers write their lines when they like.
    let lines = plimsoll.wait_log("access.log", 9, SOON);
    let client = "\"client\":\"192.0.2.1\",\"client_port\":56324";
    let told = lines.iter().filter(|line| line.contains(client));
    assert_eq!(told.count(), 3, "{lines:?}");
    // A rule about clients is about this one.
    let denied = V1.replace("192.0.2.1", "203.0.113.9");
    let mut raw = Raw::connect(plimsoll.address());
    raw.send(format!("{denied}{GET}")).unwrap();
    assert_eq!(raw.response("GET").status(), 403);
    assert!(failures(&plimsoll).abs() < 0.5);
}

#[test]
fn a_header_may_come_in_pieces_and_nothing_behind_it_is_lost() {
    let plimsoll = start("127.0.0.1", "");
    for header in [V1.as_bytes().to_vec(), v2(0x21, 0x11, &FOUR)] {
        let mut raw = Raw::connect(plimsoll.address());
        let whole = [&header[..], GET.as_bytes()].concat();
        raw.send_bytewise(&whole, Duration::from_micros(300))
            .unwrap();
        assert_eq!(raw.response("GET").text(), "192.0.2.1");
        // A connection goes on with requests, not with headers.
        let mut raw = Raw::connect(plimsoll.address());
        let keep = GET.replace("Connection: close\r\n", "");
        raw.send([&header[..], keep.repeat(2).as_bytes()].concat())
            .unwrap();
        assert_eq!(raw.response("GET").text(), "192.0.2.1");
        assert_eq!(raw.response("GET").text(), "192.0.2.1");
        raw.send([&header[..], keep.as_bytes()].concat()).unwrap();
        assert_eq!(raw.response("GET").status(), 400);
        // A second header is what the client sent.
        let mut raw = Raw::connect(plimsoll.address());
        raw.send([&header[..], &header, keep.as_bytes()].concat())
            .unwrap();
        assert_eq!(raw.response("GET").status(), 400);
    }
}

#[test]
fn without_a_sound_header_the_connection_is_closed() {
    let plimsoll = start("127.0.0.1", "");
    let mut count = 0.0;
    let mut is_closed = |bytes: &[u8], finish: bool| {
        let mut raw = Raw::connect(plimsoll.address());
        raw.send(bytes).ok(); // it may be closed before the end
        if finish {
            raw.finish();
        }
        let capture = raw.read_to_close(SOON);
        assert_eq!(capture.bytes, b"", "{bytes:?}");
        assert_ne!(capture.close, Close::Open, "{bytes:?}");
        count += 1.0;
        wait::expect("it to be counted", SOON, || {
            (failures(&plimsoll) - count).abs() < 0.5
        });
    };
    let broken_sum = [&FOUR[..], &[3, 0, 4, 0, 0, 0, 0]].concat();
    let overrun = [&FOUR[..], &[2, 0xff, 0xff, b'a']].concat();
    for header in [
        &b""[..],
        b"PROXY TCP4 192.0.2.1 198.51.100.7 1 99999\r\n",
        &[b"PROXY UNKNOWN ", &[b'x'; 120][..]].concat(),
        &v2(0x21, 0x31, &[0; 216]),
        &v2(0x23, 0x11, &FOUR),
        &v2(0x21, 0x11, &FOUR[..8]),
        &v2(0x21, 0x11, &[0; 65_535]),
        &v2(0x21, 0x11, &broken_sum),
        &v2(0x21, 0x11, &overrun),
    ] {
        is_closed(&[header, GET.as_bytes()].concat(), false);
    }
    let v2 = v2(0x21, 0x11, &FOUR);
    for partial in [&b""[..], b"PROXY TCP4 192", &SIGNATURE[..5], &v2[..20]] {
        is_closed(partial, false); // the time is up
        is_closed(partial, true);
    }
}

#[test]
fn nobody_else_may_say_who_he_is() {
    let plimsoll = start("10.0.0.0/8 192.168.0.0/16", "");
    for bytes in [format!("{V1}{GET}"), GET.to_owned(), String::new()] {
        let mut raw = Raw::connect(plimsoll.address());
        raw.send(bytes).ok(); // it may be closed already
        let capture = raw.read_to_close(SOON);
        assert_eq!(capture.bytes, b"");
        assert_ne!(capture.close, Close::Open);
    }
    wait::expect("them to be counted", SOON, || failures(&plimsoll) > 2.5);
    // Where no header is expected, none is taken.
    let recorder = Recorder::start(|_| Answer::ok("app"));
    let plain = Start::proxy(&[recorder.address()]).start();
    let mut raw = Raw::connect(plain.address());
    raw.send(format!("{V1}{GET}")).unwrap();
    assert_eq!(raw.response("GET").status(), 400);
    assert!(recorder.requests().is_empty());
}

#[test]
fn limits_on_connections_are_about_the_client() {
    let text = "admin 127.0.0.1:{port:admin}\nconnection-limit per-client=1\n\
                site * { listen 127.0.0.1:{port} ; proxy-protocol accept=127.0.0.1 ; route { respond 200 ok } }\n";
    let plimsoll = Start::run(text).start();
    let open = |client: &str| {
        let mut raw = Raw::connect(plimsoll.address());
        let header = V1.replace("192.0.2.1", client);
        raw.send(format!("{header}GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
            .unwrap();
        let answer = raw.try_response("GET").ok().map(|answer| answer.status());
        (raw, answer)
    };
    let (_one, first) = open("192.0.2.1");
    let (_two, second) = open("192.0.2.2");
    let (_again, third) = open("192.0.2.1");
    assert_eq!((first, second, third), (Some(200), Some(200), None));
}

#[test]
fn the_header_comes_before_tls() {
    let authority = Authority::make("DNS:a.example");
    let tls = format!("tls {} {}", authority.certificate(), authority.key());
    let plimsoll = start("127.0.0.1", &tls);
    let to = format!("::127.0.0.1:{}", plimsoll.address().port());
    let curl = |more: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--noproxy", "*", "--max-time", "20", "--http1.1"]);
        command.args(["--connect-to", &to, "--cacert", &authority.trusted()]);
        let output = command
            .args(more)
            .arg("https://a.example/")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // Its header says where curl itself connects from.
    assert_eq!(curl(&["--haproxy-protocol"]), "127.0.0.1");
    assert_eq!(curl(&[]), "");
    // OpenSSL speaks TLS over whatever a relay has said first.
    let relay = Relay::start(plimsoll.address(), v2(0x21, 0x11, &FOUR));
    let mut child = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &relay.address.to_string()])
        .args(["-servername", "a.example", "-verify_quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(GET.as_bytes())
        .unwrap();
    let said = child.wait_with_output().unwrap().stdout;
    let said = String::from_utf8_lossy(&said);
    assert!(said.ends_with("\r\n\r\n192.0.2.1"), "{said}");
}

/// Passes one connection on, behind a header.
struct Relay {
    address: SocketAddr,
    _thread: JoinHandle<()>,
}

impl Relay {
    fn start(to: SocketAddr, header: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            let mut server = TcpStream::connect(to).unwrap();
            server.write_all(&header).unwrap();
            let (mut from, mut into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut into).ok());
            let mut client = client;
            std::io::copy(&mut server, &mut client).ok(); // until either end has closed
            client.shutdown(std::net::Shutdown::Both).ok();
        });
        Self {
            address,
            _thread: thread,
        }
    }
}

#[test]
fn haproxy_tells_us_who_its_client_is() {
    let plimsoll = start("127.0.0.1", "");
    for words in [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority",
    ] {
        let port = ports::free();
        let sections = format!(
            "frontend f\n  bind 127.0.0.1:{port}\n  unique-id-format %{{+X}}o%ci:%cp\n  default_backend b\n\
             backend b\n  source 127.0.0.1\n  server s {} {words}\n",
            plimsoll.address()
        );
        let _haproxy = Haproxy::start(&sections, port);
        // Its client has another address than itself.
        let from: SocketAddr = "127.0.0.9:0".parse().unwrap();
        assert_eq!(get_from(from, ports::local(port)), "127.0.0.9", "{words}");
    }
    assert!(failures(&plimsoll).abs() < 0.5);
}

/// What is answered to a client at this address.
fn get_from(from: SocketAddr, to: SocketAddr) -> String {
    let output = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--max-time", "20"])
        .args(["--interface", &from.ip().to_string()])
        .arg(format!("http://{to}/"))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn pool(server: SocketAddr, version: &str, more: &str) -> Plimsoll {
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\nsite * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{ server {server} ; proxy-protocol {version} ; {more} }}\n"
    );
    Start::run(&text).start()
}

#[test]
fn haproxy_and_nginx_hear_from_us_who_the_client_is() {
    let port = ports::free();
    let sections = format!(
        "frontend f\n  bind 127.0.0.1:{port} accept-proxy\n  \
         http-request return status 200 content-type text/plain lf-string \"%[src] %[dst_port] %[fc_pp_unique_id]\"\n"
    );
    let _haproxy = Haproxy::start(&sections, port);
    let nginx_port = ports::free();
    let _nginx = Nginx::start(&format!(
        "listen 127.0.0.1:{nginx_port} proxy_protocol; location / {{ return 200 \"$proxy_protocol_addr $proxy_protocol_server_port\"; }}"
    ));
    for version in ["v1", "v2"] {
        let plimsoll = pool(ports::local(port), version, "");
        let local = plimsoll.address();
        for host in [9, 10] {
            let from = SocketAddr::from(([127, 0, 0, host], 0));
            let told = get_from(from, local);
            let begin = format!("127.0.0.{host} {} ", local.port());
            assert!(told.starts_with(&begin), "{version}: {told}");
            // HAProxy leaves the id out where there is none.
            assert_eq!(told.len() > begin.len() + 8, version == "v2", "{told}");
        }
        let plimsoll = pool(ports::local(nginx_port), version, "");
        let local = plimsoll.address();
        let told = get_from(SocketAddr::from(([127, 0, 0, 9], 0)), local);
        assert_eq!(told, format!("127.0.0.9 {}", local.port()), "{version}");
    }
}

#[test]
fn each_request_has_a_connection_that_begins_with_exactly_this() {
    let server = Greeted::start();
    let plimsoll = pool(server.address(), "v1", "");
    let port = plimsoll.address().port();
    let mut raw = Raw::connect(plimsoll.address());
    for _ in 0..2 {
        raw.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(raw.response("GET").text(), "ok");
        let from = raw.local_address().port();
        let due = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {port}\r\nGET / HTTP/1.1\r\n");
        let seen = String::from_utf8(server.next()).unwrap();
        assert!(seen.starts_with(&due), "{seen}");
    }
    let plimsoll = pool(server.address(), "v2", "");
    let port = plimsoll.address().port();
    let mut raw = Raw::connect(plimsoll.address());
    raw.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(raw.response("GET").text(), "ok");
    let from = raw.local_address().port();
    let seen = server.next();
    let ends = [[127, 0, 0, 1, 127, 0, 0, 1], [0; 8]].concat();
    let ends = [&ends[..8], &from.to_be_bytes(), &port.to_be_bytes()].concat();
    // The id of the request, which it carries as well.
    let due = [SIGNATURE, &[0x21, 0x11, 0, 12 + 3 + 36], &ends, &[5, 0, 36]].concat();
    assert_eq!(seen.get(..due.len()), Some(&due[..]));
    let rest = &seen[due.len()..];
    let (id, request) = rest.split_at(36);
    let request = String::from_utf8_lossy(request);
    assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
    let id = String::from_utf8_lossy(id);
    assert!(request.contains(&*id), "{id} {request}");
}

#[test]
fn checks_and_questions_of_our_own_are_told_as_such() {
    let server = Greeted::start();
    let own = v2(0x20, 0x00, b"");
    for (version, due) in [("v1", &b"PROXY UNKNOWN\r\n"[..]), ("v2", &own)] {
        let _plimsoll = pool(
            server.address(),
            version,
            "check GET /healthz every=1h initial=down",
        );
        let seen = server.next();
        let due = [due, b"GET /healthz HTTP/1.1\r\n"].concat();
        assert_eq!(seen.get(..due.len()), Some(&due[..]), "{version}");
    }
    let _plimsoll = pool(
        server.address(),
        "v1",
        "check GET /healthz proxy-protocol=off every=1h",
    );
    assert!(server.next().starts_with(b"GET /healthz"));
}

#[test]
fn the_header_goes_before_tls_to_servers_too() {
    let authority = Authority::make("DNS:app.internal");
    let port = ports::free();
    let listen = authority
        .listen(port)
        .replace(" ssl;", " ssl proxy_protocol;");
    let _nginx = Nginx::start(&format!(
        "{listen} location / {{ return 200 $proxy_protocol_addr; }}"
    ));
    let tls = format!(
        "tls sni=app.internal ca={} ; check GET /",
        authority.trusted()
    );
    let plimsoll = pool(ports::local(port), "v2", &tls);
    assert_eq!(get(plimsoll.address(), "/").text(), "127.0.0.1");
    let from = SocketAddr::from(([127, 0, 0, 9], 0));
    assert_eq!(get_from(from, plimsoll.address()), "127.0.0.9");
}

#[test]
fn a_chain_of_two_knows_the_client() {
    let last = start("127.0.0.1", "");
    for version in ["v1", "v2"] {
        let text = format!(
            "admin off\nsite * {{ listen 127.0.0.1:{{port}} ; proxy-protocol accept=127.0.0.1 ; route {{ proxy app }} }}\n\
             pool app {{ server {} ; proxy-protocol {version} }}\n",
            last.address()
        );
        let first = Start::run(&text).start();
        assert_eq!(ask(&first, V1.as_bytes()), "192.0.2.1", "{version}");
        assert_eq!(
            ask(&first, b"PROXY TCP6 2001:db8::1 ::1 7 8\r\n"),
            "2001:db8::1"
        );
    }
}
