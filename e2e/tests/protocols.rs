//! Checks in the protocols of real servers: each is found down before it starts, up while it runs,
//! and down again when it is gone.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::daemon::Daemon;
use plimsoll_e2e::mariadb::MariaDb;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::postgres::{self, Postgres};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::{ports, redis, wait};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);

/// A Plimsoll that checks `server` with this probe.
fn checking(server: SocketAddr, probe: &str) -> Plimsoll {
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\nsite * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{ server {server} ; check {probe} every=100ms fast=100ms timeout=2s initial=down }}\n"
    );
    Start::run(&text).start()
}

fn expect_state(plimsoll: &Plimsoll, server: SocketAddr, state: &str) {
    let name =
        format!("plimsoll_server_state{{pool=\"app\",server=\"{server}\",state=\"{state}\"}}");
    if wait::until(SOON, || plimsoll.metric(&name)).is_none() {
        panic!("{server} is not {state}:\n{}", plimsoll.stderr());
    }
}

/// Has a server found down, up and down again.
fn comes_and_goes(probe: &str, start: impl FnOnce(u16) -> Daemon) {
    let port = ports::free();
    let server = ports::local(port);
    let plimsoll = checking(server, probe);
    expect_state(&plimsoll, server, "unreachable");
    let mut daemon = start(port);
    daemon.wait_listening(&[port]);
    expect_state(&plimsoll, server, "ready");
    drop(daemon);
    expect_state(&plimsoll, server, "unreachable");
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// A directory that another user may use as well.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    directory
}

#[test]
fn redis() {
    let directory = directory();
    comes_and_goes("redis", |port| {
        redis::start(directory.path(), port, &["--requirepass", "x"])
    });
}

#[test]
fn postgres() {
    let data = Postgres::new();
    comes_and_goes("postgres", |port| data.start(port));
    let port = ports::free();
    data.ask_password_of("old", "md5");
    let _server = data.start(port);
    let server = ports::local(port);
    let role = "SET password_encryption = md5; CREATE ROLE old LOGIN PASSWORD 'secret'";
    let made = || postgres::ask(server, role).is_some();
    wait::expect("the server", SOON, made);
    for (password, state) in [("secret", "ready"), ("wrong", "unfit")] {
        let check = format!("postgres user=old password={password}");
        expect_state(&checking(server, &check), server, state);
    }
}

#[test]
fn mysql() {
    let data = MariaDb::new();
    // Ten broken logins in a row would shut our address out.
    let start = |port: u16| data.start(port, &["--max-connect-errors=3"]);
    comes_and_goes("mysql", start);
    // Many checks later the server still talks to us.
    let port = ports::free();
    let plimsoll = checking(ports::local(port), "mysql");
    let mut daemon = start(port);
    daemon.wait_listening(&[port]);
    let passed = format!(
        "plimsoll_checks_total{{pool=\"app\",server=\"{}\",result=\"passed\"}}",
        ports::local(port)
    );
    wait::expect("checks to pass", SOON, || {
        plimsoll.metric(&passed).is_some_and(|count| count > 15.0)
    });
    expect_state(&plimsoll, ports::local(port), "ready");
}

#[test]
fn tls() {
    let directory = directory();
    let (certificate, key) = (
        directory.path().join("cert.pem"),
        directory.path().join("key.pem"),
    );
    run(Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=x",
            "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(&certificate));
    for version in ["-tls1_2", "-tls1_3"] {
        comes_and_goes("tls", |port| {
            let mut command = Command::new("openssl");
            command.args([
                "s_server",
                "-quiet",
                "-www",
                version,
                "-accept",
                &format!("127.0.0.1:{port}"),
            ]);
            command.arg("-cert").arg(&certificate).arg("-key").arg(&key);
            Daemon::spawn("openssl", "install the Debian package openssl", command)
        });
    }
    // A server without TLS is there, and is not what was asked for.
    let plain = Recorder::start(|_| Answer::ok("plain"));
    let plimsoll = checking(plain.address(), "tls");
    expect_state(&plimsoll, plain.address(), "unfit");
}

/// A server that says a line, and another for each that it hears.
fn talker(lines: &'static [&'static str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            for line in lines {
                let mut heard = [0; 1024];
                // A client that has heard enough may leave.
                if stream.write_all(line.as_bytes()).is_err() || stream.read(&mut heard).is_err() {
                    break;
                }
            }
        }
    });
    address
}

#[test]
fn lines() {
    for (probe, lines, state) in [
        (
            "smtp",
            &["220-mail\r\n220 ready\r\n", "250-mail\r\n250 SIZE\r\n"][..],
            "ready",
        ),
        ("smtp", &["421 busy\r\n"], "unfit"),
        (
            "script expect=hello send=\"who\\n\" expect=\"it is me\"",
            &["hello\n", "it is me\n"],
            "ready",
        ),
        (
            "script expect=hello send=\"who\\n\" expect=you",
            &["hello\n", "it is me\n"],
            "unfit",
        ),
        ("agent", &["drain\n"], "drain"),
        ("agent", &["down # disk full\n"], "unfit"),
        ("redis", &["-LOADING\r\n"], "unfit"),
    ] {
        let server = talker(lines);
        let plimsoll = checking(server, probe);
        expect_state(&plimsoll, server, state);
    }
}

#[test]
fn an_agent_says_how_much_its_server_takes() {
    let server = talker(&["50%\n"]);
    let plimsoll = checking(server, "agent");
    let name = format!("plimsoll_server_weight{{pool=\"app\",server=\"{server}\"}}");
    wait::expect(&name, SOON, || {
        plimsoll
            .metric(&name)
            .is_some_and(|weight| (weight - 0.5).abs() < 0.02)
    });
}

#[test]
fn programs() {
    let directory = directory();
    let script = directory.path().join("check");
    let flag = directory.path().join("well");
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = \"two words\" ] && [ -n \"$PLIMSOLL_SERVER_PORT\" ] && [ -e {} ]\n",
        flag.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let server = ports::local(ports::free());
    let plimsoll = checking(server, &format!("exec {} \"two words\"", script.display()));
    expect_state(&plimsoll, server, "unfit");
    fs::write(&flag, "").unwrap();
    expect_state(&plimsoll, server, "ready");
}
