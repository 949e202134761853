//! Asking a running Plimsoll, and changing it: who may, over what, and what comes of it.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::plimsoll::{Plimsoll, Start, binary};
use plimsoll_e2e::raw::{Raw, get};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::wait;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;
use tempfile::NamedTempFile;

const SOON: Duration = Duration::from_secs(10);
const TOKEN: &str = "0123456789abcdef0123";

/// Two servers that say their names, behind a Plimsoll with a socket, an address and a token.
struct Stand {
    plimsoll: Plimsoll,
    servers: [Recorder; 2],
    _token: NamedTempFile,
}

impl Stand {
    fn new() -> Self {
        let servers = ["a", "b"].map(|name| Recorder::start(move |_| Answer::ok(name)));
        let text = "workers 2\nadmin unix:{dir}/admin.sock 127.0.0.1:{port:admin} token={token}\n\
            site * { listen 127.0.0.1:{port} ; route { proxy app } }\n\
            pool app { balance round-robin ; retry 0 ; server {a} ; server {b} }\n";
        let token = NamedTempFile::new().unwrap();
        std::fs::write(token.path(), format!("{TOKEN}\n")).unwrap();
        let plimsoll = Start::run(text)
            .set("a", servers[0].address())
            .set("b", servers[1].address())
            .set("token", token.path().display())
            .start();
        Self {
            plimsoll,
            servers,
            _token: token,
        }
    }

    fn name(&self, server: usize) -> String {
        self.servers[server].address().to_string()
    }

    /// Who answers a few requests.
    fn answers(&self) -> String {
        let answer = |_| get(self.plimsoll.address(), "/").text();
        let mut answers: Vec<String> = (0..8).map(answer).collect();
        answers.sort_unstable();
        answers.dedup();
        answers.concat()
    }

    /// Runs the program with these arguments, asking at the socket; what it says, or why it failed.
    fn said(&self, arguments: &[&str]) -> Result<String, String> {
        self.plimsoll.verb(arguments)
    }

