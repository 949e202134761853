//! Another configuration is served without a restart: what goes on, what ends, what is kept.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::h2raw::Peer;
use plimsoll_e2e::plimsoll::{Plimsoll, Start, binary};
use plimsoll_e2e::raw::{PATIENCE, Raw, get};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::wire::Close;
use plimsoll_e2e::{echo, ports, wait};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;

/// What stands before every configuration here.
const ADMIN: &str = "workers 2\nadmin 127.0.0.1:{port:admin} unix:{dir}/admin.sock\n";

fn with(rest: &str) -> String {
    format!("{ADMIN}{rest}\n")
}

/// Plimsoll with this configuration.
fn start(rest: &str) -> Plimsoll {
    Start::run(&with(rest)).start()
}

fn reload(plimsoll: &mut Plimsoll, rest: &str) {
    plimsoll.reload(&with(rest)).expect_done();
}

/// A site that answers so.
fn answering(text: &str) -> String {
    format!("site * {{ listen 127.0.0.1:{{port}}; route {{ respond 200 {text} }} }}")
}

/// A site in front of a pool with these servers and settings.
fn proxying(servers: &[SocketAddr], settings: &str) -> String {
    let servers: Vec<_> = servers
        .iter()
        .map(|server| format!("server {server}"))
        .collect();
    format!(
        "site * {{ listen 127.0.0.1:{{port}}; log {{dir}}/access.log; route {{ proxy app }} }}\n\
         pool app {{ {}\n check off; outlier off\n{settings} }}",
        servers.join("; ")
    )
}

fn ask(client: &mut Raw, target: &str) -> String {
    client
        .send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .unwrap();
    client.response("GET").text()
}

/// A server that answers with the target, and `/wait` when the gate opens.
fn gated() -> (Recorder, Gate) {
    let gate = Gate::new();
    let held = gate.clone();
    let server = Recorder::start(move |request| {
        let answer = Answer::ok(&request.head.target);
        match request.head.target.as_str() {
            "/wait" => answer.after(Step::Await(held.clone())),
            _ => answer,
        }
    });
    (server, gate)
}

fn named(name: &'static str) -> Recorder {
    Recorder::start(move |_| Answer::ok(name))
}

#[test]
fn the_next_request_of_a_connection_is_answered_as_the_file_says_now() {
    let mut plimsoll = start(&answering("one"));
    let mut client = Raw::connect(plimsoll.address());
    assert_eq!(ask(&mut client, "/"), "one");
    let told = plimsoll.reload(&with(&answering("two")));
    assert_eq!(
        (told.code, &*told.out, &*told.err),
        (Some(0), "~ site *\n", "")
    );
    assert_eq!(ask(&mut client, "/"), "two");
    let told = plimsoll.reload(&with(&answering("two")));
    assert_eq!(&*told.out, "nothing changed\n");
    assert_eq!(plimsoll.metric("plimsoll_config_generation"), Some(3.0));
    let reloads = "plimsoll_config_reloads_total{result=\"done\"}";
    assert_eq!(plimsoll.metric(reloads), Some(2.0));
    let requests = "plimsoll_requests_total{site=\"*\",method=\"GET\",code=\"200\"}";
    assert_eq!(plimsoll.metric(requests), Some(2.0), "they are counted on");
}

#[test]
fn a_signal_reloads_and_a_storm_of_them_does_no_harm() {
    let mut plimsoll = start(&answering("one"));
    plimsoll.rewrite(&with(&answering("two")));
    plimsoll.signal(Signal::HUP);
    let address = plimsoll.address();
    // Nobody waits for it, so that one worker may have gone over before the other.
    wait::expect("the new generation", PATIENCE, || {
        plimsoll.metric("plimsoll_config_generation") == Some(2.0)
    });
    assert_eq!(get(address, "/").text(), "two");
    for count in 0..2000 {
        let signal = if count % 3 == 0 {
            Signal::USR1
        } else {
            Signal::HUP
        };
        plimsoll.signal(signal);
        if count % 100 == 0 {
            assert_eq!(get(address, "/").text(), "two");
        }
    }
    let refused = plimsoll.metric("plimsoll_config_reloads_total{result=\"refused\"}");
    assert_eq!(refused, Some(0.0));
    plimsoll.signal(Signal::TERM);
    assert!(plimsoll.wait_exit(PATIENCE).success());
}

