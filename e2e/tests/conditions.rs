//! Routes that ask for more than a path: the first whose conditions all hold takes the request.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::wire::Response;

/// Routes that answer with their number, tried in this order.
fn routes(conditions: &[&str]) -> Plimsoll {
    let numbered = conditions.iter().enumerate();
    let routes: Vec<String> = numbered
        .map(|(at, conditions)| format!("route {conditions} {{ respond 200 {at} }}"))
        .collect();
    let text = format!(
        "admin off\nsite * {{\nlisten 127.0.0.1:{{port}}\n{}\nroute {{ respond 200 none }}\n}}\n",
        routes.join("\n")
    );
    Start::run(&text).start()
}

/// Which route answers a request for `target` with these fields.
fn taken(plimsoll: &Plimsoll, target: &str, fields: impl AsRef<[u8]>) -> String {
    let mut client = Raw::connect(plimsoll.address());
    let start = format!("GET {target} HTTP/1.1\r\nHost: x\r\n");
    let request = [start.as_bytes(), fields.as_ref(), b"\r\n"].concat();
    client.send(request).unwrap();
    client.response("GET").text()
}

#[test]
fn fields_of_the_head_are_seen_on_every_line() {
    let plimsoll = routes(&[
        "header:x-canary=yes,1",
        "header:X-Debug",
        "`header:user-agent~^curl/[0-9]`",
        "/api/* `not:header:accept~html`",
    ]);
    for (fields, route) in [
        ("X-Canary: yes\r\n", "0"),
        ("x-CANARY: no\r\nX-Canary: 1\r\n", "0"),
        ("X-Canary: yes, 1\r\n", "none"),
        ("X-Canary: Yes\r\n", "none"),
        ("X-Debug:\r\n", "1"),
        ("User-Agent: curl/8\r\n", "2"),
        ("User-Agent: a curl/8\r\n", "none"),
        ("X-Debug: 1\r\nX-Canary: 1\r\n", "0"),
    ] {
        assert_eq!(taken(&plimsoll, "/", fields), route, "{fields}");
    }
    assert_eq!(taken(&plimsoll, "/api/a", ""), "3");
    let html = "Accept: text/html\r\n";
    assert_eq!(taken(&plimsoll, "/api/a", html), "none");
}

#[test]
fn a_rule_for_a_field_is_not_evaded() {
    let plimsoll = routes(&[
        "header:x-role=admin",
        "`header:x-role~^a.*z$`",
        "`header:x-role~(?i)^k\u{e9}\\w$`",
        "`query:q~^a.*z$`",
        "`cookie:q~^a.*z$`",
        "/only not:header:x-role=guest",
        "/none not:header:x-role",
    ]);
    let role = |value: &[u8]| [b"X-Role: ", value, b"\r\n"].concat();
    for (fields, route) in [
        (role(b"admin"), "0"),
        (role(b"\t admin \t"), "0"),
        ([role(b"guest"), role(b"admin")].concat(), "0"),
        ([role(b""), role(b"admin")].concat(), "0"),
        (b"x-rOLE:admin\r\n".to_vec(), "0"),
        // Values are compared whole and as they are, and a name with an underscore is another name.
        (role(b"admin, guest"), "none"),
        (role(b"Admin"), "none"),
        (b"X_Role: admin\r\n".to_vec(), "none"),
        // Expressions see bytes, whether they are text or not.
        (role(b"abcz"), "1"),
        (role(b"a\xffz"), "1"),
        (role(b"a\xc3z"), "1"),
        (role(b"a\xc3\xa9\xe9z"), "1"),
        (role(b"K\xc3\xa9y"), "2"),
        (role(b"K\xe9y"), "none"),
        (role(b"k\xc3\xa9\xff"), "none"),
        (b"Cookie: a=b; q=a\xffz\r\n".to_vec(), "4"),
    ] {
        let taken = taken(&plimsoll, "/", &fields);
        assert_eq!(taken, route, "{}", fields.escape_ascii());
    }
    for (target, route) in [
        ("/?q=a%ffz", "3"),
        ("/?q=a%0az", "3"),
        ("/?q=a%00z", "3"),
        ("/?%71=x&q=a+z", "3"),
        ("/?q=%61%7a", "3"),
        ("/?q=az%0a", "none"),
    ] {
        assert_eq!(taken(&plimsoll, target, ""), route, "{target}");
    }
    let guest = role(b"guest");
    for (target, fields, route) in [
        ("/only", guest.clone(), "none"),
        ("/only", [role(b"x"), guest].concat(), "none"),
        ("/only", role(b"x"), "5"),
        ("/none", role(b""), "none"),
        ("/none", b"X_Role: x\r\n".to_vec(), "6"),
    ] {
        let taken = taken(&plimsoll, target, &fields);
        assert_eq!(taken, route, "{target} {}", fields.escape_ascii());
    }
}

