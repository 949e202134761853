//! Tokens, and servers that are asked whether a request may come in.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Step};
use plimsoll_e2e::stand::{POISON, assert_canonical};
use plimsoll_e2e::wire::{Close, Response};
use plimsoll_e2e::{ports, wait};
use std::fs;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// Makes a key with OpenSSL, writes `keys.json` and prints tokens: for each line of claims one.
const MAKE: &str = r#"
import base64, json, subprocess, sys
def run(*args, data=None):
    return subprocess.run(args, input=data, capture_output=True, check=True).stdout
def b64(data):
    return base64.urlsafe_b64encode(data).decode().rstrip('=')
directory = sys.argv[1]
key = directory + '/key.pem'
run('openssl', 'genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', key)
modulus = run('openssl', 'rsa', '-in', key, '-noout', '-modulus').decode().strip().split('=')[1]
jwk = {'kty': 'RSA', 'kid': 'one', 'use': 'sig', 'n': b64(bytes.fromhex(modulus)), 'e': 'AQAB'}
open(directory + '/keys.json', 'w').write(json.dumps({'keys': [jwk]}))
def token(head, claims):
    text = b64(json.dumps(head).encode()) + '.' + b64(json.dumps(claims).encode())
    signature = run('openssl', 'dgst', '-sha256', '-sign', key, data=text.encode())
    return text + '.' + b64(signature)
good = {'sub': 'ada', 'iss': 'https://id.example', 'aud': 'shop', 'exp': 4000000000, 'email': 'ada@example.com'}
head = {'alg': 'RS256', 'kid': 'one'}
print(token(head, good))
print(token(head, dict(good, exp=1000000000)))
print(token(head, dict(good, aud='other')))
print(token(dict(head, kid='two'), good))
text = token(head, good)
print(text[:-8] + ('AAAAAAAA' if text[-8:] != 'AAAAAAAA' else 'BBBBBBBB'))
print(b64(b'{"alg":"none"}') + '.' + b64(json.dumps(good).encode()) + '.')
"#;

/// Writes `keys.json` to a directory; returns the tokens, a line each.
fn make(directory: &str) -> String {
    let made = Command::new("python3")
        .args(["-c", MAKE, directory])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap()
}

/// A refusal with a body under way must not let bytes of the body be read as a request.
fn refused_with_its_body(plimsoll: &Plimsoll, fields: &str) {
    let mut client = Raw::connect(plimsoll.address());
    let length = POISON.len();
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {length}\r\n\r\n"
        ))
        .unwrap();
    let response = client.response("POST");
    assert_eq!(
        (response.status(), response.head.wants_close()),
        (401, true)
    );
    let _ = client.send(POISON);
    let left = client.read_to_close(SOON);
    assert_eq!((left.bytes.len(), left.close), (0, Close::Fin));
}