#[test]
fn what_has_no_file_says_so_and_goes_on() {
    let server = named("a");
    let mut plimsoll = Start::proxy(&[server.address()]).start();
    plimsoll.signal(Signal::HUP);
    wait::expect("it to be said", PATIENCE, || {
        plimsoll
            .stderr()
            .contains("started without a file to reload")
    });
    assert_eq!(get(plimsoll.address(), "/").text(), "a");
}

/// Configurations that cannot be served, and what is said of them.
fn unservable(taken: SocketAddr) -> Vec<(String, &'static str)> {
    let site = "site * { listen 127.0.0.1:{port}; route { respond 200 two } }\n";
    let within = |statements: &str| {
        with(&format!(
            "site * {{ listen 127.0.0.1:{{port}}; {statements} }}"
        ))
    };
    let beside = |statements: &str| with(&format!("{site}{statements}"));
    vec![
        (with("site {"), "error[E0"),
        (
            within("route { proxy nowhere }"),
            "pool `nowhere` does not exist",
        ),
        (
            beside(&format!(
                "site b {{ listen {taken}; route {{ respond 200 }} }}"
            )),
            "cannot listen on 127.0.0.1",
        ),
        (
            beside(&format!(
                "tcp {taken} {{ proxy app }} pool app {{ server 127.0.0.1:1 }}"
            )),
            "cannot listen on 127.0.0.1",
        ),
        (
            beside(
                "site b { listen 127.0.0.1:{port:tls}; tls {dir}/bad.pem; route { respond 200 } }",
            ),
            "bad.pem",
        ),
        (
            within("deny @{dir}/none; route { respond 200 }"),
            "none`: No such file",
        ),
        (
            within("log {dir}/none/access.log; route { respond 200 }"),
            "cannot open access log",
        ),
        (beside("include {dir}/none.conf"), "none.conf"),
        (
            with(site).replace("workers 2", "workers 900"),
            "workers need a restart",
        ),
        (
            with(site).replace("admin ", "admin 127.0.0.1:{port:other} "),
            "`admin` changes with a restart",
        ),
    ]
}

#[test]
fn a_configuration_that_cannot_be_served_changes_nothing() {
    let mut plimsoll = start(&answering("one"));
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    std::fs::write(plimsoll.directory().join("bad.pem"), "no certificate").unwrap();
    assert_eq!(plimsoll.reload(&with("site {")).code, Some(78));
    let before = plimsoll.descriptors();
    for (text, why) in unservable(held.local_addr().unwrap()) {
        let told = plimsoll.reload(&text);
        assert_eq!(told.code, Some(78), "{told:?}");
        assert!(told.err.contains(why), "{why}: {}", told.err);
        assert!(told.err.ends_with("not reloaded: nothing has changed\n"));
        assert_eq!(get(plimsoll.address(), "/").text(), "one");
        wait::expect("nothing to be left", PATIENCE, || {
            plimsoll.descriptors() <= before
        });
    }
    let successful = "plimsoll_config_last_reload_successful";
    assert_eq!(plimsoll.metric(successful), Some(0.0));
    assert_eq!(plimsoll.metric("plimsoll_config_generation"), Some(1.0));
    reload(&mut plimsoll, &answering("two"));
    assert_eq!(plimsoll.metric(successful), Some(1.0));
    assert_eq!(get(plimsoll.address(), "/").text(), "two");
}

