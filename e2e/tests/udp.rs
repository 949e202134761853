//! Datagrams that are relayed as they are.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::PATIENCE;
use plimsoll_e2e::{network, ports, wait};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How long nothing has to come for there to be nothing.
const QUIET: Duration = Duration::from_millis(300);

/// What a server does with a datagram: the answers to it.
type Answers = Box<dyn Fn(&[u8]) -> Vec<Vec<u8>> + Send>;

/// Who sent what.
type Heard = (SocketAddr, Vec<u8>);

/// A server for datagrams. It is gone once this is dropped.
struct Server {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    stop: UdpSocket,
    gone: Receiver<()>,
}

/// What stops one, from itself.
const STOP: &[u8] = b"stop, and let nobody be here";

impl Server {
    fn at(address: SocketAddr, answers: Answers) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (tell, gone) = sync_channel(1);
        let list = Arc::clone(&heard);
        thread::spawn(move || {
            let mut room = [0; 65_536];
            loop {
                let (len, from) = socket.recv_from(&mut room).unwrap();
                if &room[..len] == STOP {
                    break;
                }
                list.lock().unwrap().push((from, room[..len].to_vec()));
                for answer in answers(&room[..len]) {
                    socket.send_to(&answer, from).unwrap();
                }
            }
            drop(socket);
            tell.send(()).unwrap();
        });
        Self {
            address,
            heard,
            stop: UdpSocket::bind("127.0.0.1:0").unwrap(),
            gone,
        }
    }

    fn start(answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        // A port that is free for connections too: checks may come on these.
        Self::at(ports::local(ports::free()), Box::new(answers))
    }

    /// One that answers `NAME:` and what it heard.
    fn named(name: &'static str) -> Self {
        Self::start(move |heard| vec![answer(name, heard)])
    }

    /// One that says nothing.
    fn silent() -> Self {
        Self::start(|_| Vec::new())
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    fn wait_heard(&self, count: usize) -> Vec<Heard> {
        wait::expect("the server to hear it", PATIENCE, || {
            self.heard().len() >= count
        });
        self.heard()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_to(STOP, self.address).ok();
        self.gone.recv_timeout(PATIENCE).ok();
    }
}

fn answer(name: &str, heard: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b":", heard].concat()
}

/// Plimsoll before these servers.
fn before(servers: &[SocketAddr], service: &str, pool: &str) -> Plimsoll {
    listening("127.0.0.1:{port:udp}", servers, service, pool)
}

fn listening(listen: &str, servers: &[SocketAddr], service: &str, pool: &str) -> Plimsoll {
    let lines: Vec<_> = servers
        .iter()
        .map(|server| format!("server {server}"))
        .collect();
    let text = format!(
        "workers 2\nadmin 127.0.0.1:{{port:admin}}\n\
         udp {listen} {{ log {{dir}}/access.log; {service}; proxy app }}\n\
         pool app {{ {}; {pool} }}\n",
        lines.join("; ")
    );
    Start::run(&text).start()
}

/// A client that speaks to nobody but Plimsoll.
fn client(plimsoll: &Plimsoll) -> UdpSocket {
    client_of(plimsoll.address_of("udp"))
}

fn client_of(address: SocketAddr) -> UdpSocket {
    let any: SocketAddr = if address.is_ipv4() {
        "127.0.0.1:0".parse().unwrap()
    } else {
        "[::1]:0".parse().unwrap()
    };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut room = [0; 65_536];
    let len = client.recv(&mut room).unwrap();
    room[..len].to_vec()
}

fn ask(client: &UdpSocket, question: &[u8]) -> Vec<u8> {
    client.send(question).unwrap();
    receive(client)
}

/// Asks until an answer comes, as clients of datagrams do: which server was it?
fn ask_again(client: &UdpSocket, question: &[u8]) -> Vec<u8> {
    client.set_read_timeout(Some(QUIET)).unwrap();
    let answer = wait::until(PATIENCE, || {
        client.send(question).unwrap();
        let mut room = [0; 2048];
        client.recv(&mut room).ok().map(|len| room[..len].to_vec())
    });
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    answer.unwrap()
}

