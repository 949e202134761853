//! Who may come in: by address, by password, by key, by signature; and who has to wait.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Response;
use std::fs;
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(10);

/// A stand whose site has these statements, and the folder of its files; clients say who they are
/// in `X-Forwarded-For`.
fn stand(statements: &str, files: &[(&str, &str)]) -> (Stand, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let at = directory.path().display().to_string();
    let statements = statements.replace("FILES", &at);
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\nsite * {{\nlisten 127.0.0.1:{{port}}\nlog access.log json\ntrust-proxy 127.0.0.1\n{statements}\n}}\n"
    );
    let stand = Stand::run(&text, |request| {
        let said = ["x-user", "authorization", "x-mail"]
            .map(|name| request.head.fields.first(name).unwrap_or("-").to_owned());
        Answer::ok(said.join(" "))
    });
    (stand, directory)
}

fn ask(stand: &Stand, target: &str, fields: &str) -> Response {
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    stand.ask("GET", request)
}

fn from(stand: &Stand, target: &str, client: &str) -> u16 {
    ask(stand, target, &format!("X-Forwarded-For: {client}\r\n")).status()
}

#[test]
fn the_first_rule_that_a_client_fits_decides() {
    let (stand, _files) = stand(
        "deny 198.51.100.0/24 2001:db8::/32
         route /open { respond 200 }
         route /inside { allow 10.0.0.0/8 ; deny 10.9.0.0/16 all ; respond 200 }
         route /but { deny 10.9.0.0/16 ; allow 10.0.0.0/8 ::1 ; deny all ; respond 200 }
         route { respond 200 }",
        &[],
    );
    for (target, client, status) in [
        ("/", "192.0.2.1", 200),
        ("/", "198.51.100.7", 403),
        ("/", "2001:db8::7", 403),
        ("/", "::ffff:198.51.100.7", 403),
        ("/inside", "10.9.0.1", 200),
        ("/inside", "11.0.0.1", 403),
        ("/inside", "198.51.100.7", 403),
        ("/but", "10.9.0.1", 403),
        ("/but", "10.8.0.1", 200),
        ("/but", "::1", 200),
        ("/but", "192.0.2.1", 403),
    ] {
        assert_eq!(from(&stand, target, client), status, "{target} {client}");
    }
    let denied = "plimsoll_denied_total{rule=\"plimsoll.conf:6\"}";
    let metric = |line: usize| {
        let name = denied.replace(":6", &format!(":{line}"));
        let directory = stand.plimsoll.directory().display().to_string();
        stand
            .plimsoll
            .metric(&name.replace("plimsoll.conf", &format!("{directory}/plimsoll.conf")))
    };
    assert_eq!(
        (metric(6), metric(8), metric(9)),
        (Some(4.0), Some(1.0), Some(2.0))
    );
    stand.assert_ends_with_its_body(
        "POST / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.7\r\n",
        403,
    );
}

#[test]
fn an_ipv4_network_may_be_written_as_ipv6() {
    let (stand, _files) = stand(
        "deny ::ffff:198.51.100.0/120 @FILES/blocked
         route /but { maintenance except=::ffff:192.0.2.0/120 ; respond 200 }
         route /near client=::ffff:192.0.2.0/120 { respond 200 }
         route /near { respond 404 }
         route { respond 200 }",
        &[("blocked", "::ffff:203.0.113.0/120\n")],
    );
    for (target, client, status) in [
        ("/", "198.51.100.7", 403),
        ("/", "::ffff:198.51.100.7", 403),
        ("/", "203.0.113.7", 403),
        ("/", "192.0.2.1", 200),
        ("/but", "192.0.2.1", 200),
        ("/but", "192.0.3.1", 503),
        ("/near", "::ffff:192.0.2.1", 200),
        ("/near", "192.0.3.1", 404),
    ] {
        assert_eq!(from(&stand, target, client), status, "{target} {client}");
    }
}