#[test]
fn files_that_are_watched_are_reloaded_when_they_have_changed() {
    let arguments = ["run", "--watch", "-c", "{dir}/plimsoll.conf"].map(str::to_owned);
    let text = |answer: &str| with(&format!("{}\ninclude more/*.conf", answering(answer)));
    let start = Start::with(arguments.into()).configuration(&text("one"));
    let mut plimsoll = start.start();
    let address = plimsoll.address();
    let becomes = |plimsoll: &Plimsoll, number: f64, text: &str| {
        wait::expect("the generation", PATIENCE, || {
            plimsoll.metric("plimsoll_config_generation") == Some(number)
        });
        assert_eq!(get(address, "/").text(), text);
    };
    becomes(&plimsoll, 1.0, "one");
    plimsoll.rewrite(&text("two"));
    becomes(&plimsoll, 2.0, "two");
    // A file that comes, and one that cannot be used.
    let more = plimsoll.directory().join("more");
    std::fs::create_dir(&more).unwrap();
    plimsoll.rewrite(&text("{"));
    wait::expect("it to be said", PATIENCE, || {
        plimsoll.stderr().contains("not reloaded")
    });
    plimsoll.rewrite(&text("tre"));
    becomes(&plimsoll, 3.0, "tre");
    let port = plimsoll.address().port();
    let site = format!("site b {{ listen 127.0.0.1:{port}; route {{ respond 200 four }} }}");
    std::fs::write(more.join("b.conf"), site).unwrap();
    wait::expect("the other file", PATIENCE, || {
        let mut client = Raw::connect(address);
        client.send("GET / HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
        client.response("GET").text() == "four"
    });
}

/// Runs `plimsoll reload` with these arguments; returns its exit code and all that it says.
fn say(plimsoll: &Plimsoll, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.args(["reload", "--running", &plimsoll.admin_socket()]);
    let output = command.args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn what_is_not_confirmed_in_time_is_taken_back() {
    let mut plimsoll = start(&answering("one"));
    let address = plimsoll.address();
    let told = |text: &str| (Some(0), text.to_owned());
    plimsoll.rewrite(&with(&answering("two")));
    assert_eq!(say(&plimsoll, &["--confirm", "1s"]), told("~ site *\n"));
    assert_eq!(get(address, "/").text(), "two");
    let (code, why) = say(&plimsoll, &[]);
    assert!(
        code == Some(78) && why.contains("waits to be confirmed"),
        "{why}"
    );
    wait::expect("the old answer", PATIENCE, || {
        get(address, "/").text() == "one"
    });
    let successful = "plimsoll_config_last_reload_successful";
    wait::expect("it to be told", PATIENCE, || {
        plimsoll.metric(successful) == Some(0.0)
    });
    // Confirmed, it stays; taken back, it is gone at once.
    assert_eq!(say(&plimsoll, &["--confirm", "1h"]), told("~ site *\n"));
    assert_eq!(say(&plimsoll, &["confirm"]), told("confirmed\n"));
    plimsoll.rewrite(&with(&answering("tre")));
    assert_eq!(say(&plimsoll, &["--confirm", "1h"]), told("~ site *\n"));
    assert_eq!(get(address, "/").text(), "tre");
    assert_eq!(say(&plimsoll, &["back"]), told("~ site *\n"));
    assert_eq!(get(address, "/").text(), "two");
    for verb in ["back", "confirm"] {
        let (code, why) = say(&plimsoll, &[verb]);
        assert!(code == Some(78) && why.contains("no reload waits"), "{why}");
    }
}

#[test]
fn what_is_under_way_comes_to_its_end_as_it_began() {
    let (server, gate) = gated();
    let mut plimsoll = start(&proxying(&[server.address()], ""));
    let mut client = Raw::connect(plimsoll.address());
    client
        .send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    server.wait_completed(1, PATIENCE);
    reload(&mut plimsoll, &answering("two"));
    gate.open();
    assert_eq!(client.response("GET").text(), "/wait");
    // It was here before the change, and begins after it.
    assert_eq!(client.response("GET").text(), "two");
    assert_eq!(ask(&mut client, "/"), "two");
    let line = plimsoll.wait_log("access.log", 1, PATIENCE).remove(0);
    assert!(line.contains("\"path\":\"/wait\""), "{line}");
}

#[test]
fn an_address_that_goes_ends_its_connections_after_their_exchanges() {
    let (server, gate) = gated();
    let here = "site a { listen 127.0.0.1:{port}; route { respond 200 here } }";
    let there = format!(
        "site * {{ listen 127.0.0.1:{{port:b}}; route {{ proxy app }} }} pool app {{ server {}; check off }}",
        server.address()
    );
    let mut plimsoll = start(&format!("{here}\n{there}"));
    let gone = plimsoll.address_of("b");
    let (mut idle, mut busy) = (Raw::connect(gone), Raw::connect(gone));
    let request = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: b\r\n\r\n");
    idle.send(request("/")).unwrap();
    assert_eq!(idle.response("GET").text(), "/");
    busy.send(request("/wait")).unwrap();
    let mut peer = Peer::connect(gone);
    let stream = peer.get("/wait");
    server.wait_completed(3, PATIENCE);
    reload(&mut plimsoll, here);
    assert_eq!(idle.read_to_close(PATIENCE).close, Close::Fin);
    gate.open();
    let answer = busy.response("GET");
    assert_eq!(
        (&*answer.text(), answer.field("connection")),
        ("/wait", Some("close"))
    );
    assert_eq!(busy.read_to_close(PATIENCE).close, Close::Fin);
    assert_eq!(peer.message(stream).text(), "/wait");
    assert!(peer.left(PATIENCE).is_some(), "it was told to leave");
    wait::expect("nobody to listen there", PATIENCE, || {
        TcpStream::connect(gone).is_err()
    });
    // It may come back.
    reload(&mut plimsoll, &format!("{here}\n{there}"));
    let mut again = Raw::connect(gone);
    again.send(request("/again")).unwrap();
    assert_eq!(again.response("GET").text(), "/again");
}

#[test]
fn an_address_that_becomes_another_thing_is_that_for_who_comes_then() {
    let server = named("server");
    let pool = format!("pool app {{ server {}; check off }}", server.address());
    let mut plimsoll = start(&answering("site"));
    let mut client = Raw::connect(plimsoll.address());
    assert_eq!(ask(&mut client, "/"), "site");
    reload(
        &mut plimsoll,
        &format!("tcp 127.0.0.1:{{port}} {{ proxy app }} {pool}"),
    );
    assert_eq!(client.read_to_close(PATIENCE).close, Close::Fin);
    let mut relayed = Raw::connect(plimsoll.address());
    assert_eq!(ask(&mut relayed, "/"), "server");
    reload(&mut plimsoll, &answering("site"));
    assert_eq!(ask(&mut relayed, "/"), "server", "it is relayed to its end");
    assert_eq!(get(plimsoll.address(), "/").text(), "site");
}

#[test]
fn relayed_connections_live_on_whatever_changes() {
    let relaying = |server: SocketAddr| {
        format!("tcp 127.0.0.1:{{port}} {{ proxy app }} pool app {{ server {server}; check off }}")
    };
    let mut plimsoll = start(&relaying(echo::connections(b"")));
    let mut client = TcpStream::connect(plimsoll.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut says = |word: &[u8; 4]| {
        client.write_all(word).unwrap();
        let mut heard = [0; 4];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, word);
    };
    says(b"one\n");
    // Its server goes, and then its address, too.
    reload(&mut plimsoll, &relaying(echo::connections(b"")));
    says(b"two\n");
    reload(
        &mut plimsoll,
        "site * { listen 127.0.0.1:{port:other}; route { respond 200 } }",
    );
    says(b"tre\n");
}

#[test]
fn flows_of_datagrams_keep_their_server_and_new_ones_find_theirs() {
    let server = |name: &'static str| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut room = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut room) {
                socket.send_to(name.as_bytes(), from).unwrap();
            }
        });
        address
    };
    let relaying = |server: SocketAddr| {
        format!(
            "udp 127.0.0.1:{{port:udp}} {{ proxy app }} pool app {{ server {server}; check off }}"
        )
    };
    let (one, two) = (server("one"), server("two"));
    let mut plimsoll = start(&relaying(one));
    let address = plimsoll.address_of("udp");
    let client = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(address).unwrap();
        socket
    };
    let ask = |socket: &UdpSocket| {
        let mut room = [0; 64];
        socket.send(b"who?").unwrap();
        let count = socket.recv(&mut room).unwrap();
        String::from_utf8_lossy(room.get(..count).unwrap()).into_owned()
    };
    let old: Vec<_> = (0..8).map(|_| client()).collect();
    assert!(old.iter().all(|socket| ask(socket) == "one"));
    reload(&mut plimsoll, &relaying(two));
    let new: Vec<_> = (0..8).map(|_| client()).collect();
    for _ in 0..3 {
        assert!(old.iter().all(|socket| ask(socket) == "one"));
        assert!(new.iter().all(|socket| ask(socket) == "two"));
    }
    // They are known after one more, and when the port goes they come to their end, and no new one begins.
    reload(&mut plimsoll, &relaying(one));
    assert!(old.iter().all(|socket| ask(socket) == "one"));
    assert!(new.iter().all(|socket| ask(socket) == "two"));
    reload(
        &mut plimsoll,
        "site * { listen 127.0.0.1:{port:other}; route { respond 200 } }",
    );
    assert!(old.iter().all(|socket| ask(socket) == "one"));
    assert!(new.iter().all(|socket| ask(socket) == "two"));
    // It comes back before they have ended: their sockets are still there, and are read for both.
    reload(&mut plimsoll, &relaying(two));
    let newer: Vec<_> = (0..8).map(|_| client()).collect();
    assert!(old.iter().all(|socket| ask(socket) == "one"));
    assert!(newer.iter().all(|socket| ask(socket) == "two"));
}

