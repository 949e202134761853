//! Connections that come with TLS, and go on without or with it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::between::NoGoodbye;
use plimsoll_e2e::certifier::Certifier;
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::nginx::Nginx;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{PATIENCE, Raw, get};
use plimsoll_e2e::tls::{pair, s_client_at, session};
use plimsoll_e2e::wire::Close;
use plimsoll_e2e::{ports, wait};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

const LAST: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

/// A server of one connection.
fn server<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        serve(stream)
    });
    (address, serving)
}

/// Plimsoll with a service that takes TLS.
fn before(own: &Authority, service: &str, server: SocketAddr, pool: &str) -> Plimsoll {
    let text = format!(
        "workers 2\nadmin 127.0.0.1:{{port:admin}}\n\
         tcp 127.0.0.1:{{port}} {{ {} ; log {{dir}}/access.log ; {service}; proxy app }}\n\
         pool app {{ server {server} ; {pool} }}\n",
        pair(own)
    );
    Start::run(&text).start()
}

fn line(plimsoll: &Plimsoll) -> String {
    plimsoll.wait_log("access.log", 1, PATIENCE).remove(0)
}

fn read(stream: &mut impl Read, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn all_pairs_of_ends_with_and_without_tls() {
    let own = Authority::make("DNS:a.example");
    let port = ports::free();
    // The same server, behind another port with TLS.
    let directives = format!("{} location / {{ return 200 $scheme; }}", own.listen(port));
    let nginx = Nginx::start(&directives);
    let secure = ports::local(port);
    let listener = |name: &str, block: &str| format!("{name} {block}\n");
    let (tls, ca) = (pair(&own), own.trusted());
    let blocks = [
        listener(
            "site *",
            "{ listen 127.0.0.1:{port:hh} ; route { proxy plain } }",
        ),
        listener(
            "site *",
            "{ listen 127.0.0.1:{port:hs} ; route { proxy secure } }",
        ),
        listener(
            "site a.example",
            &format!("{{ listen 127.0.0.1:{{port:sh}} ; {tls} ; route {{ proxy plain }} }}"),
        ),
        listener(
            "site a.example",
            &format!("{{ listen 127.0.0.1:{{port:ss}} ; {tls} ; route {{ proxy secure }} }}"),
        ),
        listener("tcp 127.0.0.1:{port:tt}", "{ proxy plain }"),
        listener("tcp 127.0.0.1:{port:ts}", "{ proxy secure }"),
        listener(
            "tcp 127.0.0.1:{port:st}",
            &format!("{{ {tls} ; proxy plain }}"),
        ),
        listener(
            "tcp 127.0.0.1:{port:both}",
            &format!("{{ {tls} ; proxy secure }}"),
        ),
        listener("pool plain", &format!("{{ server {} }}", nginx.address())),
        listener(
            "pool secure",
            &format!("{{ server {secure} ; tls sni=a.example ca={ca} }}"),
        ),
    ];
    let plimsoll = Start::run(&format!("admin off\n{}", blocks.concat())).start();
    for (name, scheme) in [
        ("hh", "http"),
        ("hs", "https"),
        ("tt", "http"),
        ("ts", "https"),
    ] {
        let answer = get(plimsoll.address_of(name), "/");
        assert_eq!((answer.status(), &*answer.text()), (200, scheme), "{name}");
    }
    for (name, scheme) in [
        ("sh", "http"),
        ("ss", "https"),
        ("st", "http"),
        ("both", "https"),
    ] {
        let mut client = session(&own, plimsoll.address_of(name));
        client.write_all(LAST.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{name}: {answer}");
        assert!(answer.ends_with(scheme), "{name}: {answer}");
    }
}

#[test]
fn the_server_may_speak_first_and_either_end_may_go_on_alone() {
    let own = Authority::make("DNS:a.example");
    let (address, serving) = server(|mut stream| {
        stream.write_all(b"hello\n").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(b"bye\n").unwrap();
        all
    });
    let plimsoll = before(&own, "", address, "");
    let mut client = session(&own, plimsoll.address());
    assert_eq!(read(&mut client, 6), b"hello\n");
    client.write_all(b"all that there is").unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    client.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(serving.join().unwrap(), b"all that there is");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap(); // which fails without the server's goodbye
    assert_eq!(rest, b"bye\n");
    let line = line(&plimsoll);
    for part in [
        "\"tls\":\"TLSv1.3\"",
        "\"sni\":\"a.example\"",
        "\"req_bytes\":17,\"res_bytes\":10,",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!line.contains("reason"), "{line}");
}

/// Reads to the end; tells how that is.
fn to_end(mut stream: TcpStream) -> Result<Vec<u8>, ErrorKind> {
    let mut all = Vec::new();
    let read = stream.read_to_end(&mut all);
    read.map(|_| all).map_err(|error| error.kind())
}

#[test]
fn what_is_cut_off_does_not_look_whole() {
    let own = Authority::make("DNS:a.example");
    let (address, serving) = server(to_end);
    let plimsoll = before(&own, "", address, "");
    let mut client = session(&own, plimsoll.address());
    client.write_all(b"half of it").unwrap();
    // Somebody between the two ends it, who cannot say goodbye.
    client.sock.shutdown(Shutdown::Write).unwrap();
    let ended = serving.join().unwrap();
    assert_eq!(ended, Err(ErrorKind::ConnectionReset));
    assert!(line(&plimsoll).contains("\"reason\":\"connection_terminated\""));

    // The same from a server.
    let port = ports::free();
    let _nginx = Nginx::start(&format!("{} return 200 half;", own.listen(port)));
    let pool = format!("tls sni=a.example ca={}", own.trusted());
    for (address, close) in [
        (ports::local(port), Close::Fin),
        (
            NoGoodbye::before(ports::local(port)).address(),
            Close::Reset,
        ),
    ] {
        let text = format!(
            "admin off\ntcp 127.0.0.1:{{port}} {{ proxy app }}\npool app {{ server {address} ; {pool} }}\n"
        );
        let plimsoll = Start::run(&text).start();
        let mut client = Raw::connect(plimsoll.address());
        client.send(LAST).unwrap();
        assert_eq!(client.read_to_close(PATIENCE).close, close);
    }
}

#[test]
fn clients_get_the_certificate_of_the_name_that_they_ask_for() {
    let [a, b] = ["DNS:a.example", "DNS:*.b.example"].map(Authority::make);
    let (address, _serving) = server(drop);
    let plimsoll = before(&a, &pair(&b), address, "");
    for (name, own) in [("a.example", &a), ("x.b.example", &b), ("c.example", &a)] {
        let options = format!("-servername {name} -CAfile {}", own.trusted());
        let said = s_client_at(plimsoll.address(), &options, "");
        assert!(said.contains("Verification: OK"), "{name}: {said}");
    }
}

#[test]
fn the_pool_is_chosen_by_what_was_agreed_on() {
    let own = Authority::make("DNS:a.example,DNS:*.b.example");
    let named = |name: &'static [u8]| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                stream.write_all(name).ok(); // who has left needs nothing
            }
        });
        address
    };
    let (sni, alpn, rest) = (
        named(b"by name\n"),
        named(b"by protocol\n"),
        named(b"the rest\n"),
    );
    let text = format!(
        "admin off\ntcp 127.0.0.1:{{port}} {{ {} ; sni *.b.example -> {sni} ; alpn h2 irc -> {alpn} ; default {rest} }}\n",
        pair(&own)
    );
    let plimsoll = Start::run(&text).start();
    for (options, by, agreed) in [
        (
            "-servername x.b.example -alpn h2",
            "by name",
            "ALPN protocol: h2",
        ),
        (
            "-servername a.example -alpn http/1.1,irc",
            "by protocol",
            "ALPN protocol: irc",
        ),
        // What no rule asks for is not agreed on, and is no reason to refuse anybody.
        (
            "-servername a.example -alpn http/1.1",
            "the rest",
            "No ALPN negotiated",
        ),
        ("-servername a.example", "the rest", "No ALPN negotiated"),
        ("-noservername", "the rest", "No ALPN negotiated"),
    ] {
        let said = s_client_at(plimsoll.address(), &format!("-ign_eof {options}"), "");
        assert!(
            said.contains(by) && said.contains(agreed),
            "{options}: {said}"
        );
    }
}

