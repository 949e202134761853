//! Debian's NGINX as an upstream or a peer.

use crate::daemon::Daemon;
use crate::ports;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use tempfile::TempDir;

/// A running NGINX with a directory of its own.
pub struct Nginx {
    daemon: Daemon,
    port: u16,
    directory: TempDir,
}

impl Nginx {
    /// Starts NGINX with one `server` block around `directives`, as `location / { return 204; }`.
    ///
    /// # Panics
    /// If it is not installed, or refuses the directives.
    #[must_use]
    pub fn start(directives: &str) -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let port = ports::free();
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration(port, directives)).expect("a new directory is writable");
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&file)
            .args(["-e", "stderr"]);
        let missing = "install the Debian package nginx-light";
        let mut daemon = Daemon::spawn("nginx", missing, command);
        daemon.wait_listening(&[port]);
        Self {
            daemon,
            port,
            directory,
        }
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ports::local(self.port)
    }

    /// Returns its directory: relative paths in its directives start there.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Returns the program.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

fn configuration(port: u16, directives: &str) -> String {
    // One process: a worker of a killed master would live on.
    format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
         access_log off;\n\
         client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
         server {{\nlisten 127.0.0.1:{port};\n{directives}\n}}\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::get;

    #[test]
    fn answers_as_configured() {
        let nginx = Nginx::start("location / { return 200 'from nginx'; }");
        assert_eq!(get(nginx.address(), "/").text(), "from nginx");
    }
}
