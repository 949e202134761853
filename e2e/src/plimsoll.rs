//! The real binary, started with a configuration in a directory of its own.

use crate::daemon::{Daemon, Signal};
use crate::{ports, raw, wait};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How to start Plimsoll.
///
/// Configuration and arguments may hold `{port}` and `{port:NAME}`, replaced by free ports for
/// which the start waits (for datagrams, where NAME begins with `udp`), `{dir}`, the directory of the run, and `{NAME}` for each [`Start::set`].
pub struct Start {
    program: Option<PathBuf>,
    configuration: Option<String>,
    arguments: Vec<String>,
    names: BTreeMap<String, String>,
    environment: Vec<(String, String)>,
    passed: Vec<OwnedFd>,
}

impl Start {
    /// Runs `plimsoll run -c FILE` with this configuration.
    #[must_use]
    pub fn run(configuration: &str) -> Self {
        let arguments = ["run", "-c", "{dir}/plimsoll.conf"].map(str::to_owned);
        Self::with(arguments.into()).configuration(configuration)
    }

    /// Runs `plimsoll proxy LISTEN SERVER…` with a free port to listen on, and without checks: tests
    /// count connections.
    #[must_use]
    pub fn proxy(servers: &[SocketAddr]) -> Self {
        let head = ["proxy", "--no-checks", "127.0.0.1:{port}"].map(str::to_owned);
        Self::with(
            head.into_iter()
                .chain(servers.iter().map(ToString::to_string))
                .collect(),
        )
    }

    /// Runs `plimsoll` with these arguments.
    #[must_use]
    pub fn with(arguments: Vec<String>) -> Self {
        Self {
            program: None,
            configuration: None,
            arguments,
            names: BTreeMap::new(),
            environment: Vec::new(),
            passed: Vec::new(),
        }
    }

    /// Passes an open socket on, as a service manager does, under the name `one` or `two`. More than two cannot be.
    #[must_use]
    pub fn pass(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.passed.push(socket.into());
        self
    }

    /// Replaces `{name}` by `value`.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.names.insert(format!("{{{name}}}"), value.to_string());
        self
    }

    /// Starts this program and not the binary under test, as an older one before an upgrade.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Writes this configuration to `{dir}/plimsoll.conf`.
    #[must_use]
    pub fn configuration(mut self, configuration: &str) -> Self {
        self.configuration = Some(configuration.to_owned());
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts Plimsoll and waits until it listens on every port of the text.
    ///
    /// # Panics
    /// With its error output, if it does not.
    #[must_use]
    pub fn start(self) -> Plimsoll {
        let mut plimsoll = self.spawn();
        let ports = plimsoll.ports.iter();
        let (udp, tcp): (Vec<_>, Vec<_>) = ports.partition(|(name, _)| name.starts_with("udp"));
        let tcp: Vec<_> = tcp.into_iter().map(|(_, port)| *port).collect();
        let udp: Vec<_> = udp.into_iter().map(|(_, port)| *port).collect();
        plimsoll.daemon.wait_listening(&tcp);
        wait::expect("datagrams to be taken", raw::PATIENCE, || {
            plimsoll.daemon.assert_alive();
            udp.iter().all(|port| ports::is_receiving(*port))
        });
        plimsoll
    }

    /// Starts Plimsoll and waits for nothing: for a configuration it must refuse.
    ///
    /// # Panics
    /// If there is no binary.
    #[must_use]
    pub fn spawn(self) -> Plimsoll {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let mut texts = Texts {
            names: self.names,
            ports: BTreeMap::new(),
        };
        texts
            .names
            .insert("{dir}".to_owned(), directory.path().display().to_string());
        if let Some(configuration) = &self.configuration {
            let text = texts.fill(configuration);
            fs::write(directory.path().join("plimsoll.conf"), text).expect("it is writable");
        }
        let program = self.program.unwrap_or_else(binary);
        let is_passed_some = !self.passed.is_empty();
        let mut command = match is_passed_some {
            true => activated(&program, self.passed),
            false => Command::new(program),
        };
        command.args(self.arguments.iter().map(|argument| texts.fill(argument)));
        command.current_dir(directory.path()).envs(self.environment);
        let daemon = match is_passed_some {
            true => Daemon::spawn_as_it_is("plimsoll", "build it first", command),
            false => Daemon::spawn("plimsoll", "build it first", command),
        };
        Plimsoll {
            daemon,
            ports: texts.ports,
            names: texts.names,
            directory,
        }
    }
}

