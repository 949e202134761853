//! More clients than there is room for: some wait, some are turned away, and those inside go on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::raw::{Raw, get};
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Close;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

fn stand(limits: &str) -> Stand {
    let text = format!(
        "workers 2\nadmin 127.0.0.1:{{port:admin}}\nconnection-limit {limits}\n\
         site * {{ listen 127.0.0.1:{{port}} ; route {{ proxy {{server}} }} }}\n"
    );
    Stand::run(&text, |_| Answer::ok("ok"))
}

fn served(stand: &Stand) -> Raw {
    let mut client = stand.connect();
    client.send(GET).unwrap();
    assert_eq!(client.response("GET").status(), 200);
    client
}

#[test]
fn one_client_has_so_many_connections_and_no_more() {
    let stand = stand("per-client=4");
    let mut inside: Vec<Raw> = (0..4).map(|_| served(&stand)).collect();
    let mut fifth = stand.connect();
    let _ = fifth.send(GET); // it may be closed by now
    let capture = fifth.read_to_close(SOON);
    assert!(
        capture.bytes.is_empty() && capture.close != Close::Open,
        "{capture:?}"
    );
    for client in &mut inside {
        client.send(GET).unwrap();
        assert_eq!(client.response("GET").status(), 200);
    }
    let refused = format!(
        "plimsoll_connections_refused_total{{listener=\"{}\"}}",
        stand.address()
    );
    assert_eq!(stand.plimsoll.metric(&refused), Some(1.0));
    drop(inside);
    // The ends of the others are noticed in their own time.
    wait::expect("a seat", SOON, || {
        let mut client = stand.connect();
        client.send(GET).is_ok() && client.try_response("GET").is_ok()
    });
}

#[test]
fn new_connections_of_one_client_come_at_a_rate() {
    let stand = stand("new-per-client=5/h");
    let inside: Vec<Raw> = (0..5).map(|_| served(&stand)).collect();
    let mut sixth = stand.connect();
    let _ = sixth.send(GET);
    assert!(sixth.read_to_close(SOON).bytes.is_empty());
    assert_eq!(inside.len(), 5);
}

#[test]
fn when_there_is_no_room_idle_clients_leave_and_new_ones_come_in() {
    let stand = stand("max=20");
    let mut idle: Vec<Raw> = (0..20).map(|_| stand.connect()).collect();
    for client in &mut idle {
        // Who came last may be told that it is the last answer.
        if client.send(GET).is_ok() {
            assert_eq!(client.response("GET").status(), 200);
        }
    }
    for _ in 0..10 {
        assert_eq!(get(stand.address(), "/").status(), 200);
    }
    let mut left = 0;
    for client in &mut idle {
        let capture = client.read_to_close(Duration::from_millis(50));
        assert!(capture.bytes.is_empty(), "{capture:?}");
        assert_ne!(capture.close, Close::Reset);
        left += usize::from(capture.close == Close::Fin);
    }
    assert!(left > 0);
}
