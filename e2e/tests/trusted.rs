//! Who a client is when a proxy stands between, and requests that come round again.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::Start;
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::Request;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::{Stand, assert_canonical};
use plimsoll_e2e::wire::Response;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn stand(statements: &str) -> Stand {
    let text = format!(
        "admin off\nsite * {{\nlisten 127.0.0.1:{{port}}\nlog access.log json\n{statements}\nroute {{ proxy {{server}} }}\n}}\n"
    );
    Stand::run(&text, |_| Answer::ok("ok"))
}

fn ask(stand: &Stand, fields: &str) -> Request {
    let request = format!("GET / HTTP/1.1\r\nHost: internal\r\n{fields}\r\n");
    assert_eq!(stand.ask("GET", request).status(), 200);
    let request = stand.upstream.requests().pop().unwrap();
    assert_canonical(&request);
    request
}

fn all(request: &Request, name: &str) -> Vec<String> {
    request.head.fields.all(name).map(str::to_owned).collect()
}

const SAID: &str = "X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\nx-forwarded-for: 10.1.1.1\r\nX-Forwarded-Proto: https\r\n\
    X-Forwarded-Host: example.com\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
    X-Request-ID: abc-123\r\n";

#[test]
fn a_trusted_peer_names_the_client() {
    let stand = stand(
        "trust-proxy 127.0.0.0/8 10.0.0.0/8\nrequest-header set X-Client \"${client.ip} ${client.port} ${request.scheme}\"",
    );
    let request = ask(&stand, SAID);
    let is = |name: &str, values: &[&str]| assert_eq!(all(&request, name), values, "{name}");
    is(
        "x-forwarded-for",
        &["6.6.6.6, 192.0.2.1, 10.1.1.1, 127.0.0.1"],
    );
    is("x-forwarded-proto", &["https"]);
    is("x-forwarded-host", &["example.com"]);
    is(
        "forwarded",
        &["for=6.6.6.6, for=127.0.0.1;proto=http;host=\"internal\""],
    );
    is("x-request-id", &["abc-123"]);
    is("x-client", &["192.0.2.1 0 https"]);
    is("host", &["internal"]);
    is("x-real-ip", &[]);
    is("x-forwarded-port", &[]);
    let line = stand.plimsoll.wait_log("access.log", 1, SOON).remove(0);
    assert!(
        line.contains("\"id\":\"abc-123\",\"client\":\"192.0.2.1\",\"client_port\":0,"),
        "{line}"
    );
    assert!(line.contains("\"scheme\":\"https\""), "{line}");
    // It may also say nothing.
    let request = ask(&stand, "");
    assert_eq!(all(&request, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(
        all(&request, "x-client")[0].split(' ').next(),
        Some("127.0.0.1")
    );
}

#[test]
fn nobody_else_names_anyone() {
    for trust in ["", "trust-proxy 10.0.0.0/8", "trust-proxy off"] {
        let stand = stand(trust);
        let request = ask(&stand, SAID);
        assert_eq!(all(&request, "x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(all(&request, "x-forwarded-proto"), ["http"]);
        assert_eq!(all(&request, "x-forwarded-host"), ["internal"]);
        assert_eq!(
            all(&request, "forwarded"),
            ["for=127.0.0.1;proto=http;host=\"internal\""]
        );
        assert_ne!(all(&request, "x-request-id"), ["abc-123"]);
    }
}

/// What proxies in front say of a client and of its certificate, in their own words.
const VOUCHED: [&str; 9] = [
    "True-Client-IP",
    "X-Client-Cert",
    "X-Client-Cert-Chain",
    "X-SSL-Client-Verify",
    "x-ssl-cert",
    "X-Forwarded-Client-Cert",
    "Client-Cert",
    "Client-Cert-Chain",
    "X-SSL-Protocol",
];

#[test]
fn who_a_client_is_and_what_it_has_is_believed_of_trusted_peers_alone() {
    let said = VOUCHED.map(|name| format!("{name}: said\r\n")).concat();
    let aliases = said.replace('-', "_");
    let nominated = format!("Connection: {}\r\n", VOUCHED.join(", "));
    let body = format!("Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{said}");
    let set = "request-header set X-SSL-Client-Verify own";
    for (trust, values) in [
        ("trust-proxy off", &[][..]),
        ("trust-proxy 10.0.0.0/8", &[]),
        ("trust-proxy 127.0.0.1", &["said"]),
    ] {
        let stand = stand(trust);
        for more in ["", &aliases, &nominated, &body] {
            let request = ask(&stand, &format!("{said}{more}"));
            for name in VOUCHED {
                assert_eq!(all(&request, name), values, "{trust} {name} {more}");
            }
            assert_eq!(request.body.trailers.0, []);
            let names = request.head.fields.names();
            assert!(names.iter().all(|name| !name.contains('_')), "{names:?}");
        }
        let stand = crate::stand(&format!("{trust}\n{set}"));
        let request = ask(&stand, &said);
        assert_eq!(all(&request, "x-ssl-client-verify"), ["own"]);
    }
}

/// Checks who the client is when the peer sends these fields.
fn assert_client(stand: &Stand, fields: &str, client: &str) {
    let request = ask(stand, fields);
    let said = all(&request, "x-client").concat();
    assert!(
        said.starts_with(client),
        "{said}, not {client}: {fields:.99}"
    );
}

/// Trusts this machine, 10.0.0.0/8 and a network of IPv6.
fn chained() -> Stand {
    stand(
        "trust-proxy 127.0.0.0/8 10.0.0.0/8 2001:db8:ffff::/48\n\
         request-header set X-Client \"${client.ip} ${client.port}\"",
    )
}

#[test]
fn a_chain_is_read_from_its_end_to_what_is_not_trusted_or_cannot_be_read() {
    let stand = chained();
    for (fields, client) in [
        ("X-Forwarded-For: 192.0.2.1:4711\r\n", "192.0.2.1 4711"),
        (
            "X-Forwarded-For: [2001:db8::1]:80, 10.1.1.1\r\n",
            "2001:db8::1 80",
        ),
        ("X-Forwarded-For: [2001:db8::1]\r\n", "2001:db8::1 0"),
        (
            "X-Forwarded-For: 2001:db8::1, [2001:db8:ffff::1]:9\r\n",
            "2001:db8::1 0",
        ),
        (
            "X-Forwarded-For: ::ffff:192.0.2.1, ::ffff:10.1.1.1\r\n",
            "192.0.2.1 0",
        ),
        // Two lines are one list.
        (
            "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1, 10.1.1.1\r\n",
            "192.0.2.1 0",
        ),
        (
            "X-Forwarded-For: 192.0.2.1\r\nx-forwarded-for: 10.1.1.1,,\r\n",
            "192.0.2.1 0",
        ),
        // What cannot be read ends the search at the proxy that said it.
        (
            "X-Forwarded-For: 192.0.2.1, unknown, 10.1.1.1\r\n",
            "10.1.1.1 0",
        ),
        (
            "X-Forwarded-For: 192.0.2.1, _hidden, 10.1.1.1:5\r\n",
            "10.1.1.1 5",
        ),
        (
            "X-Forwarded-For: 192.0.2.1, 1.2.3.4.5, 10.1.1.1\r\n",
            "10.1.1.1 0",
        ),
        (
            "X-Forwarded-For: 192.0.2.1, 10.1.1.1/8, 10.1.1.2\r\n",
            "10.1.1.2 0",
        ),
        (
            "X-Forwarded-For: 192.0.2.1, \"6.6.6.6, 10.1.1.1\r\n",
            "127.0.0.1 ",
        ),
        ("X-Forwarded-For: 192.0.2.1, caf\u{e9}\r\n", "127.0.0.1 "),
        ("X-Forwarded-For: ,\r\n", "127.0.0.1 "),
        (
            "Forwarded: for=6.6.6.6, for=\"[2001:db8::1]:80\";proto=https, for=10.1.1.1\r\n",
            "2001:db8::1 80",
        ),
        (
            "Forwarded: for=192.0.2.1, for=unknown, for=10.1.1.1\r\n",
            "10.1.1.1 0",
        ),
    ] {
        assert_client(&stand, fields, client);
    }
}

#[test]
fn of_a_long_chain_the_end_is_read() {
    let stand = chained();
    // As many as a head may hold: of the shortest ones ten thousand and more.
    let many = |hop: &str| {
        let hops = format!(",{hop}").repeat(30_000 / (hop.len() + 1));
        format!("X-Forwarded-For: 192.0.2.1{hops}\r\n")
    };
    assert_client(&stand, &many("10.1.1.1"), "10.1.1.1 0");
    assert_client(&stand, &many("x"), "127.0.0.1 ");
    assert_client(&stand, &many(""), "192.0.2.1 0");
    let forwarded = format!(
        "X-Forwarded-For: 192.0.2.1\r\nForwarded: {}\r\n",
        ",".repeat(30_000)
    );
    assert_client(&stand, &forwarded, "192.0.2.1 0");
    let request = "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1";
    let longer = format!("{request}{}\r\n\r\n", ",10.1.1.1".repeat(10_000));
    assert_eq!(stand.ask("GET", longer).status(), 431);
}

#[test]
fn an_ipv4_proxy_is_known_on_a_listener_of_ipv6() {
    for trust in ["127.0.0.0/8", "::ffff:127.0.0.0/104", "::ffff:127.0.0.1"] {
        let text = format!(
            "admin off\nsite * {{\nlisten :{{port}}\ntrust-proxy {trust}\nlimit 1/h\nroute {{ proxy {{server}} }}\n}}\n"
        );
        let stand = Stand::run(&text, |_| Answer::ok("ok"));
        let request = ask(&stand, "X-Forwarded-For: 192.0.2.1\r\n");
        assert_eq!(all(&request, "x-forwarded-for"), ["192.0.2.1, 127.0.0.1"]);
        let mapped = "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: ::ffff:192.0.2.1\r\n\r\n";
        assert_eq!(stand.ask("GET", mapped).status(), 429, "{trust}");
    }
}

#[test]
fn rules_speak_of_the_client_that_was_found() {
    let text = "admin off\ndefaults { trust-proxy 127.0.0.1 }\nsite * {\nlisten 127.0.0.1:{port}\n\
        route /limited { limit 1/h ; respond 200 ok }\n\
        route client=192.0.2.0/24 { respond 200 near }\n\
        route scheme=https { respond 200 secure }\n\
        route { respond 200 far }\n}\n";
    let plimsoll = Start::run(text).start();
    let mut client = Raw::connect(plimsoll.address());
    let mut asked = |target: &str, fields: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        client.send(request).unwrap();
        client.response("GET")
    };
    assert_eq!(asked("/", "X-Forwarded-For: 192.0.2.7\r\n").text(), "near");
    assert_eq!(
        asked("/", "X-Forwarded-For: 198.51.100.1\r\n").text(),
        "far"
    );
    assert_eq!(asked("/", "X-Forwarded-Proto: https\r\n").text(), "secure");
    let mut limited =
        |who: &str| asked("/limited", &format!("X-Forwarded-For: {who}\r\n")).status();
    assert_eq!([limited("1.1.1.1"), limited("1.1.1.1")], [200, 429]);
    assert_eq!(
        [limited("2.2.2.2"), limited("1.1.1.1, 2.2.2.2")],
        [200, 429]
    );
}

#[test]
fn a_request_that_comes_round_again_is_found_out() {
    let text = "admin off\nsite * {\nlisten 127.0.0.1:{port}\nlog access.log json\nroute { proxy 127.0.0.1:{port} }\n}\n";
    let plimsoll = Start::run(text).start();
    let mut client = Raw::connect(plimsoll.address());
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let response = client.response("GET");
    assert_eq!(response.status(), 502);
    let lines = plimsoll.wait_log("access.log", 10, SOON);
    assert_eq!(lines.len(), 10);
    let found: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("\"reason\":\"proxy_loop_detected\""))
        .collect();
    assert_eq!(found.len(), 1, "{lines:?}");
    // Other proxies, and a few of ours, are no circle.
    let stand = stand("");
    let via = "Via: 1.1 other, 1.0 plimsoll.example, 1.1 plimsoll\r\nVia: 1.1 plimsoll\r\n";
    let request = ask(&stand, via);
    assert_eq!(all(&request, "via").len(), 3);
}

#[test]
fn circles_are_found_out_whichever_way_they_go() {
    let by_name = "route { proxy localhost:{port} }";
    let in_turn = "route host=a { request-header set Host b ; proxy app }\n\
                   route { request-header set Host a ; proxy app }\n}\n\
                   pool app { server 127.0.0.1:{port} ; server [::1]:{port}";
    let asked = "route { forward-auth 127.0.0.1:{port} / ; respond 200 in }";
    for (routes, status) in [(by_name, 502), (in_turn, 502), (asked, 503)] {
        let site = "admin off\nsite * {\nlisten :{port}\nlog access.log json";
        let text = format!("{site}\n{routes}\n}}\n");
        let plimsoll = Start::run(&text).start();
        let mut client = Raw::connect(plimsoll.address());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(client.response("GET").status(), status, "{routes}");
        let lines = plimsoll.wait_log("access.log", 10, SOON);
        let found = lines
            .iter()
            .filter(|line| line.contains("proxy_loop_detected"));
        assert_eq!(
            (lines.len(), found.count()),
            (10, 1),
            "{routes}: {lines:#?}"
        );
    }
}

#[test]
fn a_trusted_peer_can_ask_what_is_done_with_its_request() {
    let stand = stand(
        "trust-proxy 127.0.0.1\nroute /other { respond 200 }\nroute header:x-beta { respond 200 }\nroute /own { respond 200 }",
    );
    let traced = |target: &str, fields: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let response = stand.ask("GET", request);
        let lines = response.head.fields.all("x-plimsoll-trace");
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = traced("/a", "X-Plimsoll-Trace: 1\r\n");
    assert!(
        lines[1].ends_with("route /other: not this path"),
        "{lines:#?}"
    );
    assert!(
        lines[2].ends_with("route header:x-beta: header:x-beta does not hold"),
        "{lines:#?}"
    );
    assert!(
        lines[4].ends_with("plimsoll.conf:9 route: takes it"),
        "{lines:#?}"
    );
    let server = stand.upstream.address();
    assert_eq!(
        lines[5],
        format!("server {server}: eligible, ready, weight 1 at 100 %, 0 in flight")
    );
    assert_eq!(lines[6], format!("answered by {server}, attempt 1"));
    assert_eq!(traced("/own", "X-Plimsoll-Trace: 1\r\n").len(), 4);
    assert_eq!(traced("/a", "").len(), 0);
    let other = crate::stand("");
    let request = "GET / HTTP/1.1\r\nHost: x\r\nX-Plimsoll-Trace: 1\r\n\r\n";
    assert_eq!(other.ask("GET", request).field("x-plimsoll-trace"), None);
}

#[test]
fn the_client_is_the_same_however_a_request_is_cut() {
    let stand = stand(
        "trust-proxy 127.0.0.1 10.0.0.0/8\nrequest-header set X-Client \"${client.ip} ${request.scheme}\"\n\
         route client=198.51.100.0/24 { respond 200 near }",
    );
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: internal\r\n{fields}\r\n");
    let requests = [
        get(SAID),
        get("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 198.51.100.1, 10.1.1.1\r\n"),
        get("X-Forwarded-For: 198.51.100.1, unknown\r\nTrue-Client-IP: 1.1.1.1\r\n"),
        get("Forwarded: for=\"[2001:db8::1]:80\";proto=https\r\n"),
    ];
    let answers = stand.answers_however_cut(&requests);
    let texts: Vec<_> = answers.iter().map(Response::text).collect();
    assert_eq!(texts, ["ok", "near", "ok", "ok"]);
    let seen = stand.upstream.requests();
    let mut clients: Vec<_> = seen
        .iter()
        .flat_map(|request| all(request, "x-client"))
        .collect();
    clients.sort();
    clients.dedup();
    assert_eq!(
        clients,
        ["127.0.0.1 http", "192.0.2.1 https", "2001:db8::1 https"]
    );
}