#[test]
fn kept_connections_to_servers_are_used_on_and_those_to_servers_that_go_are_closed() {
    let (a, b) = (named("a"), named("b"));
    let settings = "balance first";
    let mut plimsoll = start(&proxying(&[a.address()], settings));
    assert_eq!(get(plimsoll.address(), "/").text(), "a");
    reload(
        &mut plimsoll,
        &proxying(&[a.address(), b.address()], settings),
    );
    reload(
        &mut plimsoll,
        &proxying(&[b.address(), a.address()], "balance first; retry 2"),
    );
    assert_eq!(get(plimsoll.address(), "/").text(), "b");
    reload(&mut plimsoll, &proxying(&[a.address()], settings));
    for _ in 0..8 {
        assert_eq!(get(plimsoll.address(), "/").text(), "a");
    }
    assert_eq!(a.connections().len(), 1, "it was kept");
    wait::expect("the other one to be closed", PATIENCE, || b.open() == 0);
}

#[test]
fn who_waits_for_a_place_gets_it_across_configurations() {
    let (server, gate) = gated();
    let waiting = |more: &str| {
        proxying(
            &[],
            &format!(
                "server {} max-connections=1; queue 10 timeout=30s; {more}",
                server.address()
            ),
        )
    };
    let mut plimsoll = start(&waiting(""));
    let mut first = Raw::connect(plimsoll.address());
    first.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    server.wait_completed(1, PATIENCE);
    let mut waits: Vec<Raw> = (0..3).map(|_| Raw::connect(plimsoll.address())).collect();
    let queue = "plimsoll_queue_length{pool=\"app\"}";
    let (old, new) = waits.split_at_mut(1);
    for client in old {
        client.send("GET /old HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    wait::expect("it to wait", PATIENCE, || {
        plimsoll.metric(queue) == Some(1.0)
    });
    reload(&mut plimsoll, &waiting("retry 3"));
    assert_eq!(plimsoll.metric(queue), Some(1.0), "it waits on");
    for client in new {
        client.send("GET /new HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    wait::expect("them to wait", PATIENCE, || {
        plimsoll.metric(queue) == Some(3.0)
    });
    gate.open();
    assert_eq!(first.response("GET").text(), "/wait");
    let texts: Vec<String> = waits
        .iter_mut()
        .map(|client| client.response("GET").text())
        .collect();
    assert_eq!(texts, ["/old", "/new", "/new"]);
    assert_eq!(server.connections().len(), 1, "one at a time");
}

