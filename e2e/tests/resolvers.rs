//! Real resolvers behind a port for datagrams.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::daemon::Daemon;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::PATIENCE;
use plimsoll_e2e::unbound::{Unbound, answer, question};
use plimsoll_e2e::{ports, wait};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How many names there are.
const NAMES: u16 = 1000;

/// How many of them are asked for at the same time: more do not fit into the buffers of sockets.
const AT_ONCE: u16 = 50;

/// How long a client waits before it asks again.
const AGAIN: Duration = Duration::from_millis(100);

fn records() -> impl Iterator<Item = String> {
    (0..NAMES).map(|number| {
        let [high, low] = number.to_be_bytes();
        format!("n{number}.test. A 10.1.{high}.{low}")
    })
}

fn resolver(directory: &Path, port: u16) -> Daemon {
    let unbound = Unbound {
        directory,
        port,
        announced_port: None,
        answers: &["127.0.0.0/9"],
    };
    unbound.start(records())
}

fn before(servers: &[SocketAddr], pool: &str) -> Plimsoll {
    let lines: Vec<_> = servers
        .iter()
        .map(|server| format!("server {server}"))
        .collect();
    let text = format!(
        "workers 2\nadmin 127.0.0.1:{{port:admin}}\n\
         udp 127.0.0.1:{{port:udp}} {{ responses 1; log {{dir}}/access.log; proxy dns }}\n\
         tcp 127.0.0.1:{{port}} {{ proxy dns }}\n\
         pool dns {{ {}; {pool} }}\n",
        lines.join("; ")
    );
    Start::run(&text).start()
}

/// A client that asks for the address of one name, from a port of its own.
struct Client {
    socket: UdpSocket,
    question: Vec<u8>,
    due: [u8; 4],
}

impl Client {
    fn new(to: SocketAddr, number: u16) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(AGAIN)).unwrap();
        let [high, low] = number.to_be_bytes();
        let client = Self {
            socket,
            question: question(number.wrapping_mul(31) ^ 0x5555, &format!("n{number}.test")),
            due: [10, 1, high, low],
        };
        client.ask();
        client
    }

    fn ask(&self) {
        self.socket.send(&self.question).unwrap();
    }

    /// Waits for the answer; asks again where none comes. What comes is checked to be its own.
    fn wait(&self) {
        let mut room = [0; 512];
        let answered = wait::until(PATIENCE, || match self.socket.recv(&mut room) {
            Ok(len) => {
                let found = answer(&self.question, &room[..len]);
                assert_eq!(found, Some((0, Some(self.due))), "{:?}", &room[..len]);
                Some(())
            }
            Err(_) => {
                self.ask();
                None
            }
        });
        assert!(answered.is_some(), "no answer");
    }
}

/// 1,000 clients, in the middle of which one of two resolvers is killed.
#[test]
fn each_client_gets_its_own_answer_whatever_happens_to_a_resolver() {
    let directory = tempfile::tempdir().unwrap();
    let addresses = [ports::free(), ports::free()].map(ports::local);
    let [first, second] = addresses.map(|at| resolver(directory.path(), at.port()));
    let plimsoll = before(&addresses, "");
    let to = plimsoll.address_of("udp");
    let mut first = Some(first);
    for round in 0..NAMES / AT_ONCE {
        let numbers = round * AT_ONCE..(round + 1) * AT_ONCE;
        let clients: Vec<_> = numbers.map(|number| Client::new(to, number)).collect();
        if round == 8 {
            drop(first.take());
        }
        clients.iter().for_each(Client::wait);
    }
    let lines = plimsoll.wait_log("access.log", usize::from(NAMES), PATIENCE);
    for server in addresses {
        assert!(
            lines
                .iter()
                .any(|line| line.contains(&format!("\"server\":\"{server}\"")))
        );
    }
    drop(second);
}

/// What Debian's own client makes of it, with datagrams and with a connection.
#[test]
fn dig_finds_what_resolvers_know() {
    let directory = tempfile::tempdir().unwrap();
    let address = ports::local(ports::free());
    let _resolver = resolver(directory.path(), address.port());
    let plimsoll = before(&[address], "");
    for (port, more) in [
        (plimsoll.address_of("udp").port(), "+notcp"),
        (plimsoll.address().port(), "+tcp"),
    ] {
        let output = Command::new("dig")
            .args([
                "@127.0.0.1",
                "-p",
                &port.to_string(),
                more,
                "+short",
                "+tries=1",
            ])
            .args(["n7.test", "A", "n300.test", "A"])
            .output()
            .unwrap_or_else(|error| {
                panic!("dig: {error}; install the Debian package bind9-dnsutils")
            });
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "10.1.0.7\n10.1.1.44\n"
        );
    }
}

/// Unbound answers those in one network, and learns from us who is in it. It has to answer us, too.
#[test]
fn a_resolver_is_told_whom_each_question_is_from() {
    let directory = tempfile::tempdir().unwrap();
    let [port, announced_port] = [ports::free(), ports::free()];
    let unbound = Unbound {
        directory: directory.path(),
        port,
        announced_port: Some(announced_port),
        answers: &["127.0.0.1/32", "127.0.0.64/26"],
    };
    let _resolver = unbound.start(records());
    let plimsoll = before(&[ports::local(announced_port)], "proxy-protocol v2");
    for (client, due) in [
        ("127.0.0.65:0", (0, Some([10, 1, 0, 7]))),
        ("127.0.0.2:0", (5, None)),
        ("127.0.0.66:0", (0, Some([10, 1, 0, 7]))),
    ] {
        let socket = UdpSocket::bind(client).unwrap();
        socket.connect(plimsoll.address_of("udp")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let asked = question(7, "n7.test");
        socket.send(&asked).unwrap();
        let mut room = [0; 512];
        let len = socket.recv(&mut room).unwrap();
        let (code, address) = due;
        assert_eq!(room[3] & 0x0f, code, "{client}");
        // Who is refused is not even told what.
        let found = answer(&asked, &room[..len]).and_then(|(_, found)| found);
        assert_eq!(found, address, "{client}");
    }
}

/// One that does not know a name is down, although it answers.
#[test]
fn a_resolver_is_asked_whether_it_works() {
    let directory = tempfile::tempdir().unwrap();
    let addresses = [ports::free(), ports::free()].map(ports::local);
    let ignorant = Unbound {
        directory: directory.path(),
        port: addresses[0].port(),
        announced_port: None,
        answers: &["127.0.0.0/9"],
    };
    let _ignorant = ignorant.start(std::iter::empty());
    let _knowing = resolver(directory.path(), addresses[1].port());
    let check = "balance first; check dns n7.test every=50ms timeout=1s fall=1";
    let plimsoll = before(&addresses, check);
    let state = |server: SocketAddr, state: &str| {
        let labels = format!("pool=\"dns\",server=\"{server}\",state=\"{state}\"");
        plimsoll.metric(&format!("plimsoll_server_state{{{labels}}}")) == Some(1.0)
    };
    wait::expect("one to be down", PATIENCE, || state(addresses[0], "unfit"));
    assert!(state(addresses[1], "ready"));
    Client::new(plimsoll.address_of("udp"), 7).wait();
    assert!(plimsoll.stderr().contains("it answers with NXDOMAIN"));
}
