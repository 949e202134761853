//! A reload that a part of the connections meets first: which part, and what becomes of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::h2raw::Peer;
use plimsoll_e2e::plimsoll::{Plimsoll, Start, binary};
use plimsoll_e2e::raw::{PATIENCE, Raw, get};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Step};
use plimsoll_e2e::{echo, ports, wait};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What stands before every configuration here.
const ADMIN: &str = "workers 2\nadmin 127.0.0.1:{port:admin} unix:{dir}/admin.sock\n";

fn with(rest: &str) -> String {
    format!("{ADMIN}{rest}\n")
}

/// A site that answers so.
fn answering(text: &str) -> String {
    with(&format!(
        "site * {{ listen 127.0.0.1:{{port}}; route {{ respond 200 {text} }} }}"
    ))
}

/// A site in front of this server.
fn proxying(server: SocketAddr) -> String {
    with(&format!(
        "site * {{ listen 127.0.0.1:{{port}}; route {{ proxy app }} }}\n\
         pool app {{ server {server}; check off; outlier off }}"
    ))
}

/// A reload that goes on.
struct Canary(Child);

/// How it ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    said: String,
}

impl Canary {
    /// Has a part served as `configuration` says, and waits until it is.
    fn begin(plimsoll: &mut Plimsoll, configuration: &str, arguments: &[&str]) -> Self {
        plimsoll.rewrite(configuration);
        let mut command = reload(plimsoll);
        command.args(arguments).stdout(Stdio::piped());
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        wait::expect("the canary", PATIENCE, || {
            status(plimsoll).contains("% of new connections")
        });
        Self(child)
    }

    fn end(self) -> Ended {
        let output = self.0.wait_with_output().unwrap();
        ended(output)
    }
}

fn ended(output: std::process::Output) -> Ended {
    let said = [output.stdout, output.stderr].concat();
    Ended {
        code: output.status.code(),
        said: String::from_utf8(said).unwrap(),
    }
}

fn reload(plimsoll: &Plimsoll) -> Command {
    let mut command = Command::new(binary());
    command.args(["reload", "--running", &plimsoll.admin_socket()]);
    command
}

fn say(plimsoll: &Plimsoll, arguments: &[&str]) -> Ended {
    ended(reload(plimsoll).args(arguments).output().unwrap())
}

fn status(plimsoll: &Plimsoll) -> String {
    let mut command = Command::new(binary());
    command.args(["status", "--running", &plimsoll.admin_socket()]);
    ended(command.output().unwrap()).said
}

/// How many of so many connections are answered so.
fn count(address: SocketAddr, connections: usize, text: &str) -> usize {
    let answers = (0..connections).map(|_| get(address, "/").text());
    answers.filter(|answer| answer == text).count()
}

fn ask(client: &mut Raw) -> String {
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    client.response("GET").text()
}

#[test]
fn a_part_of_the_connections_is_served_so_until_it_is_confirmed() {
    let mut plimsoll = Start::run(&answering("one")).start();
    let address = plimsoll.address();
    let mut early = Raw::connect(address);
    assert_eq!(ask(&mut early), "one");
    let canary = Canary::begin(&mut plimsoll, &answering("two"), &["--canary", "20%"]);
    let new = count(address, 300, "two");
    assert!(new.abs_diff(60) <= 6, "{new} of 300");
    assert_eq!(ask(&mut early), "one", "who was there before stays");
    // Whoever comes stays where he is.
    for _ in 0..20 {
        let mut client = Raw::connect(address);
        let first = ask(&mut client);
        assert!((0..5).all(|_| ask(&mut client) == first));
    }
    let told = status(&plimsoll);
    assert!(
        told.contains("configuration 2 serves 20% of new connections"),
        "{told}"
    );
    let confirmed = say(&plimsoll, &["confirm"]);
    assert_eq!(confirmed.code, Some(0), "{confirmed:?}");
    let ended = canary.end();
    assert!(
        ended
            .said
            .starts_with("~ site *\nall connections are served so: it was confirmed\n"),
        "{ended:?}"
    );
    assert_eq!(ended.code, Some(0));
    assert_eq!(count(address, 20, "two"), 20);
    assert_eq!(ask(&mut early), "two");
    assert_eq!(plimsoll.metric("plimsoll_config_generation"), Some(2.0));
    // The next one is another one for those who took part, too.
    plimsoll.reload(&answering("tre")).expect_done();
    assert_eq!(ask(&mut early), "tre");
    assert_eq!(plimsoll.metric("plimsoll_config_generation"), Some(3.0));
}

