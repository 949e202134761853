//! Many clients on what is missing, and fetches that go wrong.

use plimsoll_e2e::body::digest;
use plimsoll_e2e::cached::{ask, count, is_hit, message, request, stand, status};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Close;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_thousand_clients_make_one_request() {
    let gate = Gate::new();
    let held = gate.clone();
    let stand = stand(move |_| {
        let answer = Answer::bytes(message("Cache-Control: max-age=1000", b"for all"));
        answer.after(Step::Await(held.clone()))
    });
    let mut clients: Vec<Raw> = (0..1000).map(|_| stand.connect()).collect();
    for client in &mut clients {
        client
            .send(request("GET", "/one", "Host: a.example"))
            .unwrap();
    }
    wait::expect("a request", SOON, || count(&stand, "/one") == 1);
    gate.open();
    let mut collapsed = 0;
    for client in &mut clients {
        let answer = client.response("GET");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "for all"));
        collapsed += usize::from(status(&answer) == "plimsoll; fwd=uri-miss; collapsed");
    }
    assert_eq!(count(&stand, "/one"), 1);
    assert!(collapsed > 0);
}

/// Whoever comes while an answer is on its way gets what is there of it, and not only when it is whole.
#[test]
fn those_who_wait_read_along() {
    let gate = Gate::new();
    let held = gate.clone();
    let stand = stand(move |_| {
        Answer(vec![
            Step::Send(
                b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nCache-Control: max-age=9\r\n\r\nhalf"
                    .to_vec(),
            ),
            Step::Await(held.clone()),
            Step::Send(b"full".to_vec()),
        ])
    });
    let mut clients: Vec<Raw> = (0..4).map(|_| stand.connect()).collect();
    for client in &mut clients {
        client.send(request("GET", "/", "Host: a.example")).unwrap();
    }
    for client in &mut clients {
        let so_far = client.read_at_least(100, SOON);
        assert!(so_far.is_ok_and(|bytes| bytes.ends_with(b"\r\n\r\nhalf")));
    }
    gate.open();
    for client in &mut clients {
        assert!(
            client
                .read_at_least(4, SOON)
                .is_ok_and(|bytes| bytes.ends_with(b"full"))
        );
    }
    assert_eq!(stand.upstream.requests().len(), 1);
}

/// The client for whom an answer is fetched leaves: the others get it all the same.
#[test]
fn a_client_that_leaves_takes_nothing_from_the_others() {
    let gate = Gate::new();
    let held = gate.clone();
    let stand = stand(move |_| {
        Answer(vec![
            Step::Send(
                b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nCache-Control: max-age=900\r\n\r\nhalf"
                    .to_vec(),
            ),
            Step::Await(held.clone()),
            Step::Send(b"full".to_vec()),
        ])
    });
    let mut first = stand.connect();
    first.send(request("GET", "/", "Host: a.example")).unwrap();
    assert!(first.read_at_least(100, SOON).is_ok());
    let mut second = stand.connect();
    second.send(request("GET", "/", "Host: a.example")).unwrap();
    assert!(second.read_at_least(100, SOON).is_ok());
    first.abort();
    gate.open();
    assert!(
        second
            .read_at_least(4, SOON)
            .is_ok_and(|bytes| bytes.ends_with(b"full"))
    );
    wait::expect("a hit", SOON, || is_hit(&ask(&stand, "/", "")));
    assert_eq!(stand.upstream.requests().len(), 1);
}

