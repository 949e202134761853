//! A program under test: started, watched, and stopped again.

use crate::{ports, wait};
use rustix::process::{Pid, kill_process};
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use rustix::process::Signal;

/// How long a program may take to listen.
const START_MAX: Duration = Duration::from_secs(15);

/// A child process with its output. Dropping it kills this child and no other process.
pub struct Daemon {
    name: String,
    child: Child,
    stdout: Capture,
    stderr: Capture,
}

impl Daemon {
    /// Starts `command`; `name` is how messages call it, `missing` what to do if it is not there.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn spawn(name: &str, missing: &str, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Self::spawn_as_it_is(name, missing, command)
    }

    /// The same, with the standard input and output that `command` has.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn spawn_as_it_is(name: &str, missing: &str, mut command: Command) -> Self {
        command.stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            let program = command.get_program().display();
            panic!("cannot start {name} ({program}): {error}; {missing}")
        });
        let stdout = Capture::start(child.stdout.take());
        let stderr = Capture::start(child.stderr.take());
        Self {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
        }
    }

    /// Waits until the program listens on all of `ports`.
    ///
    /// # Panics
    /// With its error output, if it ends before, or takes too long.
    pub fn wait_listening(&mut self, ports: &[u16]) {
        let ready = wait::until(START_MAX, || {
            self.assert_alive();
            ports
                .iter()
                .all(|&port| ports::is_listening(port))
                .then_some(())
        });
        let (name, stderr) = (&self.name, self.stderr());
        assert!(
            ready.is_some(),
            "{name} does not listen on {ports:?} in time:\n{stderr}"
        );
    }

    /// Checks that the program still runs.
    ///
    /// # Panics
    /// With its error output, if it does not.
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.exited() {
            self.stderr.finish();
            panic!("{} ended with {status}:\n{}", self.name, self.stderr.text());
        }
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal` to the program.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&mut self, signal: Signal) {
        // Asked first: the id of a child that was waited for may belong to somebody else.
        self.assert_alive();
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.expect("a child has a process id");
        kill_process(id, signal).expect("a running child takes signals");
    }

    /// Waits until the program ends by itself, and returns how.
    ///
    /// # Panics
    /// If it does not `within` that time.
    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let status = wait::until(within, || self.exited());
        let (name, stderr) = (&self.name, self.stderr());
        let status = status.unwrap_or_else(|| panic!("{name} runs after {within:?}:\n{stderr}"));
        self.stdout.finish();
        self.stderr.finish();
        status
    }

    /// Returns how the program ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .expect("the state of an own child can be read")
    }

    /// Returns what it wrote to its output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Returns what it wrote to its error output so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok(); // an error means that it has ended
        self.child.wait().ok();
    }
}

/// Reads a stream to its end beside the test, so that the writer never waits.
struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Capture {
    fn start(stream: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reader = stream.map(|mut stream| {
            let bytes = Arc::clone(&bytes);
            thread::spawn(move || {
                let mut block = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut block) {
                    let part = block.get(..count).unwrap_or_default();
                    bytes
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend_from_slice(part);
                }
            })
        });
        Self { bytes, reader }
    }

    /// Waits for the end of the stream, which has come once the program has ended, unless
    /// another process holds it.
    fn finish(&self) {
        let done = || {
            self.reader
                .as_ref()
                .is_none_or(JoinHandle::is_finished)
                .then_some(())
        };
        let _ = wait::until(Duration::from_secs(1), done); // what came by then is shown
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn shell(script: &str) -> Daemon {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Daemon::spawn("script", "", command)
    }

    fn message(panics: impl FnOnce()) -> String {
        let payload = catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
        payload
            .downcast_ref::<String>()
            .cloned()
            .unwrap_or_default()
    }

    #[test]
    fn captures_output_and_exit_code() {
        let mut daemon = shell("echo out; echo err >&2; exit 78");
        assert_eq!(daemon.wait_exit(START_MAX).code(), Some(78));
        assert_eq!((&*daemon.stdout(), &*daemon.stderr()), ("out\n", "err\n"));
    }

    #[test]
    fn tells_the_error_output_of_a_program_that_died() {
        let text = message(|| shell("echo broken file >&2; exit 1").wait_listening(&[1]));
        assert!(
            text.contains("script ended with") && text.contains("broken file"),
            "{text}"
        );
    }

    #[test]
    fn names_what_is_missing() {
        let command = Command::new("no-such-program");
        let text = message(|| drop(Daemon::spawn("nginx", "install nginx-light", command)));
        assert!(text.contains("install nginx-light"), "{text}");
    }

    #[test]
    fn passes_signals_on() {
        let mut daemon =
            shell("trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.01; done");
        wait::expect("the trap", START_MAX, || daemon.stdout().contains("ready"));
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.wait_exit(START_MAX).code(), Some(3));
        assert!(daemon.stdout().ends_with("got\n"));
    }

    #[test]
    fn ends_with_its_handle() {
        let daemon = shell("exec sleep 60");
        let entry = format!("/proc/{}", daemon.id());
        assert!(std::path::Path::new(&entry).exists());
        drop(daemon);
        assert!(!std::path::Path::new(&entry).exists());
    }
}
