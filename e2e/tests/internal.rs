//! Answers of servers that send the request on to internal routes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::{Cut, POISON, Stand, assert_canonical, check_all};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// A server that says who may have what, and one that has it.
fn stand() -> (Stand, Recorder) {
    let files = Recorder::start(|request| match request.head.target.as_str() {
        "/videos/missing.mp4" => Answer::status(404, "no such file"),
        target => Answer::bytes(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nSet-Cookie: b=2\r\nETag: \"1\"\r\nContent-Length: {}\r\n\r\n{target}",
            target.len()
        )),
    });
    let text = format!(
        "admin off\nsite files.example {{\nlisten 127.0.0.1:{{port}}\nlog access.log json\nresponse-header set X-Site yes\n\
         route /videos/* {{ internal ; request-header set X-Inside yes ; response-header remove Expires ; proxy {} }}\n\
         route /text {{ internal ; respond 200 `${{request.path}} for ${{request.method}}` }}\n\
         route /videos/* {{ respond 403 }}\nroute {{ proxy {{server}} }}\n}}\n\
         site plain.example {{ listen 127.0.0.1:{{port}} ; route {{ proxy {{server}} }} }}\n",
        files.address()
    );
    let stand = Stand::run(&text, |request| {
        let named = match request.head.target.as_str() {
            "/say" => request.head.fields.first("x-say").unwrap_or_default(),
            target => target.trim_start_matches("/to"),
        };
        Answer::bytes(format!(
            "HTTP/1.1 201 Made\r\nX-Accel-Redirect: {named}\r\nContent-Type: video/mp4\r\nExpires: 0\r\n\
             Content-Disposition: attachment\r\nSet-Cookie: a=1\r\nX-Secret: yes\r\nContent-Length: 7\r\n\r\nignored"
        ))
    });
    (stand, files)
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: files.example\r\nRange: bytes=0-\r\n\r\n")
}

#[test]
fn a_server_lets_another_one_send_the_file() {
    let (stand, files) = stand();
    let response = stand.ask("GET", get("/to/videos/a%20b.mp4?x=1"));
    assert_eq!(
        (response.status(), response.text().as_str()),
        (200, "/videos/a%20b.mp4?x=1")
    );
    let field = |name| response.field(name).map(str::to_owned);
    let carried = ["content-type", "content-disposition", "etag", "x-site"].map(field);
    let expected = ["video/mp4", "attachment", "\"1\"", "yes"];
    assert_eq!(carried, expected.map(|text| Some(text.to_owned())));
    assert_eq!(response.head.fields.all("content-type").count(), 1);
    let cookies: Vec<_> = response.head.fields.all("set-cookie").collect();
    assert_eq!(cookies, ["b=2", "a=1"]);
    let dropped = ["x-secret", "x-accel-redirect", "expires"].map(field);
    assert_eq!(dropped, [None, None, None]);
    let asked = &files.requests()[0];
    assert_canonical(asked);
    assert_eq!(asked.head.method, "GET");
    assert_eq!(asked.head.fields.first("host").unwrap(), "files.example");
    assert_eq!(asked.head.fields.first("range").unwrap(), "bytes=0-");
    assert_eq!(asked.head.fields.first("x-inside").unwrap(), "yes");
    // The log says what the client asked for, and which route answered.
    let lines = stand.plimsoll.wait_log("access.log", 1, SOON);
    assert!(
        lines[0].contains("\"path\":\"/to/videos/a%20b.mp4\""),
        "{lines:?}"
    );
    assert!(lines[0].contains("plimsoll.conf:6\""), "{lines:?}");
}

#[test]
fn clients_do_not_reach_internal_routes() {
    let (stand, files) = stand();
    assert_eq!(stand.ask("GET", get("/videos/a.mp4")).status(), 403);
    let client = stand.ask(
        "GET",
        "GET /videos/a.mp4 HTTP/1.1\r\nHost: files.example\r\nX-Accel-Redirect: /videos/a.mp4\r\n\r\n",
    );
    assert_eq!(client.status(), 403);
    assert!(files.requests().is_empty());
    // Where no route is internal, the field means nothing and is not shown.
    let response = stand.ask(
        "GET",
        "GET /to/videos/a.mp4 HTTP/1.1\r\nHost: plain.example\r\n\r\n",
    );
    assert_eq!(
        (response.status(), response.text().as_str()),
        (201, "ignored")
    );
    assert!(response.field("x-accel-redirect").is_none());
}

