//! Reloads under load: every request is accounted for, and nothing is lost, cut short or answered wrongly.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::h2raw::Peer;
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::load::{Expect, Load, Reuse};
use plimsoll_e2e::plimsoll::{Plimsoll, Start, binary};
use plimsoll_e2e::raw::PATIENCE;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::{echo, tls, wait};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

/// Servers of every kind.
struct Servers {
    http: Vec<Recorder>,
    echo: SocketAddr,
    switching: SocketAddr,
    datagrams: SocketAddr,
}

impl Servers {
    fn start() -> Self {
        Self {
            http: (0..4).map(|_| Recorder::echo()).collect(),
            echo: echo::connections(b""),
            switching: echo::connections(echo::SWITCHED),
            datagrams: echo::datagrams(),
        }
    }
}

/// The configuration of this round: something else is different in each.
fn configuration(round: usize, servers: &Servers, authority: &Authority) -> String {
    let take = |count: usize| {
        let cycle = servers.http.iter().cycle().skip(round).take(count);
        let lines = cycle.map(|server| format!("server {}", server.address()));
        lines.collect::<Vec<_>>().join("; ")
    };
    let algorithms = [
        "round-robin",
        "least-connections",
        "two-choices",
        "maglev header:x-load-id",
    ];
    let algorithm = algorithms.get(round % algorithms.len()).unwrap();
    let limit = [
        "",
        "limit 1000000/s by=client-ip",
        "request-header set X-Round a",
    ];
    let limit = limit.get(round % limit.len()).unwrap();
    let extra = match round % 5 {
        0 | 1 => "site * { listen 127.0.0.1:{port:extra}; route { respond 200 } }",
        2 => "tcp 127.0.0.1:{port:extra} { proxy echo }",
        _ => "",
    };
    let idle = 60 + round;
    format!(
        "workers 2\nadmin 127.0.0.1:{{port:admin}} unix:{{dir}}/admin.sock\n\
         site * {{ listen 127.0.0.1:{{port}}; timeout idle={idle}s; {limit}\n\
             route /chat {{ proxy switching }}\nroute /r{round}/* {{ respond 404 }}\nroute {{ proxy app }} }}\n\
         site a.example {{ listen 127.0.0.1:{{port:tls}}; {}; route {{ proxy app }} }}\n\
         tcp 127.0.0.1:{{port:tcp}} {{ proxy echo }}\nudp 127.0.0.1:{{port:udp}} {{ timeout idle=3s; proxy datagrams }}\n{extra}\n\
         pool app {{ balance {algorithm}; {}; check off; outlier off }}\n\
         pool echo {{ server {}; check off; retry {} }}\npool switching {{ server {}; check off }}\n\
         pool datagrams {{ server {}; check off }}\n",
        tls::pair(authority),
        take(1 + round % 4),
        servers.echo,
        round % 3,
        servers.switching,
        servers.datagrams,
    )
}

/// Does one thing again and again until it is told to stop; tells how often.
struct Doing {
    stopped: Arc<AtomicBool>,
    threads: Vec<(&'static str, JoinHandle<usize>)>,
    count: Arc<AtomicUsize>,
}

impl Doing {
    fn new() -> Self {
        Self {
            stopped: Arc::default(),
            threads: Vec::new(),
            count: Arc::default(),
        }
    }

    fn again(&mut self, what: &'static str, mut act: impl FnMut(usize) + Send + 'static) {
        let (stopped, count) = (Arc::clone(&self.stopped), Arc::clone(&self.count));
        let thread = thread::spawn(move || {
            let mut times = 0;
            while !stopped.load(SeqCst) {
                act(times);
                times += 1;
                count.fetch_add(1, SeqCst);
            }
            times
        });
        self.threads.push((what, thread));
    }

