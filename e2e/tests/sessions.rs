//! What is open, shown to whoever asks, and ended.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::h2raw::Peer;
use plimsoll_e2e::plimsoll::{JSON, Plimsoll, Start};
use plimsoll_e2e::raw::{PATIENCE, Raw};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::wait;
use serde_json::Value;

/// A site and a service before one server that answers when its gate is open.
struct Stand {
    plimsoll: Plimsoll,
    server: Recorder,
    gate: Gate,
}

impl Stand {
    fn new() -> Self {
        let gate = Gate::new();
        let inside = gate.clone();
        let server = Recorder::start(move |request| match &*request.head.target {
            "/now" => Answer::ok("now"),
            _ => Answer::ok("later").after(Step::Await(inside.clone())),
        });
        let text = "workers 2\nadmin unix:{dir}/admin.sock 127.0.0.1:{port:admin}\n\
            site test { listen 127.0.0.1:{port} ; log {dir}/access.log json ; route { proxy app } }\n\
            tcp 127.0.0.1:{port:tcp} { log {dir}/tcp.log json ; proxy bytes }\n\
            pool app { server {server} }\npool bytes { server {server} }\n";
        let plimsoll = Start::run(text).set("server", server.address()).start();
        Self {
            plimsoll,
            server,
            gate,
        }
    }

    /// What is open of what `query` asks for.
    fn open(&self, query: &str) -> Vec<Value> {
        let called = self
            .plimsoll
            .call(&format!("GET /v1/sessions?{query}"), "", "");
        assert_eq!(called.status, 200, "{called:?}");
        let listed: Value = serde_json::from_str(&called.text).unwrap();
        assert_eq!(listed["silent_workers"], 0);
        listed["sessions"].as_array().unwrap().clone()
    }

    /// Waits until there are `count`, and returns them.
    fn wait(&self, query: &str, count: usize) -> Vec<Value> {
        let what = format!("{count} sessions of `{query}`");
        wait::expect(&what, PATIENCE, || self.open(query).len() == count);
        self.open(query)
    }

    fn close(&self, which: &str) -> (u16, String) {
        let called = self.plimsoll.call("POST /v1/sessions/close", JSON, which);
        (called.status, called.text)
    }

    fn client(&self, target: &str) -> Raw {
        let mut client = Raw::connect(self.plimsoll.address());
        let request = format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n");
        client.send(request).unwrap();
        client
    }

    fn server_name(&self) -> String {
        self.server.address().to_string()
    }
}

#[test]
fn a_connection_is_told_of_from_its_beginning_to_its_end() {
    let stand = Stand::new();
    let mut client = Raw::connect(stand.plimsoll.address());
    let new = &stand.wait("", 1)[0];
    assert_eq!(
        (&new["state"], &new["requests"]),
        (&"new".into(), &0.into())
    );
    assert_eq!(new["client"], client.local_address().to_string());
    assert_eq!(new["listener"], stand.plimsoll.address().to_string());
    assert_eq!(
        (&new["protocol"], &new["pool"]),
        (&"http".into(), &Value::Null)
    );

    let body = "GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc";
    client.send(body).unwrap();
    let busy = &stand.wait("state=server", 1)[0];
    assert_eq!(busy["id"], new["id"], "it is the same one");
    assert_eq!(
        (&busy["site"], &busy["pool"]),
        (&"test".into(), &"app".into())
    );
    assert_eq!(busy["server"], stand.server_name());
    assert!(
        busy["route"].as_str().unwrap().ends_with("plimsoll.conf:3"),
        "{busy}"
    );
    assert_eq!(
        (&busy["bytes_in"], &busy["idle"]),
        (&3.into(), &Value::Null)
    );

    stand.gate.open();
    assert_eq!(client.response("GET").text(), "later");
    let idle = &stand.wait("state=idle", 1)[0];
    assert_eq!(
        (&idle["bytes_in"], &idle["bytes_out"]),
        (&3.into(), &5.into())
    );
    assert_eq!(
        (&idle["pool"], &idle["requests"]),
        (&Value::Null, &1.into())
    );
    assert!(idle["idle"].is_f64(), "{idle}");
    drop(client);
    stand.wait("", 0);
}

