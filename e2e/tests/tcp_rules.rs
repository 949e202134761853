//! Relayed connections whose pool is chosen by what their client says first.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{PATIENCE, Raw};
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Close;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A server that says its name, once it has heard something or at once, and then sends back what comes.
fn server(name: &'static str, is_first: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || echo(stream, name, is_first));
        }
    });
    address
}

fn echo(mut stream: TcpStream, name: &str, is_first: bool) {
    let mut piece = [0; 4096];
    let len = match is_first {
        true => 0,
        false => stream.read(&mut piece).unwrap_or_default(),
    };
    let said = [format!("{name}:").as_bytes(), piece.get(..len).unwrap()].concat();
    let mut from = stream.try_clone().unwrap();
    if stream.write_all(&said).is_ok() {
        std::io::copy(&mut from, &mut stream).ok();
    }
    stream.shutdown(Shutdown::Write).ok();
}

/// Plimsoll with these rules for the pools `a`, `b`, `c`, whose servers wait to hear something, and `first`.
fn start(rules: &str) -> Plimsoll {
    let mut text = format!(
        "workers 2\nadmin 127.0.0.1:{{port:admin}}\n\
         tcp 127.0.0.1:{{port}} {{ log {{dir}}/access.log; {rules} }}\n"
    );
    for name in ["a", "b", "c", "d", "e", "f"] {
        let server = server(name, name == "f");
        if rules.contains(&format!("-> {name}")) || rules.contains(&format!("default {name}")) {
            text += &format!("pool {name} {{ server {server} }}\n");
        }
    }
    Start::run(&text).start()
}

/// What comes back when that is said, in these pieces, and nothing more.
fn ask_in(plimsoll: &Plimsoll, pieces: &[&[u8]]) -> Vec<u8> {
    let mut client = TcpStream::connect(plimsoll.address()).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for piece in pieces {
        client.write_all(piece).unwrap();
    }
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    answer
}

/// Checks that the bytes come to the server of this name, all of them.
fn assert_at(plimsoll: &Plimsoll, name: &str, pieces: &[&[u8]]) {
    let answer = ask_in(plimsoll, pieces);
    let said = pieces.concat();
    let expected = [name.as_bytes(), b":", &said].concat();
    let (answer, expected) = (answer.escape_ascii(), expected.escape_ascii());
    assert!(answer.clone().eq(expected.clone()), "{answer}\n{expected}");
}

/// Checks that a client that says so gets nothing but a reset, and that the log says why.
fn assert_refused(plimsoll: &Plimsoll, said: &[u8], why: &str) {
    let count = plimsoll.log("access.log").len();
    let mut client = Raw::connect(plimsoll.address());
    client.send(said).unwrap();
    assert_eq!(client.read_to_close(PATIENCE).close, Close::Reset);
    let line = plimsoll
        .wait_log("access.log", count + 1, PATIENCE)
        .remove(count);
    assert!(line.contains(why), "{why} in {line}");
}

fn unmatched(plimsoll: &Plimsoll) -> f64 {
    let address = plimsoll.address();
    let name = format!("plimsoll_tcp_unmatched_total{{listener=\"{address}\"}}");
    plimsoll.metric(&name).unwrap()
}

/// What rustls says first to a server of this name.
fn hello(name: &str, protocols: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let name = name.to_owned().try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut out = Vec::new();
    connection.write_tls(&mut out).unwrap();
    out
}

/// The one record of `hello` in records of this length.
fn in_records(hello: &[u8], len: usize) -> Vec<u8> {
    let record = |part: &[u8]| {
        let len = u16::try_from(part.len()).unwrap();
        [&[22, 3, 1][..], &len.to_be_bytes(), part].concat()
    };
    hello
        .get(5..)
        .unwrap()
        .chunks(len)
        .flat_map(record)
        .collect()
}

