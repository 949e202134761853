//! Certificates that are asked for while we serve. Pebble is the issuer.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::acme::{SOON, Stand, orders};
use plimsoll_e2e::bind::Bind;
use plimsoll_e2e::pebble::Pebble;
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::{ports, wait};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// What is said of a secret that is none.
const EVERYBODY: &str = "everybody on the machine may use it: `chmod o= FILE`";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// S-163: nobody else reads the key of the account, or that of the certificate.
#[test]
fn a_certificate_comes_over_http_is_kept_and_survives_a_restart() {
    let stand = Stand::new();
    let pebble = stand.pebble().start();
    let root = pebble.root();
    let plimsoll = stand.plimsoll("email=admin@example.com", &pebble.issuer());
    stand.wait(&plimsoll, "a.example", &root);
    stand.wait(&plimsoll, "b.example", &root);
    assert_eq!(pebble.given(), 1, "{}", pebble.said());
    assert_eq!(orders(&plimsoll, "issued"), 1.0);
    assert_eq!(orders(&plimsoll, "failed"), 0.0);
    let said = plimsoll.stderr();
    assert!(
        said.contains("until there is one, clients are refused"),
        "{said}"
    );
    let state = stand.state();
    assert_eq!((mode(&state), mode(&stand.file())), (0o700, 0o600));
    let accounts = state.join("accounts");
    assert_eq!(mode(&accounts), 0o700);
    let account = fs::read_dir(accounts).unwrap().next().unwrap().unwrap();
    assert_eq!(mode(&account.path()), 0o600);
    let before = stand.kept();
    drop(plimsoll);
    // What is kept is served without asking anybody.
    let plimsoll = stand.plimsoll("", &pebble.issuer());
    assert_eq!(stand.get("a.example", &root).unwrap(), "here");
    assert_eq!(orders(&plimsoll, "issued"), 0.0);
    assert_eq!((stand.kept(), pebble.given()), (before, 1));
}

#[test]
fn a_certificate_comes_over_tls_alone() {
    let stand = Stand::new();
    let pebble = stand.pebble().start();
    let plimsoll = stand.plimsoll("challenge=tls-alpn-01", &pebble.issuer());
    stand.wait(&plimsoll, "b.example", &pebble.root());
    assert_eq!(pebble.given(), 1, "{}", pebble.said());
    // The protocol of challenges is for issuers, and only while they ask.
    let mut client = Command::new("openssl");
    client.args([
        "s_client",
        "-alpn",
        "acme-tls/1",
        "-servername",
        "a.example",
    ]);
    client.args(["-connect", &format!("127.0.0.1:{}", stand.tls)]);
    let said = client.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("no peer certificate available"), "{said}");
}

/// Errors of every kind are met with another attempt; nonces that are refused with another one at once.
#[test]
fn an_issuer_that_is_difficult_gives_a_certificate_in_the_end() {
    let stand = Stand::new();
    let pebble = stand.pebble().environment("PEBBLE_WFE_NONCEREJECT", "30");
    let pebble = pebble.environment("PEBBLE_AUTHZREUSE", "100").start();
    let plimsoll = stand.plimsoll("", &pebble.issuer());
    stand.wait(&plimsoll, "a.example", &pebble.root());
}

