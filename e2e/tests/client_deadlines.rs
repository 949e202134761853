//! Clients that say how long they wait: nothing is done for them after that.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::script::Gate;
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Response;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SOON: Duration = Duration::from_secs(15);

/// A server that takes one request at a time and answers `/wait` when the gate opens.
fn stand() -> (Stand, Gate) {
    let text = "workers 1\nadmin 127.0.0.1:{port:admin}\ndefaults { log access.log json }\n\
        site * { listen 127.0.0.1:{port} ; route { proxy app } }\n\
        pool app { server {server} max-connections=1 ; queue 10 timeout=60s }\n";
    Stand::gated(text)
}

fn send(stand: &Stand, target: &str, field: &str) -> Raw {
    let mut client = stand.connect();
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{field}\r\n");
    client.send(request).unwrap();
    client
}

fn assert_overdue(response: &Response) {
    assert_eq!(response.status(), 504);
    assert!(
        response.text().contains("the client's deadline has passed"),
        "{}",
        response.text()
    );
}

#[test]
fn a_request_that_is_overdue_reaches_no_server() {
    let (stand, _) = stand();
    let past = send(&stand, "/a", "X-Request-Deadline: 1700000000\r\n").response("GET");
    assert_overdue(&past);
    let none = send(&stand, "/a", "grpc-timeout: 0n\r\n").response("GET");
    assert_overdue(&none);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let field = format!("X-Request-Deadline: {}.5\r\n", now.as_secs() + 3600);
    assert_eq!(send(&stand, "/b", &field).response("GET").text(), "/b");
    let seen = stand.upstream.requests();
    assert_eq!(seen.len(), 1);
    let sent_on = seen
        .first()
        .and_then(|request| request.head.fields.first("x-request-deadline"));
    assert!(sent_on.is_some());
}

#[test]
fn a_deadline_ends_the_wait_in_the_queue_and_for_the_server() {
    let (stand, gate) = stand();
    // For the server: the client is told, the server is left.
    let mut asked = send(&stand, "/wait", "grpc-timeout: 700m\r\n");
    wait::expect("the request upstream", SOON, || {
        stand.upstream.requests().len() == 1
    });
    assert_overdue(&asked.response("GET"));
    // The same connection goes on: no error of the client's.
    asked.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    wait::expect("the request upstream", SOON, || {
        stand.upstream.requests().len() == 2
    });
    let waiting = send(&stand, "/queued", "grpc-timeout: 300m\r\n").response("GET");
    assert_overdue(&waiting);
    gate.open();
    assert_eq!(asked.response("GET").text(), "/wait");
    assert_eq!(stand.upstream.requests().len(), 2);
    // A client in a hurry says nothing against a server.
    let ejections = "plimsoll_server_ejections_total";
    let name = format!(
        "{ejections}{{pool=\"app\",server=\"{}\"}}",
        stand.upstream.address()
    );
    assert_eq!(stand.plimsoll.metric(&name), Some(0.0));
}
