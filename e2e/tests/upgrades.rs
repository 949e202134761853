//! Another program in the place of the one that runs: nothing is lost, and one that does not serve changes nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::load::{Load, Reuse};
use plimsoll_e2e::plimsoll::{Plimsoll, Start, binary};
use plimsoll_e2e::raw::{PATIENCE, Raw, get};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::{echo, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use tempfile::TempDir;

const CONFIGURATION: &str = "workers 2\nadmin unix:{dir}/admin.sock 127.0.0.1:{port:admin}\n\
    site * { listen 127.0.0.1:{port} ; timeout idle=60s ; log {dir}/sites.log json ; route /kept/* { cache kept ; proxy app } ; route /chat { proxy chat } ; route { proxy app } }\n\
    cache kept { memory 1MiB ; disk {dir}/kept 16MiB }\n\
    tcp 127.0.0.1:{port:tcp} { log {dir}/relayed.log json ; proxy echo }\nudp 127.0.0.1:{port:udp} { timeout idle=1s ; proxy datagrams }\n\
    pool app { server {a} ; server {b} ; check off }\n\
    pool echo { server {echo} ; check off }\npool datagrams { server {datagrams} ; check off }\n\
    pool chat { server {chat} max-connections=1 ; check off }\n";

struct Stand {
    plimsoll: Plimsoll,
    program: PathBuf,
    a: Recorder,
    b: Recorder,
    _programs: TempDir,
    /// The process that serves now, if it is not the first one.
    successor: Option<Pid>,
}

impl Drop for Stand {
    fn drop(&mut self) {
        if let Some(successor) = self.successor {
            let _ended = kill_process(successor, Signal::KILL);
        }
    }
}

impl Stand {
    fn new(server: impl Fn() -> Recorder) -> Self {
        let (a, b) = (server(), server());
        let programs = tempfile::tempdir().unwrap();
        let program = programs.path().join("plimsoll");
        put(&binary(), &program);
        let plimsoll = Start::run(CONFIGURATION)
            .program(&program)
            .set("a", a.address())
            .set("b", b.address())
            .set("echo", echo::connections(b""))
            .set("datagrams", echo::datagrams())
            .set("chat", echo::connections(echo::SWITCHED))
            .start();
        Self {
            plimsoll,
            program,
            a,
            b,
            _programs: programs,
            successor: None,
        }
    }

    /// Upgrades; says why not, or takes note of the process that serves now.
    fn upgrade(&mut self, more: &[&str]) -> Result<(), String> {
        let mut command = Command::new(binary());
        command
            .args(["upgrade", "--running", &self.plimsoll.admin_socket()])
            .args(more);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            return Err(text(&output.stderr));
        }
        let said = text(&output.stdout);
        let number = said.split(' ').nth(1).unwrap().parse().unwrap();
        self.successor = Pid::from_raw(number);
        Ok(())
    }

    fn pool(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(binary());
        command.args(["pool", "app"]).args(arguments);
        let output = command
            .args(["--running", &self.plimsoll.admin_socket()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Puts a copy of a program in a place. Another process does so: what this one has open to write, programs may have that other
/// tests start at that moment, and then it cannot be started.
fn put(program: &Path, place: &Path) {
    let new = place.with_extension("new");
    let copied = Command::new("cp").arg(program).arg(&new).status();
    assert!(copied.unwrap().success());
    fs::rename(new, place).unwrap();
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends something, and expects the same back.
fn bounce(stream: &mut TcpStream, said: &[u8; 4]) {
    let mut heard = [0; 4];
    stream.write_all(said).unwrap();
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, said);
}

/// What is asked for again and again on one connection; its answer says when that is to end.
fn ask(client: &mut Raw) -> Option<String> {
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let answer = client.response("GET");
    assert_eq!(answer.text(), "ok");
    answer.field("connection").map(str::to_owned)
}

/// A server that answers `/wait` when the gate opens.
fn gated(gate: &Gate) -> Recorder {
    let held = gate.clone();
    Recorder::start(move |request| match request.head.target.as_str() {
        "/wait" => Answer::ok("ok").after(Step::Await(held.clone())),
        _ => Answer::ok("ok"),
    })
}

impl Stand {
    /// Waits until the process that serves now has so many connections of a listener.
    fn has(&self, port: &str, connections: f64) {
        let address = self.plimsoll.address_of(port);
        let name = format!("plimsoll_connections{{listener=\"{address}\",state=\"idle\"}}");
        wait::expect("the connections", PATIENCE, || {
            self.plimsoll.metric(&name) == Some(connections)
        });
    }
}

#[test]
fn what_is_under_way_goes_on_and_what_begins_is_served_by_the_new_one() {
    let gate = Gate::new();
    let mut stand = Stand::new(|| gated(&gate));
    let mut waiting = Raw::connect(stand.plimsoll.address());
    waiting
        .send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    wait::expect("the request", PATIENCE, || {
        stand.a.requests().len() + stand.b.requests().len() == 1
    });
    let name = stand.a.address().to_string();
    stand.pool(&["drain", &name]);
    stand.pool(&["weight", "50%", &name]);
    stand.upgrade(&[]).unwrap();
    // The new one counts from the beginning, and knows what operators want.
    assert_eq!(get(stand.plimsoll.address(), "/").text(), "ok");
    let counted = || {
        stand
            .plimsoll
            .metric("plimsoll_request_duration_seconds_count{site=\"*\"}")
    };
    wait::expect("the request to be counted", PATIENCE, || {
        counted() == Some(1.0)
    });
    let shown = stand.pool(&[]);
    assert!(
        shown.contains("drain") && shown.contains("1 at 50%"),
        "{shown}"
    );
    bounce(&mut connect(stand.plimsoll.address_of("tcp")), b"new ");
    // The old one ends with the last that it serves, which is told to come again.
    stand.plimsoll.daemon().assert_alive();
    gate.open();
    assert_eq!(waiting.response("GET").field("connection"), Some("close"));
    assert!(stand.plimsoll.wait_exit(PATIENCE).success());
    assert_eq!(get(stand.plimsoll.address(), "/").text(), "ok");
    assert!(stand.plimsoll.directory().join("admin.sock").exists());
}

#[test]
fn relayed_and_waiting_connections_go_with_it_and_the_old_one_ends() {
    let mut stand = Stand::new(|| Recorder::start(|_| Answer::ok("ok")));
    let mut relayed: Vec<_> = (0..20)
        .map(|_| connect(stand.plimsoll.address_of("tcp")))
        .collect();
    for client in &mut relayed {
        bounce(client, b"one ");
    }
    let mut half = connect(stand.plimsoll.address_of("tcp"));
    bounce(&mut half, b"half");
    let mut kept: Vec<_> = (0..20)
        .map(|_| Raw::connect(stand.plimsoll.address()))
        .collect();
    for client in &mut kept {
        assert_eq!(ask(client), None);
    }
    stand.upgrade(&[]).unwrap();
    assert!(stand.plimsoll.wait_exit(PATIENCE).success());
    stand.has("tcp", 21.0);
    stand.has("", 20.0);
    for client in &mut relayed {
        bounce(client, b"two ");
    }
    for client in &mut kept {
        assert_eq!(ask(client), None);
    }
    // They end as they would have ended there.
    half.shutdown(Shutdown::Write).unwrap();
    assert_eq!(half.read(&mut [0; 1]).unwrap(), 0);
    drop(relayed);
    stand.has("tcp", 0.0);
    let lines = stand.plimsoll.wait_log("relayed.log", 21, PATIENCE);
    let whole = |line: &&String| line.contains("\"req_bytes\":8,\"res_bytes\":8");
    let short = |line: &&String| line.contains("\"req_bytes\":4,\"res_bytes\":4");
    let counts = (
        lines.iter().filter(whole).count(),
        lines.iter().filter(short).count(),
    );
    assert_eq!(counts, (20, 1), "{lines:#?}");
    // And go on to the next one.
    stand.upgrade(&[]).unwrap();
    stand.has("", 20.0);
    for client in &mut kept {
        assert_eq!(ask(client), None);
    }
}

#[test]
fn a_websocket_goes_from_process_to_process_and_counts_for_its_server_in_each() {
    let mut stand = Stand::new(|| Recorder::start(|_| Answer::ok("ok")));
    let mut client = connect(stand.plimsoll.address());
    client.write_all(echo::WEBSOCKET).unwrap();
    let mut switched = Vec::new();
    while !switched.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        switched.extend(byte);
    }
    assert!(switched.starts_with(b"HTTP/1.1 101 "));
    bounce(&mut client, b"one ");
    stand.upgrade(&[]).unwrap();
    assert!(stand.plimsoll.wait_exit(PATIENCE).success());
    stand.has("", 1.0);
    bounce(&mut client, b"two ");
    let shown = || {
        let mut command = Command::new(binary());
        command.args(["pool", "chat", "--running", &stand.plimsoll.admin_socket()]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(shown().contains("1/1"), "{}", shown());
    stand.upgrade(&[]).unwrap();
    bounce(&mut client, b"tre ");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    let lines = stand.plimsoll.wait_log("sites.log", 1, PATIENCE);
    for part in [
        "\"path\":\"/chat\"",
        "\"status\":101",
        "\"req_bytes\":12,\"res_bytes\":12",
        "\"server\":\"127",
    ] {
        assert!(lines[0].contains(part), "{part} in {lines:#?}");
    }
}

#[test]
fn what_the_new_one_cannot_go_on_with_stays() {
    let mut stand = Stand::new(|| Recorder::start(|_| Answer::ok("ok")));
    let mut relayed = connect(stand.plimsoll.address_of("tcp"));
    bounce(&mut relayed, b"one ");
    let mut kept = Raw::connect(stand.plimsoll.address());
    assert_eq!(ask(&mut kept), None);
    let without = CONFIGURATION
        .replace("proxy echo", "proxy others")
        .replace("pool echo", "pool others");
    stand.plimsoll.rewrite(&without);
    stand.upgrade(&[]).unwrap();
    stand.has("", 1.0);
    assert_eq!(ask(&mut kept), None);
    for _ in 0..3 {
        bounce(&mut relayed, b"two ");
        stand.plimsoll.daemon().assert_alive();
    }
    bounce(&mut connect(stand.plimsoll.address_of("tcp")), b"new ");
    drop(relayed);
    assert!(stand.plimsoll.wait_exit(PATIENCE).success());
    assert_eq!(ask(&mut kept), None);
}

#[test]
fn what_a_cache_has_on_disk_is_there_for_the_new_one() {
    let keep = "HTTP/1.1 200 OK\r\nCache-Control: max-age=1000\r\nContent-Length: 4\r\n\r\nkept";
    let mut stand = Stand::new(|| Recorder::start(move |_| Answer::bytes(keep)));
    let asked = |stand: &Stand| {
        let answer = get(stand.plimsoll.address(), "/kept/a");
        (
            answer.text(),
            answer.field("cache-status").unwrap_or_default().to_owned(),
        )
    };
    assert!(asked(&stand).1.contains("stored"));
    let written = || {
        stand
            .plimsoll
            .metric("plimsoll_cache_disk_written_total{cache=\"kept\"}")
    };
    wait::expect("it to be written", PATIENCE, || written() == Some(1.0));
    stand.upgrade(&[]).unwrap();
    // It serves before it knows all that is there.
    let known = || {
        stand
            .plimsoll
            .metric("plimsoll_cache_disk_known{cache=\"kept\"}")
    };
    wait::expect("it to be found", PATIENCE, || known() == Some(1.0));
    let (text, status) = asked(&stand);
    assert!(text == "kept" && status.contains("hit"), "{status}");
    assert_eq!(stand.a.requests().len() + stand.b.requests().len(), 1);
}

#[test]
fn one_that_does_not_serve_changes_nothing() {
    let mut stand = Stand::new(|| Recorder::start(|_| Answer::ok("ok")));
    let mut kept = Raw::connect(stand.plimsoll.address());
    for (program, why) in [
        ("#!/bin/sh\nexit 3\n", "exit status: 3"),
        ("#!/bin/sh\nexec sleep 60\n", "did not serve within 1 s"),
        (
            "#!/bin/sh\necho HTTP/1.1 200 OK, and something more >&0\nexec sleep 60\n",
            "of another kind",
        ),
        ("no program", "cannot start"),
    ] {
        // As packages do: another file of the same name.
        let new = stand.program.with_extension("text");
        fs::write(&new, program).unwrap();
        fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).unwrap();
        put(&new, &stand.program);
        let said = stand.upgrade(&["--within", "1"]).unwrap_err();
        assert!(said.contains(why), "{program}: {said}");
        kept.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(kept.response("GET").field("connection"), None);
        assert_eq!(get(stand.plimsoll.address(), "/").text(), "ok");
    }
    let broken = "site {\n";
    put(&binary(), &stand.program);
    let good = fs::read_to_string(stand.plimsoll.directory().join("plimsoll.conf")).unwrap();
    stand.plimsoll.rewrite(broken);
    let said = stand.upgrade(&[]).unwrap_err();
    assert!(said.contains("exit status: 78"), "{said}");
    stand.plimsoll.rewrite(&good);
    stand.upgrade(&[]).unwrap();
    drop(kept);
    assert!(stand.plimsoll.wait_exit(PATIENCE).success());
}

/// Something that is done again and again while the test goes on.
fn again(
    stopped: &Arc<AtomicBool>,
    mut act: impl FnMut() + Send + 'static,
) -> thread::JoinHandle<usize> {
    let stopped = Arc::clone(stopped);
    thread::spawn(move || {
        let mut times = 0;
        while !stopped.load(SeqCst) {
            act();
            times += 1;
        }
        times
    })
}

#[test]
fn twenty_upgrades_under_load_lose_nothing() {
    let mut stand = Stand::new(Recorder::echo);
    let address = stand.plimsoll.address();
    let stopped = Arc::new(AtomicBool::new(false));
    let (tcp, udp) = (
        stand.plimsoll.address_of("tcp"),
        stand.plimsoll.address_of("udp"),
    );
    let mut relayed = connect(tcp);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(udp).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let doing = [
        again(&stopped, move || bounce(&mut relayed, b"same")),
        again(&stopped, move || bounce(&mut connect(tcp), b"new ")),
        again(&stopped, move || {
            let mut heard = [0; 8];
            client.send(b"flow").unwrap();
            assert_eq!(client.recv(&mut heard).unwrap(), 4);
        }),
    ];
    let keep = Load::on(address).start();
    let once = Load {
        reuse: Reuse::Close,
        ..Load::on(address)
    };
    let once = once.start();
    let posts = Load {
        method: "POST",
        body: vec![b'x'; 100_000],
        threads: 2,
        ..Load::on(address)
    };
    let posts = posts.start();
    for _ in 0..20 {
        let done = keep.ended() + once.ended();
        wait::expect("traffic", PATIENCE, || {
            keep.ended() + once.ended() > done + 50
        });
        stand.upgrade(&[]).unwrap();
    }
    stopped.store(true, SeqCst);
    for doing in doing {
        assert!(doing.join().unwrap() > 0);
    }
    for report in [keep.stop(), once.stop(), posts.stop()] {
        report.assert_all_ok();
    }
    // Of all these processes one is left.
    assert!(stand.plimsoll.wait_exit(PATIENCE).success());
}
