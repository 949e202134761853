//! What clients see of errors and servers, and what an outer balancer is told.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::plimsoll::Start;
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::{POISON, Stand};
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::{Close, Response};
use std::fs;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn ask(stand: &Stand, target: &str) -> Response {
    stand.ask(
        "GET",
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n"),
    )
}

#[test]
fn errors_have_the_pages_that_are_written_for_them() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display().to_string();
    fs::write(
        directory.path().join("down.html"),
        "<h1>down ${response.status}</h1> ${request.id} ${request.path}",
    )
    .unwrap();
    fs::write(directory.path().join("gone.json"), "{}").unwrap();
    let text = format!(
        "admin off\ndefaults {{ error 502 503 404 `from defaults` }}\n\
         site * {{\nlisten 127.0.0.1:{{port}}\nerror 502 504 {at}/down.html\n\
         route /route {{ error 502 `from the route ${{request.id}}` ; proxy 127.0.0.1:1 }}\n\
         route /gone {{ error 410 {at}/gone.json ; respond 410 }}\n\
         route /down {{ proxy 127.0.0.1:1 }}\n\
         route /server {{ proxy {{server}} }}\n}}\n"
    );
    let stand = Stand::run(&text, |_| Answer::status(502, "the server's own"));
    let seen = |target: &str| {
        let response = ask(&stand, target);
        let media = response
            .field("content-type")
            .unwrap_or_default()
            .to_owned();
        let id = response
            .field("x-request-id")
            .unwrap_or_default()
            .to_owned();
        let text = response.text();
        let text = if id.is_empty() {
            text
        } else {
            text.replace(&id, "ID")
        };
        (response.status(), media, text)
    };
    let html = "text/html; charset=utf-8".to_owned();
    let plain = "text/plain; charset=utf-8".to_owned();
    assert_eq!(
        seen("/down"),
        (
            502,
            html.clone(),
            "<h1>down 502</h1> ID ${request.path}".into()
        )
    );
    assert_eq!(
        seen("/route"),
        (502, plain.clone(), "from the route ID".into())
    );
    assert_eq!(seen("/none"), (404, plain, "from defaults".into()));
    assert_eq!(seen("/server").2, "the server's own");
    // What `respond` says is no error page.
    assert_eq!(seen("/gone").2, "");
    // A file is read again when it changes.
    fs::write(directory.path().join("down.html"), "changed").unwrap();
    wait::expect("the new page", SOON, || seen("/down").2 == "changed");
}

#[test]
fn a_page_that_is_not_there_is_found_out_before_serving() {
    let text =
        "site * { listen 127.0.0.1:{port} ; error 502 ./missing.html ; route { respond 200 } }\n";
    let mut plimsoll = Start::run(text).spawn();
    assert_eq!(plimsoll.wait_exit(SOON).code(), Some(78));
    let said = plimsoll.stderr();
    assert!(
        said.contains("error: cannot use `./missing.html`: No such file"),
        "{said}"
    );
    let arguments = ["check", "-c", "{dir}/plimsoll.conf"].map(str::to_owned);
    let mut check = Start::with(arguments.into()).configuration(text).spawn();
    assert_eq!(check.wait_exit(SOON).code(), Some(78));
    assert!(
        check
            .daemon()
            .stdout()
            .contains("error: cannot use `./missing.html`")
    );
}

#[test]
fn what_is_behind_can_be_hidden() {
    let text = "admin off\nsite * {\nlisten 127.0.0.1:{port}\nlog access.log json\nhide server errors\nerror 500 `sorry`\n\
                route /down { proxy 127.0.0.1:1 }\nroute { proxy {server} }\n}\n";
    let stand = Stand::run(text, |request| match request.head.target.as_str() {
        "/broken" => {
            Answer::bytes("HTTP/1.1 500 Oops\r\nX-Trace: stack\r\nContent-Length: 5\r\n\r\nstack")
        }
        _ => Answer::bytes(
            "HTTP/1.1 200 OK\r\nServer: Apache/1.3\r\nX-Powered-By: PHP/4\r\nVia: 1.1 inner\r\nProxy-Status: inner; next-hop=10.0.0.5\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok",
        ),
    });
    let response = ask(&stand, "/");
    let telling = ["server", "x-powered-by", "via", "proxy-status"];
    let telling = telling.map(|name| response.field(name).is_some());
    assert_eq!(
        (telling, response.field("x-kept").unwrap()),
        ([false; 4], "1")
    );
    let response = ask(&stand, "/broken");
    assert_eq!(
        (response.status(), response.text().as_str()),
        (500, "sorry")
    );
    assert!(response.field("x-trace").is_none() && response.field("server").is_none());
    let response = ask(&stand, "/down");
    assert_eq!(response.status(), 502);
    assert!(response.field("server").is_none());
    // The log still knows.
    let lines = stand.plimsoll.wait_log("access.log", 3, SOON);
    assert!(lines.iter().any(|line| line.contains("\"status\":500") && line.contains("\"server\":\"127.0.0.1:")), "{lines:?}");
}

