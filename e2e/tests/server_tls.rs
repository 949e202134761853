//! Servers that are spoken with over TLS. NGINX and OpenSSL are the servers.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::between::NoGoodbye;
use plimsoll_e2e::body::digest;
use plimsoll_e2e::daemon::Daemon;
use plimsoll_e2e::fault::{Fault, Mode};
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::names::{NameServer, Say};
use plimsoll_e2e::nginx::Nginx;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{Raw, get};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Step};
use plimsoll_e2e::{ports, wait};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);

/// A server with the certificate of `authority`.
struct Secure {
    _nginx: Nginx,
    address: SocketAddr,
}

impl Secure {
    fn start(authority: &Authority, directives: &str) -> Self {
        let port = ports::free();
        let versions = match directives.contains("ssl_protocols") {
            true => "",
            false => "ssl_protocols TLSv1.2 TLSv1.3;",
        };
        let directives = format!("{}{versions}{directives}", authority.listen(port));
        Self {
            _nginx: Nginx::start(&directives),
            address: ports::local(port),
        }
    }

    /// One that says who it is.
    fn named(authority: &Authority, name: &str) -> Self {
        Self::start(authority, &format!("location / {{ return 200 {name}; }}"))
    }

    /// One that says what it knows of its client.
    fn telling(authority: &Authority, directives: &str) -> Self {
        let says = "location / { return 200 \"$ssl_protocol $ssl_server_name $ssl_session_reused $connection $ssl_client_verify\"; }";
        Self::start(authority, &format!("{directives}{says}"))
    }

    /// One in front of another.
    fn before(authority: &Authority, server: SocketAddr, directives: &str) -> Self {
        let directives = format!(
            "client_max_body_size 0; location / {{ proxy_pass http://{server}; proxy_http_version 1.1; proxy_set_header Host $http_host; {directives} }}"
        );
        Self::start(authority, &directives)
    }
}

/// Plimsoll with one pool; `top` goes before the site.
fn start_with(top: &str, pool: &str) -> Plimsoll {
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\n{top}\nsite * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{ outlier off\n{pool}\n}}\n"
    );
    Start::run(&text).start()
}

fn start(pool: &str) -> Plimsoll {
    start_with("", pool)
}

fn errors(plimsoll: &Plimsoll, server: SocketAddr, reason: &str) -> f64 {
    let name = format!(
        "plimsoll_upstream_errors_total{{pool=\"app\",server=\"{server}\",reason=\"{reason}\"}}"
    );
    plimsoll.metric(&name).unwrap_or(0.0)
}

#[test]
fn a_server_has_to_prove_who_it_is() {
    let good = Authority::make("DNS:app.internal,IP:127.0.0.1");
    let stranger = Authority::make("DNS:other.internal");
    let expired = Authority::make_expired("DNS:app.internal");
    for (authority, options, problem) in [
        (&good, "sni=app.internal ca=CA", None),
        (&good, "verify=on sni=App.Internal ca=CA", None),
        // Without a name it is the address that is proven.
        (&good, "ca=CA", None),
        (&stranger, "sni=other.internal ca=CA", None),
        (
            &stranger,
            "sni=app.internal ca=CA",
            Some("for another name"),
        ),
        (&stranger, "ca=CA", Some("for another name")),
        (&good, "sni=app.internal", Some("nobody who is trusted")),
        (&expired, "sni=app.internal ca=CA", Some("has expired")),
        (&expired, "verify=off", None),
        (&stranger, "sni=app.internal verify=off", None),
    ] {
        let server = Secure::named(authority, "app");
        let options = options.replace("CA", &authority.trusted());
        let plimsoll = start(&format!("server {} ; tls {options}", server.address));
        let response = get(plimsoll.address(), "/");
        let status = response.field("proxy-status").unwrap_or_default();
        let failed = errors(&plimsoll, server.address, "tls_certificate_error");
        match problem {
            None => assert_eq!(
                (response.text().as_str(), failed),
                ("app", 0.0),
                "{options}"
            ),
            Some(problem) => {
                assert_eq!((response.status(), failed), (502, 1.0), "{options}");
                assert!(status.contains("error=tls_certificate_error"), "{status}");
                assert!(response.text().contains(problem), "{}", response.text());
            }
        }
    }
}