/// Starts a program with open sockets where a service manager puts them: a shell gets them as its standard input and
/// output.
fn activated(program: &Path, sockets: Vec<OwnedFd>) -> Command {
    let count = sockets.len();
    let script = format!(
        "exec 3<&0 4<&1 0</dev/null 1>/dev/null\n\
         LISTEN_PID=${{FOR:-$$}} LISTEN_FDS={count} LISTEN_FDNAMES=one:two exec \"$0\" \"$@\""
    );
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(program);
    let mut sockets = sockets.into_iter().map(Stdio::from);
    command.stdin(sockets.next().unwrap_or_else(Stdio::null));
    command.stdout(sockets.next().unwrap_or_else(Stdio::null));
    command
}

/// A running Plimsoll. It is killed when this is dropped; a panic in it fails the test.
pub struct Plimsoll {
    daemon: Daemon,
    ports: BTreeMap<String, u16>,
    names: BTreeMap<String, String>,
    directory: TempDir,
}

impl Plimsoll {
    /// Returns the address with the port `{port}`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address_of("")
    }

    /// Returns the address with the port `{port:name}`.
    ///
    /// # Panics
    /// If no text had that name.
    #[must_use]
    pub fn address_of(&self, name: &str) -> SocketAddr {
        let port = self
            .ports
            .get(name)
            .unwrap_or_else(|| panic!("no port has the name {name:?}"));
        ports::local(*port)
    }

    /// Returns the directory of the run.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns what `plimsoll trace` says of its configuration, with these arguments.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn traced(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(binary());
        command.args(["trace", "-c", "plimsoll.conf"]);
        command.args(arguments).current_dir(self.directory());
        let output = command.output().expect("it is there");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("it is text")
    }

    /// Returns the program.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Replaces the configuration file, with the names and ports of the start. New ports are
    /// not waited for.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn rewrite(&mut self, configuration: &str) {
        let mut texts = Texts {
            names: self.names.clone(),
            ports: self.ports.clone(),
        };
        let text = texts.fill(configuration);
        self.ports = texts.ports;
        fs::write(self.directory().join("plimsoll.conf"), text).expect("it was written before");
    }

    /// Replaces the configuration file and has `plimsoll reload` put it in force, over the admin socket.
    pub fn reload(&mut self, configuration: &str) -> Reload {
        self.rewrite(configuration);
        let mut command = Command::new(binary());
        command.args(["reload", "--running", &self.admin_socket()]);
        let output = command.output().expect("it is there");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Reload {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Asks for a reload over the admin socket, without a program for that; returns the whole answer.
    ///
    /// # Panics
    /// If nobody answers.
    #[must_use]
    pub fn ask_reload(&self) -> String {
        let Called { head, text, .. } = self.call("POST /v1/reload", JSON, "{}");
        format!("{head}\r\n\r\n{text}")
    }

    /// Calls over the admin socket, without a program for that: a method and a path, lines of fields, and a body.
    ///
    /// # Panics
    /// If nobody answers.
    #[must_use]
    pub fn call(&self, request: &str, fields: &str, body: &str) -> Called {
        let mut stream = self.open_call(request, fields, body);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, text) = answer.split_once("\r\n\r\n").expect("it answers whole");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Called {
            status: status.expect("it has a status"),
            head: head.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Calls in the same way, and leaves the answer to be read.
    ///
    /// # Panics
    /// If nobody listens.
    #[must_use]
    pub fn open_call(&self, request: &str, fields: &str, body: &str) -> UnixStream {
        let socket = self.directory().join("admin.sock");
        let mut stream = UnixStream::connect(socket).expect("somebody listens");
        stream
            .set_read_timeout(Some(raw::PATIENCE))
            .expect("it is a time");
        let length = match body {
            "" => String::new(),
            body => format!("Content-Length: {}\r\n", body.len()),
        };
        let head = format!("{request} HTTP/1.0\r\nHost: localhost\r\n{fields}{length}\r\n");
        stream
            .write_all((head + body).as_bytes())
            .expect("it reads");
        stream
    }

    /// Runs `plimsoll` with these arguments against the admin socket; returns what it says, or else why it failed.
    ///
    /// # Errors
    /// Its error output.
    ///
    /// # Panics
    /// If there is no binary.
    pub fn verb(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .args(["--running", &self.admin_socket()]);
        let output = command.output().expect("it is there");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    /// Returns how many threads the process has.
    #[must_use]
    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.daemon.id())).map_or(0, Iterator::count)
    }

    /// Returns where the admin socket of a configuration with `admin unix:{dir}/admin.sock` is, as `--running` takes it.
    #[must_use]
    pub fn admin_socket(&self) -> String {
        format!("unix:{}/admin.sock", self.directory().display())
    }

    /// Returns the value of a metric, named as on the page, with its labels; the admin port is the
    /// one with the name `admin`.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        let page = raw::get(self.address_of("admin"), "/metrics").text();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
    }

    /// Sends `signal`.
    pub fn signal(&mut self, signal: Signal) {
        self.daemon.signal(signal);
    }

    /// Waits until it ends by itself, and returns how.
    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        self.daemon.wait_exit(within)
    }

    /// Returns what it wrote to its error output so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.daemon.stderr()
    }

    /// Returns the complete lines of a log file in its directory; none if there is no such file
    /// yet. A line may be there in part while it is being written.
    #[must_use]
    pub fn log(&self, file: &str) -> Vec<String> {
        let text = fs::read(self.directory().join(file)).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .split_inclusive('\n')
            .filter_map(|line| line.strip_suffix('\n'))
            .map(str::to_owned)
            .collect()
    }

    /// Waits until a log file has `count` lines, and returns them.
    ///
    /// # Panics
    /// If it has not `within` that time.
    #[must_use]
    pub fn wait_log(&self, file: &str, count: usize, within: Duration) -> Vec<String> {
        let enough = || Some(self.log(file)).filter(|lines| lines.len() >= count);
        wait::until(within, enough).unwrap_or_else(|| {
            panic!(
                "{file} has not {count} lines within {within:?}: {:#?}",
                self.log(file)
            )
        })
    }

    /// Returns the open file descriptors of the process.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.daemon.id())).map_or(0, Iterator::count)
    }

    /// Tells whether the process has this file open.
    #[must_use]
    pub fn has_open(&self, path: &Path) -> bool {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.daemon.id()));
        let mut entries = entries.into_iter().flatten().flatten();
        entries.any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == path))
    }

    /// Returns how long the process has computed so far.
    #[must_use]
    pub fn computed(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.daemon.id()));
        let stat = stat.unwrap_or_default();
        // Behind the name, which is in parentheses, the 12th and 13th are in hundredths of a second.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks = fields.split_ascii_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Returns the resident memory of the process in bytes, without what stands in files, such as its program.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.id()));
        let status = status.unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
        kilobytes.map_or(0, |kilobytes: u64| kilobytes * 1024)
    }
}