#[test]
fn an_outer_balancer_is_told_whether_to_come_here() {
    let text = "admin 127.0.0.1:{port:admin}\nsite * {\nlisten 127.0.0.1:{port}\nlog access.log json\n\
                monitor /ready ok\nroute { respond 200 routed }\n}\n\
                site other { listen 127.0.0.1:{port} ; monitor /ready bad ; route { respond 200 } ; route /x { proxy bad } ; route /y { proxy ok } }\n\
                pool ok { server {server} }\npool bad { server 127.0.0.1:1 ; check tcp every=100ms fall=1 initial=down }\n";
    let text = text
        .replace("route { respond 200 } ; route /x", "route /x")
        .replace(
            "route /y { proxy ok } }",
            "route /y { proxy ok } ; route { respond 200 } }",
        );
    let stand = Stand::run(&text, |_| Answer::ok("ok"));
    let monitored = |host: &str| {
        let response = stand.ask(
            "GET",
            format!("GET /ready HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        );
        (response.status(), response.text())
    };
    assert_eq!(monitored("x"), (200, "ok\n".into()));
    assert_eq!(monitored("other"), (503, "not ok\n".into()));
    assert_eq!(ask(&stand, "/ready/x").text(), "routed");
    let lines = stand.plimsoll.wait_log("access.log", 1, SOON);
    assert_eq!(lines.len(), 1, "{lines:?}");
    // A body that is under way ends the connection.
    let mut client = stand.connect();
    client
        .send(format!(
            "POST /ready HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            POISON.len()
        ))
        .unwrap();
    let response = client.response("POST");
    assert_eq!(
        (response.status(), response.head.wants_close()),
        (200, true)
    );
    let _ = client.send(POISON);
    assert_eq!(client.read_to_close(SOON).close, Close::Fin);
}

#[test]
fn who_drains_says_so() {
    let text = "admin off\nsite * {\nlisten 127.0.0.1:{port}\nmonitor /ready\nroute { proxy {server} }\n}\n";
    let (mut stand, gate) = Stand::gated(text);
    let mut busy = stand.connect();
    busy.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stand.upstream.wait_completed(0, SOON);
    wait::expect("the request", SOON, || stand.upstream.requests().len() == 1);
    let mut early = Raw::connect(stand.address());
    stand.plimsoll.signal(Signal::TERM);
    // A connection that was there before may still ask.
    early
        .send("GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    if let Ok(response) = early.try_response("GET") {
        assert!(matches!(response.status(), 200 | 503));
    }
    gate.open();
    assert_eq!(busy.response("GET").status(), 200);
}

#[test]
fn hidden_errors_are_tried_elsewhere_and_keep_their_connections() {
    let other = Recorder::start(|_| Answer::status(200, "served"));
    let text = format!(
        "admin off\nsite * {{\nlisten 127.0.0.1:{{port}}\nhide errors\nroute {{ proxy app }}\n}}\npool app {{\n\
         balance round-robin\noutlier off\nretry 1 on=503 budget=100%\nserver {{server}}\nserver {}\n}}\n",
        other.address()
    );
    let stand = Stand::run(&text, |_| Answer::status(503, "busy"));
    for _ in 0..6 {
        assert_eq!(ask(&stand, "/").text(), "served");
    }
    assert_eq!(stand.upstream.connections().len(), 1);
}

#[test]
fn what_is_hidden_stays_hidden_however_a_request_is_cut() {
    let text = "admin off\nsite * {\nlisten 127.0.0.1:{port}\nhide server errors\nerror 502 500 `sorry ${request.id}`\n\
                monitor /ready\nroute /down { proxy 127.0.0.1:1 }\nroute { proxy {server} }\n}\n";
    let stand = Stand::run(text, |request| match request.head.target.as_str() {
        "/broken" => {
            Answer::bytes("HTTP/1.1 500 Oops\r\nServer: Apache\r\nContent-Length: 5\r\n\r\nstack")
        }
        _ => Answer::bytes(
            "HTTP/1.1 200 OK\r\nServer: Apache\r\nVia: 1.1 inner\r\nContent-Length: 2\r\n\r\nok",
        ),
    });
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    let answers = stand.answers_however_cut(&["/ready", "/", "/down", "/broken"].map(get));
    let seen = answers
        .iter()
        .map(|answer| (answer.status(), answer.text()));
    let seen: Vec<_> = seen
        .map(|(status, text)| format!("{status} {text:.5}"))
        .collect();
    assert_eq!(seen, ["200 ok\n", "200 ok", "502 sorry", "500 sorry"]);
    for answer in &answers {
        let telling = ["server", "via", "proxy-status"].map(|name| answer.field(name));
        assert_eq!(telling, [None; 3], "{answer:?}");
        assert!(!answer.text().contains("stack"));
    }
}