#[test]
fn a_server_with_a_name_has_to_prove_that_name() {
    let authority = Authority::make("DNS:app.example");
    let server = Secure::telling(&authority, "");
    let port = server.address.port();
    let names = NameServer::start(Say::At(vec![Ipv4Addr::LOCALHOST], 1));
    let resolver = format!("resolver {} timeout=500ms", names.address());
    let pool = |name| format!("server {name}:{port} ; tls ca={}", authority.trusted());
    let plimsoll = start_with(&resolver, &pool("app.example"));
    let told = get(plimsoll.address(), "/").text();
    assert!(told.starts_with("TLSv1.3 app.example . "), "{told}");
    let plimsoll = start_with(&resolver, &pool("b.example"));
    assert_eq!(get(plimsoll.address(), "/").status(), 502);
}

#[test]
fn another_server_is_asked_when_one_does_not_prove_who_it_is() {
    let (good, bad) = (
        Authority::make("DNS:app.internal"),
        Authority::make("DNS:app.internal"),
    );
    let (one, two) = (Secure::named(&bad, "one"), Secure::named(&good, "two"));
    let plimsoll = start(&format!(
        "server {} ; server {} ; tls sni=app.internal ca={}",
        one.address,
        two.address,
        good.trusted()
    ));
    for _ in 0..6 {
        assert_eq!(get(plimsoll.address(), "/").text(), "two");
    }
    assert!(errors(&plimsoll, one.address, "tls_certificate_error") >= 2.0);
    // It is ejected as one that cannot be reached.
    let plimsoll = Start::run(&format!(
        "admin 127.0.0.1:{{port:admin}}\nsite * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{ server {} ; server {} ; tls sni=app.internal ca={} ; outlier consecutive-failures=2 }}",
        one.address,
        two.address,
        good.trusted()
    ))
    .start();
    for _ in 0..12 {
        assert_eq!(get(plimsoll.address(), "/").text(), "two");
    }
    assert_eq!(errors(&plimsoll, one.address, "tls_certificate_error"), 2.0);
}

#[test]
fn a_server_without_tls_is_not_taken_for_one_with_it() {
    let plain = Nginx::start("location / { return 200 plain; }");
    let closing = Recorder::start(|_| Answer::ok("never"));
    let silent = Fault::start(Mode::Silent);
    for (server, status, reason) in [
        (plain.address(), 502, "tls_protocol_error"),
        (closing.address(), 502, "tls_protocol_error"),
        (silent.address(), 504, "connection_timeout"),
    ] {
        let plimsoll = start(&format!(
            "server {server} ; tls verify=off ; timeout connect=500ms"
        ));
        let response = get(plimsoll.address(), "/");
        assert_eq!(response.status(), status, "{reason}");
        let told = response.field("proxy-status").unwrap_or_default();
        assert!(told.contains(reason), "{told}");
        assert!(errors(&plimsoll, server, reason) >= 1.0);
    }
}

#[test]
fn servers_are_shown_who_we_are() {
    let server = Authority::make("DNS:app.internal");
    let (client, stranger) = (Authority::make("DNS:edge"), Authority::make("DNS:edge"));
    let asks = format!(
        "ssl_verify_client optional; ssl_client_certificate {};",
        client.trusted()
    );
    let nginx = Secure::telling(&server, &asks);
    let told = |identity: Option<&Authority>| {
        let identity =
            identity.map(|of| format!("certificate={} key={}", of.certificate(), of.key()));
        let plimsoll = start(&format!(
            "server {} ; tls sni=app.internal ca={} {}",
            nginx.address,
            server.trusted(),
            identity.unwrap_or_default()
        ));
        get(plimsoll.address(), "/").text()
    };
    assert!(told(Some(&client)).ends_with(" SUCCESS"));
    assert!(told(None).ends_with(" NONE"));
    assert!(
        told(Some(&stranger)).contains("400 "),
        "NGINX says so in HTTP"
    );
}

/// OpenSSL's server, which lets nobody in without a certificate.
fn guarded(server: &Authority, client: &Authority, more: &str) -> (Daemon, SocketAddr) {
    let port = ports::free();
    let mut command = Command::new("openssl");
    command.args(["s_server", "-www", "-Verify", "1", "-verify_return_error"]);
    command.args(["-accept", &format!("127.0.0.1:{port}")]);
    command.args(["-cert", &server.certificate(), "-key", &server.key()]);
    command.args(["-CAfile", &client.trusted()]);
    command.args(more.split(' ').filter(|word| !word.is_empty()));
    let mut daemon = Daemon::spawn("openssl", "install the Debian package openssl", command);
    daemon.wait_listening(&[port]);
    (daemon, ports::local(port))
}