/// The field that calls with a body in JSON need.
pub const JSON: &str = "Content-Type: application/json\r\n";

/// An answer of the admin socket.
#[derive(Debug)]
pub struct Called {
    /// Its status.
    pub status: u16,
    /// Its head.
    pub head: String,
    /// Its body.
    pub text: String,
}

/// What `plimsoll reload` said.
#[derive(Debug)]
pub struct Reload {
    /// Its exit code.
    pub code: Option<i32>,
    /// What has changed.
    pub out: String,
    /// Warnings, or what was wrong.
    pub err: String,
}

impl Reload {
    /// Checks that it worked.
    ///
    /// # Panics
    /// With what it said, if not.
    pub fn expect_done(self) {
        assert_eq!(self.code, Some(0), "{self:?}");
    }
}

impl Drop for Plimsoll {
    #[expect(clippy::print_stderr, reason = "a test that fails shows what it knows")]
    fn drop(&mut self) {
        let stderr = self.stderr();
        if std::thread::panicking() {
            eprintln!(
                "plimsoll ended: {:?}, and said:\n{stderr}",
                self.daemon.exited()
            );
        }
        let panicked = stderr.contains("panicked at");
        assert!(
            !panicked || std::thread::panicking(),
            "plimsoll panicked:\n{stderr}"
        );
    }
}