#[test]
fn a_list_is_read_again_and_a_bad_one_changes_nothing() {
    let (stand, files) = stand(
        "deny @FILES/blocked ; route { respond 200 }",
        &[("blocked", "10.0.0.1\n")],
    );
    let path = files.path().join("blocked");
    let shown = path.display();
    assert_eq!(
        (from(&stand, "/", "10.0.0.1"), from(&stand, "/", "10.0.0.2")),
        (403, 200)
    );
    fs::write(&path, "# new\n10.0.0.2\n").unwrap();
    wait::expect("the new list", SOON, || {
        from(&stand, "/", "10.0.0.2") == 403
    });
    assert_eq!(from(&stand, "/", "10.0.0.1"), 200);
    fs::write(&path, "10.0.0.3\nnonsense\n").unwrap();
    wait::expect("a complaint", SOON, || {
        stand
            .plimsoll
            .stderr()
            .contains("line 2: `nonsense` is neither an address nor a network")
    });
    assert_eq!(
        (from(&stand, "/", "10.0.0.2"), from(&stand, "/", "10.0.0.3")),
        (403, 200)
    );
    let reads = |result: &str| {
        let name = format!(
            "plimsoll_file_reads_total{{file=\"{shown}\",kind=\"networks\",result=\"{result}\"}}"
        );
        stand.plimsoll.metric(&name)
    };
    let current = format!("plimsoll_file_current{{file=\"{shown}\",kind=\"networks\"}}");
    assert_eq!((reads("taken"), reads("refused")), (Some(2.0), Some(1.0)));
    assert_eq!(stand.plimsoll.metric(&current), Some(0.0));
    fs::write(&path, "").unwrap();
    wait::expect("a complaint about nothing", SOON, || {
        stand.plimsoll.stderr().contains("the file is empty")
    });
    assert_eq!(from(&stand, "/", "10.0.0.2"), 403);
    fs::remove_file(&path).unwrap();
    wait::expect("another complaint", SOON, || {
        stand.plimsoll.stderr().contains("No such file")
    });
    assert_eq!(from(&stand, "/", "10.0.0.2"), 403);
}

#[test]
fn a_million_networks_are_read_while_clients_are_served() {
    let (stand, files) = stand(
        "deny @FILES/blocked ; route { respond 200 }",
        &[("blocked", "10.0.0.1\n")],
    );
    let networks = (0..1_000_000_u32).map(|n| {
        let [a, b, c, _] = (n << 8).to_be_bytes();
        format!("{}.{b}.{c}.{}\n", 20 + a, 2 * (n % 100))
    });
    let list = networks.collect::<String>();
    let path = files.path().join("blocked");
    fs::write(&path, list).unwrap();
    let mut meanwhile = 0;
    wait::expect("the new list", Duration::from_secs(60), || {
        let is_read = stand.plimsoll.has_open(&path);
        let status = from(&stand, "/", "20.0.7.14");
        if is_read && stand.plimsoll.has_open(&path) {
            meanwhile += 1;
        }
        status == 403
    });
    assert!(meanwhile > 0, "nobody is served while the list is read");
    for (client, status) in [
        ("20.0.7.15", 200),
        ("35.66.63.198", 403),
        ("35.66.63.199", 200),
    ] {
        assert_eq!(from(&stand, "/", client), status, "{client}");
    }
}

/// `ada` with the password `secret`, hashed with so little work that a test does not notice.
const USERS: &str = "ada:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

/// The same with as much work as one would ask for.
const COSTLY: &str = "ada:$2b$10$abcdefghijklmnopqrstuuqflPDzB6gcMhKa1rZqKiun2YGL5sa2u\n";

#[test]
fn guessing_holds_nobody_else_up() {
    let (stand, _files) = stand(
        "route /open { respond 200 } route { basic-auth FILES/users ; respond 200 }",
        &[("users", COSTLY)],
    );
    let guess = "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWRhOndyb25n\r\n\r\n";
    let mut guesses: Vec<_> = (0..300).map(|_| stand.connect()).collect();
    for client in &mut guesses {
        client.send(guess).unwrap();
    }
    assert_eq!(ask(&stand, "/open", "").status(), 200);
    let mut waiting = guesses.iter_mut();
    let is_waiting = |client: &mut Raw| client.is_quiet(Duration::from_millis(1));
    assert!(waiting.any(is_waiting), "all guesses were checked before");
    for _ in 0..20 {
        assert_eq!(ask(&stand, "/open", "").status(), 200);
    }
    let mut statuses: Vec<u16> = Vec::new();
    for client in &mut guesses {
        statuses.push(client.response("GET").status());
    }
    let count = |status: u16| statuses.iter().filter(|s| **s == status).count();
    assert_eq!(count(401) + count(503), 300, "{statuses:?}");
    assert!(count(401) > 0 && count(503) > 0, "{statuses:?}");
    let right = "Authorization: Basic YWRhOnNlY3JldA==\r\n";
    assert_eq!(ask(&stand, "/", right).status(), 200);
}

