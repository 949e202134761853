//! Clients that show certificates. OpenSSL and curl are the clients.

use plimsoll_e2e::certifier::{Certifier, Shown, put};
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::tls::{curl, pair, s_client, s_client_at};
use plimsoll_e2e::wait;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const URL: &str = "https://a.example/";
const LAST: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

/// Plimsoll with one site that asks for certificates like this, and its own authority.
fn start(asks: &str, routes: &str) -> (Plimsoll, Authority, Recorder) {
    let own = Authority::make("DNS:a.example,DNS:b.example");
    let server = Recorder::start(|_| Answer::ok("app"));
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\n\
         site a.example {{ listen 127.0.0.1:{{port}} ; {} ; log access.log ; client-certificate {asks}\n{routes} }}\n",
        pair(&own)
    );
    let plimsoll = Start::run(&text).set("server", server.address()).start();
    (plimsoll, own, server)
}

fn get(
    plimsoll: &Plimsoll,
    own: &Authority,
    shown: Option<&Shown>,
    more: &[&str],
) -> Option<String> {
    let mut options: Vec<&str> = shown.map(|shown| shown.curl().to_vec()).unwrap_or_default();
    options.extend(more);
    curl(plimsoll, own, URL, &options)
}

/// What stands between the lines of a file in PEM.
fn base64(pem: &str) -> Vec<String> {
    let blocks = pem.split("-----BEGIN CERTIFICATE-----").skip(1);
    let bodies = blocks.map(|block| block.split("-----END").next().unwrap_or_default());
    bodies
        .map(|body| body.split_whitespace().collect())
        .collect()
}

#[test]
fn clients_without_a_certificate_are_refused() {
    let (ours, others) = (Certifier::make("ours"), Certifier::make("others"));
    let eve = others.certify("eve", "/CN=ada", "DNS:ada.example");
    let asks = format!("required ca={}", ours.trusted());
    let (plimsoll, own, _) = start(&asks, "route { respond 200 here }");
    assert_eq!(get(&plimsoll, &own, None, &[]), None);
    assert_eq!(get(&plimsoll, &own, Some(&eve), &[]), None);
    let said = s_client(&plimsoll, "-ign_eof -servername a.example", LAST);
    assert!(said.contains("alert number 116"), "{said}");
    let options = "-tls1_2 -ign_eof -servername a.example";
    let said = s_client(&plimsoll, options, LAST);
    assert!(!said.contains("HTTP/1.1 200"), "{said}");
}

