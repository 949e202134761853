//! What systemd is told, in its own protocol.

use plimsoll_e2e::plimsoll::Start;
use plimsoll_e2e::raw::get;
use plimsoll_e2e::wait;
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn it_is_told_when_everything_is_served_and_when_that_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let heard = || {
        let mut word = [0; 64];
        let count = manager.recv(&mut word).unwrap();
        String::from_utf8_lossy(&word[..count]).trim().to_owned()
    };
    let text = "admin off\nsite * { listen 127.0.0.1:{port} ; route { respond 200 ok } }\n";
    let mut plimsoll = Start::run(text)
        .environment("NOTIFY_SOCKET", &path.display().to_string())
        .spawn();
    assert_eq!(heard(), "READY=1");
    // It is ready indeed: nobody waits for anything here.
    assert_eq!(get(plimsoll.address(), "/").text(), "ok");
    plimsoll.daemon().signal(Signal::TERM);
    assert_eq!(heard(), "STOPPING=1");
    assert!(plimsoll.wait_exit(SOON).success());
}

/// Stops one thread of a program, as a bug would, until its input ends.
const STOP: &str = "import ctypes, os, sys
pid = int(sys.argv[1])
tasks = os.listdir(f'/proc/{pid}/task')
name = lambda task: open(f'/proc/{pid}/task/{task}/comm').read().strip()
task = int(next(task for task in tasks if name(task) == 'worker-1'))
libc = ctypes.CDLL(None, use_errno=True)
SEIZE, INTERRUPT = 0x4206, 0x4207
assert libc.ptrace(SEIZE, task, 0, 0) == 0, ctypes.get_errno()
assert libc.ptrace(INTERRUPT, task, 0, 0) == 0, ctypes.get_errno()
os.waitpid(task, 0x40000000)
print('stopped', flush=True)
sys.stdin.read()
";

#[test]
fn a_worker_that_is_stuck_is_told_of_and_nobody_is_reassured() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_nonblocking(true).unwrap();
    let text = "workers 2\nadmin 127.0.0.1:{port:admin}\nsite * { listen 127.0.0.1:{port} ; route { respond 200 ok } }\n";
    let mut plimsoll = Start::run(text)
        .environment("NOTIFY_SOCKET", &path.display().to_string())
        .environment("WATCHDOG_USEC", "2000000")
        .start();
    let is_reassured = || {
        let mut word = [0; 64];
        let count = manager.recv(&mut word);
        count.is_ok_and(|count| word.starts_with(b"WATCHDOG=1") && count > 0)
    };
    wait::expect("the manager to be reassured", SOON, is_reassured);
    let mut stop = Command::new("python3");
    stop.args(["-c", STOP, &plimsoll.daemon().id().to_string()]);
    let mut stop = stop
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(stop.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "stopped\n");
    let stalls = || plimsoll.metric("plimsoll_worker_stalls_total") == Some(1.0);
    wait::expect("the worker to be seen", SOON, stalls);
    let said = plimsoll.stderr();
    assert!(
        said.contains("a worker has not gone on") && said.contains("worker=1"),
        "{said}"
    );
    // The word of one second after that is not given any more.
    std::thread::sleep(Duration::from_secs(1));
    while is_reassured() {}
    std::thread::sleep(Duration::from_secs(1));
    assert!(!is_reassured());
    drop(stop.stdin.take());
    stop.wait().unwrap();
    wait::expect("the manager to be reassured again", SOON, is_reassured);
    assert!(
        plimsoll.stderr().contains("the worker goes on"),
        "{}",
        plimsoll.stderr()
    );
}