#[test]
fn taken_back_it_is_as_if_it_had_not_been() {
    let mut plimsoll = Start::run(&answering("one")).start();
    let address = plimsoll.address();
    let canary = Canary::begin(&mut plimsoll, &answering("two"), &["--canary", "50%"]);
    let mut client = Raw::connect(address);
    while ask(&mut client) != "two" {
        client = Raw::connect(address);
    }
    let back = say(&plimsoll, &["back"]);
    assert_eq!(back.code, Some(0), "{back:?}");
    let ended = canary.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended
            .said
            .contains("no connection is served so any more: it was taken back"),
        "{ended:?}"
    );
    assert_eq!(ask(&mut client), "one", "it goes on with the others");
    assert_eq!(count(address, 50, "one"), 50);
    let successful = "plimsoll_config_last_reload_successful";
    assert_eq!(plimsoll.metric(successful), Some(0.0));
    // No two configurations have one number.
    plimsoll.reload(&answering("two")).expect_done();
    assert_eq!(plimsoll.metric("plimsoll_config_generation"), Some(3.0));
    assert_eq!(ask(&mut client), "two");
}

#[test]
fn one_that_fails_goes_back_by_itself_and_says_why() {
    let good = Recorder::start(|_| Answer::ok("good"));
    let bad = Recorder::start(|_| Answer::status(500, "bad"));
    let mut plimsoll = Start::run(&proxying(good.address())).start();
    let address = plimsoll.address();
    let canary = Canary::begin(
        &mut plimsoll,
        &proxying(bad.address()),
        &["--canary", "25%", "--for", "1h"],
    );
    wait::expect("it to be taken back", PATIENCE, || {
        (0..50).for_each(|_| drop(get(address, "/")));
        !status(&plimsoll).contains("% of new connections")
    });
    let ended = canary.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.said.contains("any more: more requests fail: "),
        "{ended:?}"
    );
    assert!(plimsoll.stderr().contains("more requests fail: "));
    assert_eq!(count(address, 50, "good"), 50);
}

#[test]
fn so_does_one_whose_servers_cannot_be_reached_or_take_longer() {
    let good = Recorder::start(|_| Answer::ok("good"));
    let slow = Recorder::start(|_| Answer::ok("slow").after(Step::Wait(Duration::from_millis(60))));
    let gone = ports::local(ports::free());
    for (server, why) in [
        (gone, "more requests fail: "),
        (slow.address(), "requests take longer: "),
    ] {
        let mut plimsoll = Start::run(&proxying(good.address())).start();
        let address = plimsoll.address();
        let canary = Canary::begin(
            &mut plimsoll,
            &proxying(server),
            &["--canary", "50%", "--for", "1h"],
        );
        wait::expect("it to be taken back", PATIENCE, || {
            (0..50).for_each(|_| drop(get(address, "/")));
            !status(&plimsoll).contains("% of new connections")
        });
        let ended = canary.end();
        assert!(
            ended.code == Some(1) && ended.said.contains(why),
            "{ended:?}"
        );
    }
}

#[test]
fn one_that_does_no_worse_takes_all_when_its_time_is_over() {
    let mut plimsoll = Start::run(&answering("one")).start();
    let address = plimsoll.address();
    let few = ["--canary", "50%", "--for", "1s"];
    let canary = Canary::begin(&mut plimsoll, &answering("two"), &few);
    let ended = canary.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.said.contains("too few requests came to judge it"),
        "{ended:?}"
    );
    assert_eq!(count(address, 20, "two"), 20);
    let canary = Canary::begin(
        &mut plimsoll,
        &answering("tre"),
        &["--canary", "50%", "--for", "2s"],
    );
    wait::expect("all to be served so", PATIENCE, || {
        count(address, 200, "tre") == 200
    });
    let ended = canary.end();
    assert!(
        ended
            .said
            .contains("all connections are served so: it does no worse"),
        "{ended:?}"
    );
    assert_eq!(ended.code, Some(0));
}

#[test]
fn what_is_no_change_for_a_part_is_refused() {
    let mut plimsoll = Start::run(&answering("one")).start();
    let site = "site * { listen 127.0.0.1:{port}; route { respond 200 two } }\n";
    let others = [
        (
            with(&format!(
                "{site}site b {{ listen 127.0.0.1:{{port:b}}; route {{ respond 200 b }} }}"
            )),
            "listener 127.0.0.1:",
        ),
        (
            format!("workers 3\n{}", with(site).replace("workers 2\n", "")),
            "`workers` cannot be another one for a part",
        ),
        (
            with("tcp 127.0.0.1:{port} { proxy app }\npool app { server 127.0.0.1:9 }"),
            "how a listener is listened on",
        ),
        (with("site * { nothing }"), "unknown"),
    ];
    for (configuration, why) in others {
        plimsoll.rewrite(&configuration);
        let refused = say(&plimsoll, &["--canary", "5%"]);
        assert!(
            refused.code == Some(78) && refused.said.contains(why),
            "{refused:?}"
        );
    }
    for wrong in ["0%", "100%", "5", "x%"] {
        assert_eq!(say(&plimsoll, &["--canary", wrong]).code, Some(2));
    }
    assert_eq!(say(&plimsoll, &["--for", "5s"]).code, Some(2));
    assert_eq!(
        say(&plimsoll, &["--canary", "5%", "--confirm", "5s"]).code,
        Some(2)
    );
    assert_eq!(get(plimsoll.address(), "/").text(), "one");
}