#[test]
fn queries_and_cookies_are_compared_by_what_they_mean() {
    let plimsoll = routes(&[
        "`query:user=a b`",
        "`query:id~^[0-9]+$`",
        "query:debug",
        "cookie:beta=1 not:cookie:old",
    ]);
    for (target, fields, route) in [
        ("/?user=a+b", "", "0"),
        ("/?user=%61%20b", "", "0"),
        ("/?us%65r=a%20b", "", "0"),
        ("/?user=x&user=a+b", "", "0"),
        ("/?user=ab", "", "none"),
        ("/?id=12", "", "1"),
        ("/?id=%31", "", "1"),
        ("/?id=1x", "", "none"),
        ("/?debug", "", "2"),
        ("/?debugger", "", "none"),
        ("/", "Cookie: a=2; beta=1\r\n", "3"),
        ("/", "Cookie: a=2\r\nCookie: beta=1\r\n", "3"),
        ("/", "Cookie: beta=1; old=\r\n", "none"),
        ("/", "Cookie: beta=12\r\n", "none"),
    ] {
        assert_eq!(taken(&plimsoll, target, fields), route, "{target} {fields}");
    }
}

#[test]
fn paths_are_matched_in_the_form_that_servers_get() {
    let plimsoll = routes(&["`path~^/v[0-9]+/users$`", "`not:path~^/(public|v[0-9]+)/`"]);
    for (target, route) in [
        ("/v1/users", "0"),
        ("/v1/./users?x=1", "0"),
        ("/a/../v12/%75sers", "0"),
        ("/v1/users/2", "none"),
        ("/public/../private", "1"),
        ("/public/x", "none"),
    ] {
        assert_eq!(taken(&plimsoll, target, ""), route, "{target}");
    }
}

#[test]
fn clients_and_ports_are_told_apart() {
    let nobody = routes(&["client=10.0.0.0/8,::1", "client=127.0.0.2 port=1"]);
    assert_eq!(taken(&nobody, "/", ""), "none");
    let here = routes(&["not:client=127.0.0.0/8", "client=127.0.0.1 not:port=1"]);
    assert_eq!(taken(&here, "/", ""), "1");
}

#[test]
fn all_conditions_of_a_route_must_hold_and_the_first_route_wins() {
    let plimsoll = routes(&[
        "/a/* method=GET header:x=1 query:y=2",
        "/a/* header:x=1",
        "method=POST",
        "/a/*",
    ]);
    assert_eq!(taken(&plimsoll, "/a/b?y=2", "X: 1\r\n"), "0");
    assert_eq!(taken(&plimsoll, "/a/b?y=3", "X: 1\r\n"), "1");
    assert_eq!(taken(&plimsoll, "/a", ""), "3");
    assert_eq!(taken(&plimsoll, "/b?y=2", "X: 1\r\n"), "none");
}

#[test]
fn hosts_are_matched_by_name_pattern_and_expression() {
    let text = "admin off\n\
        site a.example { listen 127.0.0.1:{port} ; route { respond 200 exact } }\n\
        site *.example { listen 127.0.0.1:{port} ; route { respond 200 wildcard } }\n\
        site `~^api[0-9]+[.]` `~other` { listen 127.0.0.1:{port} ; route host=api1.x,*.y { respond 200 listed } ; \
        route host~2 { respond 200 two } ; route { respond 200 expression } }\n\
        site * { listen 127.0.0.1:{port} ; route { respond 200 any } }\n";
    let plimsoll = Start::run(text).start();
    let mut client = Raw::connect(plimsoll.address());
    for (host, site) in [
        ("A.Example:8080", "exact"),
        ("b.example", "wildcard"),
        ("api1.example", "wildcard"),
        ("API1.x", "listed"),
        ("api2.x", "two"),
        ("api3.a.Y", "listed"),
        ("api33.test", "expression"),
        ("another.test", "expression"),
        ("api.test", "any"),
    ] {
        client
            .send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .unwrap();
        assert_eq!(client.response("GET").text(), site, "{host}");
    }
}