fn assert_quiet(client: &UdpSocket) {
    client.set_read_timeout(Some(QUIET)).unwrap();
    let kind = client.recv(&mut [0; 2048]).map_err(|error| error.kind());
    assert_eq!(kind, Err(ErrorKind::WouldBlock));
    client.set_read_timeout(Some(PATIENCE)).unwrap();
}

/// Checks that the first line of the log has these parts.
fn assert_line(plimsoll: &Plimsoll, parts: &[&str]) {
    let line = plimsoll.wait_log("access.log", 1, PATIENCE).remove(0);
    for part in parts {
        assert!(line.contains(part), "{part} in {line}");
    }
}

fn dropped(plimsoll: &Plimsoll, why: &str) -> f64 {
    let port = plimsoll.address_of("udp");
    let name =
        format!("plimsoll_datagrams_dropped_total{{listener=\"{port}/udp\",reason=\"{why}\"}}");
    plimsoll.metric(&name).unwrap()
}

#[test]
fn datagrams_pass_both_ways_whatever_they_hold() {
    let server = Server::start(|heard| vec![heard.to_vec()]);
    let plimsoll = before(&[server.address], "timeout idle=300ms", "");
    let client = client(&plimsoll);
    let longest: Vec<u8> = (0..65_507_u32).map(|at| (at % 251) as u8).collect();
    for datagram in [&b"\0\xff"[..], b"", &longest, b"last"] {
        assert_eq!(ask(&client, datagram), datagram);
    }
    let froms: Vec<_> = server.heard().iter().map(|(from, _)| *from).collect();
    assert!(froms.iter().all(|from| *from == froms[0]), "{froms:?}");
    let service = format!(
        "\"client\":\"127.0.0.1\",\"client_port\":{},\"site\":\"{}\",\"generation\":1,\"proto\":\"UDP\"",
        client.local_addr().unwrap().port(),
        plimsoll.address_of("udp")
    );
    let server = format!(
        "\"pool\":\"app\",\"server\":\"{}\",\"attempts\":1,\"t_first_byte\":",
        server.address
    );
    let bytes = "\"req_bytes\":65513,\"res_bytes\":65513,";
    assert_line(&plimsoll, &[&service, &server, bytes]);
    assert!(!plimsoll.log("access.log")[0].contains("reason"));
    let port = plimsoll.address_of("udp");
    let count = |name: &str| plimsoll.metric(&format!("{name}{{listener=\"{port}/udp\"{}", "}"));
    assert_eq!(count("plimsoll_connections_accepted_total"), Some(1.0));
    for way in ["in", "out"] {
        let of = |name: &str| {
            let labels = format!("{{listener=\"{port}/udp\",direction=\"{way}\"}}");
            plimsoll.metric(&format!("{name}{labels}"))
        };
        assert_eq!(of("plimsoll_datagrams_total"), Some(4.0));
        assert_eq!(of("plimsoll_datagram_bytes_total"), Some(65_513.0));
    }
}

/// A client that is connected takes answers from the address that it spoke to, and from no other.
#[test]
fn answers_come_from_the_address_that_was_spoken_to() {
    let server = Server::named("a");
    let plimsoll = listening("[::]:{port:udp}", &[server.address], "", "");
    let port = plimsoll.address_of("udp").port();
    for ip in ["127.0.0.1", "127.0.0.77", "::1"] {
        let ip: IpAddr = ip.parse().unwrap();
        let client = client_of(SocketAddr::new(ip, port));
        assert_eq!(ask(&client, b"x"), b"a:x", "{ip}");
        assert_eq!(ask(&client, b"y"), b"a:y", "{ip}");
    }
    let plimsoll = listening("0.0.0.0:{port:udp}", &[server.address], "", "");
    let port = plimsoll.address_of("udp").port();
    let client = client_of(SocketAddr::new("127.0.0.78".parse().unwrap(), port));
    assert_eq!(ask(&client, b"z"), b"a:z");
}

