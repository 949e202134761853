//! Active checks: a server that fails them is left alone, and comes back when it passes them.

use plimsoll_e2e::fault::{Fault, Mode};
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::get;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::wait;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);

fn pool(servers: &[SocketAddr], statements: &str) -> Plimsoll {
    let servers: Vec<String> = servers
        .iter()
        .map(|server| format!("server {server}"))
        .collect();
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\nsite * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{\n{}\n{statements}\n}}\n",
        servers.join(" ; ")
    );
    Start::run(&text).start()
}

/// A server that answers with its name, and `/healthz` by what it is told.
fn server(name: &'static str) -> (Recorder, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&is_well);
    let recorder = Recorder::start(move |request| match request.head.target.as_str() {
        "/healthz" if told.load(SeqCst) => Answer::ok("all is well"),
        "/healthz" => Answer::status(500, "not well"),
        _ => Answer::ok(name),
    });
    (recorder, is_well)
}

fn expect_state(plimsoll: &Plimsoll, server: SocketAddr, state: &str) {
    let name =
        format!("plimsoll_server_state{{pool=\"app\",server=\"{server}\",state=\"{state}\"}}");
    wait::expect(&name, SOON, || plimsoll.metric(&name).is_some());
}

/// Who answers the next requests.
fn answers(plimsoll: &Plimsoll) -> Vec<String> {
    (0..8)
        .map(|_| get(plimsoll.address(), "/").text())
        .collect()
}

const CHECK: &str = "check GET /healthz every=50ms fast=50ms timeout=50ms body=well";

#[test]
fn a_server_that_fails_its_checks_gets_nothing_until_it_passes_them() {
    let ((one, is_well), (two, _)) = (server("one"), server("two"));
    let plimsoll = pool(&[one.address(), two.address()], CHECK);
    assert!(answers(&plimsoll).iter().any(|name| name == "one"));
    is_well.store(false, SeqCst);
    expect_state(&plimsoll, one.address(), "unfit");
    assert_eq!(answers(&plimsoll), ["two"; 8]);
    wait::expect("the event", SOON, || {
        plimsoll.stderr().contains("check fails")
    });
    assert!(
        plimsoll.stderr().contains("HTTP 500"),
        "{}",
        plimsoll.stderr()
    );
    is_well.store(true, SeqCst);
    expect_state(&plimsoll, one.address(), "ready");
    assert!(answers(&plimsoll).iter().any(|name| name == "one"));
    let failed = format!(
        "plimsoll_checks_total{{pool=\"app\",server=\"{}\",result=\"failed\"}}",
        one.address()
    );
    assert!(plimsoll.metric(&failed).unwrap() >= 3.0);
}

#[test]
fn a_server_that_is_gone_is_unreachable_and_never_asked() {
    let (gone, (two, _)) = (Fault::start(Mode::Refuse), server("two"));
    let plimsoll = pool(
        &[gone.address(), two.address()],
        "check tcp every=50ms fast=50ms timeout=50ms",
    );
    expect_state(&plimsoll, gone.address(), "unreachable");
    assert_eq!(answers(&plimsoll), ["two"; 8]);
    let none = format!(
        "plimsoll_upstream_errors_total{{pool=\"app\",server=\"{}\",reason=\"connection_refused\"}}",
        gone.address()
    );
    assert!(plimsoll.metric(&none).is_none());
}

#[test]
fn when_every_check_fails_the_checks_are_not_believed() {
    let ((one, one_well), (two, two_well)) = (server("one"), server("two"));
    let servers = [one.address(), two.address()];
    let (open, closed) = (
        pool(&servers, CHECK),
        pool(&servers, &format!("{CHECK}\nfail-open off")),
    );
    one_well.store(false, SeqCst);
    two_well.store(false, SeqCst);
    for plimsoll in [&open, &closed] {
        servers
            .iter()
            .for_each(|server| expect_state(plimsoll, *server, "unfit"));
    }
    let mut names = answers(&open);
    names.sort();
    names.dedup();
    assert_eq!(names, ["one", "two"]);
    let refused = get(closed.address(), "/");
    assert_eq!(
        (refused.status(), refused.field("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(
        refused.field("proxy-status").unwrap(),
        "plimsoll; error=destination_unavailable"
    );
}

#[test]
fn all_checks_must_pass_and_a_server_may_begin_down() {
    let (one, is_well) = server("one");
    is_well.store(false, SeqCst);
    let statements =
        format!("{CHECK} initial=down\ncheck tcp every=50ms initial=down\nfail-open off");
    let plimsoll = pool(&[one.address()], &statements);
    expect_state(&plimsoll, one.address(), "unfit");
    assert_eq!(get(plimsoll.address(), "/").status(), 503);
    is_well.store(true, SeqCst);
    expect_state(&plimsoll, one.address(), "ready");
    assert_eq!(answers(&plimsoll), ["one"; 8]);
}

#[test]
fn a_server_is_checked_where_the_configuration_says() {
    let asked = Recorder::start(|_| Answer::ok("served"));
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], asked.address().port()));
    let checked = Recorder::start_at(elsewhere, |_| Answer::ok("all is well"));
    let text = format!(
        "admin off\nsite * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{ server {} check-address=127.0.0.2 ; {CHECK} }}\n",
        asked.address()
    );
    let plimsoll = Start::run(&text).start();
    wait::expect("checks", SOON, || checked.completed() > 2);
    assert_eq!(get(plimsoll.address(), "/").text(), "served");
    assert_eq!(asked.completed(), 1);
}