#[test]
fn a_token_lets_in_whom_it_is_for() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display().to_string();
    let made = make(&at);
    let tokens: Vec<&str> = made.lines().collect();
    let upstream = Recorder::start(|_| Answer::ok("ok"));
    let text = format!(
        "admin off\nsite * {{\nlisten 127.0.0.1:{{port}}\n\
         route /cookie {{ jwt {at}/keys.json algorithms=RS256 from=cookie:token ; proxy {{server}} }}\n\
         route {{ jwt {at}/keys.json algorithms=RS256 issuer=https://id.example audience=shop\n\
         request-header set X-User ${{auth.user}} ; request-header set X-Mail ${{auth.claim.email}} ; proxy {{server}} }}\n}}\n"
    );
    let plimsoll = Start::run(&text).set("server", upstream.address()).start();
    let ask = |target: &str, fields: String| {
        let mut client = Raw::connect(plimsoll.address());
        client
            .send(format!(
                "GET {target} HTTP/1.1\r\nHost: x\r\nX-User: root\r\n{fields}\r\n"
            ))
            .unwrap();
        client.response("GET")
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    assert_eq!(ask("/", bearer(tokens[0])).status(), 200);
    let request = upstream.requests().pop().unwrap();
    assert_canonical(&request);
    let all = |name: &str| request.head.fields.all(name).collect::<Vec<_>>().join("|");
    assert_eq!(
        (all("x-user"), all("x-mail")),
        ("ada".into(), "ada@example.com".into())
    );
    assert_eq!(
        ask("/cookie", format!("Cookie: a=b; token={}\r\n", tokens[0])).status(),
        200
    );
    let seen = upstream.requests().len();
    for (token, why) in [
        (tokens[1], "the token has expired"),
        (tokens[2], "the token is for another audience"),
        (tokens[3], "the token's key is unknown"),
        (tokens[4], "the token's signature is wrong"),
        (tokens[5], "the token is malformed"),
        ("junk", "the token is malformed"),
    ] {
        let response = ask("/", bearer(token));
        assert_eq!(response.status(), 401, "{why}");
        let expected = format!("Bearer error=\"invalid_token\", error_description=\"{why}\"");
        assert_eq!(response.field("www-authenticate").unwrap(), expected);
    }
    let response = ask("/", String::new());
    assert_eq!(
        (
            response.status(),
            response.field("www-authenticate").unwrap()
        ),
        (401, "Bearer")
    );
    refused_with_its_body(&plimsoll, "");
    refused_with_its_body(&plimsoll, &bearer(tokens[1]));
    assert_eq!(upstream.requests().len(), seen);
    // Keys are changed while we serve.
    fs::write(
        directory.path().join("keys.json"),
        r#"{"keys":[{"kty":"oct","kid":"x","k":"c2VjcmV0"}]}"#,
    )
    .unwrap();
    wait::expect("the new keys", SOON, || {
        ask("/", bearer(tokens[0])).status() == 401
    });
}

/// Plimsoll in front of a server, with another one that is asked.
struct Asked {
    plimsoll: Plimsoll,
    server: Recorder,
    auth: Recorder,
}

fn asked(auth: fn(&str) -> Answer) -> Asked {
    let server = Recorder::start(|_| Answer::ok("ok"));
    let auth = Recorder::start(move |request| {
        auth(
            request
                .head
                .fields
                .first("x-forwarded-uri")
                .unwrap_or_default(),
        )
    });
    let text = "admin off\nsite * {\nlisten 127.0.0.1:{port}\n\
        route /open { respond 200 }\n\
        route { forward-auth {auth} /check?from=here copy=X-User,X-Groups ; proxy {server} }\n}\n\
        defaults { timeout connect=500ms response=500ms }\n";
    let start = Start::run(text).set("auth", auth.address());
    let plimsoll = start.set("server", server.address()).start();
    Asked {
        plimsoll,
        server,
        auth,
    }
}

impl Asked {
    fn ask(&self, target: &str, fields: &str) -> Response {
        let mut client = Raw::connect(self.plimsoll.address());
        client
            .send(format!(
                "GET {target} HTTP/1.1\r\nHost: shop\r\n{fields}\r\n"
            ))
            .unwrap();
        client.response("GET")
    }
}