#[test]
fn a_flow_keeps_its_server_and_others_get_others() {
    let servers = [Server::named("a"), Server::named("b")];
    let addresses = servers.each_ref().map(|server| server.address);
    let plimsoll = before(&addresses, "", "");
    let mut seen = BTreeMap::new();
    for _ in 0..20 {
        let client = client(&plimsoll);
        let first = ask(&client, b"1");
        for _ in 0..5 {
            assert_eq!(ask(&client, b"1"), first);
        }
        *seen.entry(first).or_insert(0) += 1;
    }
    // Each of two workers has its own turns.
    assert!(
        seen.len() == 2 && seen.values().all(|count| (9..=11).contains(count)),
        "{seen:?}"
    );
}

/// As a resolver asks for both kinds of addresses at once, from one port.
#[test]
fn a_flow_is_over_when_all_its_answers_have_come() {
    let server = Server::named("a");
    let plimsoll = before(&[server.address], "responses 1", "");
    let client = client(&plimsoll);
    client.send(b"A").unwrap();
    client.send(b"AAAA").unwrap();
    let mut answers = [receive(&client), receive(&client)];
    answers.sort();
    assert_eq!(answers, [b"a:A".to_vec(), b"a:AAAA".to_vec()]);
    let lines = plimsoll.wait_log("access.log", 1, PATIENCE);
    assert!(
        lines[0].contains("\"attempts\":1") && !lines[0].contains("reason"),
        "{lines:?}"
    );
    let links = ports::linked(server.address.port());
    assert!(links.is_empty(), "{links:?}");
    assert_eq!(ask(&client, b"again"), b"a:again");
}

#[test]
fn what_is_not_answered_is_told_of_where_answers_are_due() {
    let server = Server::silent();
    for (service, is_told) in [("responses 1", true), ("", true), ("responses 0", false)] {
        let service = format!("{service}; timeout idle=200ms");
        let plimsoll = before(&[server.address], &service, "");
        client(&plimsoll).send(b"hello?").unwrap();
        let line = plimsoll.wait_log("access.log", 1, PATIENCE).remove(0);
        let told = "\"reason\":\"connection_read_timeout\",\"detail\":\"no answer came\"";
        assert_eq!(line.contains(told), is_told, "{service}: {line}");
        assert!(line.contains("\"req_bytes\":6,\"res_bytes\":0,"), "{line}");
    }
}

#[test]
fn a_server_that_is_not_there_is_passed_over_with_the_same_datagram() {
    let nobody = ports::local(ports::free());
    let server = Server::named("a");
    let pool = "balance first; outlier off";
    let plimsoll = before(&[nobody, server.address], "responses 1", pool);
    assert_eq!(ask(&client(&plimsoll), b"1"), b"a:1");
    let failed = format!("\"failed_server\":\"{nobody}\",\"failed_reason\":\"connection_refused\"");
    assert_line(&plimsoll, &["\"attempts\":2", &failed]);
    let name = format!(
        "plimsoll_upstream_errors_total{{pool=\"app\",server=\"{nobody}\",reason=\"connection_refused\"}}"
    );
    assert_eq!(plimsoll.metric(&name), Some(1.0));
}

#[test]
fn a_server_that_is_never_there_is_ejected() {
    let nobody = ports::local(ports::free());
    let server = Server::named("a");
    let pool = "balance first; outlier consecutive-failures=2 eject=60s max-ejected=100%";
    let plimsoll = before(&[nobody, server.address], "responses 1", pool);
    let name =
        format!("plimsoll_server_state{{pool=\"app\",server=\"{nobody}\",state=\"ejected\"}}");
    wait::expect("the server to be ejected", PATIENCE, || {
        ask(&client(&plimsoll), b"1");
        plimsoll.metric(&name) == Some(1.0)
    });
}

#[test]
fn where_nobody_is_there_the_flow_ends() {
    let nobody = ports::local(ports::free());
    let plimsoll = before(&[nobody], "", "outlier off");
    let client = client(&plimsoll);
    client.send(b"1").unwrap();
    assert_line(
        &plimsoll,
        &["\"res_bytes\":0,", "\"reason\":\"connection_refused\""],
    );
    let server = Server::at(nobody, Box::new(|heard| vec![answer("late", heard)]));
    assert_eq!(ask(&client, b"2"), b"late:2");
    drop(server);
}

