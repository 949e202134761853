//! The proxies, started and stopped.

use super::case::Carried;
use super::process::{self, Cpu, Memory};
use super::setting::{self, ACCESS_LOG, Addresses, PAIR, Setting};
use super::{PROXY_CORE, pinned};
use crate::command::target;
use anyhow::{Context, Result};
use plimsoll_e2e::daemon::{Daemon, Signal};
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::{ports, wait};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a proxy may take to stop.
const STOP_MAX: Duration = Duration::from_secs(10);

/// How long a proxy may take to begin.
const START_MAX: Duration = Duration::from_secs(10);

/// A proxy in one of its modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    PlimsollHttp,
    PlimsollTcp,
    NginxHttp,
    HaproxyHttp,
    NginxTcp,
    HaproxyTcp,
    PlimsollUdp,
    NginxUdp,
    Varnish,
}

impl Contender {
    pub(crate) const ALL: [Self; 9] = [
        Self::PlimsollHttp,
        Self::PlimsollTcp,
        Self::NginxHttp,
        Self::NginxTcp,
        Self::HaproxyHttp,
        Self::HaproxyTcp,
        Self::PlimsollUdp,
        Self::NginxUdp,
        Self::Varnish,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PlimsollHttp => "plimsoll-http",
            Self::PlimsollTcp => "plimsoll-tcp",
            Self::NginxHttp => "nginx-http",
            Self::NginxTcp => "nginx-tcp",
            Self::HaproxyHttp => "haproxy-http",
            Self::HaproxyTcp => "haproxy-tcp",
            Self::PlimsollUdp => "plimsoll-udp",
            Self::NginxUdp => "nginx-udp",
            Self::Varnish => "varnish",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::PlimsollHttp => "HTTP, one worker, JSON access log on disk, metrics",
            Self::PlimsollTcp => "TCP relay, one worker, JSON access log on disk, metrics",
            Self::NginxHttp => "HTTP, one worker, upstream keep-alive, no log",
            Self::NginxTcp => "stream relay, one worker, no log",
            Self::HaproxyHttp => "HTTP, one thread, reuse always, no log",
            Self::HaproxyTcp => "TCP relay, one thread, no log",
            Self::PlimsollUdp => "datagrams, one worker, JSON access log on disk, metrics",
            Self::NginxUdp => "datagrams, one worker, no log",
            Self::Varnish => "HTTP, what is stored in memory, one pool of threads, no log on disk",
        }
    }

    /// Returns the descriptors it holds for each idle connection of a client.
    pub(crate) fn descriptors_per_client(self) -> u64 {
        match self {
            Self::PlimsollHttp | Self::NginxHttp | Self::HaproxyHttp => 1,
            Self::PlimsollTcp | Self::NginxTcp | Self::HaproxyTcp => 2,
            Self::PlimsollUdp | Self::NginxUdp | Self::Varnish => 1,
        }
    }

    pub(crate) fn carries(self) -> Carried {
        match self {
            Self::PlimsollHttp => Carried::All,
            Self::NginxHttp => Carried::AllButZstd,
            Self::Varnish => Carried::Stored,
            Self::HaproxyHttp => Carried::Requests,
            Self::PlimsollTcp | Self::NginxTcp | Self::HaproxyTcp => Carried::Bytes,
            Self::PlimsollUdp | Self::NginxUdp => Carried::Datagrams,
        }
    }

    pub(crate) fn is_plimsoll(self) -> bool {
        matches!(
            self,
            Self::PlimsollHttp | Self::PlimsollTcp | Self::PlimsollUdp
        )
    }

    /// Starts it on the proxies' core, in a directory of its own under `work`.
    pub(crate) fn start(
        self,
        work: &Path,
        upstreams: [u16; 2],
        manner: Manner,
        authority: &Authority,
    ) -> Result<Running> {
        let directory = work.join(self.name());
        fs::create_dir_all(&directory)?;
        let free = || ports::local(ports::free());
        let addresses = Addresses {
            plain: free(),
            http2: free(),
            tls: free(),
            one_shot: free(),
        };
        let admin = self.is_plimsoll().then(|| ports::local(ports::free()));
        let file = directory.join("proxy.conf");
        let setting = Setting {
            listen: &addresses,
            authority,
            admin,
            directory: &directory,
            servers: upstreams.map(ports::local),
            slots: manner.slots,
        };
        fs::write(&file, setting.text(self))
            .with_context(|| format!("write {}", file.display()))?;
        for (name, bytes) in [("1k", 1 << 10), ("1m", 1 << 20)] {
            let files = directory.join(setting::FILES).join("files");
            fs::create_dir_all(&files)?;
            fs::write(files.join(name), vec![b'x'; bytes])?;
        }
        let pair = [authority.certificate(), authority.key()];
        let pair = pair.iter().map(fs::read).collect::<Result<Vec<_>, _>>()?;
        fs::write(directory.join(PAIR), pair.concat())?;
        let mut daemon = Daemon::spawn(
            self.name(),
            "is it installed?",
            self.command(&directory, &addresses, manner),
        );
        let listens = match self.carries() {
            Carried::Requests | Carried::All | Carried::AllButZstd => {
                vec![addresses.plain, addresses.http2, addresses.tls]
            }
            Carried::Bytes | Carried::Stored => vec![addresses.plain],
            Carried::Datagrams => {
                let taken = [addresses.plain, addresses.one_shot];
                let are_taken = || taken.iter().all(|at| ports::is_receiving(at.port()));
                wait::expect("datagrams to be taken", START_MAX, are_taken);
                Vec::new()
            }
        };
        let ports: Vec<_> = listens.iter().chain(&admin).map(SocketAddr::port).collect();
        daemon.wait_listening(&ports);
        Ok(Running {
            contender: self,
            daemon,
            addresses,
            admin,
            directory,
        })
    }

    fn command(self, directory: &Path, listen: &Addresses, manner: Manner) -> Command {
        let file = directory.join("proxy.conf");
        let program = match self {
            _ if self.is_plimsoll() => target().join("dist/plimsoll"),
            Self::NginxHttp | Self::NginxTcp | Self::NginxUdp => PathBuf::from("nginx"),
            Self::Varnish => PathBuf::from("/usr/sbin/varnishd"),
            _ => PathBuf::from("haproxy"),
        };
        let mut command = pinned(PROXY_CORE, &program);
        match self {
            _ if self.is_plimsoll() => command.args(["run", "-c"]).arg(file),
            Self::NginxHttp | Self::NginxTcp | Self::NginxUdp => command
                .arg("-p")
                .arg(directory)
                .arg("-c")
                .arg(file)
                .args(["-e", "stderr"]),
            Self::Varnish => command
                .args(["-F", "-j", "none", "-p", "thread_pools=1"])
                .args(["-s", "malloc,256m", "-n"])
                .arg(directory)
                .args(["-a", &listen.plain.to_string(), "-f"])
                .arg(file),
            _ if manner.is_supervised => command.args(["-W", "-db", "-f"]).arg(file),
            _ => command.args(["-db", "-f"]).arg(file),
        };
        command
    }
}

