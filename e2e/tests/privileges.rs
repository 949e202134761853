//! What root may do is given up.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::Start;
use plimsoll_e2e::raw::{PATIENCE, get};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A line of what the kernel says of a process.
fn line(process: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn everything_is_done_as_a_user_that_may_listen_on_low_ports_and_no_more() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let text = "user nobody group=www-data\nworkers 2\nadmin 127.0.0.1:{port:admin}\n\
        site * { listen 127.0.0.1:{port} ; route { respond 200 first } }\n";
    let mut plimsoll = Start::run(text).start();
    fs::set_permissions(plimsoll.directory(), PermissionsExt::from_mode(0o755)).unwrap();
    let process = plimsoll.daemon().id();
    let nobody = "65534 65534 65534 65534";
    assert_eq!(line(process, "Uid"), nobody);
    assert_eq!(line(process, "Gid"), "33 33 33 33");
    assert!(!line(process, "Groups").split(' ').any(|group| group == "0"));
    let low_ports = "0000000000000400";
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(line(process, set), low_ports, "{set}");
    }
    assert_eq!(line(process, "NoNewPrivs"), "1");
    // Threads are no different.
    for task in fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("CapEff:\t0000000000000400"), "{status}");
    }
    assert!(
        plimsoll.metric("process_open_fds").unwrap() > 0.0,
        "it can look at itself"
    );
    // The file is read again as this user.
    let again = text.replace("first", "second");
    plimsoll.rewrite(&again);
    plimsoll.signal(rustix::process::Signal::HUP);
    plimsoll_e2e::wait::expect("the reload", PATIENCE, || {
        get(plimsoll.address(), "/").text() == "second"
    });
    fs::set_permissions(plimsoll.directory(), PermissionsExt::from_mode(0o700)).unwrap();
    plimsoll.signal(rustix::process::Signal::HUP);
    let refused =
        || plimsoll.metric("plimsoll_config_reloads_total{result=\"refused\"}") == Some(1.0);
    plimsoll_e2e::wait::expect("the refusal", PATIENCE, refused);
}

#[test]
fn nobody_is_taken_for_a_user_that_there_is_not() {
    for (user, why) in [
        ("nobody-at-all", "no user `nobody-at-all`"),
        ("nobody group=none-at-all", "no group `none-at-all`"),
    ] {
        let text = format!(
            "user {user}\nadmin off\nsite * {{ listen 127.0.0.1:{{port}} ; route {{ respond 200 }} }}\n"
        );
        let mut plimsoll = Start::run(&text).spawn();
        assert_eq!(plimsoll.wait_exit(PATIENCE).code(), Some(78));
        assert!(plimsoll.stderr().contains(why), "{}", plimsoll.stderr());
    }
}