    fn said_at(&self, place: &str, token: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(binary());
        command.args(arguments).args(["--running", place]);
        command.env("PLIMSOLL_TOKEN", token);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    fn pool(&self) -> Value {
        serde_json::from_str(&self.said(&["pool", "app", "--json"]).unwrap()).unwrap()
    }

    fn state(&self, server: usize) -> String {
        self.pool()["servers"][server]["state"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Sends a request with these lines and this body to the address; its status and text.
    fn asked(&self, request: &str, lines: &str, body: &str) -> (u16, String) {
        let mut client = Raw::connect(self.plimsoll.address_of("admin"));
        let lines = lines.replace('|', "\r\n");
        let length = body.len();
        let head = format!("{request} HTTP/1.1\r\n{lines}\r\nContent-Length: {length}\r\n\r\n");
        client.send(head + body).unwrap();
        let method = request.split(' ').next().unwrap();
        let response = client.response(method);
        (response.status(), response.text())
    }
}

#[test]
fn servers_are_taken_out_and_brought_back() {
    let stand = Stand::new();
    assert_eq!(stand.answers(), "ab");
    let one = stand.name(0);
    let said = stand.said(&["pool", "app", "drain", &one]).unwrap();
    assert!(said.contains("drain"), "{said}");
    assert_eq!(
        (stand.answers(), stand.state(0)),
        ("b".into(), "drain".into())
    );
    stand.said(&["pool", "app", "maintenance", &one]).unwrap();
    assert_eq!(stand.state(0), "maintenance");
    stand.said(&["pool", "app", "ready", &one]).unwrap();
    assert_eq!(
        (stand.answers(), stand.state(0)),
        ("ab".into(), "ready".into())
    );
    stand.said(&["pool", "app", "weight", "0%", &one]).unwrap();
    assert_eq!(stand.answers(), "b");
    stand
        .said(&["pool", "app", "weight", "100%", &one])
        .unwrap();
    assert_eq!(stand.answers(), "ab");
}

#[test]
fn no_change_takes_most_servers_away_by_accident() {
    let stand = Stand::new();
    let (one, two) = (stand.name(0), stand.name(1));
    for (arguments, why) in [
        (vec!["pool", "app", "drain"], "required"),
        (vec!["pool", "drain", &one], "which pool"),
        (vec!["pool", "none", "drain", &one], "no pool `none`"),
        (vec!["pool", "app", "drain", &one, "x:1"], "no server `x:1`"),
        (vec!["pool", "app", "drain", &one, &two], "more than half"),
        (
            vec!["pool", "app", "weight", "0%", &one, &two],
            "more than half",
        ),
        (vec!["pool", "app", "weight", "101%", &one], "0%"),
    ] {
        let said = stand.said(&arguments).unwrap_err();
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
    assert_eq!(stand.answers(), "ab");
    stand
        .said(&["pool", "app", "drain", &one, &two, "--force"])
        .unwrap();
    assert_eq!(get(stand.plimsoll.address(), "/").status(), 503);
    let with_token =
        format!("Host: localhost|Authorization: Bearer {TOKEN}|Content-Type: application/json");
    for (body, status) in [
        ("{}", 400),
        ("{\"state\":\"ready\"}", 400),
        ("{\"servers\":[],\"state\":\"ready\"}", 400),
        ("{\"servers\":[\"x\"]}", 404),
        ("{\"servers\":[\"x\"],\"state\":\"gone\"}", 400),
        ("{\"server\":[\"x\"]}", 400),
        ("", 400),
    ] {
        let (found, said) = stand.asked("POST /v1/pools/app", &with_token, body);
        assert_eq!(found, status, "{body}: {said}");
    }
}

#[test]
fn over_an_address_changes_need_the_token_and_no_page_of_others_gets_anything() {
    let stand = Stand::new();
    let address = stand.plimsoll.address_of("admin").to_string();
    let one = stand.name(0);
    let drain = ["pool", "app", "drain", &one];
    for (token, expected) in [("", "401"), ("wrong-wrong-wrong-wrong", "401")] {
        let said = stand.said_at(&address, token, &drain).unwrap_err();
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(stand.answers(), "ab");
    stand.said_at(&address, TOKEN, &drain).unwrap();
    assert_eq!(stand.answers(), "b");
    let change = json!({ "servers": [one], "state": "ready" }).to_string();
    let token = format!("Authorization: Bearer {TOKEN}");
    for (lines, status) in [
        (
            "Host: evil.example|Content-Type: application/json".to_owned(),
            421,
        ),
        (
            "Host: localhost|Origin: http://evil.example|Content-Type: application/json".into(),
            403,
        ),
        ("Host: localhost|Content-Type: application/json".into(), 401),
        (
            format!("Host: localhost|{token}|Content-Type: text/plain"),
            400,
        ),
        (
            format!(
                "Host: localhost|{token}|Origin: http://evil.example|Content-Type: application/json"
            ),
            403,
        ),
    ] {
        let (found, said) = stand.asked("POST /v1/pools/app", &lines, &change);
        assert_eq!(found, status, "{lines}: {said}");
    }
    for (request, lines, status) in [
        ("GET /metrics", "Host: evil.example", 421),
        (
            "GET /v1/status",
            "Host: localhost|Origin: http://evil.example",
            403,
        ),
        ("GET /v1/status", "Host: localhost", 200),
        ("GET /v1/pools/%61pp", "Host: localhost", 200),
        ("GET /v1/pools/none", "Host: localhost", 404),
        ("DELETE /v1/pools/app", "Host: localhost", 405),
        ("POST /v1/status", "Host: localhost", 405),
        ("GET /v2", "Host: localhost", 404),
    ] {
        assert_eq!(
            stand.asked(request, lines, "").0,
            status,
            "{request} {lines}"
        );
    }
    assert_eq!(stand.answers(), "b");
}

#[test]
fn what_is_served_is_told_in_json_and_in_words() {
    let stand = Stand::new();
    let told =
        || -> Value { serde_json::from_str(&stand.said(&["status", "--json"]).unwrap()).unwrap() };
    assert_eq!(stand.answers(), "ab");
    wait::expect("the requests to be counted", SOON, || {
        told()["traffic"]["requests"] == 8
    });
    let view = told();
    assert_eq!(view["sites"][0]["requests"], 8);
    assert_eq!(view["listeners"][0]["kind"], "http");
    assert_eq!(view["pools"][0]["serving"], 2);
    assert_eq!(view["pools"][0]["servers"][0]["requests"], 4);
    let text = stand.said(&["status"]).unwrap();
    assert!(text.contains("app   round-robin    2/2"), "{text}");
    let (status, listed) = stand.asked("GET /v1", "Host: localhost", "");
    assert!(
        status == 200 && listed.contains("/v1/pools/{pool}"),
        "{listed}"
    );
    let (status, described) = stand.asked("GET /v1/openapi.json", "Host: localhost", "");
    let described: Value = serde_json::from_str(&described).unwrap();
    assert_eq!((status, &described["openapi"]), (200, &json!("3.1.0")));
    let (status, told) = stand.asked("GET /v1/configuration", "Host: localhost", "");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((status, &told["pools"][0]["name"]), (200, &json!("app")));
}

/// Each second brings one event with everything.
#[test]
fn whoever_watches_is_sent_what_is_new() {
    let stand = Stand::new();
    let mut watch = UnixStream::connect(stand.plimsoll.directory().join("admin.sock")).unwrap();
    watch.set_read_timeout(Some(SOON)).unwrap();
    watch
        .write_all(b"GET /v1/status/watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut seen = String::new();
    while seen.matches("data: {\"version\"").count() < 2 {
        let mut part = [0; 4096];
        let count = watch.read(&mut part).unwrap();
        assert!(count > 0, "it ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&part[..count]));
    }
    assert!(seen.contains("content-type: text/event-stream"), "{seen}");
    let (_, history) = stand.asked("GET /v1/status/history", "Host: localhost", "");
    let history: Vec<Value> = serde_json::from_str(&history).unwrap();
    assert!(!history.is_empty() && history[0]["request_rate"].is_number());
}

#[test]
fn the_socket_is_for_its_owner_and_group_and_goes_with_its_process() {
    let mut stand = Stand::new();
    let path = stand.plimsoll.directory().join("admin.sock");
    let metadata = std::fs::metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
    // Another one with the same socket does not start, and takes nothing away.
    let output = Command::new(binary())
        .args(["run", "-c", "plimsoll.conf"])
        .current_dir(stand.plimsoll.directory())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("admin.sock"),
        "{output:?}"
    );
    assert_eq!(stand.state(0), "ready");
    // One that is killed leaves it behind, and that is in nobody's way.
    let daemon = stand.plimsoll.daemon();
    daemon.signal(Signal::KILL);
    daemon.wait_exit(SOON);
    assert!(path.exists());
    let mut again = Command::new(binary())
        .args(["run", "-c", "plimsoll.conf"])
        .current_dir(stand.plimsoll.directory())
        .spawn()
        .unwrap();
    wait::expect("the socket to be taken over", SOON, || {
        UnixStream::connect(&path).is_ok()
    });
    kill_process(Pid::from_child(&again), Signal::TERM).unwrap();
    assert!(again.wait().unwrap().success());
    assert!(!path.exists());
}

#[test]
fn a_token_that_everybody_may_read_or_guess_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    for (content, mode, why) in [
        (TOKEN, 0o644, "everybody on the machine"),
        ("short", 0o600, "16 or more"),
        ("with a blank in the middle", 0o600, "16 or more"),
    ] {
        std::fs::write(&token, content).unwrap();
        std::fs::set_permissions(&token, PermissionsExt::from_mode(mode)).unwrap();
        let text = "admin 127.0.0.1:{port:admin} token={token}\nsite * { listen 127.0.0.1:{port} ; route { respond 200 } }\n";
        let mut plimsoll = Start::run(text).set("token", token.display()).spawn();
        let status = plimsoll.daemon().wait_exit(SOON);
        assert_eq!(status.code(), Some(78));
        let said = plimsoll.daemon().stderr();
        assert!(said.contains(why), "{said}");
    }
}