#[test]
fn where_it_leads_nowhere_the_client_is_told() {
    let (stand, _files) = stand();
    let seen = |target: &str| {
        let response = stand.ask("GET", get(target));
        let kept = response.field("content-disposition").is_some();
        (response.status(), kept)
    };
    assert_eq!(seen("/to/videos/missing.mp4"), (404, false));
    assert_eq!(seen("/to/nowhere"), (404, false));
    assert_eq!(seen("/tohttp://evil.example/"), (502, false));
    assert_eq!(seen("/to"), (502, false));
    assert_eq!(seen("/to/videos/../secret"), (404, false));
    for named in [
        "",
        "videos/a.mp4",
        "@videos",
        "http://x/videos/a.mp4",
        "/videos/a b",
        "/videos/a HTTP/1.1",
        "/videos/%2e%2e%2fb",
        "/videos/%00",
        "/videos/..;/b",
        "/videos/a#b",
        "*",
        &format!("/{}", "a".repeat(9000)),
    ] {
        let request = format!("GET /say HTTP/1.1\r\nHost: files.example\r\nX-Say: {named}\r\n\r\n");
        assert_eq!(stand.ask("GET", request).status(), 502, "{named}");
    }
    assert_eq!(stand.ask("GET", get("/to/text")).text(), "/text for GET");
}

#[test]
fn the_connection_goes_on_behind_a_body() {
    let (stand, files) = stand();
    let first = "POST /to/text HTTP/1.1\r\nHost: files.example\r\nContent-Length: 5\r\n\r\nabcde";
    let second = get("/to/videos/b.mp4");
    let both = format!("{first}{second}");
    let cuts: Vec<_> = Cut::all(both.len()).collect();
    check_all(&cuts, |cut| {
        let mut client = stand.connect();
        let sent = cut.send(&mut client, &both);
        sent.map_err(|error| format!("{cut:?}: {error}"))?;
        for (method, expected) in [("POST", "/text for GET"), ("GET", "/videos/b.mp4")] {
            let response = client.try_response(method);
            let response = response.map_err(|unfinished| format!("{cut:?}: {unfinished:?}"))?;
            if response.text() != expected {
                return Err(format!("{cut:?}: {}", response.text()));
            }
        }
        Ok(())
    });
    assert_eq!(files.requests().len(), cuts.len());
    for request in files.requests() {
        assert_canonical(&request);
        assert_eq!((&*request.head.method, request.body.length), ("GET", 0));
    }
}

#[test]
fn a_body_under_way_ends_with_its_answer() {
    let text = "admin off\nsite * { listen 127.0.0.1:{port} ; route /sent { internal ; respond 200 sent } ; route { proxy {server} } }\n";
    let stand = Stand::run(text, |_| {
        Answer::bytes("HTTP/1.1 200 OK\r\nX-Accel-Redirect: /sent\r\nContent-Length: 0\r\n\r\n")
            .early()
    });
    let mut client = stand.connect();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n";
    client.send(format!("{head}12345")).unwrap();
    let response = client.response("POST");
    assert_eq!(response.text(), "sent");
    assert!(response.head.wants_close());
    // What is left of the body is no request.
    let _ = client.send(format!("{POISON}{POISON}"));
    let rest = client.read_to_close(SOON);
    assert!(rest.bytes.is_empty(), "{rest:?}");
    assert_eq!(stand.upstream.requests().len(), 1);
}

#[test]
fn a_circle_ends() {
    let text = "admin off\nsite * { listen 127.0.0.1:{port} ; route /again { internal ; proxy {server} } ; route / { proxy {server} } }\n";
    let stand = Stand::run(text, |_| {
        Answer::bytes("HTTP/1.1 200 OK\r\nX-Accel-Redirect: /again\r\nContent-Length: 0\r\n\r\n")
    });
    let response = stand.ask("GET", "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(response.status(), 502);
    assert_eq!(stand.upstream.requests().len(), 11);
    assert_eq!(stand.upstream.connections().len(), 1);
}