/// Sent once, answered by another server: the datagram is held until the first one says that nobody is there.
#[test]
fn a_flow_goes_on_when_its_server_has_gone() {
    let (first, second) = (Server::named("a"), Server::named("b"));
    let addresses = [first.address, second.address];
    let plimsoll = before(&addresses, "", "balance first; outlier off");
    let client = client(&plimsoll);
    assert_eq!(ask(&client, b"1"), b"a:1");
    drop(first);
    assert_eq!(ask(&client, b"2"), b"b:2");
    assert_eq!(ask(&client, b"3"), b"b:3");
}

/// A server that says nothing of itself is noticed by its check alone. Where none is better, it is kept.
#[test]
fn a_flow_leaves_a_server_that_is_down_for_one_that_is_not() {
    let (silent, other) = (Server::silent(), Server::named("b"));
    // Both are checked on their own ports.
    let checks = [silent.address, other.address].map(|at| TcpListener::bind(at).unwrap());
    let pool = "balance first; check tcp every=50ms fast=50ms timeout=1s fall=1";
    let plimsoll = before(&[silent.address, other.address], "", pool);
    let client = client(&plimsoll);
    client.send(b"1").unwrap();
    silent.wait_heard(1);
    let [first, second] = checks;
    drop(first);
    assert_eq!(ask_again(&client, b"2"), b"b:2");
    drop(second);
    let name = format!(
        "plimsoll_server_state{{pool=\"app\",server=\"{}\",state=\"unreachable\"}}",
        other.address
    );
    wait::expect("both to be down", PATIENCE, || {
        plimsoll.metric(&name) == Some(1.0)
    });
    assert_eq!(ask(&client, b"3"), b"b:3");
}

/// However many invent themselves, those who are answered stay, and no more is taken than was said.
#[test]
fn flows_that_nobody_answers_make_room_first() {
    let server = Server::start(|heard| match heard {
        b"?" => Vec::new(),
        _ => vec![answer("a", heard)],
    });
    let plimsoll = before(&[server.address], "flows 16", "");
    let real: Vec<_> = (0..4).map(|_| client(&plimsoll)).collect();
    for client in &real {
        assert_eq!(ask(client, b"1"), b"a:1");
    }
    let heard = server.heard();
    for at in 0..1000 {
        client(&plimsoll).send(b"?").unwrap();
        if at % 100 == 0 {
            assert_eq!(ask(&real[0], b"2"), b"a:2"); // and the socket's buffer is empty
        }
    }
    server.wait_heard(1000);
    let links = ports::linked(server.address.port());
    assert!(links.len() <= 16, "{links:?}");
    for (client, (from, _)) in real.iter().zip(&heard) {
        assert_eq!(ask(client, b"3"), b"a:3");
        let (last, _) = server.heard().pop().unwrap();
        assert_eq!(last, *from, "the flow has begun anew");
    }
    let told = "\"reason\":\"connection_limit_reached\",\"detail\":\"made room for another flow\"";
    assert_line(&plimsoll, &[told]);
}

#[test]
fn nothing_waits_for_room_at_a_server() {
    let server = Server::named("a");
    let pool = "max-requests 1";
    let plimsoll = before(&[server.address], "", pool);
    let (first, second) = (client(&plimsoll), client(&plimsoll));
    assert_eq!(ask(&first, b"1"), b"a:1");
    second.send(b"2").unwrap();
    assert_line(&plimsoll, &["\"reason\":\"connection_limit_reached\""]);
    assert_quiet(&second);
    assert_eq!(dropped(&plimsoll, "no_server"), 1.0);
}

#[test]
fn a_client_has_as_many_flows_as_it_may() {
    let server = Server::named("a");
    let text = format!(
        "workers 2\nconnection-limit per-client=2\nadmin 127.0.0.1:{{port:admin}}\n\
         udp 127.0.0.1:{{port:udp}} {{ timeout idle=500ms; proxy {} }}\n",
        server.address
    );
    let plimsoll = Start::run(&text).start();
    let clients = [client(&plimsoll), client(&plimsoll), client(&plimsoll)];
    assert_eq!(ask(&clients[0], b"1"), b"a:1");
    assert_eq!(ask(&clients[1], b"2"), b"a:2");
    clients[2].send(b"3").unwrap();
    assert_quiet(&clients[2]);
    assert_eq!(dropped(&plimsoll, "refused"), 1.0);
    // The others are idle by and by.
    assert_eq!(ask_again(&clients[2], b"4"), b"a:4");
}