#[test]
fn a_password_is_asked_for_and_does_not_reach_the_server() {
    let (stand, _files) = stand(
        "route /open { respond 200 }
         route /pass { basic-auth FILES/users pass ; proxy {server} }
         route { basic-auth FILES/users \"realm=the shop\" ; request-header set X-User ${auth.user} ; proxy {server} }",
        &[("users", USERS)],
    );
    // ada:secret, ada:wrong, eve:secret
    let (good, wrong, nobody) = ("YWRhOnNlY3JldA==", "YWRhOndyb25n", "ZXZlOnNlY3JldA==");
    let basic =
        |credentials: &str| format!("Authorization: Basic {credentials}\r\nX-User: root\r\n");
    let response = ask(&stand, "/", &basic(good));
    assert_eq!(
        (response.status(), response.text().as_str()),
        (200, "ada - -")
    );
    assert_eq!(ask(&stand, "/", &basic(good)).text(), "ada - -");
    let passed = ask(&stand, "/pass", &basic(good)).text();
    assert_eq!(passed, format!("root Basic {good} -"));
    for fields in [
        String::new(),
        basic(wrong),
        basic(nobody),
        "Authorization: Bearer x\r\n".into(),
        format!("{}{}", basic(good), basic(good)),
    ] {
        let response = ask(&stand, "/", &fields);
        assert_eq!(response.status(), 401, "{fields}");
        assert_eq!(
            response.field("www-authenticate").unwrap(),
            "Basic realm=\"the shop\", charset=\"UTF-8\""
        );
    }
    // Who has a password and who has none is not told.
    let answers = [wrong, nobody].map(|credentials| {
        let response = ask(&stand, "/", &basic(credentials));
        let id = response.field("x-request-id").unwrap().to_owned();
        let head = String::from_utf8_lossy(&response.raw_head).replace(&id, "ID");
        let lines = head.lines().filter(|line| !line.starts_with("Date:"));
        (
            lines.collect::<Vec<_>>().join("\n"),
            response.text().replace(&id, "ID"),
        )
    });
    assert_eq!(answers[0], answers[1]);
    stand.assert_ends_with_its_body("POST / HTTP/1.1\r\nHost: x\r\n", 401);
    let lines = stand.plimsoll.wait_log("access.log", 13, SOON);
    assert!(
        lines.iter().any(|line| line.contains("\"user\":\"ada\"")),
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .all(|line| !line.contains("secret") && !line.contains(good))
    );
}

/// The SHA-256 of `secret`.
const KEYS: &str = "ci:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\n";

#[test]
fn keys_have_names() {
    let (stand, _files) = stand(
        "route /open { respond 200 }
         route /query { api-key FILES/keys from=query:ticket ; request-header set X-User ${auth.user} ; proxy {server} }
         route { api-key FILES/keys ; request-header set X-User ${auth.user} ; proxy {server} }",
        &[("keys", KEYS)],
    );
    assert_eq!(ask(&stand, "/", "X-API-Key: secret\r\n").text(), "ci - -");
    assert_eq!(
        ask(&stand, "/query?ticket=%73ecret&a=b", "").text(),
        "ci - -"
    );
    for (target, fields) in [
        ("/", ""),
        ("/", "X-Api-Key: Secret\r\n"),
        ("/query", "X-Api-Key: secret\r\n"),
        // A server could take the other one.
        ("/", "X-Api-Key: secret\r\nx-api-key: other\r\n"),
        ("/", "X-Api-Key: other\r\nX-Api-Key: secret\r\n"),
        ("/query?ticket=secret&ticket=other", ""),
        ("/query?ticket=secret&tick%65t=other", ""),
    ] {
        assert_eq!(
            ask(&stand, target, fields).status(),
            401,
            "{target} {fields}"
        );
    }
    stand.assert_ends_with_its_body("POST / HTTP/1.1\r\nHost: x\r\n", 401);
    let lines = stand.plimsoll.wait_log("access.log", 12, SOON).join("\n");
    assert!(lines.contains("\"query\":\"ticket=***&a=b\""), "{lines}");
    assert!(!lines.contains("ecret"), "{lines}");
}

#[test]
fn links_are_good_until_they_expire() {
    let (stand, _files) = stand(
        "route /open { respond 200 }
         route /whole { signed-url 0123456789abcdef query=signed ; respond 200 }
         route { signed-url old-secret-of-mine 0123456789abcdef ; respond 200 }",
        &[],
    );
    let signature = |text: &str, expires: u64| {
        let script = format!(
            "import hmac,hashlib,base64;print(base64.urlsafe_b64encode(hmac.new(b'0123456789abcdef',b'{text}\\n{expires}',hashlib.sha256).digest()).decode().rstrip('='))"
        );
        let output = std::process::Command::new("python3")
            .args(["-c", &script])
            .output()
            .unwrap();
        let signature = String::from_utf8(output.stdout).unwrap();
        signature.trim().to_owned()
    };
    let sign = |path: &str, expires: u64| {
        format!(
            "{path}?expires={expires}&signature={}",
            signature(path, expires)
        )
    };
    let good = sign("/video.mp4", 4_000_000_000);
    assert_eq!(ask(&stand, &good, "").status(), 200);
    assert_eq!(ask(&stand, &format!("/x/..{good}"), "").status(), 200);
    for link in [
        good.replace("video", "other"),
        good.replace("4000000000", "4000000001"),
        sign("/video.mp4", 1_000_000_000),
        "/video.mp4".into(),
    ] {
        assert_eq!(ask(&stand, &link, "").status(), 403, "{link}");
    }
    // The query is anyone's, unless it is signed too.
    assert_eq!(ask(&stand, &format!("{good}&a=b"), "").status(), 200);
    let good = signature("/whole?file=a&file=b", 4_000_000_000);
    let whole = |query: &str| {
        let link = format!("/whole?{query}&signature={good}");
        ask(&stand, &link, "").status()
    };
    assert_eq!(whole("file=a&expires=4000000000&file=b"), 200);
    for query in [
        "file=a&expires=4000000000",
        "file=b&file=a&expires=4000000000",
        "file=a&file=b&file=c&expires=4000000000",
        "file=a&file=b&fil%65=c&expires=4000000000",
        "fil%65=a&file=b&expires=4000000000",
        "file=a&file=b&expires=4000000000&&",
    ] {
        assert_eq!(whole(query), 403, "{query}");
    }
    stand.assert_ends_with_its_body("POST / HTTP/1.1\r\nHost: x\r\n", 403);
}

#[test]
fn a_file_closes_the_site_and_opens_it_again() {
    let (stand, files) = stand(
        "route /open { respond 200 }
         route /always { maintenance retry-after=1h ; respond 200 }
         route { maintenance file=FILES/down except=10.0.0.0/8 ; respond 200 }",
        &[],
    );
    let path = files.path().join("down");
    assert_eq!(from(&stand, "/", "192.0.2.1"), 200);
    fs::write(&path, "").unwrap();
    wait::expect("closed", SOON, || from(&stand, "/", "192.0.2.1") == 503);
    let response = ask(&stand, "/", "X-Forwarded-For: 192.0.2.1\r\n");
    assert_eq!(response.field("retry-after").unwrap(), "300");
    assert_eq!(from(&stand, "/", "10.1.1.1"), 200);
    fs::remove_file(&path).unwrap();
    wait::expect("open", SOON, || from(&stand, "/", "192.0.2.1") == 200);
    let response = ask(&stand, "/always", "");
    assert_eq!(
        (response.status(), response.field("retry-after").unwrap()),
        (503, "3600")
    );
    stand.assert_ends_with_its_body("POST /always HTTP/1.1\r\nHost: x\r\n", 503);
}

#[test]
fn pages_of_other_origins_are_told_what_they_may_do() {
    let stand = Stand::run(
        "admin off\nsite * {\nlisten 127.0.0.1:{port}\nroute /open { respond 200 }\n\
         route { cors origin=https://a.example,https://*.b.example methods=GET,PUT max-age=10m ; proxy {server} }\n}\n",
        |_| {
            Answer::bytes(
                "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\nok",
            )
        },
    );
    let options = |fields: &str| {
        stand.ask(
            "OPTIONS",
            format!("OPTIONS / HTTP/1.1\r\nHost: x\r\n{fields}\r\n"),
        )
    };
    let first = options(
        "Origin: https://x.b.example\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a\r\n",
    );
    assert_eq!(first.status(), 204);
    assert_eq!(
        first.field("access-control-allow-origin").unwrap(),
        "https://x.b.example"
    );
    assert_eq!(
        first.field("access-control-allow-methods").unwrap(),
        "GET, PUT"
    );
    assert_eq!(first.field("access-control-allow-headers").unwrap(), "x-a");
    assert_eq!(first.field("access-control-max-age").unwrap(), "600");
    assert_eq!(
        options("Origin: https://evil\r\nAccess-Control-Request-Method: PUT\r\n").status(),
        403
    );
    assert_eq!(stand.upstream.requests().len(), 0);
    let of = |fields: &str| {
        let response = ask(&stand, "/", fields);
        let lines: Vec<_> = response
            .head
            .fields
            .all("access-control-allow-origin")
            .map(str::to_owned)
            .collect();
        lines
    };
    assert_eq!(of("Origin: https://a.example\r\n"), ["https://a.example"]);
    assert_eq!(of("Origin: https://evil\r\n"), [""; 0]);
    assert_eq!(of(""), [""; 0]);
    assert_eq!(options("").status(), 200);
    let asking = "Access-Control-Request-Method: GET\r\n";
    for (origin, status) in [("https://a.example", 204), ("https://evil", 403)] {
        let head = format!("OPTIONS / HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n{asking}");
        stand.assert_ends_with_its_body(&head, status);
    }
}

#[test]
fn browsers_are_told_to_be_careful() {
    let (stand, _files) = stand(
        "security-headers ; route /strict { security-headers strict ; response-header set Referrer-Policy origin ; respond 200 } route { respond 200 }",
        &[],
    );
    let of = |target: &str, fields: &str, name: &str| {
        let response = ask(&stand, target, fields);
        let lines: Vec<_> = response.head.fields.all(name).map(str::to_owned).collect();
        lines.join("|")
    };
    let https = "X-Forwarded-Proto: https\r\n";
    assert_eq!(of("/", "", "x-frame-options"), "SAMEORIGIN");
    assert_eq!(of("/", "", "strict-transport-security"), "");
    assert_eq!(
        of("/", https, "strict-transport-security"),
        "max-age=31536000"
    );
    assert_eq!(of("/strict", "", "x-frame-options"), "DENY");
    assert_eq!(of("/strict", "", "referrer-policy"), "origin");
    assert_eq!(
        of("/strict", https, "strict-transport-security"),
        "max-age=31536000; includeSubDomains"
    );
}

#[test]
fn who_comes_in_does_not_depend_on_how_a_request_is_cut() {
    let (stand, _files) = stand(
        "deny 198.51.100.0/24
         route /key { api-key FILES/keys ; request-header set X-User ${auth.user} ; proxy {server} }
         route /pass { basic-auth FILES/users ; request-header set X-User ${auth.user} ; proxy {server} }
         route /page { cors origin=https://a.example ; security-headers ; proxy {server} }
         route { respond 200 }",
        &[("keys", KEYS), ("users", USERS)],
    );
    let request =
        |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    let requests = [
        request("/", "X-Forwarded-For: 192.0.2.1, 198.51.100.7\r\n"),
        request("/key", "X-Api-Key: secret\r\nX-User: root\r\n"),
        request("/key", "X-Api-Key: Secret\r\n"),
        request("/pass", "Authorization: Basic YWRhOnNlY3JldA==\r\n"),
        request("/pass", ""),
        request("/page", "Origin: https://a.example\r\n"),
    ];
    let answers = stand.answers_however_cut(&requests);
    let served = answers.iter().filter(|answer| answer.status() == 200);
    let served: Vec<_> = served.map(Response::text).collect();
    assert_eq!(served, ["ci - -", "ada - -", "- - -"]);
    let statuses: Vec<_> = answers.iter().map(Response::status).collect();
    assert_eq!(statuses, [403, 200, 401, 200, 401, 200]);
}