#[test]
fn limits_count_on_wherever_they_stand() {
    let limited = |before: &str, limit: &str| {
        format!(
            "{before}site * {{ listen 127.0.0.1:{{port}}; route /free {{ respond 200 }}\n\
             route /x {{ limit {limit} by=client-ip; respond 200 }} }}"
        )
    };
    let mut plimsoll = start(&limited("", "3/h"));
    let address = plimsoll.address();
    let status = |target: &str| get(address, target).status();
    assert_eq!([status("/x"), status("/x")], [200, 200]);
    reload(&mut plimsoll, &limited("\n\n", "3/h"));
    assert_eq!([status("/x"), status("/x")], [200, 429]);
    reload(&mut plimsoll, &limited("", "4/h"));
    assert_eq!(status("/x"), 200, "another limit begins anew");
}

#[test]
fn clients_stay_with_their_servers_when_others_come_and_go() {
    let (a, b, c) = (named("a"), named("b"), named("c"));
    let sticky = "balance round-robin; sticky by=header:X-User";
    let mut plimsoll = start(&proxying(&[a.address(), b.address()], sticky));
    let address = plimsoll.address();
    let ask = |user: usize| {
        let mut client = Raw::connect(address);
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX-User: {user}\r\n\r\n");
        client.send(head).unwrap();
        client.response("GET").text()
    };
    let before: Vec<String> = (0..20).map(ask).collect();
    assert!(before.contains(&"a".to_owned()) && before.contains(&"b".to_owned()));
    reload(
        &mut plimsoll,
        &proxying(&[c.address(), b.address(), a.address()], sticky),
    );
    let after: Vec<String> = (0..20).map(ask).collect();
    assert_eq!(before, after);
}

