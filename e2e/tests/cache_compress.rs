//! Routes with a cache and `compress`: one question to the server, one coding for all who like it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::cached::{ask, ask_as, count, is_hit, message, status};
use plimsoll_e2e::recorder::Request;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Response;
use std::io::Read;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// The site compresses, its route keeps.
const CONFIGURATION: &str = "workers 2\nadmin unix:{dir}/admin.sock 127.0.0.1:{port:admin}\n\
    site a.example { listen 127.0.0.1:{port} ; log {dir}/access.log json ; compress ; route { cache c ; proxy app } }\n\
    cache c { memory 16MiB ; object-size-max 2MiB ; wait 30s }\n\
    pool app { server {server} ; retry 0 ; timeout response=30s }\n";

fn page() -> String {
    (0..20_000)
        .map(|at| format!("<p>line {at} of a page\n"))
        .collect()
}

fn html(lines: &str) -> Vec<u8> {
    let lines = format!(
        "Cache-Control: max-age=1000|ETag: \"e\"|Content-Type: text/html|Accept-Ranges: bytes|{lines}"
    );
    message(lines.trim_end_matches('|'), page().as_bytes())
}

fn stand(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Stand {
    Stand::run(CONFIGURATION, script)
}

/// What a client that likes this coding reads.
fn decoded(response: &Response, coding: &str) -> String {
    assert_eq!(response.field("content-encoding"), Some(coding));
    let bytes = &*response.body.bytes;
    let mut decoder: Box<dyn Read> = match coding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(bytes)),
        "br" => Box::new(brotli::Decompressor::new(bytes, 4096)),
        _ => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
    };
    let mut out = String::new();
    decoder.read_to_string(&mut out).unwrap();
    out
}

fn accept(coding: &str) -> String {
    format!("Accept-Encoding: {coding}")
}

#[test]
fn the_server_is_asked_once_and_each_client_gets_its_coding() {
    let stand = stand(|request| {
        let accepted = request.head.fields.first("accept-encoding");
        assert_eq!(accepted, Some("identity"));
        Answer::bytes(html("Vary: Accept-Encoding"))
    });
    for round in 0..3 {
        for coding in ["gzip", "br", "zstd"] {
            let answer = ask(&stand, "/", &accept(coding));
            assert!(decoded(&answer, coding) == page(), "{coding}");
            assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
            assert_eq!(answer.field("etag"), Some("W/\"e\""));
            assert_eq!(answer.field("accept-ranges"), None);
            assert_eq!(is_hit(&answer), round > 0 || coding != "gzip");
        }
        let plain = ask(&stand, "/", "");
        assert_eq!(plain.field("content-encoding"), None);
        assert_eq!(
            (plain.field("vary"), plain.field("etag")),
            (Some("Accept-Encoding"), Some("\"e\""))
        );
        assert!(plain.text() == page());
    }
    assert_eq!(count(&stand, "/"), 1);
    // What was made is kept, with its length, and counts.
    let kept = ask(&stand, "/", &accept("gzip"));
    let length: usize = kept.field("content-length").unwrap().parse().unwrap();
    assert_eq!(length, kept.body.bytes.len());
    let bytes = stand
        .plimsoll
        .metric("plimsoll_cache_bytes{cache=\"c\"}")
        .unwrap();
    assert!(bytes > (page().len() + length) as f64);
    let head = ask_as(&stand, "HEAD", "/", "Host: a.example|Accept-Encoding: gzip");
    assert_eq!(head.field("content-encoding"), Some("gzip"));
    assert_eq!(head.field("content-length"), kept.field("content-length"));
}

#[test]
fn conditions_and_ranges_are_those_of_the_form_that_is_sent() {
    let stand = stand(|_| Answer::bytes(html("")));
    let _ = ask(&stand, "/", "");
    for (lines, expected, coding, etag) in [
        (
            "If-None-Match: W/\"e\"|Accept-Encoding: gzip",
            304,
            None,
            "W/\"e\"",
        ),
        ("If-None-Match: \"e\"", 304, None, "\"e\""),
        (
            "If-None-Match: \"f\"|Accept-Encoding: gzip",
            200,
            Some("gzip"),
            "W/\"e\"",
        ),
        // Parts are of the plain bytes.
        ("Range: bytes=0-9|Accept-Encoding: gzip", 206, None, "\"e\""),
        (
            "Range: bytes=0-9|If-Range: \"e\"|Accept-Encoding: gzip",
            206,
            None,
            "\"e\"",
        ),
        (
            "Range: bytes=0-9|If-Range: W/\"e\"|Accept-Encoding: gzip",
            200,
            Some("gzip"),
            "W/\"e\"",
        ),
    ] {
        let answer = ask(&stand, "/", lines);
        assert_eq!(
            (answer.status(), answer.field("content-encoding")),
            (expected, coding),
            "{lines}"
        );
        assert_eq!(
            (answer.field("etag"), answer.field("vary")),
            (Some(etag), Some("Accept-Encoding")),
            "{lines}"
        );
        if expected == 206 {
            assert_eq!(answer.text(), page()[..10]);
        }
    }
    assert_eq!(count(&stand, "/"), 1);
}