#[test]
fn a_server_that_does_not_let_us_in_has_not_seen_the_request() {
    let server = Authority::make("DNS:app.internal");
    let (client, stranger) = (Authority::make("DNS:edge"), Authority::make("DNS:edge"));
    let open = Secure::named(&server, "open");
    for version in ["-tls1_2", "-tls1_3"] {
        let (_daemon, address) = guarded(&server, &client, version);
        let pool = |more: &str| {
            format!(
                "server {address} ; tls sni=app.internal ca={} {more}",
                server.trusted()
            )
        };
        let of = |of: &Authority| format!("certificate={} key={}", of.certificate(), of.key());
        let plimsoll = start(&pool(&of(&client)));
        assert_eq!(get(plimsoll.address(), "/").status(), 200, "{version}");
        for more in [String::new(), of(&stranger)] {
            let plimsoll = start(&pool(&more));
            let response = get(plimsoll.address(), "/");
            let told = response.field("proxy-status").unwrap_or_default();
            assert_eq!(response.status(), 502, "{version} {more}");
            assert!(
                told.contains("tls_alert_received"),
                "{version} {more}: {told}"
            );
        }
        // Even what must not be done twice goes elsewhere.
        let plimsoll = start(&format!(
            "{} ; server {} ; balance first",
            pool(""),
            open.address
        ));
        let mut raw = Raw::connect(plimsoll.address());
        raw.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
            .unwrap();
        assert_eq!(raw.response("POST").text(), "open", "{version}");
        assert_eq!(errors(&plimsoll, address, "tls_alert_received"), 1.0);
    }
}

fn handshakes(plimsoll: &Plimsoll, resumed: bool) -> f64 {
    let name =
        format!("plimsoll_upstream_tls_handshakes_total{{pool=\"app\",resumed=\"{resumed}\"}}");
    plimsoll.metric(&name).unwrap()
}

#[test]
fn sessions_are_taken_up_again_and_each_server_knows_its_own() {
    let authority = Authority::make("DNS:app.internal");
    for (protocol, said) in [("TLSv1.3", "TLSv1.3"), ("TLSv1.2", "TLSv1.2")] {
        let directives = format!("ssl_protocols {protocol}; ssl_session_cache builtin;");
        let (one, two) = (
            Secure::telling(&authority, &directives),
            Secure::telling(&authority, &directives),
        );
        let plimsoll = start(&format!(
            "server {} ; server {} ; keep-alive off ; tls sni=app.internal ca={}",
            one.address,
            two.address,
            authority.trusted()
        ));
        let told: Vec<String> = (0..6)
            .map(|_| get(plimsoll.address(), "/").text())
            .collect();
        let begin = |reused| format!("{said} app.internal {reused} ");
        assert!(
            told.iter()
                .take(2)
                .all(|told| told.starts_with(&begin("."))),
            "{told:?}"
        );
        assert!(
            told.iter()
                .skip(2)
                .all(|told| told.starts_with(&begin("r"))),
            "{told:?}"
        );
        assert_eq!(
            (handshakes(&plimsoll, false), handshakes(&plimsoll, true)),
            (2.0, 4.0)
        );
    }
}

#[test]
fn connections_are_kept_and_go_from_one_worker_to_another_with_their_session() {
    let authority = Authority::make("DNS:app.internal");
    let server = Secure::telling(&authority, "keepalive_requests 1000;");
    let plimsoll = start_with(
        "workers 2",
        &format!(
            "server {} ; tls sni=app.internal ca={}",
            server.address,
            authority.trusted()
        ),
    );
    let first = get(plimsoll.address(), "/").text();
    // Each comes on a connection of its own, which either worker may accept.
    for _ in 0..40 {
        assert_eq!(get(plimsoll.address(), "/").text(), first);
    }
    // POST asks the kernel whether the connection is still silent.
    let mut raw = Raw::connect(plimsoll.address());
    for _ in 0..3 {
        raw.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        assert_eq!(raw.response("POST").text(), first);
    }
    assert_eq!(handshakes(&plimsoll, false), 1.0);
}

