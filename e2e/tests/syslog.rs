//! Access logs that go to a syslog daemon: a socket of the test, and a real one.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::daemon::{Daemon, Signal};
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{PATIENCE, get};
use plimsoll_e2e::{ports, wait};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

fn start(log: &str) -> Plimsoll {
    let text = format!(
        "workers 1\nadmin unix:{{dir}}/admin.sock 127.0.0.1:{{port:admin}}\n\
         site * {{ listen 127.0.0.1:{{port}} ; log {log} ; route {{ respond 200 a }} }}\n"
    );
    Start::run(&text).start()
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    name.trim().to_owned()
}

/// What stands behind the header; `header` stands before it, with a date and a process for `DATE` and `PID`.
fn told<'a>(message: &'a str, header: &str, process: u32) -> &'a str {
    let pattern = header.replace("PID", &process.to_string());
    let (before, after) = pattern.split_once("DATE").unwrap();
    let rest = message.strip_prefix(before);
    let rest = rest.unwrap_or_else(|| unreachable_line(message, &pattern));
    let at = rest.find(after);
    let at = at.unwrap_or_else(|| unreachable_line(message, &pattern));
    assert!((15..=27).contains(&at), "{message}");
    &rest[at + after.len()..]
}

#[expect(clippy::panic, reason = "a test that cannot go on fails")]
fn unreachable_line<T>(message: &str, pattern: &str) -> T {
    panic!("`{message}` does not begin as `{pattern}`")
}

fn path_of(line: &str) -> String {
    let record: Value = serde_json::from_str(line).unwrap();
    record["path"].as_str().unwrap().to_owned()
}

/// The next message of a connection, which says first how long it is.
fn message(stream: &mut TcpStream) -> String {
    let mut length = String::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).unwrap();
        match byte[0] {
            b' ' => break,
            digit => length.push(char::from(digit)),
        }
    }
    let mut message = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut message).unwrap();
    String::from_utf8(message).unwrap()
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_daemon_gets_datagrams_over_a_network_and_on_the_own_machine() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut plimsoll = start(&format!(
        "syslog:udp:{} tag=edge",
        socket.local_addr().unwrap()
    ));
    let process = plimsoll.daemon().id();
    for path in ["/1", "/2"] {
        let _answer = get(plimsoll.address(), path);
        let mut bytes = [0; 4096];
        let count = socket.recv(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        let header = format!("<134>1 DATE {} edge PID access - ", host());
        assert_eq!(path_of(told(&text, &header, process)), path);
    }

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let options = "combined facility=local7 severity=notice";
    let mut plimsoll = start(&format!("syslog:{} {options}", path.display()));
    let process = plimsoll.daemon().id();
    let _answer = get(plimsoll.address(), "/1");
    let mut bytes = [0; 4096];
    let count = socket.recv(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
    let line = told(&text, "<189>DATE plimsoll[PID]: ", process);
    assert!(line.contains("\"GET /1 HTTP/1.1\" 200"), "{line}");
    assert_eq!(
        plimsoll.metric(&lost(&format!("syslog:{}", path.display()))),
        Some(0.0)
    );
}

fn lost(log: &str) -> String {
    format!("plimsoll_log_lost_total{{log=\"{log}\"}}")
}

#[test]
fn a_connection_is_made_again_and_what_was_held_meanwhile_is_not_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let mut plimsoll = start(&format!("syslog:tcp:{at}"));
    let process = plimsoll.daemon().id();
    let header = format!("<134>1 DATE {} plimsoll PID access - ", host());
    let _answer = get(plimsoll.address(), "/1");
    let mut stream = accept(&listener);
    assert_eq!(path_of(told(&message(&mut stream), &header, process)), "/1");
    // The daemon begins anew.
    drop((stream, listener));
    let _answer = get(plimsoll.address(), "/2");
    let gone = "syslog is not there";
    wait::expect("it to be missed", PATIENCE, || {
        plimsoll.stderr().contains(gone)
    });
    let listener = TcpListener::bind(at).unwrap();
    let mut stream = accept(&listener);
    assert_eq!(path_of(told(&message(&mut stream), &header, process)), "/2");
    let back = "syslog is there again";
    wait::expect("that to be said", PATIENCE, || {
        plimsoll.stderr().contains(back)
    });
    assert_eq!(
        plimsoll.metric(&lost(&format!("syslog:tcp:{at}"))),
        Some(0.0)
    );
}