/// However an answer is torn, it is not stored, and whoever got a part of it can tell.
#[test]
fn torn_answers_are_not_stored() {
    let stand = stand(|request| {
        let torn = |text: &str, last: Step| Answer(vec![Step::Send(text.into()), last]);
        let fresh = "HTTP/1.1 200 OK\r\nCache-Control: max-age=1000\r\n";
        match request.head.target.as_str() {
            "/length" => torn(
                &format!("{fresh}Content-Length: 9\r\n\r\nhalf"),
                Step::Close,
            ),
            "/reset" => torn(
                &format!("{fresh}Content-Length: 9\r\n\r\nhalf"),
                Step::Reset,
            ),
            "/chunked" => torn(
                &format!("{fresh}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
                Step::Close,
            ),
            _ => torn(&format!("{fresh}\r\nhalf"), Step::Close),
        }
    });
    for target in ["/length", "/reset", "/chunked"] {
        for round in 1..=2 {
            let mut client = stand.connect();
            client
                .send(request("GET", target, "Host: a.example"))
                .unwrap();
            assert!(client.try_response("GET").is_err(), "{target}");
            assert_eq!(count(&stand, target), round, "{target}");
        }
    }
    // Nobody can tell whether this one was torn.
    for round in 1..=2 {
        assert_eq!(ask(&stand, "/until-close", "").text(), "half");
        assert_eq!(count(&stand, "/until-close"), round);
    }
}

#[test]
fn what_is_not_for_all_is_fetched_by_each() {
    let gate = Gate::new();
    let held = gate.clone();
    let stand = stand(move |_| {
        let answer = Answer::bytes(message("Cache-Control: private", b"mine"));
        answer.after(Step::Await(held.clone()))
    });
    let mut clients: Vec<Raw> = (0..20).map(|_| stand.connect()).collect();
    for client in &mut clients {
        client.send(request("GET", "/", "Host: a.example")).unwrap();
    }
    wait::expect("a request", SOON, || !stand.upstream.requests().is_empty());
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response("GET").text(), "mine");
    }
    assert_eq!(stand.upstream.requests().len(), 20);
}

/// A fetch that fails releases those who wait: one of them fetches next.
#[test]
fn a_fetch_that_fails_releases_those_who_wait() {
    let (gate, asked) = (Gate::new(), AtomicUsize::new(0));
    let held = gate.clone();
    let stand = stand(move |_| match asked.fetch_add(1, SeqCst) {
        0 => Answer(vec![Step::Await(held.clone()), Step::Reset]),
        _ => Answer::bytes(message("Cache-Control: max-age=1000", b"second")),
    });
    let mut clients: Vec<Raw> = (0..20).map(|_| stand.connect()).collect();
    for client in &mut clients {
        client.send(request("GET", "/", "Host: a.example")).unwrap();
    }
    wait::expect("a request", SOON, || !stand.upstream.requests().is_empty());
    gate.open();
    let answers: Vec<_> = clients
        .iter_mut()
        .map(|client| client.response("GET").status())
        .collect();
    let failed = answers.iter().filter(|status| **status == 502).count();
    let served = answers.iter().filter(|status| **status == 200).count();
    assert_eq!((failed, served), (1, 19), "{answers:?}");
    assert_eq!(stand.upstream.requests().len(), 2);
}

/// Clients of every kind on one URL, most of whom leave at some time: whoever stays gets all of it.
#[test]
fn crowds_that_come_and_go_leave_nothing_broken() {
    let body: Vec<u8> = (0..300_000)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    let served = body.clone();
    let stand = stand(move |_| Answer::bytes(message("Cache-Control: max-age=1000", &served)));
    thread::scope(|scope| {
        for client in 0..16 {
            let (stand, body) = (&stand, &body);
            scope.spawn(move || {
                for round in 0..20 {
                    let target = format!("/{round}");
                    let mut raw = stand.connect();
                    raw.send(request("GET", &target, "Host: a.example"))
                        .unwrap();
                    if (client + round) % 3 == 0 {
                        raw.abort();
                        continue;
                    }
                    let answer = raw.response("GET");
                    assert_eq!(answer.body.digest, digest(body), "{target}");
                }
            });
        }
    });
    for round in 0..20 {
        assert!(count(&stand, &format!("/{round}")) <= 2, "{round}");
    }
    let mut client = stand.connect();
    client
        .send(request("GET", "/0", "Host: a.example|Connection: close"))
        .unwrap();
    assert_eq!(client.response("GET").body.length, 300_000);
    assert_eq!(client.read_to_close(SOON).close, Close::Fin);
}
