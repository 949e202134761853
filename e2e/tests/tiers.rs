//! Two balancers in a row before servers that fail: what each tries again does not multiply.

use plimsoll_e2e::load::{Expect, Fate, Load};
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Step};
use std::net::SocketAddr;
use std::time::Instant;

const REQUESTS: u64 = 3000;

/// A tier that tries all again that it may.
fn tier(servers: &[SocketAddr]) -> Plimsoll {
    let servers: Vec<String> = servers.iter().map(|at| format!("server {at}")).collect();
    let text = format!(
        "workers 1\nadmin off\nsite * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{ {} ; outlier off ; retry 3 on=reset,502 budget=20% reserve=1/s }}\n",
        servers.join(" ; ")
    );
    Start::run(&text).start()
}

/// The most that a balancer sends of `requests` in so many seconds: a fifth more, and what it may
/// always try again, for tens of seconds at once.
fn most(requests: u64, seconds: u64) -> u64 {
    requests + requests / 5 + seconds.next_multiple_of(10)
}

#[test]
fn retries_of_two_tiers_stay_within_both_budgets() {
    let broken = || Recorder::start(|_| Answer(vec![Step::ReadBody, Step::Close]));
    let servers: Vec<Recorder> = (0..4).map(|_| broken()).collect();
    let addresses: Vec<SocketAddr> = servers.iter().map(Recorder::address).collect();
    let inner = [tier(&addresses), tier(&addresses)];
    let outer = tier(&[inner[0].address(), inner[1].address()]);
    let began = Instant::now();
    let load = Load {
        expect: Expect::Any,
        ..Load::on(outer.address())
    };
    let report = load.run(REQUESTS);
    let seconds = began.elapsed().as_secs() + 2; // the first and the last are counted in part
    assert_eq!(report.count(Fate::ServerError), REQUESTS, "{report:?}");
    let asked: usize = servers.iter().map(|server| server.requests().len()).sum();
    let between = most(REQUESTS, seconds);
    // Each of the two inner ones has the part that is always allowed.
    let bound = most(between, seconds) + seconds.next_multiple_of(10);
    assert!(asked as u64 <= bound, "{asked} of at most {bound}");
    assert!(
        asked as u64 > REQUESTS * 12 / 10,
        "nothing was tried again: {asked}"
    );
}