/// A crowd that likes different codings: one question, and what comes is passed on as it comes.
#[test]
fn a_crowd_is_one_question_and_nothing_is_held_back() {
    let gate = Gate::new();
    let held = gate.clone();
    let stand = stand(move |_| {
        let whole = html("");
        let (first, rest) = whole.split_at(whole.len() / 2);
        Answer::bytes(first)
            .then(Step::Await(held.clone()))
            .then(Step::Send(rest.to_vec()))
    });
    let mut first = stand.connect();
    first
        .send("GET / HTTP/1.1\r\nHost: a.example\r\nAccept-Encoding: gzip\r\n\r\n")
        .unwrap();
    // Half of it is there before the rest has come.
    let begun = first.read_at_least(20_000, SOON).unwrap();
    assert!(String::from_utf8_lossy(&begun).contains("gzip"));
    std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..24)
            .map(|number| {
                let stand = &stand;
                let coding = ["gzip", "br", "zstd"][number % 3];
                scope.spawn(move || decoded(&ask(stand, "/", &accept(coding)), coding))
            })
            .collect();
        gate.open();
        for client in crowd {
            assert!(client.join().unwrap() == page());
        }
    });
    assert_eq!(count(&stand, "/"), 1);
}

#[test]
fn what_is_not_compressed_elsewhere_is_not_here() {
    let stand = stand(|request| match request.head.target.as_str() {
        "/image" => Answer::bytes(message(
            "Cache-Control: max-age=9|Content-Type: image/png",
            &[0; 5000],
        )),
        "/short" => Answer::bytes(message(
            "Cache-Control: max-age=9|Content-Type: text/html",
            &[0; 100],
        )),
        "/coded" => Answer::bytes(message(
            "Cache-Control: max-age=9|Content-Type: text/html|Content-Encoding: x|Vary: Accept-Encoding",
            &[0; 5000],
        )),
        "/fixed" => Answer::bytes(message(
            "Cache-Control: max-age=9, no-transform|Content-Type: text/html",
            &[0; 5000],
        )),
        _ => Answer::bytes(message(
            "Cache-Control: public, max-age=9|Content-Type: text/html",
            &[b'x'; 5000],
        )),
    });
    for (target, coding) in [
        ("/image", None),
        ("/short", None),
        ("/coded", Some("x")),
        ("/fixed", None),
    ] {
        for _ in 0..2 {
            let answer = ask(&stand, target, &accept("gzip"));
            assert_eq!(answer.field("content-encoding"), coding, "{target}");
        }
        assert_eq!(count(&stand, target), 1, "{target}");
    }
    // What a server has coded is for those who asked like that.
    let _ = ask(&stand, "/coded", "");
    assert_eq!(count(&stand, "/coded"), 2);
    // Secrets: whoever says who he is gets no lengths that tell.
    for _ in 0..2 {
        let answer = ask(&stand, "/public", "Authorization: x|Accept-Encoding: gzip");
        assert_eq!(answer.field("content-encoding"), None);
    }
}

/// A server that dies in the middle tears every form, and the next request has all of it.
#[test]
fn what_is_torn_is_torn_in_every_coding() {
    let stand = stand(|request| {
        let whole = html("");
        match request.head.fields.first("x-torn") {
            Some(_) => Answer::bytes(&whole[..whole.len() / 2]).then(Step::Reset),
            None => Answer::bytes(whole),
        }
    });
    let mut client = stand.connect();
    client
        .send("GET / HTTP/1.1\r\nHost: a.example\r\nX-Torn: 1\r\nAccept-Encoding: gzip\r\n\r\n")
        .unwrap();
    assert!(client.try_response("GET").is_err());
    assert!(decoded(&ask(&stand, "/", &accept("gzip")), "gzip") == page());
    assert_eq!(count(&stand, "/"), 2);
}

#[test]
fn a_confirmation_keeps_the_codings() {
    let stand = stand(|request| match request.head.fields.first("if-none-match") {
        Some(_) => Answer::bytes(
            "HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=1000\r\nVary: Accept-Encoding\r\n\r\n",
        ),
        None => {
            let text = String::from_utf8(html("Age: 2000|Vary: Accept-Encoding")).unwrap();
            Answer::bytes(text)
        }
    });
    for (coding, asked) in [("gzip", 1), ("gzip", 2), ("br", 2), ("gzip", 2)] {
        let answer = ask(&stand, "/", &accept(coding));
        assert!(decoded(&answer, coding) == page(), "{}", status(&answer));
        assert_eq!(count(&stand, "/"), asked);
    }
}

/// Answers whose length nobody knows are compressed on their way, and from the store then.
#[test]
fn chunked_answers_are_kept_and_coded_too() {
    let stand = stand(|_| {
        let page = page();
        Answer::bytes(format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=1000\r\nContent-Type: text/html\r\n\
             Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{page}\r\n0\r\n\r\n",
            page.len()
        ))
    });
    assert!(decoded(&ask(&stand, "/", &accept("gzip")), "gzip") == page());
    wait::expect("it to be stored", SOON, || is_hit(&ask(&stand, "/", "")));
    for coding in ["gzip", "br"] {
        let hit = ask(&stand, "/", &accept(coding));
        assert!(is_hit(&hit) && decoded(&hit, coding) == page());
    }
    assert_eq!(count(&stand, "/"), 1);
}

/// Bodies of which nothing is left by a coding are sent as they are, or in the coding, but whole.
#[test]
fn bodies_that_do_not_get_shorter_arrive_whole() {
    let noise: Vec<u8> = (0..200_000_u64)
        .map(|at| {
            at.wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .wrapping_mul(at ^ (at << 7))
                .to_be_bytes()[1]
        })
        .collect();
    let text: String = noise
        .iter()
        .map(|byte| char::from(b'!' + byte % 90))
        .collect();
    let served = text.clone();
    let stand = stand(move |_| {
        Answer::bytes(message(
            "Cache-Control: max-age=9|Content-Type: text/html",
            served.as_bytes(),
        ))
    });
    for coding in ["gzip", "br", "zstd"] {
        for _ in 0..2 {
            assert!(decoded(&ask(&stand, "/", &accept(coding)), coding) == text);
        }
    }
}