/// What is under way when a drain begins goes on; nothing new begins.
#[test]
fn a_drain_lets_flows_end() {
    let server = Server::named("a");
    let text = format!(
        "workers 4\nadmin off\nudp 127.0.0.1:{{port:udp}} {{ timeout idle=2s; proxy {} }}\n",
        server.address
    );
    let mut plimsoll = Start::run(&text).start();
    // Not as many that every worker would have one.
    let (old, new) = ([client(&plimsoll), client(&plimsoll)], client(&plimsoll));
    for client in &old {
        assert_eq!(ask(client, b"1"), b"a:1");
    }
    plimsoll.signal(Signal::TERM);
    wait::expect("the drain", PATIENCE, || {
        plimsoll.stderr().contains("draining")
    });
    new.send(b"2").unwrap();
    for _ in 0..5 {
        for client in &old {
            assert_eq!(ask(client, b"3"), b"a:3");
        }
        assert_quiet(&new);
    }
    assert!(plimsoll.wait_exit(PATIENCE).success());
    assert!(server.heard().iter().all(|(_, heard)| heard != b"2"));
}

/// A header of the PROXY protocol, version 2, for datagrams over IPv4.
fn header(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut out = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c".to_vec();
    for end in [source, destination] {
        if let IpAddr::V4(ip) = end.ip() {
            out.extend(ip.octets());
        }
    }
    for end in [source, destination] {
        out.extend(end.port().to_be_bytes());
    }
    out
}

#[test]
fn servers_are_told_whom_each_datagram_is_from() {
    let server = Server::named("a");
    let pool = "proxy-protocol v2";
    let plimsoll = listening("0.0.0.0:{port:udp}", &[server.address], "", pool);
    let client = client(&plimsoll);
    let header = header(client.local_addr().unwrap(), plimsoll.address_of("udp"));
    for question in [&b"1"[..], b"", b"2"] {
        let told = [&header[..], question].concat();
        assert_eq!(ask(&client, question), answer("a", &told));
    }
}

#[test]
fn forwarders_that_may_say_whom_each_datagram_is_from() {
    let server = Server::named("a");
    let accept = "proxy-protocol accept=127.0.0.0/8; timeout idle=300ms";
    let plimsoll = before(&[server.address], accept, "proxy-protocol v2");
    let port = plimsoll.address_of("udp");
    let forwarder = client(&plimsoll);
    // What it passes on of two clients are two flows, and answers to both come to it.
    for client in ["192.0.2.1:1000", "192.0.2.1:1001"] {
        let told = header(client.parse().unwrap(), "198.51.100.7:53".parse().unwrap());
        let passed_on = header(client.parse().unwrap(), port);
        let due = answer("a", &[&passed_on[..], b"question"].concat());
        assert_eq!(ask(&forwarder, &[&told[..], b"question"].concat()), due);
    }
    let froms: Vec<_> = server.heard().iter().map(|(from, _)| *from).collect();
    assert_ne!(froms[0], froms[1]);
    let bad = header("192.0.2.1:1".parse().unwrap(), port);
    for bytes in [
        &b"question"[..],
        &bad[..20],
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nx",
    ] {
        forwarder.send(bytes).unwrap();
    }
    // One that is our own to the forwarder is from itself.
    let own = [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..], b"check"].concat();
    let passed_on = header(forwarder.local_addr().unwrap(), port);
    assert_eq!(
        ask(&forwarder, &own),
        answer("a", &[&passed_on[..], b"check"].concat())
    );
    assert_eq!(dropped(&plimsoll, "unsound"), 3.0);
    let name = format!("plimsoll_proxy_protocol_failures_total{{listener=\"{port}/udp\"}}");
    assert_eq!(plimsoll.metric(&name), Some(3.0));
    let lines = plimsoll.wait_log("access.log", 3, PATIENCE).concat();
    assert!(
        lines.contains("\"client\":\"192.0.2.1\",\"client_port\":1000,"),
        "{lines}"
    );
}

