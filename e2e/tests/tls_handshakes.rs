//! Clients that greet in strange ways, or ask for what is not good for them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Plimsoll, Start, binary};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::tls::{beginning, curl, pair, s_client};
use plimsoll_e2e::wire::Close;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const LAST: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

fn start(own: &Authority) -> Plimsoll {
    Start::run(&text(own)).start()
}

fn text(own: &Authority) -> String {
    format!(
        "admin 127.0.0.1:{{port:admin}}\n\
         site a.example {{ listen 127.0.0.1:{{port}} ; {} ; route {{ respond 200 here }} }}\n",
        pair(own)
    )
}

fn connect(plimsoll: &Plimsoll) -> TcpStream {
    let stream = TcpStream::connect(plimsoll.address()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

#[test]
fn http_without_tls_is_told_where_it_is() {
    let own = Authority::make("DNS:a.example");
    let plimsoll = start(&own);
    for request in [
        "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        for pieces in [request.len(), 1] {
            let mut client = Raw::connect(plimsoll.address());
            for piece in request.as_bytes().chunks(pieces) {
                if client.send(piece).is_err() {
                    break; // it was answered before the end
                }
            }
            let answer = client.read_to_close(SOON);
            let text = String::from_utf8_lossy(&answer.bytes).into_owned();
            if pieces == 1 && text.is_empty() {
                continue; // a reset because of what came later may take the answer away
            }
            assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
            assert!(
                text.ends_with("this port is for HTTPS: write https:// in front of the address"),
                "{text}"
            );
            assert_ne!(answer.close, Close::Open);
        }
    }
}

#[test]
fn clients_without_tls_are_sent_on() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plimsoll.conf");
    let text = "site a.example *.b.example { tls a.pem a.key ; route { respond 200 } }\n\
                site c.example { tls c.pem c.key ; https-redirect off ; route { respond 200 } }\n\
                site d.b.example { listen :80 ; route { respond 200 } }\n";
    fs::write(&file, text).unwrap();
    let trace = |request: &str| {
        let mut command = Command::new(binary());
        command.args(["trace", "-c"]).arg(&file).arg(request);
        let output = command.output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for request in ["GET http://a.example/x?y=1", "GET http://c.b.example/"] {
        let said = trace(request);
        assert!(said.contains("308"), "{said}");
    }
    for request in ["GET http://d.b.example/", "GET https://a.example/"] {
        let said = trace(request);
        assert!(said.contains("200") && !said.contains("308"), "{said}");
    }
    let said = trace("GET http://c.example/");
    assert!(said.contains("404"), "{said}");
}

#[test]
fn what_is_weak_is_refused() {
    let own = Authority::make_rsa("DNS:a.example");
    let plimsoll = start(&own);
    for options in [
        "-tls1 -cipher ALL@SECLEVEL=0",
        "-tls1_1 -cipher ALL@SECLEVEL=0",
        "-tls1_2 -cipher AES128-SHA@SECLEVEL=0",
        "-tls1_2 -cipher AES128-GCM-SHA256@SECLEVEL=0",
        "-tls1_2 -cipher ECDHE-RSA-AES128-SHA@SECLEVEL=0",
        "-tls1_2 -cipher ECDHE-RSA-AES256-SHA384@SECLEVEL=0",
        "-tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256@SECLEVEL=0",
        "-tls1_2 -cipher NULL@SECLEVEL=0",
        "-servername a.example -alpn nonsense",
    ] {
        let said = s_client(&plimsoll, &format!("-ign_eof {options}"), LAST);
        assert!(!said.contains("200 OK"), "{options}: {said}");
    }
    let said = s_client(&plimsoll, "-servername a.example -alpn nonsense", LAST);
    assert!(said.contains("alert number 120"), "{said}");
    // A client may not begin anew in the middle.
    let said = s_client(&plimsoll, "-servername a.example -tls1_2", "R\n");
    assert!(said.contains("no renegotiation"), "{said}");
    let good = s_client(&plimsoll, "-ign_eof -servername a.example -tls1_2", LAST);
    assert!(
        good.contains("200 OK") && good.contains("Compression: NONE"),
        "{good}"
    );
    for name in ["a.example.", "A.EXAMPLE"] {
        let said = s_client(&plimsoll, &format!("-ign_eof -servername {name}"), LAST);
        let is_answered = said.contains("200 OK") || said.contains("alert number");
        assert!(is_answered, "{name}: {said}");
    }
}

#[test]
fn a_greeting_in_pieces_is_one_greeting() {
    let own = Authority::make("DNS:a.example");
    let plimsoll = start(&own);
    for length in [1, 7, 100, 512] {
        let mut client = beginning(&own);
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        // The same message, cut into records of this length.
        let mut stream = connect(&plimsoll);
        for piece in hello[5..].chunks(length) {
            let [high, low] = u16::try_from(piece.len()).unwrap().to_be_bytes();
            let record = [&[22, 3, 1, high, low], piece].concat();
            stream.write_all(&record).unwrap();
        }
        let mut tls = rustls::Stream::new(&mut client, &mut stream);
        tls.write_all(LAST.as_bytes()).unwrap();
        let mut answer = String::new();
        tls.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{length}: {answer}");
    }
}

#[test]
fn greetings_that_are_none_end_the_connection() {
    let own = Authority::make("DNS:a.example");
    let plimsoll = start(&own);
    let mut hello = Vec::new();
    beginning(&own).write_tls(&mut hello).unwrap();
    let longest = [&[22, 3, 1, 0x40, 0x01][..], &[0; 0x4001]].concat();
    let endless = {
        // A message of 16 MiB, in whole records.
        let mut text = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
        text.resize(5 + 0x4000, 0);
        let more = [&[22, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
        [text, more.repeat(8)].concat()
    };
    let mut broken = hello.clone();
    broken[9] = 99;
    let after_it = [&hello[..], &[23, 3, 3, 0, 1, 0]].concat();
    for (what, bytes) in [
        ("empty records", [22, 3, 1, 0, 0].repeat(100)),
        ("a record that is too long", longest),
        ("a message that never ends", endless),
        ("a version that is none", broken),
        ("text before the keys", after_it),
        ("alerts", [21, 3, 3, 0, 2, 1, 0].repeat(100)),
        (
            "an old greeting",
            vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10],
        ),
    ] {
        let mut client = Raw::connect(plimsoll.address());
        let _ = client.send(&bytes); // it may have been closed in the middle
        client.finish();
        let answer = client.read_to_close(SOON);
        assert_ne!(answer.close, Close::Open, "{what}");
    }
    let here = curl(&plimsoll, &own, "https://a.example/", &[]);
    assert_eq!(here.unwrap(), "here 200");
}

#[test]
fn keys_that_are_changed_without_end_close_the_connection() {
    let own = Authority::make("DNS:a.example");
    let plimsoll = start(&own);
    let mut client = beginning(&own);
    let mut stream = connect(&plimsoll);
    rustls::Stream::new(&mut client, &mut stream)
        .flush()
        .unwrap();
    let mut ended = false;
    for _ in 0..1000 {
        client.refresh_traffic_keys().unwrap();
        let mut sent = Ok(0);
        while client.wants_write() && sent.is_ok() {
            sent = client.write_tls(&mut stream);
        }
        if sent.is_err() {
            ended = true;
            break;
        }
    }
    // What was sent before the end was heard of tells as well.
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    ended |= !matches!(&read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(ended);
    let here = curl(&plimsoll, &own, "https://a.example/", &[]);
    assert_eq!(here.unwrap(), "here 200");
}

#[test]
fn secrets_of_sessions_are_written_where_that_is_asked_for_and_keys_into_no_dump() {
    let own = Authority::make("DNS:a.example");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    let path = file.display().to_string();
    let mut plimsoll = Start::run(&text(&own))
        .environment("SSLKEYLOGFILE", &path)
        .start();
    let here = curl(&plimsoll, &own, "https://a.example/", &["--http1.1"]);
    assert_eq!(here.unwrap(), "here 200");
    let keys = fs::read_to_string(&file).unwrap();
    assert!(keys.contains("CLIENT_TRAFFIC_SECRET_0 "), "{keys}");
    assert!(plimsoll.stderr().contains("SSLKEYLOGFILE is set"));
    let limits = format!("/proc/{}/limits", plimsoll.daemon().id());
    let limits = fs::read_to_string(limits).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"]);
}
