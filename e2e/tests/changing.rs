//! Requests and answers that rules change on their way: fields, targets, cookies, redirects, shares.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::Start;
use plimsoll_e2e::recorder::{Recorder, Request};
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::{Cut, Stand, assert_canonical};
use plimsoll_e2e::wire::Response;

/// A stand whose site has these statements; `{server}` is the upstream.
fn stand(statements: &str, answer: &'static str) -> Stand {
    let text = format!("admin off\nsite * {{\nlisten 127.0.0.1:{{port}}\n{statements}\n}}\n");
    Stand::run(&text, move |_| Answer::bytes(answer))
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn ask(stand: &Stand, target: &str, fields: &str) -> Response {
    let request = format!("GET {target} HTTP/1.1\r\nHost: example.com:81\r\n{fields}\r\n");
    stand.ask("GET", request)
}

fn last(stand: &Stand) -> Request {
    let request = stand.upstream.requests().pop().unwrap();
    assert_canonical(&request);
    request
}

fn all(request: &Request, name: &str) -> Vec<String> {
    request.head.fields.all(name).map(str::to_owned).collect()
}

#[test]
fn request_fields_are_changed_in_written_order() {
    let stand = stand(
        "request-header set X-Site a ; request-header add X-Both site
         route {
             request-header add X-Both route ; request-header add X-Site b
             request-header remove X-Gone ; request-header remove X-Early ; request-header add X-Early late
             request-header set X-Who \"${client.ip} ${request.method} ${request.scheme} ${request.host} ${request.authority}\"
             request-header set X-Where ${request.uri} ; request-header set X-Path ${request.path}?${request.query}
             request-header set X-From ${request.header.x-gone} ; request-header set X-Crumb ${request.cookie.b}
             request-header set X-Param ${request.query.q} ; request-header set X-Empty ${request.header.none}
             request-header set X-Pool \"${pool.name} ${site.name}\" ; request-header set X-Id ${request.id}
             request-header replace X-List `b+` [$0] ; request-header replace X-Site `b` c
             request-header set X-Forwarded-Proto https ; request-header remove Via
             proxy {server}
         }",
        OK,
    );
    let fields = "x-gone: here\r\nX-EARLY: 1\r\nX-List: abba\r\nX-List: xyz\r\nCookie: a=1; b=2\r\nX-Site: mine\r\n\
                  X_Site: mine\r\nX-Empty: full\r\n";
    assert_eq!(ask(&stand, "/a/../b?q=1&r", fields).status(), 200);
    let request = last(&stand);
    let is = |name: &str, values: &[&str]| assert_eq!(all(&request, name), values, "{name}");
    is("x-site", &["a", "c"]);
    is("x_site", &[]);
    is("x-both", &["site", "route"]);
    is("x-gone", &[]);
    is("x-early", &["late"]);
    is("x-who", &["127.0.0.1 GET http example.com example.com:81"]);
    is("x-where", &["/b?q=1&r"]);
    is("x-path", &["/b?q=1&r"]);
    is("x-from", &["here"]);
    is("x-crumb", &["2"]);
    is("x-param", &["1"]);
    is("x-empty", &[]);
    is("x-pool", &[&format!("{} *", stand.upstream.address())]);
    is("x-list", &["a[bb]a", "xyz"]);
    is("x-forwarded-proto", &["https"]);
    is("via", &[]);
    assert_eq!(all(&request, "x-id"), all(&request, "x-request-id"));
}

#[test]
fn a_client_cannot_take_away_what_rules_say() {
    let stand = stand(
        "request-header set X-User admin
         route { request-header add X-Tag ours ; request-header remove X-Gone ; request-header replace X-List a b ; proxy {server} }",
        OK,
    );
    let fields = "Connection: close, X-User, x-tag, X-Gone, X-List\r\nX-User: root\r\nX-Tag: theirs\r\n\
                  X-Gone: 1\r\nX-List: a\r\n";
    assert_eq!(ask(&stand, "/", fields).status(), 200);
    let request = last(&stand);
    for (name, values) in [
        ("x-user", &["admin"][..]),
        ("x-tag", &["ours"]),
        ("x-gone", &[]),
        ("x-list", &[]),
    ] {
        assert_eq!(all(&request, name), values, "{name}");
    }
}

#[test]
fn what_rules_take_out_does_not_come_back_as_a_trailer() {
    let stand = stand(
        "request-header set X-User ada ; request-header remove X-Gone ; response-header remove X-Secret
         route { response-header set X-Sum ours ; proxy {server} }",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Secret: 1\r\nx-sum: 2\r\nX-Kept: 3\r\n\r\n",
    );
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "2\r\nhi\r\n0\r\nx-user: root\r\nX-Gone: 1\r\nX-Kept: 2\r\n\r\n";
    for cut in [Cut::Whole, Cut::At(head.len()), Cut::At(head.len() + 7)] {
        let mut client = stand.connect();
        cut.send(&mut client, format!("{head}{body}")).unwrap();
        let response = client.response("POST");
        let trailer = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert_eq!(response.body.trailers.0, trailer("X-Kept", "3"), "{cut:?}");
        let request = last(&stand);
        assert_eq!(request.body.trailers.0, trailer("X-Kept", "2"), "{cut:?}");
        assert_eq!(all(&request, "x-user"), ["ada"]);
    }
}

#[test]
fn the_host_that_servers_see_can_be_set() {
    let stand = stand(
        "request-header set Host app.internal ; route { proxy {server} }",
        OK,
    );
    assert_eq!(ask(&stand, "/", "").status(), 200);
    let request = last(&stand);
    assert_eq!(all(&request, "host"), ["app.internal"]);
    assert_eq!(all(&request, "x-forwarded-host"), ["example.com:81"]);
}

#[test]
fn response_fields_are_changed_whoever_answers() {
    let stand = stand(
        "response-header set X-Frame-Options DENY ; response-header remove X-Powered-By ; response-header remove Server
         route /own { respond 200 hello ; response-header set X-Status \"${response.status} ${request.path}\" }
         route /down { proxy 127.0.0.1:1 }
         route /a/* {
             response-header replace Location `^http://internal` https://example.com
             response-header set X-Server \"${server.name} ${response.status} ${response.header.x-kept}\"
             response-header set Date never
             proxy {server}
         }",
        "HTTP/1.1 201 Made\r\nX-Powered-By: PHP\r\nSERVER: old\r\nX-Kept: 1\r\nX-Frame-Options: ALLOW\r\n\
         Location: http://internal/x\r\nDate: today\r\nContent-Length: 2\r\n\r\nok",
    );
    let fields = |target: &str| {
        let response = ask(&stand, target, "");
        let of = |name: &str| {
            response
                .head
                .fields
                .all(name)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(of("x-frame-options"), ["DENY"], "{target}");
        assert_eq!(
            (of("x-powered-by").len(), of("server").len()),
            (0, 0),
            "{target}"
        );
        (
            response.status(),
            of("x-status"),
            of("x-server"),
            of("location"),
            of("date"),
        )
    };
    let (status, _, server, location, date) = fields("/a/b");
    assert_eq!(status, 201);
    assert_eq!(server, [format!("{} 201 1", stand.upstream.address())]);
    assert_eq!(
        (location, date),
        (vec!["https://example.com/x".into()], vec!["never".into()])
    );
    assert_eq!(fields("/own").1, ["200 /own"]);
    assert_eq!(fields("/down").0, 502);
    assert_eq!(fields("/nowhere").0, 404);
}

#[test]
fn attributes_of_cookies_are_changed() {
    let stand = stand(
        "response-cookie * secure http-only same-site=lax domain=none ; response-cookie sid path=/app secure=no
         route { proxy {server} }",
        "HTTP/1.1 200 OK\r\nSet-Cookie: sid=1; Path=/; Domain=internal\r\nSet-Cookie: a=b; SameSite=None\r\nContent-Length: 0\r\n\r\n",
    );
    let response = ask(&stand, "/", "");
    let cookies: Vec<_> = response.head.fields.all("set-cookie").collect();
    assert_eq!(
        cookies,
        [
            "sid=1; HttpOnly; SameSite=Lax; Path=/app",
            "a=b; Secure; HttpOnly; SameSite=Lax"
        ]
    );
}

#[test]
fn targets_are_rewritten_after_the_route_is_found() {
    let stand = stand(
        "route /api/* { strip-prefix /api ; rewrite `^/v[0-9]+/(.*)$` /$1?version=old ; proxy {server} }
         route /item/* { rewrite `^/item/([a-z]+)$` /item?name=$1 ; query set from ${request.host} ; query remove debug ; query add x ${request.query.y} ; proxy {server} }
         route /deep/* { rewrite `^/deep/` /../ ; proxy {server} }
         route { proxy {server} }",
        OK,
    );
    for (target, expected) in [
        ("/api/v2/users?a=1", "/users?version=old&a=1"),
        ("/api/x/../v1/", "/?version=old"),
        ("/api", "/"),
        ("/apis", "/apis"),
        (
            "/item/abc?debug=1&y=%26",
            "/item?name=abc&y=%26&from=example.com&x=%2526",
        ),
        ("/item/ABC", "/item/ABC?from=example.com&x="),
        ("/plain?debug", "/plain?debug"),
    ] {
        assert_eq!(ask(&stand, target, "").status(), 200, "{target}");
        assert_eq!(last(&stand).head.target, expected, "{target}");
    }
    let seen = stand.upstream.requests().len();
    assert_eq!(ask(&stand, "/deep/x", "").status(), 400);
    assert_eq!(stand.upstream.requests().len(), seen);
}

#[test]
fn redirects_lead_where_they_say_and_nowhere_else() {
    let stand = stand(
        "route /https/* { redirect https://${request.host}${request.uri} permanent }
         route /www { redirect http://www.${request.authority}/ 307 }
         route path~^/u/([0-9]+)/(.*)$ { redirect /users/${match.1}?rest=${match.2} 308 }
         route /to { redirect ${request.query.to} }
         route /header { redirect /x/${request.header.x-to} }
         route { proxy {server} }",
        OK,
    );
    for (target, fields, status, location) in [
        (
            "/https/a/../b?c=d",
            "",
            301,
            "https://example.com/https/b?c=d",
        ),
        ("/www", "", 307, "http://www.example.com:81/"),
        ("/u/12/a/b", "", 308, "/users/12?rest=a/b"),
        ("/to?to=//evil.com/x", "", 302, "/evil.com/x"),
        ("/to?to=/%0d%0aSet-Cookie:a", "", 302, "/%0d%0aSet-Cookie:a"),
        ("/header", "X-To: a b\"<\r\n", 302, "/x/a%20b%22%3C"),
    ] {
        let response = ask(&stand, target, fields);
        assert_eq!(response.status(), status, "{target}");
        let to: Vec<_> = response.head.fields.all("location").collect();
        assert_eq!(to, [location], "{target}");
    }
    stand.assert_ends_with_its_body("POST /www HTTP/1.1\r\nHost: x\r\n", 307);
    for (target, location) in [
        ("/https//evil.com/..", "https://example.com/https/"),
        (
            "/https/%0d%0aSet-Cookie:a",
            "https://example.com/https/%0D%0ASet-Cookie:a",
        ),
        ("/https/@evil.com", "https://example.com/https/@evil.com"),
        (
            "http://other.example/https/x",
            "https://other.example/https/x",
        ),
    ] {
        let response = ask(&stand, target, "");
        let to: Vec<_> = response.head.fields.all("location").collect();
        assert_eq!((response.status(), to), (301, vec![location]), "{target}");
    }
    for target in [
        "/https/\\evil",
        "/https/%5cevil",
        "/https/..;/x",
        "/https/%00",
    ] {
        assert_eq!(ask(&stand, target, "").status(), 400, "{target}");
    }
    // Without a host, `https:///evil.com` would lead there.
    let response = stand.ask("GET", "GET /https/evil.com HTTP/1.0\r\n\r\n");
    assert_eq!((response.status(), response.field("location")), (400, None));
    // A forged host cannot be more than a host.
    let request = "GET /https/x HTTP/1.1\r\nHost: a/b\r\n\r\n";
    assert_eq!(stand.ask("GET", request).status(), 400);
}

#[test]
fn a_text_can_hold_what_is_known_of_the_request() {
    let stand = stand(
        "route /who { respond 200 \"you are ${client.ip} at $${client.ip}\\n\" } route { proxy {server} }",
        OK,
    );
    let response = ask(&stand, "/who", "");
    assert_eq!(response.text(), "you are 127.0.0.1 at ${client.ip}\n");
    stand.assert_ends_with_its_body("POST /who HTTP/1.1\r\nHost: x\r\n", 200);
}

#[test]
fn shares_go_to_their_pools_and_clients_stay() {
    let (one, two) = (
        Recorder::start(|_| Answer::ok("one")),
        Recorder::start(|_| Answer::ok("two")),
    );
    let text = "admin off\nsite * {\nlisten 127.0.0.1:{port}\n\
        route /lots { split 3 {one} ; split 1 {two} }\n\
        route /kept { split 50 {one} sticky=cookie:user ; split 50 {two} }\n\
        route /none { split 0 {one} ; split 1 {two} }\n}\n";
    let plimsoll = Start::run(text)
        .set("one", one.address())
        .set("two", two.address())
        .start();
    let mut client = plimsoll_e2e::raw::Raw::connect(plimsoll.address());
    let mut asked = |target: &str, user: usize| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nCookie: user={user}\r\n\r\n");
        client.send(request).unwrap();
        client.response("GET").text()
    };
    let lots = (0..400).filter(|_| asked("/lots", 0) == "two").count();
    // 100 are expected; 400 draws are this far off once in 10^9 runs.
    assert!((45..=155).contains(&lots), "{lots}");
    let first: Vec<_> = (0..40).map(|user| asked("/kept", user)).collect();
    let again: Vec<_> = (0..40).map(|user| asked("/kept", user)).collect();
    assert_eq!(first, again);
    assert!(first.contains(&"one".to_owned()) && first.contains(&"two".to_owned()));
    assert!((0..20).all(|user| asked("/none", user) == "two"));
}

#[test]
fn changes_are_the_same_however_a_message_is_cut() {
    let stand = stand(
        "request-header set X-Who \"${request.method} ${request.path} ${request.header.x-a}\" ; request-header remove X-Gone
         response-header set X-Frame-Options DENY ; response-cookie * secure
         route /api/* { strip-prefix /api ; query set v 1 ; request-header replace X-List `b+` [$0] ; proxy {server} }
         route /old/* { redirect /new${request.uri} 308 }
         route { request-header set Host inside ; response-header remove X-Powered-By ; proxy {server} }",
        "HTTP/1.1 200 OK\r\nX-Powered-By: PHP\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok",
    );
    let requests = [
        "POST /api/a/../b?v=2&w HTTP/1.1\r\nHost: x\r\nX-A:  1 \r\nx-gone: 1\r\nX-List: abba\r\nContent-Length: 2\r\n\r\nhi",
        "GET /old/a?b HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX-A: caf\u{e9}\r\nX-Who: me\r\n\r\n",
    ];
    let answers = stand.answers_however_cut(&requests.map(str::to_owned));
    let fields = |name: &str| -> Vec<_> {
        let answers = answers.iter();
        let fields = answers.map(|answer| answer.field(name).unwrap_or("-").to_owned());
        fields.collect()
    };
    assert_eq!(fields("x-frame-options"), ["DENY"; 3]);
    assert_eq!(fields("set-cookie"), ["a=b; Secure", "-", "a=b; Secure"]);
    assert_eq!(fields("location"), ["-", "/new/old/a?b", "-"]);
    assert_eq!(fields("x-powered-by"), ["PHP", "-", "-"]);
    let seen = stand.upstream.requests();
    let first = seen
        .iter()
        .find(|request| request.head.method == "POST")
        .unwrap();
    assert_eq!(first.head.target, "/b?w&v=1");
    assert_eq!(all(first, "x-who"), ["POST /api/b 1"]);
    assert_eq!(
        (all(first, "x-list"), all(first, "x-gone")),
        (vec!["a[bb]a".to_owned()], vec![])
    );
}
