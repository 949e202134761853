//! What systemd is told, in its own protocol.

use plimsoll_e2e::plimsoll::Start;
use plimsoll_e2e::raw::get;
use rustix::process::Signal;
use std::os::unix::net::UnixDatagram;
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