#[test]
fn those_that_are_asked_for_are_shown_and_no_more_than_that() {
    let stand = Stand::new();
    let _busy: Vec<Raw> = (0..3).map(|_| stand.client("/")).collect();
    let mut idle = stand.client("/now");
    assert_eq!(idle.response("GET").text(), "now");
    stand.wait("state=server", 3);
    let (server, at) = (stand.server_name(), stand.plimsoll.address());
    for (query, expected) in [
        (String::new(), 4),
        ("limit=2".into(), 2),
        ("limit=0".into(), 0),
        ("state=idle".into(), 1),
        ("pool=app".into(), 3),
        ("pool=app&limit=1".into(), 1),
        ("pool=none".into(), 0),
        ("pool=app&state=idle".into(), 0),
        (format!("server={server}"), 3),
        (format!("listener={at}"), 4),
        ("listener=127.0.0.1:1".into(), 0),
        ("client=127.0.0.1".into(), 4),
        ("client=127.0.0.0/8".into(), 4),
        ("client=10.0.0.0/8".into(), 0),
        ("site=test".into(), 3),
        ("id=9-9".into(), 0),
    ] {
        assert_eq!(stand.open(&query).len(), expected, "{query}");
    }
    for query in ["client=x", "limit=x", "listener=x", "pools=app"] {
        let called = stand
            .plimsoll
            .call(&format!("GET /v1/sessions?{query}"), "", "");
        assert_eq!(called.status, 400, "{query}: {called:?}");
    }
    let said = stand
        .plimsoll
        .verb(&["sessions", "--state", "server", "--limit", "2"]);
    let said = said.unwrap();
    assert_eq!(said.lines().count(), 4, "{said}");
    assert!(said.ends_with("and 1 more\n"), "{said}");
    let json = stand
        .plimsoll
        .verb(&["sessions", "--json", "--pool", "app"])
        .unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["count"], 3);
}

#[test]
fn streams_are_told_of_one_by_one() {
    let stand = Stand::new();
    let mut client = Peer::connect(stand.plimsoll.address());
    for _ in 0..2 {
        client.request("GET", "/", &[]);
    }
    let busy = stand.wait("state=server", 2);
    let connection = &stand.wait("state=streams", 1)[0];
    for stream in &busy {
        assert_eq!(stream["on"], connection["id"]);
        assert_eq!(
            (&stream["protocol"], &stream["pool"]),
            (&"h2".into(), &"app".into())
        );
    }
    let which = format!("{{\"id\": {}}}", busy[0]["id"]);
    assert_eq!(stand.close(&which), (200, "{\"closed\":1}".into()));
    stand.wait("state=server", 1);
    stand.wait("state=streams", 1);
    let which = format!("{{\"id\": {}}}", connection["id"]);
    assert_eq!(stand.close(&which), (200, "{\"closed\":1}".into()));
    stand.wait("", 0);
}

#[test]
fn what_is_passed_on_is_told_of_while_it_moves_and_logged_when_it_is_ended() {
    let stand = Stand::new();
    let mut client = Raw::connect(stand.plimsoll.address_of("tcp"));
    client.send("GET /now HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(client.response("GET").text(), "now");
    let relay = &stand.wait("pool=bytes", 1)[0];
    assert_eq!(
        (&relay["state"], &relay["protocol"]),
        (&"tunnel".into(), &"tcp".into())
    );
    assert_eq!(relay["server"], stand.server_name());
    assert_eq!(relay["bytes_in"], 30);
    assert!(
        relay["bytes_out"].as_u64().unwrap() > 40 && relay["idle"].is_f64(),
        "{relay}"
    );
    assert_eq!(
        relay["site"].as_str().unwrap(),
        stand.plimsoll.address_of("tcp").to_string()
    );

    let said = stand
        .plimsoll
        .verb(&["sessions", "close", "--server", &stand.server_name()]);
    assert_eq!(said.unwrap(), "1 closed\n");
    let _end = client.read_to_close(PATIENCE);
    let line = stand.plimsoll.wait_log("tcp.log", 1, PATIENCE).remove(0);
    assert!(line.contains("closed by an operator"), "{line}");
    stand.wait("", 0);
}

#[test]
fn what_is_ended_has_to_be_named() {
    let stand = Stand::new();
    let _busy: Vec<Raw> = (0..3).map(|_| stand.client("/")).collect();
    let mut idle = stand.client("/now");
    assert_eq!(idle.response("GET").text(), "now");
    stand.wait("state=server", 3);
    for which in [
        "{}",
        "{\"limit\": 1}",
        "{\"pool\": \"\"}",
        "{\"pool\": null}",
        "{\"client\": \"x\"}",
        "{\"pools\": \"app\"}",
        "[null, null, null, null, \"app\"]",
    ] {
        let (status, said) = stand.close(which);
        assert_eq!(status, 400, "{which}: {said}");
    }
    assert!(
        stand
            .plimsoll
            .verb(&["sessions", "close"])
            .unwrap_err()
            .contains("say which ones")
    );
    assert_eq!(stand.open("").len(), 4);
    assert_eq!(
        stand.close("{\"pool\": \"app\", \"limit\": 1}").1,
        "{\"closed\":1}"
    );
    stand.wait("", 3);
    assert_eq!(stand.close("{\"state\": \"idle\"}").1, "{\"closed\":1}");
    let _end = idle.read_to_close(PATIENCE);
    stand.wait("", 2);
    assert_eq!(
        stand.close("{\"client\": \"127.0.0.1\"}").1,
        "{\"closed\":2}"
    );
    stand.wait("", 0);
    assert_eq!(stand.plimsoll.metric("plimsoll_panics_total"), Some(0.0));
}
