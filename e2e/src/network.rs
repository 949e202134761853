//! A network of its own for a test that changes routes or ports.

use std::fs;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::process::{Command, Output};

/// Tells the test program that it runs inside.
const INSIDE: &str = "PLIMSOLL_E2E_ISOLATED";

/// How to get a network: as root, or as what looks like root to it.
const WAYS: [&[&str]; 2] = [&["--net"], &["--net", "--map-root-user"]];

/// Runs the test called `name` in a network that has nothing but a loopback interface: starts this
/// program again there, for that test alone. Where the system gives nobody a network of its own,
/// as many containers do, this says so and checks nothing.
///
/// # Panics
/// If the test fails there.
#[expect(
    clippy::print_stderr,
    reason = "a test that was left out is not silent"
)]
pub fn isolated(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        return test();
    }
    let enters = |way: &&&[&str]| {
        let probe = Command::new("unshare").args(**way).arg("true").output();
        probe.is_ok_and(|probe| probe.status.success())
    };
    let Some(way) = WAYS.iter().find(enters) else {
        eprintln!("{name} is LEFT OUT: there is no network of its own to be had");
        return;
    };
    let program = std::env::current_exe().expect("a test knows its own file");
    let mut inside = Command::new("unshare");
    inside.args(*way).arg(program).env(INSIDE, "1");
    let output = run(inside.args(["--exact", name, "--nocapture"]));
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && said.contains("1 passed");
    assert!(passed, "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `ip` with these arguments, inside.
///
/// # Panics
/// If that fails.
pub fn ip(arguments: &str) {
    let output = run(Command::new("ip").args(arguments.split(' ')));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {said}");
}

/// Few local ports for connections; as many as before when this is dropped.
pub struct LocalPorts {
    before: String,
}

/// Where the kernel keeps from which ports it takes those of outgoing connections.
const LOCAL_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

impl LocalPorts {
    /// Leaves connections that are opened from here on no other ports, inside: so many there can
    /// be at once towards each address. Those that are open stay.
    ///
    /// # Panics
    /// If the system does not allow it.
    #[must_use]
    pub fn leave(ports: RangeInclusive<u16>) -> Self {
        let before = fs::read_to_string(LOCAL_PORTS).expect("every Linux has it");
        let range = format!("{} {}", ports.start(), ports.end());
        let written = fs::write(LOCAL_PORTS, &range);
        written.unwrap_or_else(|error| panic!("local ports {range}: {error}"));
        Self { before }
    }
}

impl Drop for LocalPorts {
    /// The tools connect too, to stop.
    fn drop(&mut self) {
        fs::write(LOCAL_PORTS, &self.before).ok();
    }
}

fn run(command: &mut Command) -> Output {
    let output = command.output();
    output.unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// A network beside the one that a test has made, with a cable between the two: another machine.
pub struct Machine {
    name: String,
    cable: &'static str,
}

impl Machine {
    /// One that has `its` address, as `10.9.1.2/24`, at the far end of a cable, of which the near end has `ours`.
    /// All that it does not know it sends to us.
    #[must_use]
    pub fn beside(cable: &'static str, ours: &str, its: &str) -> Self {
        let name = format!("plimsoll-{}-{cable}", std::process::id());
        ip(&format!("netns add {name}"));
        let machine = Self { name, cable };
        let name = &machine.name;
        ip(&format!(
            "link add {cable} type veth peer name far netns {name}"
        ));
        ip(&format!("addr add {ours} dev {cable}"));
        ip(&format!("link set {cable} up"));
        ip(&format!("-n {name} addr add {its} dev far"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} link set far up"));
        let gateway = ours.split('/').next().unwrap_or_default();
        ip(&format!("-n {name} route add default via {gateway}"));
        machine
    }

    /// Does something there; sockets that it opens stay there.
    ///
    /// # Panics
    /// If it does, or the system lets nobody in.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        let there = fs::File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                let network = rustix::thread::LinkNameSpaceType::Network;
                rustix::thread::move_into_link_name_space(there.as_fd(), Some(network))
                    .unwrap_or_else(|error| panic!("{path}: {error}"));
                act()
            });
            done.join().expect("what is done there panics")
        })
    }

    /// Pulls the cable out.
    pub fn unplug(&self) {
        ip(&format!("link set {} down", self.cable));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        Command::new("ip")
            .args(["netns", "del", &self.name])
            .output()
            .ok();
    }
}

/// What the kernel has counted in this network, by its name in `/proc/net/netstat`.
///
/// # Panics
/// If it counts no such thing.
pub fn counted(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/net/netstat").expect("every Linux has it");
    let lines: Vec<_> = text.lines().collect();
    let pairs = lines.chunks_exact(2).flat_map(|pair| match pair {
        [names, values] => names.split(' ').zip(values.split(' ')).collect(),
        _ => Vec::new(),
    });
    let mut found = pairs.filter(|(known, _)| *known == name);
    let value = found.next().and_then(|(_, value)| value.parse().ok());
    value.unwrap_or_else(|| panic!("the kernel does not count {name}"))
}