    fn stop(self) {
        self.stopped.store(true, SeqCst);
        for (what, thread) in self.threads {
            let times = thread.join().expect(what);
            assert!(times > 0, "{what} was done");
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends something, and expects the same back.
fn bounce(stream: &mut (impl Read + Write), number: usize) {
    let said = number.to_be_bytes();
    let mut heard = said.map(|_| 0);
    stream.write_all(&said).unwrap();
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, said);
}

/// Asks with this id, and expects it back; returns the head of the answer.
fn ask(stream: &mut (impl Read + Write), number: usize) -> String {
    let id = format!("{number:08}");
    let head = format!("GET /x HTTP/1.1\r\nHost: a.example\r\nX-Load-Id: {id}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut body = [0; 8];
    stream.read_exact(&mut body).unwrap();
    assert_eq!(&body, id.as_bytes());
    answer
}

/// Keeps connections that carry one request after the other.
fn keep(doing: &mut Doing, plimsoll: &Plimsoll, authority: &Authority) {
    let secure = plimsoll.address_of("tls");
    let mut session = tls::session(authority, secure);
    doing.again("a connection with TLS", move |number| {
        let head = ask(&mut session, number).to_lowercase();
        assert!(!head.contains("connection: close"), "{head}");
    });
    let mut peer = Peer::connect(plimsoll.address());
    doing.again("a connection with HTTP/2", move |number| {
        let id = format!("{number:08}");
        let stream = peer.request("GET", "/x", &[("x-load-id", &id)]);
        assert_eq!(peer.message(stream).text(), id);
    });
}

fn begin(plimsoll: &Plimsoll, authority: &Arc<Authority>) -> Doing {
    let mut doing = Doing::new();
    let (tcp, secure) = (plimsoll.address_of("tcp"), plimsoll.address_of("tls"));
    // These live through all of it.
    let mut relayed = connect(tcp);
    doing.again("a relayed connection", move |number| {
        bounce(&mut relayed, number)
    });
    let mut socket = connect(plimsoll.address());
    socket.write_all(echo::WEBSOCKET).unwrap();
    let mut byte = [0];
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    doing.again("a WebSocket", move |number| bounce(&mut socket, number));
    let datagrams = plimsoll.address_of("udp");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(datagrams).unwrap();
    let send = |client: &UdpSocket, number: usize| {
        let said = number.to_be_bytes();
        let mut heard = [0; 64];
        client.send(&said).unwrap();
        let count = client.recv(&mut heard).unwrap();
        assert_eq!(heard.get(..count), Some(&said[..]));
    };
    doing.again("a flow of datagrams", move |number| send(&client, number));
    // These begin again and again.
    doing.again("relayed connections", move |number| {
        bounce(&mut connect(tcp), number)
    });
    let own = Arc::clone(authority);
    doing.again("connections with TLS", move |number| {
        ask(&mut tls::session(&own, secure), number);
    });
    doing.again("flows of datagrams", move |number| {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.connect(datagrams).unwrap();
        send(&client, number);
    });
    doing
}

#[test]
fn hundreds_of_reloads_lose_nothing() {
    let (servers, authority) = (Servers::start(), Arc::new(Authority::make("DNS:a.example")));
    let mut plimsoll = Start::run(&configuration(0, &servers, &authority)).start();
    let mut doing = begin(&plimsoll, &authority);
    keep(&mut doing, &plimsoll, &authority);
    let keep = Load::on(plimsoll.address()).start();
    let once = Load {
        reuse: Reuse::Close,
        ..Load::on(plimsoll.address())
    };
    let once = once.start();
    let posts = Load {
        method: "POST",
        body: vec![b'x'; 100_000],
        threads: 2,
        ..Load::on(plimsoll.address())
    };
    let posts = posts.start();
    let (mut descriptors, mut resident) = (0, 0);
    for round in 1..=240 {
        let done = doing.count.load(SeqCst);
        plimsoll
            .reload(&configuration(round, &servers, &authority))
            .expect_done();
        // Something of everything happens under each configuration.
        wait::expect("traffic", PATIENCE, || {
            doing.count.load(SeqCst) >= done + 20
        });
        // By then all that is kept for later is there.
        if round == 120 {
            (descriptors, resident) = (plimsoll.descriptors(), plimsoll.resident());
        }
    }
    doing.stop();
    let reports = [keep.stop(), once.stop(), posts.stop()];
    for report in &reports {
        report.assert_all_ok();
    }
    let [keep, ..] = reports;
    assert_eq!(keep.connections, 4, "connections are kept");
    wait::expect("nothing to be left", PATIENCE, || {
        plimsoll.descriptors() <= descriptors
    });
    let now = plimsoll.resident();
    assert!(
        now < resident + resident / 2,
        "{resident} bytes became {now}"
    );
}

#[test]
fn a_thousand_bad_reloads_change_nothing_and_leave_nothing() {
    let (servers, authority) = (Servers::start(), Arc::new(Authority::make("DNS:a.example")));
    let good = configuration(0, &servers, &authority);
    let mut plimsoll = Start::run(&good).start();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap();
    std::fs::write(plimsoll.directory().join("bad.pem"), "no certificate").unwrap();
    let bad: Vec<String> = [
        "site {".to_owned(),
        format!("site b {{ listen {taken}; route {{ respond 200 }} }}"),
        format!("site b {{ listen 127.0.0.1:{{port:new}} {taken}; route {{ respond 200 }} }}"),
        "site b { listen 127.0.0.1:{port:new}; tls {dir}/bad.pem; route { respond 200 } }".to_owned(),
        "site b { listen 127.0.0.1:{port:new}; log {dir}/b.log {dir}/none/b.log; route { respond 200 } }"
            .to_owned(),
        "site b { listen 127.0.0.1:{port:new}; deny @{dir}/none; route { respond 200 } }".to_owned(),
        "include {dir}/none.conf".to_owned(),
    ]
    .map(|bad| format!("{good}{bad}\n"))
    .into();
    let load = Load::on(plimsoll.address()).start();
    let mut reload = |count: usize| {
        for text in bad.iter().cycle().take(count) {
            plimsoll.rewrite(text);
            let told = plimsoll.ask_reload();
            assert!(told.contains("422"), "{told}");
        }
        (
            plimsoll.descriptors(),
            plimsoll.resident(),
            plimsoll.threads(),
        )
    };
    let (descriptors, resident, threads) = reload(100);
    let (_, after, _) = reload(900);
    assert!(after < resident + resident / 4, "{resident} {after}");
    load.stop().assert_all_ok();
    // Threads that read files stay for ten seconds behind their last one.
    wait::expect("nothing to be left", 3 * PATIENCE, || {
        plimsoll.descriptors() <= descriptors + 2 && plimsoll.threads() <= threads + 1
    });
    assert_eq!(plimsoll.metric("plimsoll_config_generation"), Some(1.0));
}

#[test]
fn workers_come_and_go_and_nobody_notices() {
    let (servers, authority) = (Servers::start(), Arc::new(Authority::make("DNS:a.example")));
    let with = |workers: usize, round: usize| {
        let text = configuration(round, &servers, &authority);
        text.replace("workers 2", &format!("workers {workers}"))
    };
    let mut plimsoll = Start::run(&with(4, 0)).start();
    // Connections that are kept end with their worker, after an answer that says so.
    let doing = begin(&plimsoll, &authority);
    let once = Load {
        reuse: Reuse::Close,
        ..Load::on(plimsoll.address())
    };
    let once = once.start();
    let mut threads = 0;
    for (round, workers) in [2, 4, 1, 6, 3, 3, 1, 4]
        .into_iter()
        .cycle()
        .take(40)
        .enumerate()
    {
        let done = doing.count.load(SeqCst);
        plimsoll.reload(&with(workers, round)).expect_done();
        wait::expect("traffic", PATIENCE, || {
            doing.count.load(SeqCst) >= done + 20
        });
        let now = plimsoll.metric("plimsoll_workers");
        assert_eq!(now.map(|now| now.to_string()), Some(workers.to_string()));
        if round == 10 {
            threads = plimsoll.threads();
        }
    }
    doing.stop();
    once.stop().assert_all_ok();
    // Those that read files for the control thread stay for ten seconds behind their last one.
    wait::expect("no more threads", 3 * PATIENCE, || {
        plimsoll.threads() <= threads + 1
    });
}

/// Has another process serve; returns its number.
fn upgrade(plimsoll: &Plimsoll) -> Pid {
    let mut command = Command::new(binary());
    command.args(["upgrade", "--running", &plimsoll.admin_socket()]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let number = said
        .split(' ')
        .nth(1)
        .and_then(|number| number.parse().ok());
    number.and_then(Pid::from_raw).unwrap()
}

/// Ends the process that serves last.
struct Last(Option<Pid>);

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(last) = self.0 {
            let _ended = kill_process(last, Signal::KILL);
        }
    }
}

/// F-43.
#[test]
fn upgrades_lose_nothing_of_what_goes_along_nor_of_what_cannot() {
    let (servers, authority) = (Servers::start(), Arc::new(Authority::make("DNS:a.example")));
    let mut plimsoll = Start::run(&configuration(0, &servers, &authority)).start();
    let mut doing = begin(&plimsoll, &authority);
    let (address, secure) = (plimsoll.address(), plimsoll.address_of("tls"));
    let own = Arc::clone(&authority);
    let mut session = None;
    doing.again("kept connections with TLS", move |number| {
        let mut kept = session.take().unwrap_or_else(|| tls::session(&own, secure));
        let head = ask(&mut kept, number).to_lowercase();
        session = (!head.contains("connection: close")).then_some(kept);
    });
    doing.again("connections with HTTP/2", move |number| {
        let id = format!("{number:08}");
        let mut peer = Peer::connect(address);
        let stream = peer.request("GET", "/x", &[("x-load-id", &id)]);
        assert_eq!(peer.message(stream).text(), id);
    });
    let kept = Load::on(address).start();
    let mut last = Last(None);
    for _ in 0..10 {
        let (done, ended) = (doing.count.load(SeqCst), kept.ended());
        wait::expect("traffic", PATIENCE, || {
            doing.count.load(SeqCst) >= done + 50 && kept.ended() >= ended + 50
        });
        last.0 = Some(upgrade(&plimsoll));
    }
    doing.stop();
    kept.stop().assert_all_ok();
    assert!(plimsoll.wait_exit(PATIENCE).success());
}

/// F-42.
#[test]
fn a_reload_for_which_no_descriptors_are_left_changes_nothing() {
    let with = |more: &str| {
        format!(
            "workers 1\nadmin unix:{{dir}}/admin.sock 127.0.0.1:{{port:admin}}\n             site * {{ listen 127.0.0.1:{{port}} {more}; route {{ respond 200 served }} }}\n"
        )
    };
    let mut plimsoll = Start::run(&with("")).start();
    let id = Pid::from_raw(plimsoll.daemon().id().try_into().unwrap());
    let limit = |most: u64| {
        let most = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        prlimit(id, Resource::Nofile, most).unwrap()
    };
    let more: String = (0..40)
        .map(|number| format!("127.0.0.1:{{port:p{number}}} "))
        .collect();
    // The connection that asks for it needs some, too.
    limit(plimsoll.descriptors() as u64 + 20);
    let load = Load {
        expect: Expect::Any,
        ..Load::on(plimsoll.address())
    };
    let load = load.start();
    let told = plimsoll.reload(&with(&more));
    assert_eq!(told.code, Some(78), "{}", told.err);
    assert!(told.err.contains("Too many open files"), "{}", told.err);
    assert_eq!(plimsoll.metric("plimsoll_config_generation"), Some(1.0));
    // What there are descriptors for is served.
    plimsoll.reload(&with("127.0.0.1:{port:p0}")).expect_done();
    load.stop().assert_all_ok();
}
