//! Servers that have a name: they are found where it leads, and not lost when nobody says where.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::names::{NameServer, Say};
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{Raw, get};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::wait;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const THERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn at(address: Ipv4Addr) -> Say {
    Say::At(vec![address], 1)
}

fn start(names: &NameServer, resolver: &str, servers: &str) -> Plimsoll {
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\nresolver {} timeout=100ms {resolver}\n\
         site * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{ outlier off ; {servers} }}\n",
        names.address()
    );
    Start::run(&text).start()
}

fn failed(plimsoll: &Plimsoll) -> f64 {
    let name = "plimsoll_dns_lookups_total{name=\"app.example\",result=\"failed\"}";
    plimsoll.metric(name).unwrap()
}

#[test]
fn a_server_is_where_its_name_leads_and_moves_with_it() {
    let here = Recorder::start(|_| Answer::ok("here"));
    let port = here.address().port();
    let there = SocketAddr::from((THERE, port));
    let there = Recorder::start_at(there, |_| Answer::ok("there"));
    let names = NameServer::start(at(HERE));
    let plimsoll = start(&names, "", &format!("server app.example:{port}"));
    assert_eq!(get(plimsoll.address(), "/").text(), "here");
    names.say(at(THERE));
    wait::expect("the move", SOON, || {
        get(plimsoll.address(), "/").text() == "there"
    });
    let before = here.completed();
    for _ in 0..10 {
        assert_eq!(get(plimsoll.address(), "/").text(), "there");
    }
    assert_eq!(here.completed(), before, "kept connections lead elsewhere");
    wait::expect("idle connections closed", SOON, || here.open() == 0);
    assert!(there.completed() > 10);
}

#[test]
fn a_connection_that_was_busy_when_the_server_moved_is_not_kept() {
    let gate = Gate::new();
    let held = gate.clone();
    let here = Recorder::start(move |request| match &*request.head.target {
        "/wait" => Answer::ok("here").after(Step::Await(held.clone())),
        _ => Answer::ok("here"),
    });
    let port = here.address().port();
    let there = SocketAddr::from((THERE, port));
    let _there = Recorder::start_at(there, |_| Answer::ok("there"));
    let names = NameServer::start(at(HERE));
    let plimsoll = start(&names, "", &format!("server app.example:{port}"));
    let mut busy = Raw::connect(plimsoll.address());
    busy.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    wait::expect("the request", SOON, || here.requests().len() == 1);
    names.say(at(THERE));
    wait::expect("the move", SOON, || {
        get(plimsoll.address(), "/").text() == "there"
    });
    gate.open();
    assert_eq!(busy.response("GET").text(), "here");
    for _ in 0..10 {
        busy.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(busy.response("GET").text(), "there");
    }
}

#[test]
fn no_bad_answer_takes_a_server_away() {
    let server = Recorder::start(|_| Answer::ok("ok"));
    let names = NameServer::start(at(HERE));
    let server = format!("server app.example:{}", server.address().port());
    let plimsoll = start(&names, "", &server);
    for bad in [Say::NoSuchName, Say::Failure, Say::Nowhere, Say::Silence] {
        let before = failed(&plimsoll);
        names.say(bad.clone());
        wait::expect("a bad answer", SOON, || failed(&plimsoll) > before);
        for _ in 0..5 {
            assert_eq!(get(plimsoll.address(), "/").status(), 200, "{bad:?}");
        }
        names.say(at(HERE));
        let warned = plimsoll.stderr();
        assert!(warned.contains("last addresses used"), "{warned}");
        wait::expect("a good answer", SOON, || {
            let age = plimsoll.metric("plimsoll_dns_age_seconds{name=\"app.example\"}");
            age.is_some_and(|age| age < 1.0)
        });
    }
}

#[test]
fn a_server_whose_name_leads_nowhere_yet_is_passed_over_until_it_does() {
    let server = Recorder::start(|_| Answer::ok("ok"));
    let port = server.address().port();
    for (bad, status, reason) in [
        (Say::NoSuchName, 502, "dns_error"),
        (Say::Failure, 502, "dns_error"),
        (Say::Silence, 504, "dns_timeout"),
    ] {
        let names = NameServer::start(bad);
        let alone = start(&names, "", &format!("server app.example:{port}"));
        let refused = get(alone.address(), "/");
        assert_eq!(refused.status(), status);
        let told = refused.field("proxy-status").unwrap();
        assert_eq!(told, format!("plimsoll; error={reason}"));
        let two = format!("server app.example:{port} ; server 127.0.0.1:{port}");
        let together = start(&names, "", &two);
        for _ in 0..6 {
            assert_eq!(get(together.address(), "/").status(), 200);
        }
        names.say(at(HERE));
        wait::expect("the name", SOON, || {
            get(alone.address(), "/").status() == 200
        });
    }
}

#[test]
fn what_was_known_is_forgotten_when_it_is_too_old() {
    let server = Recorder::start(|_| Answer::ok("ok"));
    let names = NameServer::start(at(HERE));
    let server = format!("server app.example:{}", server.address().port());
    let plimsoll = start(&names, "hold=1s", &server);
    assert_eq!(get(plimsoll.address(), "/").status(), 200);
    names.say(Say::NoSuchName);
    wait::expect("the end of it", SOON, || {
        get(plimsoll.address(), "/").status() == 502
    });
    names.say(at(HERE));
    wait::expect("the name", SOON, || {
        get(plimsoll.address(), "/").status() == 200
    });
}

#[test]
fn a_check_warns_of_names_that_lead_nowhere() {
    let names = NameServer::start(Say::NoSuchName);
    let text = format!(
        "resolver {}\nsite * {{ listen :8080 ; route {{ proxy app.example:80 }} }}\n",
        names.address()
    );
    let check = |more: &str| {
        let arguments = ["check", "-c", "{dir}/plimsoll.conf", more];
        let arguments = arguments.iter().filter(|word| !word.is_empty());
        let start = Start::with(arguments.map(|word| (*word).to_owned()).collect());
        let mut plimsoll = start.configuration(&text).spawn();
        let status = plimsoll.wait_exit(SOON);
        (status.code(), plimsoll.daemon().stdout())
    };
    let (code, said) = check("");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("warning: no address for `app.example`"),
        "{said}"
    );
    assert_eq!(check("--strict").0, Some(78));
}