#[test]
fn servers_learn_who_clients_are() {
    let ours = Certifier::make("ours");
    let ada = ours.certify(
        "ada",
        "/O=Acme, Inc./CN=ada",
        "DNS:ada.example,email:ada@a.example,URI:x:a,IP:10.0.0.1",
    );
    let routes = "request-header set X-Names \"${client.certificate.san}\"\n\
        request-header set X-Subject \"${client.certificate.subject}|${client.certificate.issuer}|${client.certificate.serial}|${client.certificate.fingerprint}|${client.certificate.verified}\"\n\
        route { proxy {server} }";
    let asks = format!("required ca={}", ours.trusted());
    let (plimsoll, own, server) = start(&asks, routes);
    let forged = [
        "-H",
        "Client-Cert: :AAAA:",
        "-H",
        "Client-Cert-Chain: :AAAA:",
        "-H",
        "Client_Cert: :AAAA:",
        "-H",
        "X-Subject: root",
        "-H",
        "X_Names: root",
        "-H",
        "x-client-cert: root",
    ];
    assert_eq!(
        get(&plimsoll, &own, Some(&ada), &forged).unwrap(),
        "app 200"
    );
    let head = server.requests().remove(0).head;
    let pem = std::fs::read_to_string(&ada.certificate).unwrap();
    let certificate = format!(":{}:", base64(&pem).remove(0));
    let all = |name: &str| {
        let fields = head.fields.all(name);
        fields.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(all("client-cert"), [certificate]);
    assert_eq!(all("client-cert-chain"), [""; 0]);
    for forged in ["client_cert", "x_names", "x-client-cert"] {
        assert_eq!(all(forged), [""; 0], "{forged}");
    }
    assert_eq!(
        all("x-names"),
        ["DNS:ada.example,email:ada@a.example,URI:x:a,IP:10.0.0.1"]
    );
    let print = |what: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["x509", "-noout", "-in", &ada.certificate]);
        let output = command.args(what).output().unwrap().stdout;
        let text = String::from_utf8(output).unwrap().to_lowercase();
        text.trim().rsplit('=').next().unwrap().replace(':', "")
    };
    let subject = [
        "CN=ada,O=Acme\\, Inc.",
        &ours.subject(),
        &print(&["-serial"]),
        &print(&["-fingerprint", "-sha256"]),
        "yes",
    ];
    assert_eq!(all("x-subject"), [subject.join("|")]);
    let line = plimsoll.wait_log("access.log", 1, SOON).remove(0);
    for part in [
        r#""tls":"TLSv1.3""#,
        r#""alpn":"#,
        r#""sni":"a.example""#,
        r#""cert":"CN=ada,O=Acme\\, Inc.""#,
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn the_chain_is_passed_on_where_that_is_asked_for() {
    let ours = Certifier::make("ours");
    let ada = ours.certify_below("ada", "/CN=ada");
    let asks = format!("required ca={} pass=chain", ours.trusted());
    let (plimsoll, own, server) = start(&asks, "trust-proxy 127.0.0.1\nroute { proxy {server} }");
    // Not even a proxy that is trusted says who a client is whose certificate we see.
    let forged = [
        "-H",
        "Client-Cert: :AAAA:",
        "-H",
        "X-Forwarded-For: 10.0.0.1",
    ];
    assert_eq!(
        get(&plimsoll, &own, Some(&ada), &forged).unwrap(),
        "app 200"
    );
    let head = server.requests().remove(0).head;
    let chain = base64(&std::fs::read_to_string(&ada.certificate).unwrap());
    let certificate = format!(":{}:", chain[0]);
    let below = format!(":{}:", chain[1]);
    assert!(head.fields.all("client-cert").eq([&*certificate]));
    assert!(head.fields.all("client-cert-chain").eq([&*below]));
}

#[test]
fn rules_tell_clients_apart_where_a_certificate_is_optional() {
    let (ours, others) = (Certifier::make("ours"), Certifier::make("others"));
    let ada = ours.certify("ada", "/CN=ada", "DNS:ada.example,DNS:b.example");
    let bob = ours.certify("bob", "/CN=bob", "DNS:bob.example");
    let eve = others.certify("eve", "/CN=eve", "DNS:ada.example");
    let routes = "route certificate:san=DNS:b.example { respond 200 staff }\n\
        route certificate:subject~CN=bob { respond 200 \"bob ${client.certificate.verified}\" }\n\
        route certificate:verified=no { respond 200 \"stranger ${client.certificate.verified}${client.certificate.subject}\" }\n\
        route not:certificate:verified { respond 500 }\n\
        route { respond 500 }";
    let asks = format!("optional ca={} pass=off", ours.trusted());
    let (plimsoll, own, _) = start(&asks, routes);
    let get = |shown| get(&plimsoll, &own, shown, &[]);
    assert_eq!(get(Some(&ada)).unwrap(), "staff 200");
    assert_eq!(get(Some(&bob)).unwrap(), "bob yes 200");
    assert_eq!(get(None).unwrap(), "stranger no 200");
    assert_eq!(get(Some(&eve)), None);
}

#[test]
fn what_is_revoked_is_refused_in_new_and_in_earlier_sessions() {
    let ours = Certifier::make("ours");
    let ada = ours.certify("ada", "/CN=ada", "DNS:ada.example");
    let bob = ours.certify("bob", "/CN=bob", "DNS:bob.example");
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("crl.pem");
    ours.list_revoked(&list);
    let asks = format!("required ca={} crl={}", ours.trusted(), list.display());
    let (plimsoll, own, _) = start(&asks, "route { respond 200 ${client.certificate.subject} }");
    assert_eq!(get(&plimsoll, &own, Some(&ada), &[]).unwrap(), "CN=ada 200");
    let session = |name: &str| directory.path().join(name).display().to_string();
    let options = |version: &str, rest: &str| {
        format!(
            "-{version} -ign_eof -servername a.example {} {rest}",
            ada.s_client()
        )
    };
    for version in ["tls1_2", "tls1_3"] {
        let first = options(version, &format!("-sess_out {}", session(version)));
        assert!(s_client(&plimsoll, &first, LAST).contains("HTTP/1.1 200"));
        let again = options(version, &format!("-sess_in {}", session(version)));
        let said = s_client(&plimsoll, &again, LAST);
        assert!(said.contains("Reused") && said.contains("CN=ada"), "{said}");
    }
    // A list that cannot be used changes nothing.
    put(&ada.key, &list);
    let file = format!("file=\"{}\",kind=\"client-issuers\"", ours.trusted());
    let reads = |result: &str| {
        plimsoll.metric(&format!(
            "plimsoll_file_reads_total{{{file},result=\"{result}\"}}"
        ))
    };
    wait::expect("a refusal", SOON, || reads("refused") == Some(1.0));
    assert_eq!(get(&plimsoll, &own, Some(&ada), &[]).unwrap(), "CN=ada 200");
    ours.revoke(&ada);
    ours.list_revoked(&list);
    wait::expect("the new list", SOON, || reads("taken") == Some(2.0));
    assert_eq!(get(&plimsoll, &own, Some(&ada), &[]), None);
    assert_eq!(get(&plimsoll, &own, Some(&bob), &[]).unwrap(), "CN=bob 200");
    for version in ["tls1_2", "tls1_3"] {
        let again = options(version, &format!("-sess_in {}", session(version)));
        let said = s_client(&plimsoll, &again, LAST);
        assert!(
            !said.contains("HTTP/1.1 200") && !said.contains("Reused"),
            "{said}"
        );
    }
}

/// Two sites, each in several places, that ask for different things with one certificate.
fn sites(own: &Authority, ours: &Certifier, others: &Certifier) -> String {
    let site = |host: &str, port: &str, asks: &str| {
        let pair = pair(own);
        format!(
            "site {host} {{ listen 127.0.0.1:{{port{port}}} ; {pair} ; {asks} ; \
             route {{ respond 200 \"{host}{port} ${{client.certificate.subject}}\" }} }}\n"
        )
    };
    let ask = |verify: &str, certifier: &Certifier| {
        format!("client-certificate {verify} ca={}", certifier.trusted())
    };
    let text = [
        "admin off\n".to_owned(),
        site("a.example", "", &ask("optional", ours)),
        site("b.example", "", "client-certificate off"),
        site("a.example", ":other", &ask("optional", others)),
        site("a.example", ":strict", &ask("required", ours)),
        site("b.example", ":same", &ask("optional", ours)),
        site("a.example", ":same", &ask("optional", ours)),
    ];
    text.concat()
}

#[test]
fn a_connection_and_a_session_are_for_what_they_were_opened_under() {
    let (ours, others) = (Certifier::make("ours"), Certifier::make("others"));
    let ada = ours.certify("ada", "/CN=ada", "DNS:ada.example");
    let own = Authority::make("DNS:a.example,DNS:b.example");
    let plimsoll = Start::run(&sites(&own, &ours, &others)).start();
    // The name of one site in the handshake, that of another in the request.
    let fronted = |url, host: &str| {
        let host = format!("Host: {host}");
        let mut more = ada.curl().to_vec();
        more.extend(["-H", &host]);
        curl(&plimsoll, &own, url, &more).unwrap()
    };
    assert_eq!(
        fronted("https://a.example/", "a.example"),
        "a.example CN=ada 200"
    );
    assert!(fronted("https://a.example/", "b.example").ends_with(" 421"));
    assert!(fronted("https://b.example/", "a.example").ends_with(" 421"));
    let directory = tempfile::tempdir().unwrap();
    for version in ["tls1_2", "tls1_3"] {
        let session = directory.path().join(version).display().to_string();
        let first = format!(
            "-{version} -ign_eof -servername a.example {} -sess_out {session}",
            ada.s_client()
        );
        let said = s_client(&plimsoll, &first, LAST);
        assert!(said.contains("a.example CN=ada"), "{said}");
        let again = |port: &str, host: &str| {
            let options = format!("-{version} -ign_eof -servername {host} -sess_in {session}");
            s_client_at(
                plimsoll.address_of(port),
                &options,
                &LAST.replace("a.example", host),
            )
        };
        let said = again("", "a.example");
        assert!(
            said.contains("Reused") && said.contains("a.example CN=ada"),
            "{said}"
        );
        for (port, host) in [
            ("other", "a.example"),
            ("strict", "a.example"),
            ("", "b.example"),
            ("same", "b.example"),
        ] {
            let said = again(port, host);
            assert!(
                !said.contains("Reused") && !said.contains("CN=ada\n"),
                "{port} {host}: {said}"
            );
            assert_eq!(
                said.contains("HTTP/1.1 200"),
                port != "strict",
                "{port} {host}: {said}"
            );
        }
        // The same site on another address, that asks for the same.
        assert!(again("same", "a.example").contains("Reused"));
    }
}

#[test]
fn without_issuers_nobody_is_let_in_and_other_sites_serve() {
    let ours = Certifier::make("ours");
    let ada = ours.certify("ada", "/CN=ada", "DNS:ada.example");
    let own = Authority::make("DNS:a.example,DNS:b.example");
    let directory = tempfile::tempdir().unwrap();
    let issuers = directory.path().join("ca.pem");
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\n\
         site a.example {{ listen 127.0.0.1:{{port}} ; {0} ; client-certificate optional ca={1} ; route {{ respond 200 a }} }}\n\
         site b.example {{ listen 127.0.0.1:{{port}} ; {0} ; route {{ respond 200 b }} }}\n",
        pair(&own),
        issuers.display()
    );
    let plimsoll = Start::run(&text).start();
    assert_eq!(get(&plimsoll, &own, Some(&ada), &[]), None);
    assert_eq!(get(&plimsoll, &own, None, &[]), None);
    let b = || curl(&plimsoll, &own, "https://b.example/", &[]);
    assert_eq!(b().unwrap(), "b 200");
    let stderr = plimsoll.stderr();
    assert!(stderr.contains("nobody is served who needs it"), "{stderr}");
    put(ours.trusted(), &issuers);
    wait::expect("the issuers", SOON, || {
        get(&plimsoll, &own, Some(&ada), &[]).is_some()
    });
    assert_eq!(b().unwrap(), "b 200");
}