#[test]
fn what_is_stored_is_there_after_it() {
    let server = Recorder::start(|_| {
        Answer::bytes(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 2\r\n\r\nok",
        )
    });
    let caching = |more: &str| {
        format!(
            "site * {{ listen 127.0.0.1:{{port}}; route {{ cache c; proxy app }} }} {more}\n\
             cache c {{ memory 16MiB }} pool app {{ server {}; check off }}",
            server.address()
        )
    };
    let mut plimsoll = start(&caching(""));
    assert_eq!(get(plimsoll.address(), "/").text(), "ok");
    reload(
        &mut plimsoll,
        &caching(
            "cache d { memory 16MiB }\nsite b { listen 127.0.0.1:{port}; route { cache d; proxy app } }",
        ),
    );
    assert_eq!(get(plimsoll.address(), "/").text(), "ok");
    assert_eq!(server.completed(), 1);
}

#[test]
fn a_server_keeps_its_standing_and_its_checks_do_not_begin_anew() {
    let (a, b) = (named("a"), named("b"));
    let down = ports::local(ports::free());
    let checked = |servers: &[SocketAddr], checks: &str| {
        proxying(servers, "balance first").replace("check off", checks)
    };
    let often = "check GET / every=20ms fall=1 rise=1";
    let mut plimsoll = start(&checked(&[down, a.address()], often));
    let up = |server: SocketAddr| format!("plimsoll_server_up{{pool=\"app\",server=\"{server}\"}}");
    wait::expect("it to be found down", PATIENCE, || {
        plimsoll.metric(&up(down)) == Some(0.0)
    });
    let checks = |plimsoll: &Plimsoll, server: SocketAddr| {
        let name =
            format!("plimsoll_checks_total{{pool=\"app\",server=\"{server}\",result=\"passed\"}}");
        plimsoll.metric(&name).unwrap_or_default()
    };
    wait::expect("checks", PATIENCE, || checks(&plimsoll, a.address()) > 2.0);
    let before = checks(&plimsoll, a.address());
    // Other checks, which will not be due for long: what the first ones said counts.
    let seldom = "check GET / every=1h fall=1 rise=1";
    for checks in [often, seldom] {
        reload(
            &mut plimsoll,
            &checked(&[b.address(), down, a.address()], checks),
        );
        assert_eq!(plimsoll.metric(&up(down)), Some(0.0));
    }
    assert!(
        checks(&plimsoll, a.address()) >= before,
        "they are counted on"
    );
    // Nobody says any more that it is down.
    reload(
        &mut plimsoll,
        &checked(&[b.address(), down, a.address()], "check off"),
    );
    assert_eq!(plimsoll.metric(&up(down)), Some(1.0));
}

#[test]
fn what_an_operator_has_said_of_a_server_holds() {
    let (a, b) = (named("a"), named("b"));
    let mut plimsoll = start(&proxying(&[a.address(), b.address()], "balance first"));
    let mut command = Command::new(binary());
    let socket = plimsoll.admin_socket();
    let server = a.address().to_string();
    command.args(["pool", "--running", &socket, "app", "maintenance", &server]);
    assert!(command.output().unwrap().status.success());
    assert_eq!(get(plimsoll.address(), "/").text(), "b");
    reload(
        &mut plimsoll,
        &proxying(&[a.address(), b.address()], "balance first; retry 1"),
    );
    assert_eq!(get(plimsoll.address(), "/").text(), "b");
}

#[test]
fn too_many_configurations_in_use_are_bounded() {
    let relaying = |round: usize| {
        with(&format!(
            "tcp 127.0.0.1:{{port}} {{ proxy app }}\n\
             pool app {{ server {}; check off; retry {} }}",
            "127.0.0.1:{echo}",
            round % 3
        ))
    };
    let start = Start::run(&relaying(0)).set("echo", echo::connections(b"").port());
    let mut plimsoll = start.start();
    let mut clients = Vec::new();
    // 256 that are in use, and the one that is left last.
    for round in 0..259 {
        let mut client = Raw::connect(plimsoll.address());
        client.send("here").unwrap();
        client.read_at_least(4, PATIENCE).unwrap();
        clients.push(client);
        plimsoll.rewrite(&relaying(round + 1));
        assert!(plimsoll.ask_reload().starts_with("HTTP/1.0 200 "));
    }
    let ended = plimsoll.metric("plimsoll_config_generations_ended_total");
    assert_eq!(ended, Some(3.0));
    for (count, client) in clients.iter_mut().enumerate() {
        match count {
            0..3 => assert_eq!(client.read_to_close(PATIENCE).close, Close::Reset),
            _ => {
                client.send("more").unwrap();
                client.read_at_least(4, PATIENCE).unwrap();
            }
        }
    }
}