#[test]
fn nothing_else_changes_in_the_meantime() {
    let mut plimsoll = Start::run(&answering("one")).start();
    let canary = Canary::begin(&mut plimsoll, &answering("two"), &["--canary", "5%"]);
    for arguments in [&[][..], &["--canary", "9%"], &["--confirm", "9s"]] {
        let refused = say(&plimsoll, arguments);
        assert!(
            refused.said.contains("waits to be confirmed"),
            "{refused:?}"
        );
        assert_eq!(refused.code, Some(78));
    }
    let mut upgrade = Command::new(binary());
    upgrade.args(["upgrade", "--running", &plimsoll.admin_socket()]);
    let refused = ended(upgrade.output().unwrap());
    assert!(
        refused.said.contains("under another configuration"),
        "{refused:?}"
    );
    // Who waited is told when the process ends.
    plimsoll.signal(plimsoll_e2e::daemon::Signal::TERM);
    assert!(plimsoll.wait_exit(PATIENCE).success());
    assert_ne!(canary.end().code, Some(0));
}

#[test]
fn streams_of_one_connection_and_relayed_connections_are_on_one_side() {
    let (one, two) = (echo::connections(b"one"), echo::connections(b"two"));
    let both = |site: &str, server: SocketAddr| {
        with(&format!(
            "site * {{ listen 127.0.0.1:{{port}}; route {{ respond 200 {site} }} }}\n\
             tcp 127.0.0.1:{{port:tcp}} {{ proxy app }}\npool app {{ server {server}; check off; outlier off }}"
        ))
    };
    let mut plimsoll = Start::run(&both("one", one)).start();
    let canary = Canary::begin(&mut plimsoll, &both("two", two), &["--canary", "50%"]);
    let mut streams = [0_usize; 2];
    for _ in 0..40 {
        let mut peer = Peer::connect(plimsoll.address());
        let answers: Vec<String> = (0..4)
            .map(|_| {
                let stream = peer.get("/");
                peer.message(stream).text()
            })
            .collect();
        assert!(
            answers.iter().all(|answer| *answer == answers[0]),
            "{answers:?}"
        );
        streams[usize::from(answers[0] == "two")] += 1;
    }
    assert!(streams[0].abs_diff(20) <= 4, "{streams:?}");
    let relayed = |_| {
        let mut client = TcpStream::connect(plimsoll.address_of("tcp")).unwrap();
        client.write_all(b"\r\n\r\n").unwrap();
        let mut answer = [0; 3];
        client.read_exact(&mut answer).unwrap();
        answer == *b"two"
    };
    let new = (0..40).map(relayed).filter(|is_new| *is_new).count();
    assert!(new.abs_diff(20) <= 4, "{new} of 40");
    assert_eq!(say(&plimsoll, &["confirm"]).code, Some(0));
    assert_eq!(canary.end().code, Some(0));
    assert!((0..20).all(relayed));
}

#[test]
fn both_sides_have_one_limit_and_servers_of_either_are_checked() {
    let server = Recorder::start(|_| Answer::ok("a"));
    let limited = |text: &str, server: &str| {
        with(&format!(
            "site * {{ listen 127.0.0.1:{{port}}; route {{ limit 10/h by=client-ip; response-header set X-Side {text}; proxy app }} }}\n\
             pool app {{ {server}; check tcp every=50ms fast=50ms timeout=1s fall=1 }}"
        ))
    };
    let one = format!("server {}", server.address());
    let gone = format!("{one}; server {}", ports::local(ports::free()));
    let mut plimsoll = Start::run(&limited("one", &one)).start();
    let address = plimsoll.address();
    let canary = Canary::begin(&mut plimsoll, &limited("two", &gone), &["--canary", "50%"]);
    let answers: Vec<_> = (0..30).map(|_| get(address, "/")).collect();
    let served: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status() == 200)
        .collect();
    assert!((10..=11).contains(&served.len()), "{}", served.len());
    let side = |name: &str| {
        served
            .iter()
            .filter(|answer| answer.head.fields.first("X-Side") == Some(name))
            .count()
    };
    assert!(side("one") > 0 && side("two") > 0);
    wait::expect("the new server to be found down", PATIENCE, || {
        plimsoll.stderr().contains("check fails")
    });
    assert_eq!(say(&plimsoll, &["confirm"]).code, Some(0));
    assert_eq!(canary.end().code, Some(0));
}