#[test]
fn who_is_known_elsewhere_says_so() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let stand = Stand::new();
    let pebble = stand.pebble().bound_to("we", key).start();
    let file = stand.place("eab.key");
    fs::write(&file, format!("{key}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let issuer = format!("{} kid=we key={}", pebble.issuer(), file.display());
    let plimsoll = stand.plimsoll("", &issuer);
    wait::expect("a refusal", SOON, || plimsoll.stderr().contains(EVERYBODY));
    assert_eq!(pebble.given(), 0);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    stand.wait(&plimsoll, "a.example", &pebble.root());
}

#[test]
fn a_certificate_is_renewed_before_its_end_and_without_a_gap() {
    let stand = Stand::new();
    let pebble = stand.pebble().lifetime(20).start();
    let root = pebble.root();
    let plimsoll = stand.plimsoll("", &pebble.issuer());
    stand.wait(&plimsoll, "a.example", &root);
    let before = stand.kept();
    wait::expect("another certificate", SOON, || {
        assert_eq!(stand.get("a.example", &root).as_deref(), Some("here"));
        stand.kept() != before
    });
    assert!(orders(&plimsoll, "issued") >= 2.0);
    assert_eq!(orders(&plimsoll, "failed"), 0.0);
}

#[test]
fn the_next_issuer_is_asked_when_one_is_down() {
    let stand = Stand::new();
    let pebble = stand.pebble().start();
    let down = format!("acme-issuer https://127.0.0.1:{}/dir", ports::free());
    let issuers = format!("{down} ca={}\n{}", pebble.ca(), pebble.issuer());
    let plimsoll = stand.plimsoll("", &issuers);
    stand.wait(&plimsoll, "a.example", &pebble.root());
    assert_eq!(
        (orders(&plimsoll, "failed"), orders(&plimsoll, "issued")),
        (1.0, 1.0)
    );
    let said = plimsoll.stderr();
    assert!(
        said.contains("an order has failed") && said.contains("Connection refused"),
        "{said}"
    );
}

#[test]
fn what_failed_is_tried_where_it_reaches_no_limit() {
    let stand = Stand::new();
    let port = ports::free();
    // The issuer comes to a port where nobody listens.
    let elsewhere = Pebble::asking(ports::free(), ports::free())
        .port(port)
        .start();
    let trial = stand.pebble().start();
    let ca = stand.place("ca.pem");
    let both = [elsewhere.ca(), trial.ca()].map(|file| fs::read_to_string(file).unwrap());
    fs::write(&ca, both.concat()).unwrap();
    let (url, staging) = (elsewhere.url(), trial.url());
    let issuer = format!("acme-issuer {url} staging={staging} ca={}", ca.display());
    let plimsoll = stand.plimsoll("", &issuer);
    wait::expect(
        "a trial that succeeds, and an order that fails",
        SOON,
        || orders(&plimsoll, "trial") >= 1.0 && orders(&plimsoll, "failed") >= 2.0,
    );
    assert!(trial.given() >= 1);
    let said = plimsoll.stderr();
    assert!(
        said.contains("`a.example`") && said.contains("again_in"),
        "{said}"
    );
    drop((elsewhere, trial));
    // A trial that fails costs the issuer no order.
    wait::expect("a trial that fails", SOON, || {
        plimsoll.stderr().contains("in a trial:")
    });
}

#[test]
fn who_comes_second_waits_and_finds_the_certificate() {
    let stand = Stand::new();
    let pebble = stand.pebble().start();
    let root = pebble.root();
    // The second listens elsewhere, and keeps what it has in the same place.
    let other = Stand::new();
    std::os::unix::fs::symlink(stand.state(), other.state()).unwrap();
    fs::create_dir(stand.state()).unwrap();
    let first = stand.plimsoll("", &pebble.issuer());
    let second = other.plimsoll("", &pebble.issuer());
    stand.wait(&first, "a.example", &root);
    other.wait(&second, "a.example", &root);
    assert_eq!(pebble.given(), 1, "{}", pebble.said());
    assert_eq!(orders(&first, "issued") + orders(&second, "issued"), 1.0);
}

#[test]
fn an_issuer_that_has_forgotten_us_gets_to_know_us_again() {
    let stand = Stand::new();
    let port = ports::free();
    let authority = plimsoll_e2e::issuer::Authority::make("IP:127.0.0.1");
    let first = stand.pebble().port(port).authority(authority).start();
    let (issuer, root) = (first.issuer(), first.root());
    let plimsoll = stand.plimsoll("", &issuer);
    stand.wait(&plimsoll, "a.example", &root);
    drop(plimsoll);
    let authority = first.stop();
    fs::remove_file(stand.file()).unwrap();
    let second = stand.pebble().port(port).authority(authority).start();
    let plimsoll = stand.plimsoll("", &issuer);
    stand.wait(&plimsoll, "a.example", &second.root());
    assert!(
        plimsoll
            .stderr()
            .contains("our account is not known any more")
    );
}

#[test]
fn what_is_kept_and_broken_is_replaced_and_a_further_host_asked_for() {
    let stand = Stand::new();
    let pebble = stand.pebble().start();
    let root = pebble.root();
    fs::create_dir_all(stand.file().parent().unwrap()).unwrap();
    fs::write(stand.file(), "half a certificate").unwrap();
    fs::set_permissions(stand.file(), fs::Permissions::from_mode(0o600)).unwrap();
    let plimsoll = stand.serve("", &pebble.issuer(), "a.example");
    stand.wait(&plimsoll, "a.example", &root);
    drop(plimsoll);
    let plimsoll = stand.plimsoll("", &pebble.issuer());
    assert_eq!(
        stand.get("a.example", &root).unwrap(),
        "here",
        "the old one still counts"
    );
    stand.wait(&plimsoll, "b.example", &root);
}

/// S-163: what a client writes leads nowhere but into memory, and only a token that is asked for.
#[test]
fn paths_of_challenges_that_nobody_asks_for_go_to_the_routes() {
    let stand = Stand::new();
    let pebble = stand
        .pebble()
        .environment("PEBBLE_VA_ALWAYS_VALID", "1")
        .start();
    let plimsoll = stand.plimsoll("", &pebble.issuer());
    for path in ["x", "", "../../etc/passwd", "..%2f..%2fetc/passwd", "%00"] {
        let mut client = Raw::connect(ports::local(stand.http));
        let head =
            format!("GET /.well-known/acme-challenge/{path} HTTP/1.1\r\nHost: a.example\r\n\r\n");
        client.send(head).unwrap();
        let status = client.response("GET").status();
        assert!(status == 403 || status == 400, "{path}: {status}");
    }
    stand.wait(&plimsoll, "a.example", &pebble.root());
}

#[test]
fn wildcards_are_certified_by_a_record_that_goes_away_again() {
    let stand = Stand::new();
    let bind = Bind::start("example");
    let pebble = stand.pebble().names(bind.address()).start();
    let root = pebble.root();
    let update = format!(
        "dns-update {} zone=example key={}",
        bind.address(),
        bind.key()
    );
    let issuers = format!("{}\n{update}", pebble.issuer());
    let plimsoll = stand.serve("challenge=dns-01", &issuers, "a.example *.a.example");
    stand.wait(&plimsoll, "a.example", &root);
    stand.wait(&plimsoll, "x.a.example", &root);
    let said = bind.said();
    let count = |what| said.matches(what).count();
    assert_eq!(
        (count("adding an RR"), count("deleting an RR")),
        (2, 2),
        "{said}"
    );
    drop(plimsoll);
    // Another key under the same name.
    let key = fs::read_to_string(bind.key()).unwrap();
    fs::write(bind.key(), key.replace("RtZq", "AAAA")).unwrap();
    fs::set_permissions(bind.key(), fs::Permissions::from_mode(0o644)).unwrap();
    fs::remove_file(stand.file()).unwrap();
    let plimsoll = stand.serve("challenge=dns-01", &issuers, "a.example *.a.example");
    let says = |what| plimsoll.stderr().contains(what);
    wait::expect("a refusal by us", SOON, || says(EVERYBODY));
    fs::set_permissions(bind.key(), fs::Permissions::from_mode(0o600)).unwrap();
    wait::expect("a refusal", SOON, || says("it refuses the change"));
}

/// While an issuer wants to know, who asks in its place sees what is meant for it and no more.
#[test]
fn a_challenge_is_answered_for_its_host_and_token_until_it_is_over() {
    let stand = Stand::new();
    let http = stand.http;
    let asked: Arc<Mutex<Vec<(String, u16, String)>>> = Arc::default();
    let noted = Arc::clone(&asked);
    let ask = move |method: &str, host: &str, path: &str| {
        let mut client = Raw::connect(ports::local(http));
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
        client.send(head).unwrap();
        let response = client.response(method);
        (response.status(), response.text())
    };
    // The issuer comes here, finds a wrong answer, and we look at what it would have found.
    let between = Recorder::start(move |request| {
        let path = request.head.target.clone();
        for (method, host) in [
            ("GET", "a.example"),
            ("GET", "A.EXAMPLE:80"),
            ("GET", "c.example"),
            ("POST", "a.example"),
        ] {
            let (status, text) = ask(method, host, &path);
            let what = format!("{method} {host} {path}");
            noted.lock().unwrap().push((what, status, text));
        }
        Answer::ok("wrong")
    });
    let pebble = Pebble::asking(between.address().port(), stand.tls).start();
    let plimsoll = stand.serve("", &pebble.issuer(), "a.example");
    wait::expect("a failure", SOON, || orders(&plimsoll, "failed") >= 1.0);
    let said = plimsoll.stderr();
    assert!(
        said.contains("`a.example`") && said.contains("unauthorized"),
        "{said}"
    );
    let asked = asked.lock().unwrap();
    for (what, status, text) in asked.iter() {
        let path = what.rsplit(' ').next().unwrap();
        let token = path.rsplit('/').next().unwrap();
        let is_told = what.starts_with("GET a.") || what.starts_with("GET A.");
        assert_eq!(*status, if is_told { 200 } else { 403 }, "{what}");
        assert_eq!(
            text.starts_with(&format!("{token}.")),
            is_told,
            "{what}: {text}"
        );
    }
    let path = asked
        .first()
        .unwrap()
        .0
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned();
    let mut client = Raw::connect(ports::local(http));
    let head = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n");
    client.send(head).unwrap();
    assert_eq!(client.response("GET").status(), 403, "it is over");
}

#[test]
fn nothing_is_served_where_only_a_challenge_is_shown() {
    let stand = Stand::new();
    // The issuer is kept waiting.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let pebble = Pebble::asking(ports::free(), port).start();
    let _plimsoll = stand.serve("challenge=tls-alpn-01", &pebble.issuer(), "a.example");
    let address = format!("127.0.0.1:{}", stand.tls);
    let said = wait::until(SOON, || {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-alpn", "acme-tls/1", "-ign_eof"]);
        client.args(["-servername", "a.example", "-connect", &address]);
        client
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut client = client.spawn().unwrap();
        let head = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
        let _ = client.stdin.take().unwrap().write_all(head.as_bytes());
        let output = client.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.contains("ALPN protocol: acme-tls/1").then_some(said)
    });
    let said = said.unwrap();
    assert!(
        said.contains("BEGIN CERTIFICATE") && !said.contains("HTTP/1.1"),
        "{said}"
    );
}
