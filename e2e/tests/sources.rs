//! From where connections to servers come, and what the system does for connections.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use plimsoll_e2e::network::{LocalPorts, Machine, counted, ip, isolated};
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{PATIENCE, Raw, get};
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Close;
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto};

/// A server that tells of each connection from where it is, and sends back what comes.
fn echo(at: &str) -> (SocketAddr, Receiver<IpAddr>) {
    let listener = TcpListener::bind(at).unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = sync_channel(1000);
    thread::spawn(move || {
        while let Ok((stream, from)) = listener.accept() {
            tell.try_send(from.ip()).ok();
            thread::spawn(move || {
                let mut to = stream.try_clone().unwrap();
                std::io::copy(&mut &stream, &mut to).ok();
            });
        }
    });
    (address, told)
}

fn start(listen: &str, service: &str, server: SocketAddr, pool: &str) -> Plimsoll {
    let text = format!(
        "workers 2\nadmin 127.0.0.1:{{port:admin}}\n\
         tcp {listen} {{ log {{dir}}/access.log; {service}; proxy app }}\n\
         pool app {{ server {server}; {pool} }}\n"
    );
    Start::run(&text).start()
}

fn relayed(plimsoll: &Plimsoll) -> TcpStream {
    relayed_at("127.0.0.1", plimsoll)
}

fn relayed_at(ip: &str, plimsoll: &Plimsoll) -> TcpStream {
    let mut stream = TcpStream::connect((ip, plimsoll.address().port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(&mut stream);
    stream
}

/// Sends something through a connection, which comes back.
fn exchange(stream: &mut TcpStream) {
    let mut back = [0; 4];
    stream.write_all(b"ping").unwrap();
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"ping");
}

/// How many connections there can be from one address to another one, and a port of that.
const PORTS: u16 = 8;

/// Listens on two ports, so that clients find more ports than Plimsoll.
const TWO_PORTS: &str = "127.0.0.1:{port} 127.0.0.1:{port:more}";

fn leave_few_ports() -> LocalPorts {
    LocalPorts::leave(61_000..=61_000 + PORTS - 1)
}

#[test]
fn each_address_has_its_turn_and_another_one_where_no_port_is_left() {
    let name = "each_address_has_its_turn_and_another_one_where_no_port_is_left";
    isolated(name, || {
        let (server, told) = echo("127.0.0.1:0");
        let source = "source 127.0.0.2 127.0.0.3 ::1";
        let plimsoll = start(TWO_PORTS, "", server, source);
        let greedy = start("127.0.0.1:{port}", "", server, "source 127.0.0.2");
        let _few = leave_few_ports();
        let [two, three] = [2, 3].map(|last| IpAddr::from([127, 0, 0, last]));
        let open: Vec<_> = (0..4).map(|_| relayed(&plimsoll)).collect();
        let mut from: Vec<_> = told.iter().take(4).collect();
        from.sort_unstable();
        assert_eq!(from, [two, two, three, three]);

        // Somebody else takes the other ports of one of them.
        let taken: Vec<_> = (2..PORTS).map(|_| relayed(&greedy)).collect();
        assert!(told.iter().take(taken.len()).all(|from| from == two));
        let more: Vec<_> = (0..4).map(|_| relayed(&plimsoll)).collect();
        assert!(told.iter().take(4).all(|from| from == three));
        assert_eq!(exhausted(&plimsoll), 0.0);
        drop((open, more, taken));
    });
}

#[test]
fn ports_that_ran_out_are_counted() {
    isolated("ports_that_ran_out_are_counted", || {
        let (server, _told) = echo("127.0.0.1:0");
        let plimsoll = start(TWO_PORTS, "", server, "source 127.0.0.2");
        let _few = leave_few_ports();
        let _open: Vec<_> = (0..PORTS).map(|_| relayed(&plimsoll)).collect();
        match Raw::try_connect(plimsoll.address_of("more")) {
            Ok(mut client) => assert_eq!(client.read_to_close(PATIENCE).close, Close::Reset),
            // It may come before the client knows that it is connected.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        assert_eq!(exhausted(&plimsoll), 1.0);
        let line = plimsoll.wait_log("access.log", 1, PATIENCE).remove(0);
        assert!(line.contains("no local port or address is free"), "{line}");
    });
}

fn exhausted(plimsoll: &Plimsoll) -> f64 {
    let name = "plimsoll_upstream_exhausted_total{pool=\"app\"}";
    plimsoll.metric(name).unwrap()
}

#[test]
fn checks_and_requests_come_from_there_too() {
    let (server, told) = echo("127.0.0.1:0");
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\n\
         site * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{ server {server}; source 127.0.0.7; check tcp every=100ms }}\n"
    );
    let plimsoll = Start::run(&text).start();
    assert_eq!(
        told.recv_timeout(PATIENCE).unwrap(),
        IpAddr::from([127, 0, 0, 7])
    );
    // It echoes the request, which is no response.
    assert_eq!(get(plimsoll.address(), "/").status(), 502);
    assert!(told.try_iter().all(|ip| ip == IpAddr::from([127, 0, 0, 7])));
}