#[test]
fn names_that_could_be_read_as_others_are_refused() {
    let ours = Certifier::make("ours");
    // `DNS:a` NUL `b`, and an address of four letters with a line end in it.
    let nul = ours.certify("nul", "/CN=nul", "DER:30:05:82:03:61:00:62");
    let line = ours.certify("line", "/CN=line", "DER:30:06:81:04:61:0d:0a:62");
    let good = ours.certify("good", "/CN=good", "DER:30:05:82:03:61:2d:62");
    let asks = format!("required ca={}", ours.trusted());
    let (plimsoll, own, _) = start(&asks, "route { respond 200 ${client.certificate.san} }");
    assert_eq!(
        get(&plimsoll, &own, Some(&good), &[]).unwrap(),
        "DNS:a-b 200"
    );
    for bad in [nul, line] {
        assert_eq!(get(&plimsoll, &own, Some(&bad), &[]), None);
    }
}

/// A connection outlives the certificate that it was opened with; what that lets in does not.
#[test]
fn a_certificate_that_ends_while_its_connection_is_open_is_refused() {
    let ours = Certifier::make("ours");
    let asks = format!("required ca={}", ours.trusted());
    let (plimsoll, own, _) = start(&asks, "route { respond 200 here }");
    let mut date = Command::new("date");
    date.args(["-u", "-d", "+6 seconds", "+%Y%m%d%H%M%SZ"]);
    let end = String::from_utf8(date.output().unwrap().stdout).unwrap();
    let shown = ours.certify_until("ada", "ada.example", end.trim());
    // One connection, asked again and again until the answer is another one.
    let to = format!("::127.0.0.1:{}", plimsoll.address().port());
    let mut command = Command::new("curl");
    command.args(["-s", "--noproxy", "*", "--max-time", "30", "--http1.1"]);
    command.args(["--rate", "5/s", "-o", "/dev/null", "-w", "%{http_code} "]);
    command.args(["--connect-to", &to, "--cacert", &own.trusted()]);
    command.args(shown.curl()).arg(format!("{URL}?[1-50]"));
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let before = said.split(' ').take_while(|status| *status == "200");
    let before = before.count();
    assert!(before > 0, "{said}");
    let after: Vec<&str> = said.split_whitespace().skip(before).collect();
    assert_eq!(after.first(), Some(&"403"), "{said}");
    // What was opened goes on to be refused, and what is new is not opened.
    let is_refused = |status: &&str| ["403", "000"].contains(status);
    assert!(after.iter().all(is_refused), "{said}");
}
