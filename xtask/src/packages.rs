//! Debian packages with the programs that tests and benchmark run.

use crate::command::{is_installed, run};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// Something that must be there, and the package that brings it.
pub(crate) struct Need {
    pub(crate) found: fn() -> bool,
    pub(crate) package: &'static str,
}

pub(crate) const NGINX: Need = Need {
    found: || is_installed("nginx"),
    package: "nginx-light",
};
pub(crate) const HAPROXY: Need = Need {
    found: || is_installed("haproxy"),
    package: "haproxy",
};
pub(crate) const RSYSLOG: Need = Need {
    found: || is_installed("rsyslogd"),
    package: "rsyslog",
};
pub(crate) const VARNISH: Need = Need {
    found: || is_installed("varnishd"),
    package: "varnish",
};
pub(crate) const WRK: Need = Need {
    found: || is_installed("wrk"),
    package: "wrk",
};
pub(crate) const CURL: Need = Need {
    found: || is_installed("curl"),
    package: "curl",
};
pub(crate) const IPROUTE: Need = Need {
    found: || is_installed("ip"),
    package: "iproute2",
};
pub(crate) const PYTHON: Need = Need {
    found: || is_installed("python3"),
    package: "python3",
};
pub(crate) const VENV: Need = Need {
    found: || {
        let import = Command::new("python3")
            .args(["-c", "import venv, ensurepip"])
            .output();
        import.is_ok_and(|import| import.status.success())
    },
    package: "python3-venv",
};
pub(crate) const CHROMIUM: Need = Need {
    found: || is_installed("chromium"),
    package: "chromium",
};
pub(crate) const FFMPEG: Need = Need {
    found: || is_installed("ffmpeg"),
    package: "ffmpeg",
};
pub(crate) const GRPC: Need = Need {
    found: || {
        let import = Command::new("python3").args(["-c", "import grpc"]).output();
        import.is_ok_and(|import| import.status.success())
    },
    package: "python3-grpcio",
};
pub(crate) const H2LOAD: Need = Need {
    found: || is_installed("h2load"),
    package: "nghttp2-client",
};
pub(crate) const STRACE: Need = Need {
    found: || is_installed("strace"),
    package: "strace",
};
pub(crate) const REDIS: Need = Need {
    found: || is_installed("redis-server"),
    package: "redis-server",
};
pub(crate) const POSTGRES: Need = Need {
    found: || Path::new("/usr/lib/postgresql").is_dir(),
    package: "postgresql",
};
pub(crate) const MARIADB: Need = Need {
    found: || is_installed("mariadbd"),
    package: "mariadb-server",
};
pub(crate) const PEBBLE: Need = Need {
    found: || is_installed("pebble"),
    package: "pebble",
};
pub(crate) const BIND: Need = Need {
    found: || Path::new("/usr/sbin/named").is_file(),
    package: "bind9",
};
pub(crate) const UNBOUND: Need = Need {
    found: || Path::new("/usr/sbin/unbound").is_file(),
    package: "unbound",
};
pub(crate) const DIG: Need = Need {
    found: || is_installed("dig"),
    package: "bind9-dnsutils",
};
pub(crate) const OPENSSL: Need = Need {
    found: || is_installed("openssl"),
    package: "openssl",
};
pub(crate) const EXT4: Need = Need {
    found: || is_installed("mkfs.ext4"),
    package: "e2fsprogs",
};
pub(crate) const ADDUSER: Need = Need {
    found: || is_installed("adduser"),
    package: "adduser",
};
pub(crate) const NGINX_STREAM: Need = Need {
    found: || Path::new(crate::bench::NGINX_STREAM_MODULE).is_file(),
    package: "libnginx-mod-stream",
};

/// Installs what is missing, with `sudo` unless this is root.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<_> = needs
        .iter()
        .filter(|need| !(need.found)())
        .map(|need| need.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let sudo = if rustix::process::geteuid().is_root() {
        ""
    } else {
        "sudo "
    };
    let names = missing.join(" ");
    // The lists may be old or absent; if they cannot be renewed, the install tells.
    let _ = run(&format!("{sudo}apt-get update -qq"));
    run(&format!(
        "{sudo}env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq {names}"
    ))
    .with_context(|| format!("install the Debian packages: {names}"))
}
