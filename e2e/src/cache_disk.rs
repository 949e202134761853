//! A cache with a disk, and what is on it.

use crate::cached::{message, request};
use crate::daemon::Signal;
use crate::plimsoll::{Plimsoll, Start, binary};
use crate::raw::Raw;
use crate::recorder::{Recorder, Request};
use crate::script::Answer;
use crate::wire::Response;
use crate::{ports, wait};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// How long anything here may take.
pub const SOON: Duration = Duration::from_secs(20);

/// A server, and a directory that each Plimsoll in front of it has its disk in.
pub struct Place {
    /// What it is asked for.
    pub upstream: Recorder,
    /// Holds the disk.
    pub directory: TempDir,
    /// Where Plimsoll listens.
    pub port: u16,
}

impl Place {
    /// One whose server answers so.
    pub fn new(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self {
            upstream: Recorder::start(script),
            directory: tempfile::tempdir().expect("a directory of the test"),
            port: ports::free(),
        }
    }

    /// Where the disk is.
    pub fn disk(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    /// What Plimsoll is configured with.
    pub fn text(&self) -> String {
        let (port, disk) = (self.port, self.disk());
        let (disk, server) = (disk.display(), self.upstream.address());
        format!(
            "workers 2\nadmin unix:{{dir}}/admin.sock 127.0.0.1:{{port:admin}}\n\
             site * {{ listen 127.0.0.1:{port} ; timeout body=30s ; route {{ cache c ; proxy app }} }}\n\
             cache c {{ memory 16MiB ; object-size-max 2MiB ; disk {disk} 64MiB ; wait 30s }}\n\
             pool app {{ server {server} ; retry 0 ; timeout response=30s }}\n"
        )
    }

    /// Starts Plimsoll, and waits until it knows all that is on disk.
    pub fn start(&self) -> Plimsoll {
        self.ready(Start::run(&self.text()).start())
    }

    /// Waits until one that was started knows all that is on disk.
    pub fn ready(&self, plimsoll: Plimsoll) -> Plimsoll {
        wait::expect("it to serve", SOON, || ports::is_listening(self.port));
        wait::expect("all to be known", SOON, || disk(&plimsoll, "known") == 1.0);
        plimsoll
    }

    /// Leaves what is at `/` on the disk, and nobody who has it.
    pub fn store_one(&self) {
        let plimsoll = self.start();
        let _ = self.ask("/");
        wait_written(&plimsoll, 1.0);
        stop(plimsoll);
    }

    /// The same where `mount` puts something of its own at `$1`, which is the disk.
    pub fn start_mounted(&self, mount: &str) -> Plimsoll {
        fs::create_dir(self.disk()).expect("a directory of the test");
        let script = format!("{mount} && exec \"$2\" run -c plimsoll.conf");
        let disk = self.disk().display().to_string();
        let program = binary().display().to_string();
        let arguments = ["-m", "sh", "-c", &script, "sh", &disk, &program];
        let start = Start::with(arguments.map(str::to_owned).to_vec())
            .program("unshare")
            .configuration(&self.text());
        self.ready(start.start())
    }

    /// The disk as a process sees it that mounted it.
    pub fn disk_of(&self, plimsoll: &mut Plimsoll) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", plimsoll.daemon().id()));
        root.join(
            self.disk()
                .strip_prefix("/")
                .expect("a directory of the test"),
        )
    }

    /// The address of that.
    pub fn address(&self) -> SocketAddr {
        ports::local(self.port)
    }

    /// Asks on a connection of its own.
    pub fn ask_as(&self, method: &str, target: &str, lines: &str) -> Response {
        let mut client = Raw::connect(self.address());
        let asked = request(method, target, &format!("Host: a.example|{lines}"));
        client.send(asked).expect("a connection");
        client.response(method)
    }

    /// The same with GET and no more lines.
    pub fn ask(&self, target: &str) -> Response {
        self.ask_as("GET", target, "")
    }

    /// How often the server was asked for `target`.
    pub fn count(&self, target: &str) -> usize {
        let requests = self.upstream.requests();
        requests
            .iter()
            .filter(|request| request.head.target == target)
            .count()
    }
}

/// What is counted of the disk.
pub fn disk(plimsoll: &Plimsoll, name: &str) -> f64 {
    let name = format!("plimsoll_cache_disk_{name}{{cache=\"c\"}}");
    plimsoll.metric(&name).unwrap_or_default()
}

/// Waits until this many answers were written since the start.
pub fn wait_written(plimsoll: &Plimsoll, count: f64) {
    wait::expect("all to be written", SOON, || {
        disk(plimsoll, "written_total") >= count
    });
}

/// Has it end by itself.
pub fn stop(mut plimsoll: Plimsoll) {
    plimsoll.signal(Signal::TERM);
    assert!(plimsoll.wait_exit(SOON).success());
}

/// Ends it at once.
pub fn kill(mut plimsoll: Plimsoll) {
    plimsoll.signal(Signal::KILL);
    plimsoll.wait_exit(SOON);
}

/// The files of answers.
pub fn files(disk: &Path) -> Vec<PathBuf> {
    let rooms = fs::read_dir(disk)
        .expect("a directory of the test")
        .map(|room| room.expect("a directory of the test").path());
    let rooms = rooms.filter(|room| room.is_dir() && !room.ends_with("new"));
    let files = rooms.flat_map(|room| fs::read_dir(room).expect("a directory of the test"));
    files
        .map(|file| file.expect("a directory of the test").path())
        .collect()
}

/// What is at `target`: bytes that are nowhere else.
pub fn body(target: &str, length: usize) -> Vec<u8> {
    target.bytes().cycle().take(length).collect()
}

/// What answers say of how long they hold.
pub const FRESH: &str = "Cache-Control: max-age=1000";

/// A server that has something of this length at each target.
pub fn bodies(length: usize) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    move |request| Answer::bytes(message(FRESH, &body(&request.head.target, length)))
}
