//! Sockets that are opened by whoever starts Plimsoll, as systemd does.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::plimsoll::{Plimsoll, Start, binary};
use plimsoll_e2e::raw::{PATIENCE, Raw, get};
use plimsoll_e2e::{echo, wait};
use rustix::process::{Pid, kill_process};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

const SITE: &str = "workers 3\nadmin off\nsite * { listen {web} ; route { respond 200 served } }\n";

/// An address that is listened on, as long as the test holds it.
fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn stop(mut plimsoll: Plimsoll) {
    plimsoll.signal(Signal::TERM);
    assert!(plimsoll.wait_exit(PATIENCE).success());
}

fn said(plimsoll: &Plimsoll, what: &str) {
    wait::expect(what, PATIENCE, || plimsoll.stderr().contains(what));
}

#[test]
fn who_comes_between_two_processes_is_served_by_the_second() {
    let (listener, address) = listener();
    let start = || {
        let start = Start::run(SITE).set("web", address);
        start.pass(listener.try_clone().unwrap()).spawn()
    };
    let plimsoll = start();
    for _ in 0..10 {
        assert_eq!(get(address, "/").text(), "served");
    }
    stop(plimsoll);
    let mut early: Vec<Raw> = (0..5).map(|_| Raw::connect(address)).collect();
    for client in &mut early {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    let plimsoll = start();
    for client in &mut early {
        assert_eq!(client.response("GET").text(), "served");
    }
    stop(plimsoll);
}

#[test]
fn several_sockets_of_one_address_are_all_served() {
    let options = |socket: &socket2::Socket| socket.set_reuse_port(true);
    let open = |address: SocketAddr| {
        let kind = socket2::Type::STREAM;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, None).unwrap();
        options(&socket).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(64).unwrap();
        TcpListener::from(socket)
    };
    let first = open(SocketAddr::from(([127, 0, 0, 1], 0)));
    let address = first.local_addr().unwrap();
    let second = open(address);
    let one_worker = SITE.replace("workers 3", "workers 1");
    let start = Start::run(&one_worker).set("web", address);
    let plimsoll = start.pass(first).pass(second).spawn();
    for _ in 0..40 {
        assert_eq!(get(address, "/").text(), "served");
    }
    stop(plimsoll);
}

#[test]
fn datagrams_and_the_admin_socket_can_be_passed_too() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let admin = UnixListener::bind(&path).unwrap();
    let start = Start::run(
        "workers 2\nadmin unix:{path}\nudp {udp} { timeout idle=1s ; proxy datagrams }\npool datagrams { server {echo} ; check off }\n",
    );
    let start = start
        .set("path", path.display())
        .set("udp", address)
        .set("echo", echo::datagrams());
    let plimsoll = start.pass(socket).pass(admin).spawn();
    for _ in 0..4 {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.connect(address).unwrap();
        for _ in 0..5 {
            client.send(b"ping").unwrap();
            let mut room = [0; 8];
            assert_eq!(client.recv(&mut room).unwrap(), 4);
        }
    }
    let mut stream = UnixStream::connect(&path).unwrap();
    stream
        .write_all(b"GET /v1/pools HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    stop(plimsoll);
    assert!(path.exists(), "who has made it removes it");
}

/// A site that listens there.
fn configuration(listen: &str) -> String {
    format!(
        "workers 2\nadmin unix:{{dir}}/admin.sock\n\
         site * {{ listen {listen} ; route {{ respond 200 served }} }}\n"
    )
}

/// One that serves at the first of two sockets that it was passed, `web` and `other`.
fn with_two() -> (Plimsoll, [SocketAddr; 2]) {
    let ((listener, address), (other, elsewhere)) = (listener(), listener());
    let start = Start::run(&configuration("{web}"))
        .set("web", address)
        .set("other", elsewhere);
    let plimsoll = start.pass(listener).pass(other).spawn();
    assert_eq!(get(address, "/").text(), "served");
    (plimsoll, [address, elsewhere])
}

#[test]
fn what_no_listener_names_is_told_and_there_for_a_reload() {
    let (mut plimsoll, [address, elsewhere]) = with_two();
    said(&plimsoll, "a socket was passed that no listener names");
    assert!(
        plimsoll
            .stderr()
            .contains(&format!("name=\"two\" place={elsewhere}"))
    );
    let mut early = Raw::connect(elsewhere);
    early.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    plimsoll
        .reload(&configuration("{web} {other}"))
        .expect_done();
    assert_eq!(early.response("GET").text(), "served");
    // What is left out can be taken in again: its socket is still open.
    plimsoll.reload(&configuration("{other}")).expect_done();
    plimsoll
        .reload(&configuration("{web} {other}"))
        .expect_done();
    for address in [address, elsewhere, address, elsewhere] {
        assert_eq!(get(address, "/").text(), "served");
    }
    let more = configuration("{web} {other}").replace("workers 2", "workers 4");
    plimsoll.reload(&more).expect_done();
    for _ in 0..10 {
        assert_eq!(get(address, "/").text(), "served");
    }
    stop(plimsoll);
}

#[test]
fn another_program_gets_them_all() {
    let (mut plimsoll, [address, elsewhere]) = with_two();
    wait::expect("the admin socket", PATIENCE, || {
        plimsoll.directory().join("admin.sock").exists()
    });
    let mut upgrade = Command::new(binary());
    upgrade.args(["upgrade", "--running", &plimsoll.admin_socket()]);
    let output = upgrade.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    let successor = Pid::from_raw(told.split(' ').nth(1).unwrap().parse().unwrap()).unwrap();
    plimsoll.wait_exit(PATIENCE);
    let check = || {
        assert_eq!(get(address, "/").text(), "served");
        plimsoll
            .reload(&configuration("{web} {other}"))
            .expect_done();
        assert_eq!(get(elsewhere, "/").text(), "served");
    };
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
    kill_process(successor, Signal::KILL).unwrap();
    checked.unwrap();
}

#[test]
fn what_is_for_another_process_is_left_alone_and_what_does_not_listen_refused() {
    let (listener, address) = listener();
    let start = || Start::run(SITE).set("web", address);
    let other = start().environment("FOR", "1");
    let mut plimsoll = other.pass(listener.try_clone().unwrap()).spawn();
    assert_eq!(plimsoll.wait_exit(PATIENCE).code(), Some(1));
    assert!(
        plimsoll
            .stderr()
            .contains(&format!("cannot listen on {address}"))
    );
    let connected = TcpStream::connect(address).unwrap();
    let mut plimsoll = start().pass(listener).pass(connected).spawn();
    assert_eq!(plimsoll.wait_exit(PATIENCE).code(), Some(1));
    let why = plimsoll.stderr();
    assert!(
        why.contains("`two` that was passed does not listen"),
        "{why}"
    );
}
