//! What servers are told in the PROXY protocol of clients that come with TLS. HAProxy tells the same server
//! of the same clients.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::certifier::Certifier;
use plimsoll_e2e::greeted::Greeted;
use plimsoll_e2e::haproxy::Haproxy;
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::ports;
use plimsoll_e2e::raw::{PATIENCE, Raw};
use plimsoll_e2e::tls::{pair, s_client_at};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use tempfile::TempDir;

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

/// What stands before the values: the fixed part, and two addresses of four bytes with their ports.
const HEAD_BYTES: usize = 16 + 12;

fn value(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[kind][..], &len, bytes].concat()
}

/// Values by their types.
fn values(mut rest: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut values = BTreeMap::new();
    while let Some((&[kind, high, low], behind)) = rest.split_first_chunk::<3>() {
        let (bytes, behind) = behind.split_at(u16::from_be_bytes([high, low]).into());
        values.insert(kind, bytes.to_vec());
        rest = behind;
    }
    values
}

/// What a server that saw these bytes was told beside the addresses.
fn values_of(seen: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let (head, rest) = seen.split_first_chunk::<16>().unwrap();
    let [.., high, low] = *head;
    let (body, _) = rest.split_at(u16::from_be_bytes([high, low]).into());
    let (_, all) = body.split_at(HEAD_BYTES - head.len());
    values(all)
}

/// What a server that saw these bytes was told of TLS: what counts of the client, whether its certificate
/// was verified, and the rest.
fn told_of_tls(seen: &[u8]) -> (u8, bool, BTreeMap<u8, Vec<u8>>) {
    let all = values_of(seen);
    let (first, within) = all.get(&0x20).unwrap().split_first_chunk::<5>().unwrap();
    let [bits, verify @ ..] = *first;
    (bits, verify == [0; 4], values(within))
}

/// Both in front of one server.
struct Peers {
    server: Greeted,
    plimsoll: Plimsoll,
    _haproxy: Haproxy,
    haproxy_port: u16,
    directory: TempDir,
}

impl Peers {
    fn start(own: &Authority, clients: &Certifier) -> Self {
        let server = Greeted::start();
        let ca = clients.trusted();
        let plimsoll = Start::run(&format!(
            "admin off\nsite a.example {{ listen 127.0.0.1:{{port}} ; {}\n\
             client-certificate optional ca={ca} ; route {{ proxy app }} }}\n\
             tcp 127.0.0.1:{{port:relay}} {{ {} ; client-certificate optional ca={ca} ; proxy app }}\n\
             pool app {{ server {} ; proxy-protocol v2 }}\n",
            pair(own),
            pair(own),
            server.address()
        ))
        .start();
        let directory = tempfile::tempdir().unwrap();
        let both = directory.path().join("both.pem");
        let parts = [own.certificate(), own.key()].map(|file| fs::read_to_string(file).unwrap());
        fs::write(&both, parts.concat()).unwrap();
        let port = ports::free();
        let sections = format!(
            "frontend f\n  bind 127.0.0.1:{port} ssl crt {} ca-file {ca} verify optional\n  default_backend b\n\
             backend b\n  server s {} send-proxy-v2-ssl-cn proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key\n",
            both.display(),
            server.address()
        );
        Self {
            server,
            plimsoll,
            _haproxy: Haproxy::start(&sections, port),
            haproxy_port: port,
            directory,
        }
    }

    /// What the server is told of a client with these options by whoever listens there.
    fn told(&self, to: SocketAddr, options: &str) -> Vec<u8> {
        let options = format!("-ign_eof -servername a.example {options}");
        let said = s_client_at(to, &options, GET);
        assert!(said.contains("200 OK"), "{said}");
        self.server.next()
    }
}

#[test]
fn servers_hear_as_from_haproxy_how_a_client_came() {
    let clients = Certifier::make("clients");
    let ada = clients.certify("ada", "/O=engines/CN=Ada Lovelace", "DNS:ada");
    let shown = ada.s_client();
    for (own, kind) in [
        (Authority::make("DNS:a.example"), "ECDSA"),
        (Authority::make_rsa("DNS:a.example"), "RSA"),
    ] {
        let peers = Peers::start(&own, &clients);
        let new = "-tls1_3 -ciphersuites";
        let old = format!("-tls1_2 -cipher ECDHE-{kind}");
        for (options, bits) in [
            (format!("{new} TLS_AES_128_GCM_SHA256"), 1),
            (format!("{new} TLS_AES_256_GCM_SHA384 {shown}"), 7),
            (format!("{new} TLS_CHACHA20_POLY1305_SHA256 {shown}"), 7),
            (format!("{old}-CHACHA20-POLY1305"), 1),
            (format!("{old}-AES128-GCM-SHA256"), 1),
            (format!("{old}-AES256-GCM-SHA384 {shown}"), 7),
        ] {
            let due = peers.told(ports::local(peers.haproxy_port), &options);
            let (counts, _, due) = told_of_tls(&due);
            assert_eq!(counts, bits, "{options}");
            let relay = peers.plimsoll.address_of("relay");
            for address in [peers.plimsoll.address(), relay] {
                let ours = peers.told(address, &options);
                let (counts, is_verified, ours) = told_of_tls(&ours);
                assert_eq!((counts, is_verified), (bits, bits == 7), "{options}");
                assert_eq!(ours, due, "{options}");
            }
        }
    }
}