#[test]
fn a_kept_connection_that_the_server_closed_is_not_used() {
    let authority = Authority::make("DNS:app.internal");
    let server = Secure::telling(&authority, "keepalive_timeout 1s;");
    let plimsoll = start(&format!(
        "server {} ; tls sni=app.internal ca={}",
        server.address,
        authority.trusted()
    ));
    let first = get(plimsoll.address(), "/").text();
    wait::expect("a new connection", SOON, || {
        let response = get(plimsoll.address(), "/");
        assert_eq!(response.status(), 200);
        std::thread::sleep(Duration::from_millis(1100));
        response.text() != first
    });
}

#[test]
fn bodies_pass_whole_either_way() {
    const LARGE: usize = 1024 * 1024 + 7;
    let body: Vec<u8> = (0..LARGE)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    let down = body.clone();
    let recorder = Recorder::start(move |request| match request.head.target.as_str() {
        "/chunked" => {
            let chunk = [b"100007\r\n", &down[..], b"\r\n0\r\n\r\n"].concat();
            Answer::bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                .then(Step::Send(chunk))
        }
        _ => Answer::ok(&down),
    });
    let authority = Authority::make("DNS:app.internal");
    let server = Secure::before(
        &authority,
        recorder.address(),
        "proxy_request_buffering off;",
    );
    let plimsoll = start(&format!(
        "server {} ; tls sni=app.internal ca={}",
        server.address,
        authority.trusted()
    ));
    for (number, target) in ["/", "/chunked", "/"].into_iter().enumerate() {
        let mut raw = Raw::connect(plimsoll.address());
        let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGE}\r\n\r\n");
        raw.send(head).unwrap();
        raw.send(&body).unwrap();
        let response = raw.response("POST");
        assert_eq!(response.body.digest, digest(&body), "{target}");
        let received = recorder.requests().remove(number);
        assert_eq!(received.body.digest, digest(&body), "{target}");
        assert_eq!(received.head.fields.first("host"), Some("x"));
    }
}

#[test]
fn an_answer_that_somebody_cut_off_is_not_whole() {
    let recorder = Recorder::start(|_| {
        Answer::bytes("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it").then(Step::Close)
    });
    let authority = Authority::make("DNS:app.internal");
    let close = "chunked_transfer_encoding off; proxy_buffering off;";
    let server = Secure::before(&authority, recorder.address(), close);
    let between = NoGoodbye::before(server.address);
    let ask = |address: SocketAddr| {
        let plimsoll = start(&format!(
            "server {address} ; tls sni=app.internal ca={}",
            authority.trusted()
        ));
        let mut raw = Raw::connect(plimsoll.address());
        raw.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let whole = raw.try_response("GET").map(|response| response.text());
        (
            whole.ok(),
            errors(&plimsoll, address, "http_response_incomplete"),
        )
    };
    assert_eq!(ask(server.address).0.as_deref(), Some("half of it"));
    assert_eq!(ask(between.address()).0, None);
}

fn expect_state(plimsoll: &Plimsoll, server: SocketAddr, state: &str) {
    let name =
        format!("plimsoll_server_state{{pool=\"app\",server=\"{server}\",state=\"{state}\"}}");
    if wait::until(SOON, || plimsoll.metric(&name)).is_none() {
        panic!("{server} is not {state}:\n{}", plimsoll.stderr());
    }
}

#[test]
fn checks_ask_over_tls_as_requests_do() {
    let authority = Authority::make("DNS:app.internal");
    let expired = Authority::make_expired("DNS:app.internal");
    let health = "location / { return 200 \"$ssl_server_name\"; }";
    let server = Secure::start(&authority, health);
    let plain = Nginx::start("location / { return 200 plain; }");
    let checked = |server: SocketAddr, trusted: &Authority, check: &str| {
        start(&format!(
            "server {server} ; tls sni=app.internal ca={} ; check {check} every=100ms fast=100ms initial=down",
            trusted.trusted()
        ))
    };
    for check in ["GET / body=app.internal", "tcp", "tls"] {
        let plimsoll = checked(server.address, &authority, check);
        expect_state(&plimsoll, server.address, "ready");
    }
    let elsewhere = format!("GET / body=plain tls=off port={}", plain.address().port());
    let plimsoll = checked(server.address, &authority, &elsewhere);
    expect_state(&plimsoll, server.address, "ready");
    // One that no request could be sent to is down.
    let old = Secure::start(&expired, health);
    for check in ["GET / body=app.internal", "tcp"] {
        let plimsoll = checked(old.address, &expired, check);
        expect_state(&plimsoll, old.address, "unreachable");
    }
}

