//! A server that comes back while a crowd waits for it: it meets as many as it may have at once,
//! fewer at first where it starts slowly, and everyone is served once.

use plimsoll_e2e::load::{Fate, Load, Report, Running};
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::get;
use plimsoll_e2e::recorder::{Recorder, Request};
use plimsoll_e2e::script::{Answer, Gate};
use plimsoll_e2e::{ports, wait};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// How many clients there are, each with one request at a time.
const CROWD: usize = 300;

/// What each server may have at once, and how many that is at the foot of a slow start.
const LIMIT: usize = 20;
const FIRST_LIMIT: usize = 2;

/// So long that the line does not stand while a test holds it up.
const LINE: &str = "queue 1000 timeout=600s";

/// How many requests a server has at once.
#[derive(Default)]
struct Meter {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Meter {
    /// Answers with the request's id, not before the gate opens.
    fn answer(&self, request: &Request, gate: &Gate) -> Answer {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        while !gate.is_open() {
            thread::sleep(Duration::from_millis(1));
        }
        self.now.fetch_sub(1, SeqCst); // before the answer, behind which the next one may come
        Answer::ok(id(request))
    }

    fn most(&self) -> usize {
        self.most.load(SeqCst)
    }
}

fn id(request: &Request) -> &str {
    request.head.fields.first("x-load-id").unwrap_or_default()
}

fn start(servers: &[SocketAddr], statements: &str) -> Plimsoll {
    let server = |at: &SocketAddr| format!("server {at} max-connections={LIMIT}");
    let servers: Vec<_> = servers.iter().map(server).collect();
    let text = format!(
        "workers 2\nadmin 127.0.0.1:{{port:admin}}\nsite * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{ {} ; {LINE} ; {statements} }}\n",
        servers.join(" ; ")
    );
    Start::run(&text).start()
}

fn crowd(plimsoll: &Plimsoll) -> Running {
    let load = Load {
        threads: CROWD,
        patience: 2 * SOON,
        ..Load::on(plimsoll.address())
    };
    load.start()
}

fn expect_waiting(plimsoll: &Plimsoll, count: usize) {
    let name = "plimsoll_queue_length{pool=\"app\"}";
    let count = u32::try_from(count).ok().map(f64::from);
    wait::expect(&format!("{count:?} in line"), SOON, || {
        plimsoll.metric(name) == count
    });
}

/// Waits until the whole crowd is held up: so many at this server, and the others in line.
fn expect_held(plimsoll: &Plimsoll, server: &Recorder, limit: usize) {
    wait::expect(&format!("{limit} at the server"), SOON, || {
        server.requests().len() == limit
    });
    expect_waiting(plimsoll, CROWD - limit);
}

/// Has the crowd come again many times, and then no more.
fn let_go_on(crowd: Running) -> Report {
    let before = crowd.ended();
    wait::expect("many answers", SOON, || crowd.ended() > before + 3_000);
    crowd.stop()
}

/// Checks that each request that was served was at one server, once, and no other one at any.
fn assert_each_once(report: &Report, seen: &[Request]) {
    let failed: BTreeSet<_> = report.failures.iter().map(|(id, ..)| *id).collect();
    let served = (0..report.total()).filter(|id| !failed.contains(id));
    let served: BTreeSet<_> = served.map(|id| id.to_string()).collect();
    let ids: BTreeSet<_> = seen.iter().map(|request| id(request).to_owned()).collect();
    assert_eq!(ids, served);
    assert_eq!(seen.len(), ids.len(), "some were served twice");
}

#[test]
fn the_only_server_meets_no_more_than_it_may_have_when_it_is_back() {
    for (statement, limit) in [
        ("", LIMIT),
        ("slow-start 1h", FIRST_LIMIT),
        ("slow-start 1s", LIMIT), // in the end, although nobody gives a place back
    ] {
        let address = ports::local(ports::free());
        let check = "check tcp every=50ms fast=50ms timeout=10s initial=down";
        let plimsoll = start(&[address], &format!("{check} ; {statement}"));
        let crowd = crowd(&plimsoll);
        wait::expect("refusals", SOON, || crowd.ended() > 3_000);
        let (gate, meter) = (Gate::new(), Arc::new(Meter::default()));
        let server = Recorder::start_at(address, {
            let (gate, meter) = (gate.clone(), Arc::clone(&meter));
            move |request| meter.answer(request, &gate)
        });
        expect_held(&plimsoll, &server, limit);
        let connections: BTreeSet<_> = server.requests().iter().map(|r| r.connection).collect();
        assert_eq!(connections.len(), limit, "{statement}");
        let refused = crowd.ended();
        gate.open();
        let report = let_go_on(crowd);
        assert_eq!(meter.most(), limit, "{statement}");
        // Nobody was refused once it was back.
        assert_eq!(report.count(Fate::ServerError), refused);
        assert_eq!(report.count(Fate::Ok), report.total() - refused);
        assert_each_once(&report, &server.requests());
    }
}

#[test]
fn a_server_that_was_ejected_starts_slowly_although_a_crowd_waits() {
    let (closed, open) = (Gate::new(), Gate::new());
    open.open();
    let meters = [(); 2].map(|()| Arc::new(Meter::default()));
    let sick = Recorder::start({
        let (closed, meter) = (closed.clone(), Arc::clone(&meters[0]));
        move |request| match request.number {
            0..3 => Answer::status(500, "sick"),
            3 => meter.answer(request, &open), // the one it is tried with
            _ => meter.answer(request, &closed),
        }
    });
    let well = Recorder::start({
        let (closed, meter) = (closed.clone(), Arc::clone(&meters[1]));
        move |request| meter.answer(request, &closed)
    });
    let statements = "balance first ; outlier consecutive-5xx=3 eject=1s ; slow-start 1h";
    let plimsoll = start(&[sick.address(), well.address()], statements);
    for _ in 0..3 {
        assert_eq!(get(plimsoll.address(), "/").status(), 500);
    }
    let ejections = format!(
        "plimsoll_server_ejections_total{{pool=\"app\",server=\"{}\"}}",
        sick.address()
    );
    wait::expect(&ejections, SOON, || {
        plimsoll.metric(&ejections) == Some(1.0)
    });
    let crowd = crowd(&plimsoll);
    wait::expect("the trial", SOON, || sick.requests().len() > 4);
    expect_waiting(&plimsoll, CROWD - LIMIT - FIRST_LIMIT);
    // Who waits no longer may still be on the way.
    let most = || [&meters[0], &meters[1]].map(|meter| meter.most());
    wait::expect("all who may to be there", SOON, || {
        most() == [FIRST_LIMIT, LIMIT]
    });
    closed.open();
    let report = let_go_on(crowd);
    report.assert_all_ok();
    assert_eq!(most(), [FIRST_LIMIT, LIMIT]);
    let mut seen = sick.requests().split_off(3);
    seen.extend(well.requests());
    assert_each_once(&report, &seen);
}

#[test]
fn those_in_line_before_a_server_that_goes_are_let_in_by_its_limit_when_it_is_back() {
    let (gate, meter) = (Gate::new(), Arc::new(Meter::default()));
    let server = Recorder::start({
        let (gate, meter) = (gate.clone(), Arc::clone(&meter));
        move |request| meter.answer(request, &gate)
    });
    // Where its checks go; what the server itself sees are requests.
    let health = ports::local(ports::free());
    let up = Recorder::start_at(health, |_| Answer::ok(""));
    let check = format!(
        "check tcp port={} every=50ms fast=50ms timeout=10s",
        health.port()
    );
    let plimsoll = start(&[server.address()], &check);
    let crowd = crowd(&plimsoll);
    expect_held(&plimsoll, &server, LIMIT);
    drop(up);
    let state = format!(
        "plimsoll_server_up{{pool=\"app\",server=\"{}\"}}",
        server.address()
    );
    wait::expect("it is found down", SOON, || {
        plimsoll.metric(&state) == Some(0.0)
    });
    gate.open();
    // Those it had are served, and who comes now is told so.
    server.wait_completed(LIMIT, SOON);
    wait::expect("refusals", SOON, || crowd.ended() > 3_000);
    assert_eq!(server.requests().len(), LIMIT);
    let _up = Recorder::start_at(health, |_| Answer::ok(""));
    wait::expect("it is found up", SOON, || {
        plimsoll.metric(&state) == Some(1.0)
    });
    let report = let_go_on(crowd);
    let answered = report.count(Fate::Ok) + report.count(Fate::ServerError);
    assert_eq!(answered, report.total());
    assert_eq!(meter.most(), LIMIT);
    assert_each_once(&report, &server.requests());
}
