//! `plimsoll check --against`: recorded requests, and how they would end by another configuration.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use std::fs;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

const OLD: &str = "admin off
site * {
    listen 127.0.0.1:{port}
    log access.log json
    route /api/* { respond 200 api }
    route /old { respond 200 old }
    route /beta header:x-beta { respond 200 beta }
    route { respond 200 \"rest of ${request.host}\" }
}
";

/// Makes requests, so that the log holds them.
fn recorded(requests: &[&str]) -> Plimsoll {
    let plimsoll = Start::run(OLD).start();
    let mut client = Raw::connect(plimsoll.address());
    for request in requests {
        let head =
            format!("{request} HTTP/1.1\r\nHost: a.example\r\nUser-Agent: curl/8 \"x\"\r\n\r\n");
        client.send(head).unwrap();
        let method = request.split(' ').next().unwrap();
        assert_eq!(client.response(method).status(), 200);
    }
    let _ = plimsoll.wait_log("access.log", requests.len(), SOON);
    plimsoll
}

fn compared(plimsoll: &Plimsoll, new: &str, more: &[&str]) -> (Option<i32>, String) {
    let old = fs::read_to_string(plimsoll.directory().join("plimsoll.conf")).unwrap();
    let listen = old.lines().find(|line| line.contains("listen")).unwrap();
    let new = new.replace("LISTEN", listen);
    fs::write(plimsoll.directory().join("new.conf"), new).unwrap();
    let output = Command::new(plimsoll_e2e::plimsoll::binary())
        .args([
            "check",
            "-c",
            "new.conf",
            "--against",
            "access.log",
            "--was",
            "plimsoll.conf",
        ])
        .args(more)
        .current_dir(plimsoll.directory())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("error"), "{stderr}");
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn exactly_the_requests_that_end_in_another_way_are_listed() {
    let plimsoll = recorded(&[
        "GET /api/users?a=1&token=secret",
        "GET /old",
        "POST /api/users",
        "GET /old",
        "GET /beta",
        "GET /x//y",
    ]);
    let new = "# moved by a line
admin off
site * {
LISTEN
    route /api/* method=GET { strip-prefix /api ; proxy 127.0.0.1:1 }
    route /api/* { respond 200 api }
    route /old { redirect /new permanent }
    route /beta header:x-beta=2 { respond 200 beta }
    route { respond 200 \"rest of ${request.host}\" }
}
";
    let (code, said) = compared(&plimsoll, new, &[]);
    assert_eq!(code, Some(0));
    let expected = "\
GET http://a.example/api/users?a=1&token=*** from 127.0.0.1 (line 1)
    was: 200 api, by route /api/* at plimsoll.conf:5
    is:  pool 127.0.0.1:1, as /users?a=1&token=***, by route /api/* method=GET at new.conf:5
GET http://a.example/old from 127.0.0.1 (line 2, 2 times)
    was: 200 old, by route /old at plimsoll.conf:6
    is:  301 to /new, by route /old at new.conf:7
3 of 6 requests end in another way
";
    assert_eq!(said, expected);
    assert_eq!(compared(&plimsoll, new, &["--strict"]).0, Some(1));
}

#[test]
fn the_same_rules_in_other_places_change_nothing() {
    let plimsoll = recorded(&["GET /api/users", "GET /beta", "GET /"]);
    fs::write(
        plimsoll.directory().join("access.log"),
        [
            fs::read(plimsoll.directory().join("access.log")).unwrap(),
            b"not json\n{\"ts\":\"x\"}\n".to_vec(),
        ]
        .concat(),
    )
    .unwrap();
    let new = OLD.replace("    listen 127.0.0.1:{port}\n", "LISTEN\n\n\n");
    let (code, said) = compared(&plimsoll, &new, &["--strict"]);
    let expected = "0 of 3 requests end in another way; 2 lines hold no request\n";
    assert_eq!((code, said.as_str()), (Some(0), expected));
}

#[test]
fn what_a_log_does_not_hold_is_said() {
    let plimsoll = recorded(&["GET /beta"]);
    let new = OLD
        .replace("    listen 127.0.0.1:{port}\n", "LISTEN\n")
        .replace("header:x-beta ", "not:cookie:stable ");
    let (_, said) = compared(&plimsoll, &new, &[]);
    assert!(
        said.contains("    not sure: a log does not hold what `header:x-beta` asks for\n"),
        "{said}"
    );
    assert!(said.contains("`not:cookie:stable` asks for\n"), "{said}");
    assert!(
        said.ends_with("1 of 1 requests end in another way\n"),
        "{said}"
    );
}