#[test]
fn clients_may_have_to_show_a_certificate() {
    let own = Authority::make("DNS:a.example");
    let clients = Certifier::make("clients");
    let ada = clients.certify("ada", "/CN=ada", "DNS:ada");
    let (address, _serving) = server(|mut stream| stream.write_all(b"come in\n").unwrap());
    let asked = format!("client-certificate required ca={}", clients.trusted());
    let plimsoll = before(&own, &asked, address, "");
    let said = s_client_at(plimsoll.address(), "-quiet", "");
    assert!(!said.contains("come in"), "{said}");
    let shown = format!("-quiet -ign_eof {}", ada.s_client());
    let said = s_client_at(plimsoll.address(), &shown, "");
    assert!(said.contains("come in"), "{said}");
    assert!(line(&plimsoll).contains("\"cert\":\"CN=ada\""));
}

#[test]
fn nobody_is_connected_who_does_not_speak_tls() {
    let own = Authority::make("DNS:a.example");
    let nobody = ports::local(ports::free());
    let plimsoll = before(&own, "timeout header=200ms", nobody, "");
    let mut silent = Raw::connect(plimsoll.address());
    assert_eq!(silent.read_to_close(PATIENCE).close, Close::Fin);
    let mut plain = Raw::connect(plimsoll.address());
    plain.send(*b"\0\0\0\x08\x04\xd2\x16\x2f").unwrap();
    let _told = plain.read_to_close(PATIENCE);
    let failed = "plimsoll_tls_failures_total";
    wait::expect("the failure", PATIENCE, || {
        let text = get(plimsoll.address_of("admin"), "/metrics").text();
        text.lines()
            .any(|line| line.starts_with(failed) && line.ends_with(" 1"))
    });
    assert_eq!(plimsoll.log("access.log"), Vec::<String>::new());
}