#[test]
fn a_daemon_that_is_away_holds_up_nobody_and_what_is_lost_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut plimsoll = start(&format!("syslog:{}", path.display()));
    let name = lost(&format!("syslog:{}", path.display()));
    for _ in 0..100 {
        assert_eq!(get(plimsoll.address(), "/").status(), 200);
    }
    wait::expect("lines to be lost", PATIENCE, || {
        plimsoll.metric(&name) == Some(100.0)
    });
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    wait::expect("the daemon to be found", PATIENCE, || {
        let _answer = get(plimsoll.address(), "/");
        while socket.recv(&mut [0; 4096]).is_ok() {}
        plimsoll.stderr().contains("syslog is there again")
    });
    drop(socket);
    plimsoll.signal(Signal::TERM);
    assert!(plimsoll.wait_exit(PATIENCE).success());
}

/// A real daemon, which writes what it gets to a file.
struct Rsyslog {
    _daemon: Daemon,
    directory: tempfile::TempDir,
}

impl Rsyslog {
    fn start(port: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().display();
        let text = format!(
            "global(workDirectory=\"{at}\")\n\
             module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
             module(load=\"imudp\")\nmodule(load=\"imtcp\")\n\
             input(type=\"imuxsock\" Socket=\"{at}/log\")\n\
             input(type=\"imuxsock\" Socket=\"{at}/log5424\" UseSpecialParser=\"off\" ParseHostname=\"on\")\n\
             input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             template(name=\"told\" type=\"string\" string=\"%syslogfacility-text% %syslogseverity-text% %programname% %msg%\\n\")\n\
             *.* action(type=\"omfile\" file=\"{at}/out\" template=\"told\")\n"
        );
        let file = directory.path().join("rsyslog.conf");
        fs::File::create(&file)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-f").arg(&file);
        command.arg("-i").arg(directory.path().join("pid"));
        let mut daemon = Daemon::spawn("rsyslogd", "install the package rsyslog", command);
        daemon.wait_listening(&[port]);
        Self {
            _daemon: daemon,
            directory,
        }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("log")
    }

    fn lines(&self) -> Vec<String> {
        let text = read(&self.directory.path().join("out"));
        text.lines().map(str::to_owned).collect()
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn rsyslogd_understands_all_of_it() {
    let port = ports::free();
    let rsyslog = Rsyslog::start(port);
    let socket = rsyslog.socket().display().to_string();
    for (number, (log, facility)) in [
        (format!("syslog:{socket} facility=local1"), "local1"),
        (
            format!("syslog:{socket}5424 facility=local2 rfc=5424"),
            "local2",
        ),
        (
            format!("syslog:udp:127.0.0.1:{port} facility=local3"),
            "local3",
        ),
        (
            format!("syslog:udp:127.0.0.1:{port} facility=local4 rfc=3164"),
            "local4",
        ),
        (
            format!("syslog:tcp:127.0.0.1:{port} facility=local5"),
            "local5",
        ),
        (
            format!("syslog:tcp:127.0.0.1:{port} facility=local6 rfc=3164"),
            "local6",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let plimsoll = start(&log);
        for request in 0..3 {
            let _answer = get(plimsoll.address(), &format!("/{number}/{request}"));
        }
        let start = format!("{facility} info plimsoll ");
        let own = || {
            let lines = rsyslog.lines().into_iter();
            lines
                .filter_map(|line| line.strip_prefix(&start).map(str::to_owned))
                .collect::<Vec<_>>()
        };
        wait::expect(&format!("lines of `{log}`"), PATIENCE, || own().len() == 3);
        for (request, line) in own().iter().enumerate() {
            assert_eq!(path_of(line.trim()), format!("/{number}/{request}"));
        }
    }
}
