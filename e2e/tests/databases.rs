//! Databases behind Plimsoll: clients go on when another copy becomes the primary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::daemon::Daemon;
use plimsoll_e2e::mariadb::{self, MariaDb};
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::postgres::{self, Postgres, USER};
use plimsoll_e2e::{ports, redis, wait};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);

/// Plimsoll in front of two copies: `{port}` leads to the primary, `{port:read}` to those that follow it.
fn before(copies: [SocketAddr; 2], check: &str) -> Plimsoll {
    let [first, second] = copies;
    let pool = |role: &str| {
        format!(
            "server {first}; server {second}; fail-open off; outlier off; on-down close-connections\n\
             check {check} role={role} every=100ms fast=100ms timeout=2s fall=1 rise=1 initial=down"
        )
    };
    let text = format!(
        "workers 2\nadmin 127.0.0.1:{{port:admin}}\n\
         tcp 127.0.0.1:{{port}} {{ proxy primary }}\ntcp 127.0.0.1:{{port:read}} {{ proxy replicas }}\n\
         pool primary {{ {} }}\npool replicas {{ {} }}\n",
        pool("primary"),
        pool("replica")
    );
    Start::run(&text).start()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn pgbench(address: SocketAddr, arguments: &[&str]) {
    let mut command = Command::new(postgres::program("pgbench"));
    command.args(["-h", "127.0.0.1", "-p", &address.port().to_string()]);
    run(command.args(["-U", USER]).args(arguments).arg("postgres"));
}

/// Waits until a server answers a question like this.
fn expect_answer(address: SocketAddr, question: &str, answer: &str) {
    wait::expect(question, SOON, || {
        postgres::ask(address, question).is_some_and(|said| said == answer)
    });
}

#[test]
fn postgres_has_another_primary() {
    let [first, second] = [ports::free(), ports::free()].map(ports::local);
    let data = Postgres::new();
    data.ask_password_of("checker", "scram-sha-256");
    let primary = data.start(first.port());
    expect_answer(first, "SELECT 1", "1"); // it listens before it serves
    let role = "CREATE ROLE checker LOGIN PASSWORD 'secret'";
    assert_eq!(postgres::ask(first, role).as_deref(), Some("CREATE ROLE"));
    let copy = Postgres::copy_of(first);
    let _replica = copy.start(second.port());
    let plimsoll = before([first, second], "postgres user=checker password=secret");
    let (write, read) = (plimsoll.address(), plimsoll.address_of("read"));
    let is_replica = "SELECT pg_is_in_recovery()";
    expect_answer(write, is_replica, "f");
    expect_answer(read, is_replica, "t");

    pgbench(write, &["-i", "-q"]);
    pgbench(write, &["-n", "-c", "4", "-t", "100"]);
    pgbench(write, &["-n", "-C", "-c", "2", "-t", "20"]);
    let done = "SELECT count(*) FROM pgbench_history";
    expect_answer(read, done, "440");

    drop(primary);
    copy.promote();
    expect_answer(write, is_replica, "f");
    pgbench(write, &["-n", "-c", "4", "-t", "100"]);
    // Nothing was lost, and nothing done twice.
    expect_answer(second, done, "840");
    let sums = "SELECT (SELECT sum(delta) FROM pgbench_history) = (SELECT sum(abalance) FROM pgbench_accounts)";
    expect_answer(write, sums, "t");
    // Nobody follows any more.
    assert_eq!(postgres::ask(read, done), None);
}

/// A server that numbers what is done to it, so that others can follow.
fn maria(data: &MariaDb, port: u16, id: &str, more: &[&str]) -> Daemon {
    let numbered = ["--log-bin=log", "--gtid-strict-mode=1", id];
    let mut daemon = data.start(port, &[&numbered, more].concat());
    daemon.wait_listening(&[port]);
    daemon
}

#[test]
fn mariadb_has_another_primary() {
    let [first, second] = [ports::free(), ports::free()].map(ports::local);
    let (data, copy) = (MariaDb::new(), MariaDb::new());
    let primary = maria(&data, first.port(), "--server-id=1", &[]);
    let _replica = maria(&copy, second.port(), "--server-id=2", &["--read-only=1"]);
    data.tell(
        "CREATE USER copy@'%'; GRANT REPLICATION SLAVE ON *.* TO copy@'%'; CREATE USER plimsoll_check@'%';\
         CREATE USER app@'%'; CREATE DATABASE bench; GRANT ALL ON bench.* TO app@'%';\
         CREATE TABLE bench.done (id SERIAL, worker INT)",
    );
    let port = first.port();
    copy.tell(&format!(
        "CHANGE MASTER TO master_host='127.0.0.1', master_port={port}, master_user='copy', \
         master_use_gtid=slave_pos, master_connect_retry=1; START SLAVE"
    ));
    let plimsoll = before([first, second], "mysql");
    let (write, read) = (plimsoll.address(), plimsoll.address_of("read"));
    let expect = |address, question: &str, answer: &str| {
        wait::expect(question, SOON, || {
            mariadb::ask(address, "app", question).is_some_and(|said| said == answer)
        });
    };
    expect(write, "SELECT @@server_id", "1");
    expect(read, "SELECT @@server_id", "2");
    let insert_200 = || {
        let mut command = mariadb::client("mariadb-slap", write, "app");
        command.args(["--create-schema=bench", "--concurrency=4"]);
        command.args(["--number-of-queries=200", "--no-drop"]);
        run(command.arg("--query=INSERT INTO done (worker) VALUES (connection_id())"))
    };
    insert_200();
    let done = "SELECT count(*) FROM bench.done";
    expect(read, done, "200");

    drop(primary);
    copy.tell("STOP SLAVE; SET GLOBAL read_only = 0");
    expect(write, "SELECT @@server_id", "2");
    insert_200();
    expect(write, done, "400");
    assert_eq!(mariadb::ask(read, "app", done), None);
}

/// A server that sends copies at once.
fn redis(directory: &TempDir, port: u16, follow: &[&str]) -> Daemon {
    let more = [&["--repl-diskless-sync-delay", "0"], follow].concat();
    let mut daemon = redis::start(directory.path(), port, &more);
    daemon.wait_listening(&[port]);
    daemon
}

fn tell(address: SocketAddr, words: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-h", "127.0.0.1", "-p", &address.port().to_string()]);
    let output = command.args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn redis_has_another_primary() {
    let [first, second] = [ports::free(), ports::free()].map(ports::local);
    let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let primary = redis(&directories[0], first.port(), &[]);
    let follow = ["--replicaof", "127.0.0.1", &first.port().to_string()].map(str::to_owned);
    let _replica = redis(
        &directories[1],
        second.port(),
        &follow.each_ref().map(String::as_str),
    );
    let plimsoll = before([first, second], "redis");
    let (write, read) = (plimsoll.address(), plimsoll.address_of("read"));
    wait::expect("a primary", SOON, || {
        tell(write, &["SET", "a", "1"]) == "OK"
    });
    wait::expect("a replica", SOON, || tell(read, &["GET", "a"]) == "1");
    let benchmark = || {
        let mut command = Command::new("redis-benchmark");
        command.args(["-h", "127.0.0.1", "-p", &write.port().to_string()]);
        run(command.args(["-t", "set,get", "-n", "5000", "-c", "20", "-P", "4", "-q"]))
    };
    let said = benchmark();
    assert!(said.contains("SET:") && said.contains("GET:"), "{said}");

    drop(primary);
    assert_eq!(tell(second, &["REPLICAOF", "NO", "ONE"]), "OK");
    wait::expect("the other one", SOON, || {
        tell(write, &["SET", "a", "2"]) == "OK"
    });
    assert_eq!(tell(write, &["GET", "a"]), "2");
    benchmark();
}
