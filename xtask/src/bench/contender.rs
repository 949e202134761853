//! The proxies, each with the configuration under which it is measured.

use super::process::{self, Cpu, Memory};
use super::{PROXY_CORE, descriptors, pinned};
use crate::command::target;
use anyhow::{Context, Result};
use plimsoll_e2e::daemon::{Daemon, Signal};
use plimsoll_e2e::{ports, wait};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where Debian puts the module for NGINX's TCP mode.
pub(crate) const NGINX_STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// How long a proxy may take to stop.
const STOP_MAX: Duration = Duration::from_secs(10);

/// A proxy in one of its modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Plimsoll,
    NginxHttp,
    HaproxyHttp,
    NginxTcp,
    HaproxyTcp,
}

impl Contender {
    pub(crate) const ALL: [Self; 5] = [
        Self::Plimsoll,
        Self::NginxHttp,
        Self::NginxTcp,
        Self::HaproxyHttp,
        Self::HaproxyTcp,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plimsoll => "plimsoll-http",
            Self::NginxHttp => "nginx-http",
            Self::NginxTcp => "nginx-tcp",
            Self::HaproxyHttp => "haproxy-http",
            Self::HaproxyTcp => "haproxy-tcp",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Plimsoll => "HTTP, one worker, JSON access log on disk, metrics",
            Self::NginxHttp => "HTTP, one worker, upstream keep-alive, no log",
            Self::NginxTcp => "stream relay, one worker, no log",
            Self::HaproxyHttp => "HTTP, one thread, reuse always, no log",
            Self::HaproxyTcp => "TCP relay, one thread, no log",
        }
    }

    /// Returns the descriptors it holds for each idle connection of a client.
    pub(crate) fn descriptors_per_client(self) -> u64 {
        match self {
            Self::Plimsoll | Self::NginxHttp | Self::HaproxyHttp => 1,
            Self::NginxTcp | Self::HaproxyTcp => 2,
        }
    }

    pub(crate) fn is_plimsoll(self) -> bool {
        self == Self::Plimsoll
    }

    /// Starts it on the proxies' core, in a directory of its own under `work`.
    pub(crate) fn start(self, work: &Path, upstreams: [u16; 2]) -> Result<Running> {
        let directory = work.join(self.name());
        fs::create_dir_all(&directory)?;
        let address = ports::local(ports::free());
        let admin = self.is_plimsoll().then(|| ports::local(ports::free()));
        let file = directory.join("proxy.conf");
        let [one, two] = upstreams.map(ports::local);
        let text = match (self, admin) {
            (Self::Plimsoll, Some(admin)) => plimsoll(address, admin, &directory, one, two),
            (Self::Plimsoll, None) => String::new(), // the line above covers it
            (Self::NginxHttp, _) => nginx(&nginx_http(address, one, two)),
            (Self::NginxTcp, _) => nginx(&nginx_tcp(address, one, two)),
            (Self::HaproxyHttp, _) => haproxy("http", "http-reuse always", address, one, two),
            (Self::HaproxyTcp, _) => haproxy("tcp", "", address, one, two),
        };
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        let mut daemon = Daemon::spawn(self.name(), "is it installed?", self.command(&directory));
        let ports: Vec<_> = [Some(address), admin]
            .iter()
            .flatten()
            .map(SocketAddr::port)
            .collect();
        daemon.wait_listening(&ports);
        Ok(Running {
            contender: self,
            daemon,
            address,
            admin,
            directory,
        })
    }

    fn command(self, directory: &Path) -> Command {
        let file = directory.join("proxy.conf");
        let program = match self {
            Self::Plimsoll => target().join("dist/plimsoll"),
            Self::NginxHttp | Self::NginxTcp => PathBuf::from("nginx"),
            Self::HaproxyHttp | Self::HaproxyTcp => PathBuf::from("haproxy"),
        };
        let mut command = pinned(PROXY_CORE, &program);
        match self {
            Self::Plimsoll => command.args(["run", "-c"]).arg(file),
            Self::NginxHttp | Self::NginxTcp => command
                .arg("-p")
                .arg(directory)
                .arg("-c")
                .arg(file)
                .args(["-e", "stderr"]),
            Self::HaproxyHttp | Self::HaproxyTcp => command.args(["-db", "-f"]).arg(file),
        };
        command
    }
}

/// A proxy that runs. It is asked to stop when this is dropped, so that its workers stop too.
pub(crate) struct Running {
    contender: Contender,
    daemon: Daemon,
    pub(crate) address: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    directory: PathBuf,
}

impl Running {
    pub(crate) fn name(&self) -> &'static str {
        self.contender.name()
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

const ACCESS_LOG: &str = "access.log";

fn plimsoll(
    address: SocketAddr,
    admin: SocketAddr,
    directory: &Path,
    one: SocketAddr,
    two: SocketAddr,
) -> String {
    let log = directory.join(ACCESS_LOG);
    format!(
        "workers 1\n\
         admin {admin}\n\
         defaults {{ log {} json }}\n\
         site * {{ listen {address} ; route {{ proxy app }} }}\n\
         pool app {{ balance round-robin ; server {one} ; server {two} }}\n",
        log.display()
    )
}

fn nginx(body: &str) -> String {
    let descriptors = descriptors();
    // Only a master that is root can change the user; others ignore the line.
    format!(
        "load_module {NGINX_STREAM_MODULE};\n\
         user root;\n\
         daemon off;\n\
         worker_processes 1;\n\
         worker_rlimit_nofile {descriptors};\n\
         pid nginx.pid;\n\
         error_log stderr crit;\n\
         events {{ worker_connections {descriptors}; }}\n\
         {body}"
    )
}

/// Connections live as long as those of the others, and bodies stay in memory: by default NGINX
/// closes after 1,000 requests and writes a body of 64 KiB to disk.
fn nginx_http(address: SocketAddr, one: SocketAddr, two: SocketAddr) -> String {
    format!(
        "http {{\n\
         access_log off;\n\
         client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
         keepalive_requests 1000000000;\n\
         client_body_buffer_size 128k;\n\
         proxy_max_temp_file_size 0;\n\
         upstream app {{\n\
         server {one}; server {two};\n\
         keepalive 64; keepalive_requests 1000000000;\n\
         }}\n\
         server {{\n\
         listen {address};\n\
         location / {{\n\
         proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         }}\n\
         }}\n\
         }}\n"
    )
}

fn nginx_tcp(address: SocketAddr, one: SocketAddr, two: SocketAddr) -> String {
    format!(
        "stream {{\n\
         access_log off;\n\
         upstream app {{ server {one}; server {two}; }}\n\
         server {{ listen {address}; proxy_pass app; }}\n\
         }}\n"
    )
}

fn haproxy(
    mode: &str,
    more: &str,
    address: SocketAddr,
    one: SocketAddr,
    two: SocketAddr,
) -> String {
    format!(
        "global\n\
         \x20   nbthread 1\n\
         \x20   maxconn 20000\n\
         \x20   no strict-limits\n\
         defaults\n\
         \x20   mode {mode}\n\
         \x20   timeout connect 5s\n\
         \x20   timeout client 60s\n\
         \x20   timeout server 60s\n\
         frontend in\n\
         \x20   bind {address}\n\
         \x20   default_backend app\n\
         backend app\n\
         \x20   balance roundrobin\n\
         \x20   {more}\n\
         \x20   server one {one}\n\
         \x20   server two {two}\n"
    )
}