#[test]
fn a_transparent_source_is_the_clients_own() {
    isolated("a_transparent_source_is_the_clients_own", || {
        let clients = Machine::beside("clients", "10.9.1.1/24", "10.9.1.2/24");
        let servers = Machine::beside("servers", "10.9.2.1/24", "10.9.2.2/24");
        // Answers to clients come here, whomever they are for.
        ip("rule add iif servers lookup 100");
        ip("route add local 0.0.0.0/0 dev lo table 100");
        let (server, told) = servers.inside(|| echo("10.9.2.2:0"));
        let plimsoll = start("10.9.1.1:{port}", "", server, "source transparent");
        let _client = clients.inside(|| relayed_at("10.9.1.1", &plimsoll));
        let client = IpAddr::from([10, 9, 1, 2]);
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), client);
    });
}

/// Tells whether a connection to `port` has its keepalive timer running, on the side that accepted it or on
/// the other; proc_net_tcp(5).
fn asks_after(peer: Side, port: u16) -> bool {
    let text = fs::read_to_string("/proc/net/tcp").unwrap();
    text.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote) = (words.next().unwrap(), words.next().unwrap());
        let end = if peer == Side::Client { local } else { remote };
        let timer = words.nth(2).unwrap_or_default();
        let is_open = !remote.ends_with(":0000");
        end.ends_with(&format!(":{port:04X}")) && is_open && timer.starts_with("02:")
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Client,
    Server,
}

#[test]
fn silent_peers_are_asked_whether_they_are_there() {
    isolated("silent_peers_are_asked_whether_they_are_there", || {
        let (server, _told) = echo("127.0.0.1:0");
        for (service, pool, sides) in [
            ("", "", [false, false]),
            ("socket keepalive=60s", "", [true, false]),
            ("", "socket keepalive=60s", [false, true]),
        ] {
            let plimsoll = start("127.0.0.1:{port}", service, server, pool);
            let _open = relayed(&plimsoll);
            let asked = || {
                let client = asks_after(Side::Client, plimsoll.address().port());
                [client, asks_after(Side::Server, server.port())]
            };
            // The timers of what was just sent are over soon.
            wait::expect("the timers", PATIENCE, || asked() == sides);
        }
    });
}

#[test]
fn a_peer_that_acknowledges_nothing_is_given_up() {
    isolated("a_peer_that_acknowledges_nothing_is_given_up", || {
        let servers = Machine::beside("servers", "10.9.2.1/24", "10.9.2.2/24");
        let (server, _told) = servers.inside(|| echo("10.9.2.2:0"));
        let plimsoll = start("127.0.0.1:{port}", "", server, "socket user-timeout=1s");
        let mut client = relayed(&plimsoll);
        servers.unplug();
        client.write_all(b"is anybody there?").unwrap();
        let ended = client.read(&mut [0; 10]).map_err(|error| error.kind());
        assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset));
    });
}

#[test]
fn first_packets_may_carry_what_clients_send() {
    isolated("first_packets_may_carry_what_clients_send", || {
        // Without the cookie that a client has from an earlier connection.
        fs::write("/proc/sys/net/ipv4/tcp_fastopen", "519").unwrap();
        let (server, _told) = echo("127.0.0.1:0");
        let plimsoll = start("127.0.0.1:{port}", "socket fast-open", server, "");
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let fast_open = SendFlags::from_bits_retain(0x2000_0000);
        rustix::net::sendto(&socket, b"ping", fast_open, &plimsoll.address()).unwrap();
        let mut back = [0; 4];
        TcpStream::from(socket).read_exact(&mut back).unwrap();
        assert_eq!(&back, b"ping");
        assert_eq!(counted("TCPFastOpenPassive"), 1);
    });
}

#[test]
fn connections_may_use_several_paths() {
    isolated("connections_may_use_several_paths", || {
        let several = Some(ipproto::MPTCP);
        let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
        let Ok(socket) = rustix::net::socket(family, kind, several) else {
            return eprintln!("LEFT OUT: the kernel has no connections of several paths");
        };
        let (server, _told) = echo("127.0.0.1:0");
        let plimsoll = start("127.0.0.1:{port}", "socket mptcp", server, "socket mptcp");
        rustix::net::connect(&socket, &plimsoll.address()).unwrap();
        exchange(&mut TcpStream::from(socket));
        assert_eq!(counted("MPCapableSYNRX"), 1);
        // One by the client, one by us: the server does not know of it.
        assert_eq!(counted("MPCapableSYNTX"), 2);
        // Clients that do not know of it are served as well.
        relayed(&plimsoll);
    });
}

#[test]
fn an_address_that_is_not_here_yet_is_listened_on() {
    isolated("an_address_that_is_not_here_yet_is_listened_on", || {
        let (server, _told) = echo("127.0.0.1:0");
        ip("link add later type veth peer name far");
        let plimsoll = start("10.9.3.1:{port}", "", server, "");
        assert!(
            plimsoll
                .stderr()
                .contains("the address is not on this machine")
        );
        ip("addr add 10.9.3.1/24 dev later");
        ip("link set later up");
        relayed_at("10.9.3.1", &plimsoll);
        // Gone, and here again.
        ip("addr del 10.9.3.1/24 dev later");
        ip("addr add 10.9.3.1/24 dev later");
        relayed_at("10.9.3.1", &plimsoll);
    });
}