#[test]
fn nobody_else_may_say_whom_a_datagram_is_from() {
    let server = Server::named("a");
    let accept = "proxy-protocol accept=192.0.2.0/24";
    let plimsoll = before(&[server.address], accept, "");
    let client = client(&plimsoll);
    let told = header("192.0.2.1:1".parse().unwrap(), plimsoll.address_of("udp"));
    client.send(&[&told[..], b"question"].concat()).unwrap();
    assert_quiet(&client);
    assert_eq!(dropped(&plimsoll, "unsound"), 1.0);
}

/// The server of each of 100 clients, each with its own address.
fn servers_of_addresses(plimsoll: &Plimsoll) -> Vec<Vec<u8>> {
    let of = |last: u8| {
        let client = UdpSocket::bind(SocketAddr::from(([127, 0, 1, last], 0))).unwrap();
        client.connect(plimsoll.address_of("udp")).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        ask(&client, b"?")
    };
    (1..=100).map(of).collect()
}

/// Whichever worker a flow comes to, the address of its client decides.
#[test]
fn clients_keep_their_server_and_few_move_when_one_goes() {
    let servers = [Server::named("a"), Server::named("b"), Server::named("c")];
    let addresses = servers.each_ref().map(|server| server.address);
    for balance in ["maglev client-ip", "hash client-ip"] {
        let text = |addresses: &[SocketAddr]| {
            let lines: Vec<_> = addresses.iter().map(|at| format!("server {at}")).collect();
            format!(
                "workers 4\nadmin off\nudp 127.0.0.1:{{port:udp}} {{ responses 1; proxy app }}\n\
                 pool app {{ balance {balance}; {} }}\n",
                lines.join("; ")
            )
        };
        let plimsoll = Start::run(&text(&addresses)).start();
        let first = servers_of_addresses(&plimsoll);
        for _ in 0..3 {
            assert_eq!(servers_of_addresses(&plimsoll), first);
        }
        let fewer = servers_of_addresses(&Start::run(&text(&addresses[..2])).start());
        let moved = first
            .iter()
            .zip(&fewer)
            .filter(|(was, is)| was != is)
            .count();
        let had_to = first
            .iter()
            .filter(|server| server.starts_with(b"c"))
            .count();
        assert!((10..60).contains(&had_to), "{balance}: {had_to}");
        assert!(
            moved <= had_to + 10,
            "{balance}: {moved} moved, {had_to} had to"
        );
    }
}

/// QUIC finds out how long its datagrams may be; others are sent in pieces.
#[test]
fn what_is_too_long_for_the_path_is_lost_where_it_is_quic() {
    let name = "what_is_too_long_for_the_path_is_lost_where_it_is_quic";
    network::isolated(name, || {
        network::ip("link set lo mtu 1400");
        let server = Server::start(|_| vec![vec![7; 2000], b"short".to_vec()]);
        let plimsoll = before(&[server.address], "", "");
        assert_eq!(ask(&client(&plimsoll), &[1; 2000]), [7; 2000]);
        let plimsoll = before(&[server.address], "quic", "");
        let client = client(&plimsoll);
        client.send(&[1; 2000]).unwrap();
        assert_eq!(ask(&client, &[1; 1000]), b"short");
        assert_eq!(dropped(&plimsoll, "unsent"), 2.0);
    });
}

/// Flows of one address are of one client, whichever worker they come to.
#[test]
fn a_pool_remembers_where_a_client_is() {
    let servers = [Server::named("a"), Server::named("b")];
    let addresses = servers.each_ref().map(|server| server.address);
    let plimsoll = before(&addresses, "", "sticky by=client-ip");
    let first = ask(&client(&plimsoll), b"1");
    for _ in 0..20 {
        assert_eq!(ask(&client(&plimsoll), b"1"), first);
    }
}