/// Fills placeholders and remembers the ports it gave.
struct Texts {
    names: BTreeMap<String, String>,
    ports: BTreeMap<String, u16>,
}

impl Texts {
    fn fill(&mut self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (name, value) in &self.names {
            filled = filled.replace(name, value);
        }
        while let Some((before, rest)) = filled.split_once("{port") {
            let Some((name, after)) = rest.split_once('}') else {
                break;
            };
            let name = name.strip_prefix(':').unwrap_or(name).to_owned();
            let port = *self.ports.entry(name).or_insert_with(ports::free);
            filled = format!("{before}{port}{after}");
        }
        filled
    }
}

/// Returns the binary under test.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    find(std::env::var_os("PLIMSOLL_BIN"), &test).unwrap_or_else(|problem| panic!("{problem}"))
}

/// Returns what `PLIMSOLL_BIN` names, or else `plimsoll` in the directory where Cargo put the
/// profile of `test`.
fn find(named: Option<OsString>, test: &Path) -> Result<PathBuf, String> {
    if let Some(path) = named.map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("PLIMSOLL_BIN names no file: {}", path.display()))
        };
    }
    let profile = test.parent().and_then(Path::parent).unwrap_or(test);
    let path = profile.join("plimsoll");
    if path.is_file() {
        return Ok(path);
    }
    let path = path.display();
    Err(format!(
        "{path} is not there: run `cargo build -p plimsoll`, or set PLIMSOLL_BIN"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::get;

    #[test]
    fn fills_names_and_ports() {
        let names = BTreeMap::from([("{server}".to_owned(), "127.0.0.1:9".to_owned())]);
        let mut texts = Texts {
            names,
            ports: BTreeMap::new(),
        };
        let filled = texts.fill("listen {port}; admin {port:admin}; again {port} { {server} }");
        let (port, admin) = (texts.ports[""], texts.ports["admin"]);
        assert_ne!(port, admin);
        assert_eq!(
            filled,
            format!("listen {port}; admin {admin}; again {port} {{ 127.0.0.1:9 }}")
        );
    }

    #[test]
    fn says_what_to_do_when_there_is_no_binary() {
        let test = Path::new("/nowhere/debug/deps/test");
        let problem = find(None, test).unwrap_err();
        assert!(
            problem.starts_with("/nowhere/debug/plimsoll is not there"),
            "{problem}"
        );
        assert!(
            find(Some("/nowhere/x".into()), test)
                .unwrap_err()
                .contains("PLIMSOLL_BIN")
        );
        assert_eq!(find(Some("/bin/sh".into()), test), Ok("/bin/sh".into()));
    }

    /// NGINX stands in: it takes a file, listens, logs and reloads too.
    #[test]
    fn starts_a_program_with_a_configuration_and_reloads_it() {
        let configuration = |text: &str| {
            format!(
                "daemon off; pid {{dir}}/pid; error_log stderr; events {{ }}\n\
                 http {{ access_log {{dir}}/access.log; server {{ listen 127.0.0.1:{{port}};\n\
                 location / {{ return 200 '{text} {{name}}'; }} }} }}\n"
            )
        };
        let arguments = ["-e", "stderr", "-c", "{dir}/plimsoll.conf"].map(str::to_owned);
        let mut started = Start::with(arguments.into())
            .program("nginx")
            .configuration(&configuration("first"))
            .set("name", "one")
            .start();
        let address = started.address();
        assert_eq!(get(address, "/").text(), "first one");
        assert_eq!(
            started
                .wait_log("access.log", 1, Duration::from_secs(5))
                .len(),
            1
        );
        assert!(started.resident() > 100_000 && started.descriptors() > 3);

        started.rewrite(&configuration("second"));
        started.signal(Signal::HUP);
        wait::expect("the reload", Duration::from_secs(5), || {
            get(address, "/").text() == "second one"
        });
        started.signal(Signal::TERM);
        assert!(started.wait_exit(Duration::from_secs(5)).success());
    }
}