#[test]
fn those_who_are_trusted_are_changed_while_we_serve() {
    let (old, new) = (
        Authority::make("DNS:app.internal"),
        Authority::make("DNS:app.internal"),
    );
    let server = Secure::named(&new, "app");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let put = |text: &[u8]| {
        let next = file.with_extension("next");
        fs::write(&next, text).unwrap();
        fs::rename(&next, &file).unwrap();
    };
    put(&fs::read(old.trusted()).unwrap());
    let plimsoll = start(&format!(
        "server {} ; keep-alive off ; tls sni=app.internal ca={}",
        server.address,
        file.display()
    ));
    let reads = |result: &str| {
        let name = format!(
            "plimsoll_file_reads_total{{file=\"{}\",kind=\"ca\",result=\"{result}\"}}",
            file.display()
        );
        plimsoll.metric(&name).unwrap()
    };
    assert_eq!(get(plimsoll.address(), "/").status(), 502);
    put(&fs::read(new.trusted()).unwrap());
    wait::expect("the new file", SOON, || reads("taken") > 1.5);
    assert_eq!(get(plimsoll.address(), "/").status(), 200);
    put(b"nobody");
    wait::expect("a refusal", SOON, || reads("refused") > 0.5);
    assert_eq!(get(plimsoll.address(), "/").status(), 200);
    put(&fs::read(old.trusted()).unwrap());
    wait::expect("the old file", SOON, || reads("taken") > 2.5);
    // What was agreed on before, with one who is not trusted any more, does not count.
    assert_eq!(get(plimsoll.address(), "/").status(), 502);
}

#[test]
fn files_that_cannot_be_used_are_found_out_at_the_start() {
    let (a, b) = (Authority::make("DNS:a"), Authority::make("DNS:b"));
    for (options, problem) in [
        ("ca=/nowhere.pem".to_owned(), "No such file"),
        (format!("ca={}", a.key()), "no certificate stands in it"),
        (
            format!("verify=off certificate={} key={}", a.certificate(), b.key()),
            "the key is not that of the certificate",
        ),
    ] {
        let text = format!(
            "admin off\nsite * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
             pool app {{ server 127.0.0.1:1 ; tls {options} }}"
        );
        let mut plimsoll = Start::run(&text).spawn();
        assert_eq!(plimsoll.wait_exit(SOON).code(), Some(78));
        assert!(plimsoll.stderr().contains(problem), "{}", plimsoll.stderr());
    }
}

#[test]
fn whatever_asks_a_pool_asks_it_over_tls() {
    let authority = Authority::make("DNS:app.internal");
    let slow = Recorder::start(|request| match request.head.target.as_str() {
        "/slow" => Answer::ok("slow").after(Step::Wait(Duration::from_millis(600))),
        _ => Answer::ok("app"),
    });
    let auth = Secure::start(
        &authority,
        "location / { if ($http_authorization = \"\") { return 401; } return 204; }",
    );
    let (one, two) = (
        Secure::before(&authority, slow.address(), ""),
        Secure::named(&authority, "two"),
    );
    let mirrored = Recorder::start(|_| Answer::ok("copy"));
    let copies = Secure::before(&authority, mirrored.address(), "");
    let tls = format!("tls sni=app.internal ca={}", authority.trusted());
    let text = format!(
        "admin off\nsite * {{ listen 127.0.0.1:{{port}}\n\
         route /in {{ forward-auth auth / ; proxy app }}\n\
         route {{ mirror copies ; proxy app }} }}\n\
         pool auth {{ server {} ; {tls} }}\npool copies {{ server {} ; {tls} }}\n\
         pool app {{ server {} ; server {} ; {tls} ; balance first ; hedge 50ms budget=100% }}\n",
        auth.address, copies.address, one.address, two.address
    );
    let plimsoll = Start::run(&text).start();
    assert_eq!(get(plimsoll.address(), "/in").status(), 401);
    let mut raw = Raw::connect(plimsoll.address());
    raw.send("GET /in HTTP/1.1\r\nHost: x\r\nAuthorization: Basic eDp5\r\n\r\n")
        .unwrap();
    assert_eq!(raw.response("GET").text(), "app");
    for _ in 0..3 {
        assert_eq!(get(plimsoll.address(), "/").text(), "app");
    }
    mirrored.wait_completed(3, SOON);
    // A server that is slow has sent its tickets; they are no answer.
    for _ in 0..3 {
        assert_eq!(get(plimsoll.address(), "/slow").text(), "two");
    }
}