#[test]
fn a_certificate_of_an_earlier_connection_is_told_as_such() {
    let (own, clients) = (Authority::make("DNS:a.example"), Certifier::make("clients"));
    let ada = clients.certify("ada", "/O=engines/CN=Ada Lovelace", "DNS:ada");
    let peers = Peers::start(&own, &clients);
    let session = peers.directory.path().join("session");
    for address in [peers.plimsoll.address(), ports::local(peers.haproxy_port)] {
        for (word, bits) in [("-sess_out", 7), ("-sess_in", 5)] {
            let options = format!("-tls1_2 {} {word} {}", ada.s_client(), session.display());
            let (counts, is_verified, within) = told_of_tls(&peers.told(address, &options));
            assert_eq!((counts, is_verified), (bits, true), "{address} {word}");
            let name = within.get(&0x22).map(Vec::as_slice);
            assert_eq!(name, Some(&b"Ada Lovelace"[..]), "{address} {word}");
        }
    }
}

/// What those in front of us know of a client, its server is told as well.
#[test]
fn what_was_heard_is_passed_on() {
    let server = Greeted::start();
    let plimsoll = Start::run(&format!(
        "admin off\nsite * {{ listen 127.0.0.1:{{port:http}} ; proxy-protocol accept=127.0.0.1 ; route {{ proxy app }} }}\n\
         tcp 127.0.0.1:{{port}} {{ proxy-protocol accept=127.0.0.1 ; log {{dir}}/access.log ; proxy app }}\n\
         pool app {{ server {} ; proxy-protocol v2 }}\n",
        server.address()
    ))
    .start();
    let ssl = [
        &[7, 0, 0, 0, 0][..],
        &value(0x21, b"TLSv1.3"),
        &value(0x22, b"ada"),
    ]
    .concat();
    let values = [
        value(0x01, b"h2"),
        value(0x02, b"a.example"),
        value(0x05, b"from-afar"),
        value(0x20, &ssl),
    ];
    let port = plimsoll.address().port().to_be_bytes();
    let ends = [&[192, 0, 2, 7, 127, 0, 0, 1, 0x12, 0x34][..], &port].concat();
    let behind = [ends, values.concat()].concat();
    let length = u16::try_from(behind.len()).unwrap().to_be_bytes();
    let head = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..]].concat();
    let header = [head, behind].concat();
    let mut client = Raw::connect(plimsoll.address());
    client.send([&*header, GET.as_bytes()].concat()).unwrap();
    assert_eq!(client.response("GET").status(), 200);
    let seen = server.next();
    drop(client);
    let line = plimsoll.wait_log("access.log", 1, PATIENCE).remove(0);
    // It is told of with the id of the log.
    let (head, told) = (seen.get(..HEAD_BYTES), values_of(&seen));
    let due = header.get(..14).unwrap();
    assert_eq!(head.unwrap().get(..14).unwrap(), due);
    assert_eq!(head.unwrap().get(16..), header.get(16..HEAD_BYTES));
    let id = String::from_utf8(told.get(&0x05).unwrap().clone()).unwrap();
    assert!(line.contains(&format!("\"id\":\"{id}\"")), "{line}");
    for (kind, due) in [(0x01, &b"h2"[..]), (0x02, b"a.example"), (0x20, &ssl)] {
        assert_eq!(told.get(&kind).map(Vec::as_slice), Some(due));
    }

    // A request is told of with its own id, and is of HTTP/1.1.
    let mut client = Raw::connect(plimsoll.address_of("http"));
    client.send([&*header, GET.as_bytes()].concat()).unwrap();
    assert_eq!(client.response("GET").status(), 200);
    let seen = server.next();
    let told = values_of(&seen);
    assert_eq!(told.get(&0x02).map(Vec::as_slice), Some(&b"a.example"[..]));
    assert_eq!(told.get(&0x20), Some(&ssl));
    assert!(!told.contains_key(&0x01));
    assert_ne!(told.get(&0x05).map(Vec::as_slice), Some(&b"from-afar"[..]));
    for part in [
        "\"client\":\"192.0.2.7\",\"client_port\":4660",
        "\"alpn\":\"h2\"",
        "\"sni\":\"a.example\"",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn a_header_holds_exactly_this() {
    let (own, clients) = (Authority::make("DNS:a.example"), Certifier::make("clients"));
    let ada = clients.certify("ada", "/O=engines/CN=Ada Lovelace", "DNS:ada");
    let peers = Peers::start(&own, &clients);
    let suite = "-tls1_3 -ciphersuites TLS_AES_128_GCM_SHA256";
    let ours = [
        value(0x23, b"TLS_AES_128_GCM_SHA256"),
        value(0x24, b"ecdsa-with-SHA256"),
        value(0x25, b"EC256"),
    ]
    .concat();
    let anonymous = [&[1, 0, 0, 0, 1][..], &value(0x21, b"TLSv1.3"), &ours];
    let known = [
        &[7, 0, 0, 0, 0][..],
        &value(0x21, b"TLSv1.3"),
        &value(0x22, b"Ada Lovelace"),
        &ours,
    ];
    for (options, due) in [
        (suite, anonymous.concat()),
        (&format!("{suite} {}", ada.s_client()), known.concat()),
    ] {
        let seen = peers.told(peers.plimsoll.address(), options);
        let request = seen.windows(4).position(|four| four == b"GET ").unwrap();
        let (header, _) = seen.split_at(request);
        let (_, behind) = header.split_at(HEAD_BYTES);
        let (authority, due) = (value(2, b"a.example"), value(0x20, &due));
        let id = value(5, &[b'-'; 36]);
        assert!(behind.starts_with(&authority), "{header:?}");
        assert!(behind.ends_with(&due), "{header:?}");
        assert_eq!(behind.len(), authority.len() + id.len() + due.len());
    }
}