#[test]
fn names_and_protocols_choose_and_the_first_rule_wins() {
    let plimsoll =
        start("sni mail.example.com *.lists.example.com -> a; alpn h2 -> b; sni * -> c; default d");
    for (name, protocols, server) in [
        ("mail.example.com", &[][..], "a"),
        ("MAIL.Example.com", &["h2"], "a"),
        ("x.lists.example.com", &[], "a"),
        ("lists.example.com", &[], "c"),
        ("www.example.com", &["h2", "http/1.1"], "b"),
        ("www.example.com", &["http/1.1"], "c"),
        ("192.0.2.1", &["http/1.1"], "d"),
        ("192.0.2.1", &["h2"], "b"),
    ] {
        let hello = hello(name, protocols);
        assert_at(&plimsoll, server, &[&hello, b"and what follows"]);
    }
    assert_at(&plimsoll, "d", &[b"GET / HTTP/1.1\r\n\r\n"]);
    assert!((unmatched(&plimsoll) - 0.0).abs() < f64::EPSILON);
}

#[test]
fn the_log_says_what_was_asked_for() {
    let plimsoll = start("sni *.example.com -> a; default b");
    assert_at(
        &plimsoll,
        "a",
        &[&hello("Mail.example.com", &["h2", "http/1.1"])],
    );
    let line = plimsoll.wait_log("access.log", 1, PATIENCE).remove(0);
    for part in [
        "\"alpn\":\"h2,http/1.1\",\"sni\":\"mail.example.com\"",
        "\"pool\":\"a\"",
        "\"proto\":\"TCP\"",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert_at(&plimsoll, "b", &[b"anything else"]);
    let line = plimsoll.wait_log("access.log", 2, PATIENCE).remove(1);
    assert!(!line.contains("alpn") && !line.contains("sni"), "{line}");
}

/// The first bytes of real clients.
const SAID: &[(&str, &[u8])] = &[
    ("a", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("b", b"SSH-2.0-OpenSSH_9.6p1 Ubuntu-3ubuntu13\r\n"),
    ("c", b"\0\0\0\x08\x04\xd2\x16\x2f"),
    ("c", b"\0\0\0\x08\x04\xd2\x16\x30"),
    ("c", b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07\0\0\0\x09"),
    ("c", b"\0\0\0\x10\0\x03\0\0user\0a\0\0"),
    ("d", b"*1\r\n$4\r\nPING\r\n"),
    ("d", b"PING\r\n"),
    ("e", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
];

const PROTOCOLS: &str = "protocol http -> a; protocol ssh -> b; protocol postgres -> c; \
                         protocol redis -> d; protocol tls -> e";

#[test]
fn protocols_are_told_by_their_first_bytes_wherever_they_are_cut() {
    let plimsoll = start(PROTOCOLS);
    for (server, said) in SAID {
        assert_at(&plimsoll, server, &[said]);
        for at in 1..said.len() {
            let (one, other) = said.split_at(at);
            assert_at(&plimsoll, server, &[one, other]);
        }
    }
}

#[test]
fn what_no_rule_takes_is_refused_and_counted() {
    let plimsoll = start(PROTOCOLS);
    let why = "\"reason\":\"destination_not_found\",\"detail\":\"no rule takes what the client says first\"";
    for said in [
        &b"EHLO mail.example.com\r\n"[..],
        b"\x03\0\0\x13\x0e\xe0\0\0",
    ] {
        assert_refused(&plimsoll, said, why);
    }
    assert!((unmatched(&plimsoll) - 2.0).abs() < f64::EPSILON);
}

#[test]
fn a_hello_may_come_in_any_two_pieces() {
    let plimsoll = start("sni mail.example.com -> a; default b");
    // Small, so that all of its cuts can be tried: what OpenSSL says with TLS 1.2.
    let known = include_str!("../../crates/plimsoll-access/src/client_hello/hellos.txt");
    let digits = known.lines().last().unwrap().as_bytes();
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let hello: Vec<u8> = digits.chunks(2).map(byte).collect();
    for at in 1..hello.len() {
        let (one, other) = hello.split_at(at);
        assert_at(&plimsoll, "a", &[one, other]);
    }
}

#[test]
fn a_hello_may_come_byte_by_byte_in_records_of_any_length() {
    let plimsoll = start("sni mail.example.com -> a; default b");
    // With a key that withstands quantum computers it is longer than a segment.
    let hello = hello("mail.example.com", &["h2"]);
    assert!(hello.len() > 1200);
    for len in [1, 2, 7, 1000] {
        let cut = in_records(&hello, len);
        assert_at(&plimsoll, "a", &[&cut]);
        let pieces: Vec<&[u8]> = cut.chunks(1).collect();
        assert_at(&plimsoll, "a", &pieces);
    }
}

#[test]
fn a_hello_that_cannot_be_one_is_refused() {
    let plimsoll = start("sni mail.example.com -> a; default b");
    let mut named = hello("mail.example.com", &[]);
    let at = named.windows(4).position(|part| part == b"mail").unwrap();
    named[at] = b'/';
    assert_refused(
        &plimsoll,
        &named,
        "\"detail\":\"the ClientHello asks for what is no name\"",
    );
    named[at - 1] = 0xff;
    assert_refused(
        &plimsoll,
        &named,
        "\"detail\":\"the ClientHello is malformed\"",
    );
    // One that says that it goes on for 60,000 bytes is not waited for, nor one that does so in tiny records.
    let long = b"\x16\x03\x01\x40\0\x01\0\xea\x60";
    let why = "\"detail\":\"the ClientHello is too long\"";
    assert_refused(&plimsoll, long, why);
    let mut client = Raw::connect(plimsoll.address());
    client.send(named.get(..100).unwrap()).unwrap();
    client.finish();
    assert_eq!(client.read_to_close(PATIENCE).close, Close::Reset);
    let line = plimsoll.wait_log("access.log", 4, PATIENCE).remove(3);
    assert!(
        line.contains("\"detail\":\"the ClientHello is cut off\""),
        "{line}"
    );
    let protocols: Vec<String> = (0..60).map(|number| format!("{number:040}")).collect();
    let protocols: Vec<&str> = protocols.iter().map(String::as_str).collect();
    let hello = hello("mail.example.com", &protocols);
    assert_refused(&plimsoll, &in_records(&hello, 1), why);
    assert!((unmatched(&plimsoll) - 5.0).abs() < f64::EPSILON);
    assert_at(&plimsoll, "a", &[&in_records(&hello, 2)]);
}

#[test]
fn nobody_is_asked_for_more_than_the_rules_need() {
    let plimsoll = start("protocol ssh -> a; default b");
    let mut client = Raw::connect(plimsoll.address());
    client.send("G").unwrap();
    assert_eq!(client.read_at_least(3, PATIENCE).unwrap(), b"b:G");
}

#[test]
fn who_says_nothing_waits_to_hear_something() {
    let plimsoll = start("timeout detect=200ms; protocol ssh -> a; protocol mysql -> f; default b");
    let mut client = Raw::connect(plimsoll.address());
    assert_eq!(client.read_at_least(2, PATIENCE).unwrap(), b"f:");
    client.send("then").unwrap();
    assert_eq!(client.read_at_least(4, PATIENCE).unwrap(), b"then");
    assert_at(&plimsoll, "b", &[b"something"]);
    // Without that rule it is the default.
    let plimsoll = start("timeout detect=200ms; sni a.example -> a; default f");
    let mut client = Raw::connect(plimsoll.address());
    assert_eq!(client.read_at_least(2, PATIENCE).unwrap(), b"f:");
    // And without a default, nobody.
    let plimsoll = start("timeout detect=200ms; sni a.example -> a");
    assert_refused(&plimsoll, b"", "\"reason\":\"destination_not_found\"");
}

#[test]
fn bytes_do_not_move_the_deadline() {
    let plimsoll = start("timeout detect=300ms; sni a.example -> a; default b");
    let late =
        "\"reason\":\"client_timeout\",\"detail\":\"the client did not say in time what it wants\"";
    assert_refused(&plimsoll, b"\x16\x03", late);
    let mut client = TcpStream::connect(plimsoll.address()).unwrap();
    let is_cut_off = hello("a.example", &[]).into_iter().any(|byte| {
        thread::sleep(Duration::from_millis(20));
        client.write_all(&[byte]).is_err()
    });
    assert!(is_cut_off, "it could go on for as long as it liked");
    assert!(plimsoll.wait_log("access.log", 2, PATIENCE)[1].contains(late));
    assert!((unmatched(&plimsoll) - 0.0).abs() < f64::EPSILON);
}

#[test]
fn who_leaves_without_a_word_costs_no_server_anything() {
    let plimsoll = start("sni a.example -> a; default b");
    drop(TcpStream::connect(plimsoll.address()).unwrap());
    let line = plimsoll.wait_log("access.log", 1, PATIENCE).remove(0);
    assert!(line.contains("\"reason\":\"client_aborted\""), "{line}");
    assert!(line.contains("\"attempts\":0"), "{line}");
}

#[test]
fn waiting_holds_no_memory() {
    let plimsoll = start("timeout detect=1m; sni a.example -> a; default b");
    let open = || {
        let mut client = TcpStream::connect(plimsoll.address()).unwrap();
        client
            .write_all(b"\x16\x03\x01\x08\0\x01\0\x07\xfc")
            .unwrap();
        client
    };
    let warm: Vec<_> = (0..50).map(|_| open()).collect();
    let accepted = |count: f64| {
        let name = format!(
            "plimsoll_connections_accepted_total{{listener=\"{}\"}}",
            plimsoll.address()
        );
        wait::expect("all are accepted", PATIENCE, || {
            plimsoll.metric(&name) == Some(count)
        });
    };
    accepted(50.0);
    let before = plimsoll.resident();
    let more: Vec<_> = (0..500).map(|_| open()).collect();
    accepted(550.0);
    let each = plimsoll.resident().saturating_sub(before) / 500;
    // A buffer has 32 KiB.
    assert!(each < 12 * 1024, "{each} bytes for each");
    drop((warm, more));
}

#[test]
fn whom_it_is_from_may_be_said_before() {
    let plimsoll = start("proxy-protocol accept=127.0.0.0/8; sni mail.example.com -> a; default b");
    let hello = hello("mail.example.com", &[]);
    let header = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n";
    let answer = ask_in(&plimsoll, &[header, &hello]);
    assert_eq!(answer, [b"a:", &hello[..]].concat());
    let line = plimsoll.wait_log("access.log", 1, PATIENCE).remove(0);
    assert!(line.contains("\"client\":\"192.0.2.1\""), "{line}");
}

#[test]
fn a_trace_says_which_rule_takes_a_connection() {
    let plimsoll = start(
        "\nsni mail.example.com -> a\nalpn h2 -> b\nprotocol http -> c\nprotocol mysql -> d\n",
    );
    let port = plimsoll.address().port();
    let listener = plimsoll.address();
    let ask = |uri: &str, more: &[&str]| {
        let uri = uri.replace("PORT", &port.to_string());
        plimsoll.traced(&[&[&*uri][..], more].concat())
    };
    let said = ask("tls://Mail.Example.com.:PORT", &[]);
    let expected = format!(
        "listener {listener}\nroutes   * plimsoll.conf:4  sni mail.example.com -> a  takes it\n\
         outcome  the connection goes to a server of `a`, whatever is asked on it\n"
    );
    assert!(said.starts_with(&expected), "{said}");
    for (uri, more, pool) in [
        ("tls://www.example.com:PORT", &["--alpn", "h2"][..], "b"),
        ("https://www.example.com:PORT/", &[], "b"),
        ("http://mail.example.com:PORT/", &[], "c"),
        ("mysql://a:PORT", &[], "d"),
    ] {
        let said = ask(uri, more);
        let outcome = format!("outcome  the connection goes to a server of `{pool}`,");
        assert!(said.contains(&outcome), "{uri}: {said}");
    }
    let said = ask("ssh://a:PORT", &[]);
    assert!(
        said.contains("outcome  the connection is closed: no rule takes it\n"),
        "{said}"
    );
    assert!(
        said.contains("protocol mysql -> d        not this one"),
        "{said}"
    );
}

/// A server that terminates TLS itself learns from the header which name was asked for, and gets every byte.
#[test]
fn servers_are_told_the_name_that_was_looked_at() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let plimsoll = Start::run(&format!(
        "admin off\ntcp 127.0.0.1:{{port}} {{ sni *.example.com -> app }}\n\
         pool app {{ server {server} ; proxy-protocol v2 }}\n"
    ))
    .start();
    let said = hello("mail.example.com", &["imap"]);
    let mut client = TcpStream::connect(plimsoll.address()).unwrap();
    client.write_all(&said).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let authority = [&[2, 0, 16][..], b"mail.example.com"].concat();
    assert!(all.windows(authority.len()).any(|part| part == authority));
    assert!(all.ends_with(&said));
}
