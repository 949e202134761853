//! Too little memory for all that comes: what matters least is refused first, and the process lives.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use plimsoll_e2e::fault::{Fault, Mode};
use plimsoll_e2e::plimsoll::{self, Plimsoll, Start};
use plimsoll_e2e::raw::{Raw, get};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Response;

const LATER: Duration = Duration::from_secs(60);

/// What Plimsoll may have.
const MEMORY: u64 = 64 << 20;

/// What it may have at most, between two looks at it. The buffers of all clients alone would be 128 MiB.
const RESIDENT_MAX: u64 = MEMORY / 4 * 5;

/// Far more clients than fit, each with a buffer of 32 KiB.
const CLIENTS_MAX: usize = 4000;

struct Stand {
    plimsoll: Plimsoll,
    _sound: Recorder,
    _silent: Fault,
    clients: Vec<Raw>,
}

impl Stand {
    fn start() -> Self {
        Self::with(&format!("overload memory={MEMORY}B"), Start::run)
    }

    fn with(overload: &str, start: impl FnOnce(&str) -> Start) -> Self {
        let sound = Recorder::start(|_| Answer::ok("ok"));
        let silent = Fault::start(Mode::Silent);
        let text = format!(
            "workers 2\nadmin 127.0.0.1:{{port:admin}}\n{overload}\n\
             defaults {{ timeout response=5m body=5m }}\n\
             site * {{ listen 127.0.0.1:{{port}}\n\
             route /hold {{ priority high ; proxy {{silent}} }}\n\
             route /low {{ priority low ; proxy {{sound}} }}\n\
             route /high {{ priority high ; proxy {{sound}} }}\n\
             route {{ proxy {{sound}} }} }}\n"
        );
        let start = start(&text).set("sound", sound.address());
        Self {
            plimsoll: start.set("silent", silent.address()).start(),
            _sound: sound,
            _silent: silent,
            clients: Vec::new(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.plimsoll.address()
    }

    /// Another ten clients hold memory: their request goes to a server that reads nothing.
    fn hold(&mut self) {
        for _ in 0..10 {
            let mut client = Raw::connect(self.address());
            let head = "POST /hold HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
            // A client that is not accepted may still send what the kernel takes.
            client
                .send([head.as_bytes(), &[b'x'; 40_000]].concat())
                .unwrap();
            self.clients.push(client);
        }
    }

    /// The first answer to one of low priority that is refused, if one of a few is.
    fn low(&self) -> Option<Response> {
        (0..20).find_map(|_| {
            thread::sleep(Duration::from_millis(5)); // memory is looked at now and then
            Some(get(self.address(), "/low")).filter(|answer| answer.status() != 200)
        })
    }

    fn refused(&self) -> f64 {
        let refused = "plimsoll_overload_refused_total";
        self.plimsoll.metric(refused).unwrap()
    }
}

#[test]
fn the_least_important_are_refused_first_and_nobody_when_there_is_memory_again() {
    let mut stand = Stand::start();
    let low = loop {
        assert!(stand.clients.len() < CLIENTS_MAX, "nothing was refused");
        stand.hold();
        if let Some(refused) = stand.low() {
            break refused;
        }
    };
    assert_eq!(low.status(), 503);
    assert_eq!(low.head.fields.first("retry-after"), Some("1"));
    let reason = low.head.fields.first("proxy-status").unwrap_or_default();
    assert!(reason.contains("proxy_internal_error"), "{reason}");
    let normal = get(stand.address(), "/");
    assert_eq!(normal.status(), 200);
    assert!(normal.head.wants_close(), "connections are not kept now");
    assert_eq!(get(stand.address(), "/high").status(), 200);
    assert!(stand.refused() > 0.0);

    stand.clients.clear();
    wait::expect("memory again", LATER, || {
        let before = stand.refused();
        let served = (0..20).all(|_| get(stand.address(), "/low").status() == 200);
        served && stand.refused() == before
    });
}

#[test]
fn more_clients_than_fit_wait_outside_and_the_metrics_are_still_told() {
    let mut stand = Stand::start();
    while stand.clients.len() < CLIENTS_MAX {
        stand.hold();
        let resident = stand.plimsoll.resident();
        assert!(resident < RESIDENT_MAX, "{resident} bytes are resident");
    }
    assert!(stand.refused() >= 0.0, "the metrics are told");
    // Someone new is not served now; the kernel keeps it until there is room.
    let outside = TcpStream::connect(stand.address()).unwrap();
    outside.shutdown(Shutdown::Write).unwrap();
    stand.clients.clear();
    wait::expect("someone new is served", LATER, || {
        get(stand.address(), "/high").status() == 200
    });
}

/// A control group of its own, removed in the end.
struct Group(PathBuf);

impl Group {
    /// A group with this limit, of either version; nothing where the system gives us none.
    fn new(limit: u64) -> Option<Self> {
        let versions = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        versions.into_iter().find_map(|(root, file)| {
            let folder = Path::new(root).join(format!("plimsoll-test-{}", std::process::id()));
            fs::create_dir(&folder).ok()?;
            let group = Self(folder);
            fs::write(group.0.join(file), limit.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0); // what is left of it is empty
    }
}

#[test]
fn the_limit_of_a_control_group_is_kept_without_being_told() {
    let Some(group) = Group::new(2 * MEMORY) else {
        return eprintln!("LEFT OUT: there is no control group to be had");
    };
    let procs = group.0.join("cgroup.procs");
    let script = format!(
        "echo $$ > {}; exec {} run -c {{dir}}/plimsoll.conf",
        procs.display(),
        plimsoll::binary().display()
    );
    let mut stand = Stand::with("", |text| {
        let start = Start::with(vec!["-c".to_owned(), script]);
        start.program("/bin/sh").configuration(text)
    });
    while stand.clients.len() < 2 * CLIENTS_MAX && stand.refused() == 0.0 {
        stand.hold();
        // The kernel counts what is on its way in sockets, too.
        let _ = stand.low();
    }
    assert!(stand.refused() > 0.0, "nothing was refused");
    assert_eq!(get(stand.address(), "/high").status(), 200);
    stand.plimsoll.daemon().assert_alive();
    drop(stand);
}
