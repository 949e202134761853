//! gRPC, with the library of its authors as client and as server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// A server that ends with its input.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let mut command = Command::new("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/grpc/server.py"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut port = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut port).unwrap();
        let port: u16 = port.trim().parse().unwrap();
        Self {
            child,
            address: ([127, 0, 0, 1], port).into(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

fn client(port: u16, steps: &[&str]) -> String {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/grpc/client.py"));
    let output = command.arg(port.to_string()).args(steps).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{errors}");
    text.into_owned()
}

fn start(server: &str) -> Plimsoll {
    let text = format!(
        "admin off\nsite * {{ listen 127.0.0.1:{{port}}; log {{dir}}/access.log\n\
         route {{ proxy app }} }}\npool app {{ http 2; server {server} }}\n"
    );
    Start::run(&text).start()
}

#[test]
fn calls_and_streams_pass_through_whole() {
    let server = Server::start();
    let plimsoll = start(&server.address.to_string());
    let port = plimsoll.address().port();
    let said = client(port, &["calls", "streams", "many", "deadline"]);
    assert_eq!(said, "done\n");
}

#[test]
fn an_error_of_ours_is_a_status_of_grpc() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = taken.local_addr().unwrap();
    drop(taken);
    let plimsoll = start(&nobody.to_string());
    let said = client(plimsoll.address().port(), &["error"]);
    assert!(said.starts_with("UNAVAILABLE Bad Gateway"), "{said}");
    let log = plimsoll.wait_log("access.log", 1, std::time::Duration::from_secs(10));
    let log = log.first().unwrap();
    assert!(log.contains("\"status\":502"), "{log}");
}