#[test]
fn a_server_that_is_asked_says_who_it_is() {
    let asked = asked(|_| {
        Answer::bytes(
            "HTTP/1.1 200 OK\r\nX-User: ada\r\nX-Groups: a\r\nx-groups: b\r\nX-Other: c\r\nContent-Length: 3\r\n\r\nyes",
        )
    });
    let mut client = Raw::connect(asked.plimsoll.address());
    for _ in 0..2 {
        client
            .send("POST /a/../b?c=d HTTP/1.1\r\nHost: shop\r\nX-User: root\r\nX_User: root\r\nX-Groups: admin\r\nCookie: a=b\r\n\
                   Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")
            .unwrap();
        assert_eq!(client.response("POST").text(), "ok");
    }
    let check = asked.auth.requests().pop().unwrap();
    assert_canonical(&check);
    assert_eq!(
        (check.head.method.as_str(), check.head.target.as_str()),
        ("GET", "/check?from=here")
    );
    let of = |name: &str| check.head.fields.all(name).collect::<Vec<_>>().join("|");
    assert_eq!(
        (of("x-forwarded-method"), of("x-forwarded-uri")),
        ("POST".into(), "/b?c=d".into())
    );
    assert_eq!(
        (of("host"), of("cookie"), of("content-length")),
        ("shop".into(), "a=b".into(), String::new())
    );
    let request = asked.server.requests().pop().unwrap();
    assert_canonical(&request);
    let of = |name: &str| request.head.fields.all(name).collect::<Vec<_>>().join("|");
    assert_eq!(
        (of("x-user"), of("x-groups"), of("x-other")),
        ("ada".into(), "a|b".into(), String::new())
    );
    assert_eq!(
        (of("x_user"), request.body.bytes),
        (String::new(), b"hello".to_vec())
    );
    assert_eq!(asked.auth.connections().len(), 1, "its connection is kept");
}

#[test]
fn what_a_client_says_it_asks_for_does_not_reach_the_server_that_is_asked() {
    let asked = asked(|_| Answer::ok("yes"));
    let forged = "X-Forwarded-Uri: /open\r\nx-forwarded-method: OPTIONS\r\nX_Forwarded_Uri: /open\r\nX-Original-Url: /open\r\n\
                  X-Original-Uri: /open\r\nX-Original-Method: OPTIONS\r\nX-Rewrite-Url: /open\r\n";
    let partial = "If-None-Match: \"a\"\r\nIf-Match: \"a\"\r\nIf-Modified-Since: Fri, 27 Nov 2026 00:00:00 GMT\r\n\
                   If-Unmodified-Since: Fri, 27 Nov 2026 00:00:00 GMT\r\nIf-Range: \"a\"\r\nRange: bytes=0-1\r\n";
    assert_eq!(
        asked
            .ask("/secret", &format!("{forged}{partial}X-Own: 1\r\n"))
            .status(),
        200
    );
    let check = asked.auth.requests().pop().unwrap();
    assert_canonical(&check);
    let of = |name: &str| check.head.fields.all(name).collect::<Vec<_>>().join("|");
    assert_eq!(
        (of("x-forwarded-uri"), of("x-forwarded-method"), of("x-own")),
        ("/secret".into(), "GET".into(), "1".into())
    );
    for name in [
        "x_forwarded_uri",
        "x-original-url",
        "x-original-uri",
        "x-original-method",
        "x-rewrite-url",
        "if-none-match",
        "if-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
        "range",
    ] {
        assert_eq!(of(name), "", "{name}");
    }
    // The server that serves gets what the client asked of it.
    let request = asked.server.requests().pop().unwrap();
    assert_eq!(request.head.fields.first("range"), Some("bytes=0-1"));
    assert_eq!(request.head.fields.first("if-none-match"), Some("\"a\""));
}

#[test]
fn no_client_says_itself_who_it_is() {
    let asked = asked(|target| match target {
        "/nobody" => Answer::ok("yes"),
        _ => Answer::bytes(
            "HTTP/1.1 200 OK\r\nX-User: ada\r\nConnection: X-Groups\r\nX-Groups: a\r\nContent-Length: 3\r\n\r\nyes",
        ),
    });
    let said =
        "X-User: root\r\nx-user: admin\r\nX-GROUPS: wheel\r\nX_User: root\r\nx_groups: wheel\r\n";
    let nominated = format!("{said}Connection: X-User, x-groups\r\n");
    let head = "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n";
    for (target, user, groups) in [("/nobody", &[][..], &[][..]), ("/", &["ada"], &["a"])] {
        for fields in [said, &nominated, &format!("{said}{head}{said}")] {
            assert_eq!(asked.ask(target, fields).status(), 200, "{fields}");
            let request = asked.server.requests().pop().unwrap();
            assert_canonical(&request);
            let of = |name: &str| request.head.fields.all(name).collect::<Vec<_>>();
            assert_eq!(
                (of("x-user"), of("x-groups")),
                (user.to_vec(), groups.to_vec()),
                "{target} {fields}"
            );
            assert_eq!((of("x_user"), of("x_groups")), (vec![], vec![]));
            assert_eq!(request.body.trailers.0, [], "{fields}");
        }
    }
}