/// How a proxy is started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// It sends no server more requests than these at the same time.
    pub(crate) slots: Option<u32>,
    /// Whether a process watches over those that serve, where that is a choice.
    pub(crate) is_supervised: bool,
}

/// A proxy that runs. It is asked to stop when this is dropped, so that its workers stop too.
pub(crate) struct Running {
    contender: Contender,
    daemon: Daemon,
    pub(crate) addresses: Addresses,
    pub(crate) admin: Option<SocketAddr>,
    directory: PathBuf,
}

impl Running {
    pub(crate) fn name(&self) -> &'static str {
        self.contender.name()
    }

    pub(crate) fn carries(&self) -> Carried {
        self.contender.carries()
    }

    pub(crate) fn contender(&self) -> Contender {
        self.contender
    }

    /// The number of the process that was started.
    pub(crate) fn id(&self) -> u32 {
        self.daemon.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // One that has ended is told of by what it does not do.
        let _ = process::signal(self.daemon.id(), signal);
    }

    /// What it has written to its error output.
    pub(crate) fn said(&self) -> String {
        self.daemon.stderr()
    }

    /// Where its configuration stands.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns its processes: the one that was started and all below it.
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        process::tree(self.daemon.id())
    }

    pub(crate) fn cpu(&self) -> Result<Cpu> {
        process::cpu(&self.processes()?)
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        process::memory(&self.processes()?)
    }

    /// Empties the access log, which grows by some 20 MB a second; the proxy appends to it.
    pub(crate) fn trim_log(&self) -> Result<()> {
        match File::options()
            .write(true)
            .open(self.directory.join(ACCESS_LOG))
        {
            Ok(file) => Ok(file.set_len(0)?),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.daemon.exited().is_none() {
            self.daemon.signal(Signal::INT); // at once, for its workers too
            let _ = wait::until(STOP_MAX, || self.daemon.exited()); // else it is killed
        }
    }
}