#[test]
fn patterns_of_paths_stay_within_their_segments() {
    let plimsoll = routes(&["/users/*/photo.*", "/a/**/z", "/img*/*", "/x*y"]);
    for (target, route) in [
        ("/users/1/photo.jpg", "0"),
        ("/users//1/./photo.", "0"),
        ("/users/1/2/photo.jpg", "none"),
        ("/users/1/photo.jpg/x", "none"),
        ("/a/b/c/z", "1"),
        ("/a//z", "none"),
        ("/imgs/a/b", "2"),
        ("/img", "2"),
        ("/im", "none"),
        ("/xy", "3"),
        ("/x/y", "none"),
        ("/x%0Ay", "3"),
    ] {
        assert_eq!(taken(&plimsoll, target, ""), route, "{target}");
    }
}

#[test]
fn named_matches_are_or_of_and() {
    let text = "admin off\n\
        match staff header:x-staff=yes not:is:robots\n\
        match staff cookie:sso method=GET\n\
        match robots header:user-agent~bot\n\
        site * { listen 127.0.0.1:{port}\n\
        route is:staff /ignored { respond 500 }\n}\n";
    let mut wrong = Start::run(text).spawn();
    let status = wrong.wait_exit(std::time::Duration::from_secs(10));
    assert_eq!(status.code(), Some(78));
    let text = text.replace(
        "is:staff /ignored { respond 500 }",
        "is:staff { respond 200 staff }\nroute not:is:robots { respond 200 people }\nroute { respond 200 robots }",
    );
    let plimsoll = Start::run(&text).start();
    for (fields, route) in [
        ("X-Staff: yes\r\n", "staff"),
        ("X-Staff: yes\r\nUser-Agent: a bot\r\n", "robots"),
        ("Cookie: sso=1\r\nUser-Agent: a bot\r\n", "staff"),
        ("X-Staff: no\r\n", "people"),
        ("", "people"),
    ] {
        assert_eq!(taken(&plimsoll, "/", fields), route, "{fields}");
    }
}

#[test]
fn grpc_calls_and_times_are_told_apart() {
    let plimsoll = routes(&[
        "grpc=app.v1.Users/Get,app.v1.Groups",
        "/never time=1999-01-01",
        "/always time=00:00-24:00,2000-01-01 time=mon-sun",
        "/night time=23:59-00:00 time=00:00-23:59",
    ]);
    let grpc = "Content-Type: application/grpc+proto\r\n";
    for (target, fields, route) in [
        ("/app.v1.Users/Get", grpc, "0"),
        ("/app.v1.Users/List", grpc, "none"),
        ("/app.v1.Groups/List", grpc, "0"),
        ("/app.v1.Groups", grpc, "none"),
        ("/app.v1.Groups/List", "", "none"),
        (
            "/app.v1.Groups/List",
            "Content-Type: application/grpc-web\r\n",
            "none",
        ),
        ("/never", "", "none"),
        ("/always", "", "2"),
        ("/night", "", "none"),
    ] {
        assert_eq!(taken(&plimsoll, target, fields), route, "{target} {fields}");
    }
}

#[test]
fn the_same_route_is_taken_however_a_request_is_cut() {
    let text = "admin off\nmatch staff header:x-staff=yes not:cookie:old\n\
        site * {\nlisten 127.0.0.1:{port}\n\
        route /users/*/photo.* { respond 200 photo }\n\
        route /api/* method=POST { request-header set X-Route api ; proxy {server} }\n\
        route `query:id~^[0-9]+$` { respond 200 id }\n\
        route is:staff { respond 200 staff }\n\
        route host=b.example { respond 200 host }\n\
        route { proxy {server} }\n}\n";
    let stand = Stand::run(text, |request| {
        Answer::ok(request.head.fields.first("x-route").unwrap_or("none"))
    });
    let get = |target: &str, host: &str, fields: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
    };
    let requests = [
        get("/users/x/../1/photo.jpg", "x", ""),
        "POST /%61pi/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
        get("/?id=%31", "x", ""),
        get("/", "x", "X-Staff: no\r\nx-staff: yes\r\n"),
        get("/", "B.Example:80", ""),
        get("/", "x", "X-Staff: yes\r\nCookie: a=1; old=2\r\n"),
    ];
    let answers = stand.answers_however_cut(&requests);
    let routes: Vec<_> = answers.iter().map(Response::text).collect();
    assert_eq!(routes, ["photo", "api", "id", "staff", "host", "none"]);
}