#[test]
fn another_server_is_asked_when_one_cannot_be() {
    let (auth, server) = (
        Recorder::start(|_| Answer::ok("yes")),
        Recorder::start(|_| Answer::ok("ok")),
    );
    let text = format!(
        "admin off\nsite * {{\nlisten 127.0.0.1:{{port}}\nroute {{ forward-auth auth /check ; proxy {{server}} }}\n}}\n\
         pool auth {{ server 127.0.0.1:{} ; server 127.0.0.1:{} ; server {{auth}} ; outlier off }}\n",
        ports::free(),
        ports::free()
    );
    let start = Start::run(&text).set("auth", auth.address());
    let plimsoll = start.set("server", server.address()).start();
    let mut client = Raw::connect(plimsoll.address());
    for _ in 0..6 {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(client.response("GET").status(), 200);
    }
    assert_eq!(auth.requests().len(), 6);
}

#[test]
fn a_refusal_is_passed_on_as_it_was_said() {
    let asked = asked(|target| match target {
        "/login" => Answer::bytes(
            "HTTP/1.1 302 Found\r\nLocation: https://id.example/?back=1\r\nSet-Cookie: s=1\r\nContent-Length: 0\r\nX-Accel-Redirect: /x\r\n\r\n",
        ),
        _ => Answer::bytes(
            "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n2\r\n1}\r\n0\r\n\r\n",
        ),
    });
    let response = asked.ask("/login", "");
    assert_eq!(
        (response.status(), response.field("location").unwrap()),
        (302, "https://id.example/?back=1")
    );
    assert_eq!(response.field("set-cookie").unwrap(), "s=1");
    assert!(response.field("x-accel-redirect").is_none());
    let response = asked.ask("/", "");
    assert_eq!(
        (response.status(), response.text().as_str()),
        (401, "{\"a\":1}")
    );
    assert_eq!(
        response.field("www-authenticate").unwrap(),
        "Basic realm=\"x\""
    );
    assert_eq!(
        response.head.fields.all("content-type").collect::<Vec<_>>(),
        ["application/json"]
    );
    refused_with_its_body(&asked.plimsoll, "");
    assert_eq!(asked.server.requests().len(), 0);
}

#[test]
fn nobody_comes_in_when_there_is_no_good_answer() {
    let asked = asked(|target| match target {
        "/error" => Answer::status(500, "broken"),
        "/early" => Answer(vec![Step::Send(b"HTTP/1.1 204".to_vec()), Step::Close]),
        "/silent" => Answer(vec![Step::Hold]),
        "/large" => Answer::status(403, "x".repeat(100_000)),
        "/nothing" => Answer::status(404, "no such page"),
        "/unchanged" => Answer::bytes("HTTP/1.1 304 Not Modified\r\n\r\n"),
        _ => Answer::bytes("nonsense\r\n\r\n"),
    });
    for target in [
        "/error",
        "/early",
        "/silent",
        "/large",
        "/nonsense",
        "/nothing",
        "/unchanged",
    ] {
        let response = asked.ask(target, "");
        assert_eq!(response.status(), 503, "{target}");
        assert!(response.field("retry-after").is_some());
    }
    assert_eq!(asked.ask("/open", "").status(), 200);
    assert_eq!(asked.server.requests().len(), 0);
    let nobody = ports::free();
    let text = format!(
        "admin off\nsite * {{\nlisten 127.0.0.1:{{port}}\nroute {{ forward-auth 127.0.0.1:{nobody} / ; respond 200 }}\n}}\n"
    );
    let plimsoll = Start::run(&text).start();
    let mut client = Raw::connect(plimsoll.address());
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(client.response("GET").status(), 503);
}
