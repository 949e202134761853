//! Answers that are compressed on their way. curl and Python decode them.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{PATIENCE, Raw};
use plimsoll_e2e::recorder::{Recorder, Request};
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::wire::Response;
use std::io::Write;
use std::process::{Command, Stdio};

const HTML: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n";

fn page() -> String {
    (0..20_000)
        .map(|at| format!("<p>line {at} of a page\n"))
        .collect()
}

/// Plimsoll in front of a server that answers so.
fn before(
    compress: &str,
    script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> (Plimsoll, Recorder) {
    let server = Recorder::start(script);
    let plimsoll = Start::run(&format!(
        "admin off\nworkers 1\nsite * {{ listen 127.0.0.1:{{port}}; log {{dir}}/access.log\n\
         route {{ {compress}; proxy {} }} }}\n",
        server.address()
    ))
    .start();
    (plimsoll, server)
}

fn ask(plimsoll: &Plimsoll, method: &str, lines: &str) -> Response {
    let mut client = Raw::connect(plimsoll.address());
    client
        .send(format!("{method} / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
        .unwrap();
    client.response(method)
}

/// What Python makes of gzip, all of it or as far as it goes.
fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let program = "import sys,zlib; d=zlib.decompressobj(31); sys.stdout.buffer.write(d.decompress(sys.stdin.buffer.read()))";
    let mut command = Command::new("python3");
    command
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("install the Debian package python3");
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

/// A page with all that has to change when it is compressed.
fn tagged(_: &Request) -> Answer {
    let page = page();
    Answer::bytes(format!(
        "{HTML}ETag: \"a\"\r\nVary: Cookie\r\nAccept-Ranges: bytes\r\nContent-Length: {}\r\n\r\n{page}",
        page.len()
    ))
}

#[test]
fn clients_get_what_they_like_best() {
    let (plimsoll, _server) = before("compress", tagged);
    for (accepted, coding) in [
        ("gzip", Some("gzip")),
        ("br", Some("br")),
        ("zstd", Some("zstd")),
        ("gzip;q=0.5, br;q=0.1", Some("gzip")),
        ("identity", None),
        ("gzip;q=0", None),
    ] {
        let response = ask(
            &plimsoll,
            "GET",
            &format!("Accept-Encoding: {accepted}\r\n"),
        );
        assert_eq!(response.field("Content-Encoding"), coding, "{accepted}");
        assert_eq!(
            response.field("Vary"),
            Some("Cookie, Accept-Encoding"),
            "{accepted}"
        );
        let weak = coding.map_or("\"a\"", |_| "W/\"a\"");
        assert_eq!(response.field("ETag"), Some(weak), "{accepted}");
        let ranges = response.field("Accept-Ranges");
        assert_eq!(ranges.is_none(), coding.is_some(), "{accepted}");
        let length = response.body.bytes.len();
        assert_eq!(
            length < page().len() / 4,
            coding.is_some(),
            "{accepted}: {length}"
        );
        if coding == Some("gzip") {
            assert!(
                gunzip(&response.body.bytes) == page().as_bytes(),
                "{accepted}"
            );
        }
        let head = ask(
            &plimsoll,
            "HEAD",
            &format!("Accept-Encoding: {accepted}\r\n"),
        );
        assert_eq!(head.field("Content-Encoding"), coding, "{accepted}");
        assert_eq!(
            head.field("Content-Length").is_none(),
            coding.is_some(),
            "{accepted}"
        );
    }
}

#[test]
fn programs_decode_what_is_sent_and_counted() {
    let (plimsoll, _server) = before("compress", tagged);
    let url = format!("http://{}/", plimsoll.address());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let mut command = Command::new("curl");
        command.args(["-sS", "--noproxy", "*", "--compressed", version, &url]);
        let output = command.output().expect("install the Debian package curl");
        assert!(
            output.status.success() && output.stdout == page().as_bytes(),
            "{version}"
        );
    }
    let log = plimsoll.wait_log("access.log", 2, PATIENCE);
    let bytes: Vec<u64> = log
        .iter()
        .filter_map(|line| {
            line.split("\"res_bytes\":")
                .nth(1)?
                .split(',')
                .next()?
                .parse()
                .ok()
        })
        .collect();
    assert!(
        bytes[0] > 0 && bytes[0] < 200_000,
        "what was sent is counted: {bytes:?}"
    );
}

#[test]
fn what_has_come_is_sent_before_a_wait() {
    let gate = Gate::new();
    let held = gate.clone();
    let script = move |_: &Request| {
        Answer::bytes(format!(
            "{HTML}Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nfirst\r\n"
        ))
        .then(Step::Await(held.clone()))
        .then(Step::Send(
            b"6\r\nsecond\r\n0\r\nX-Sum: 11\r\n\r\n".to_vec(),
        ))
    };
    let (plimsoll, _server) = before("compress", script);
    let mut client = Raw::connect(plimsoll.address());
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
        .unwrap();
    let mut came = Vec::new();
    let decoded = |came: &[u8]| {
        let start = came
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .map(|at| at + 4);
        let mut rest = start.map_or(&[][..], |start| &came[start..]);
        let mut body = Vec::new();
        while let Some(at) = rest.windows(2).position(|end| end == b"\r\n") {
            let size =
                usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
            let Some(chunk) = rest.get(at + 2..at + 2 + size).filter(|_| size > 0) else {
                break;
            };
            body.extend_from_slice(chunk);
            rest = rest.get(at + 4 + size..).unwrap_or_default();
        }
        gunzip(&body)
    };
    // The server waits, and so would the client if anything was held back.
    while decoded(&came) != b"first" {
        came.extend(client.read_at_least(1, PATIENCE).unwrap());
    }
    gate.open();
    while !came.ends_with(b"\r\n0\r\nX-Sum: 11\r\n\r\n") {
        came.extend(client.read_at_least(1, PATIENCE).unwrap());
    }
    assert_eq!(decoded(&came), b"firstsecond");
}

#[test]
fn what_must_not_change_passes_as_it_is() {
    let script = |request: &Request| {
        let page = page();
        let more = request
            .head
            .fields
            .first("X-More")
            .unwrap_or("A: b")
            .to_owned();
        let length = page.len();
        Answer::bytes(format!(
            "{HTML}{more}\r\nContent-Length: {length}\r\n\r\n{page}"
        ))
    };
    let (plimsoll, _server) = before("compress", script);
    for (lines, is_coded) in [
        ("X-More: B: c", true),
        ("X-More: Content-Encoding: br", false),
        ("X-More: Cache-Control: no-transform", false),
        ("X-More: Set-Cookie: a=b", false),
        ("Authorization: Basic YTpi", false),
        ("Cache-Control: no-transform", false),
    ] {
        let response = ask(
            &plimsoll,
            "GET",
            &format!("Accept-Encoding: gzip\r\n{lines}\r\n"),
        );
        let coding = response.field("Content-Encoding");
        assert_eq!(coding == Some("gzip"), is_coded, "{lines}");
        assert_eq!(
            response.body.bytes.len() == page().len(),
            !is_coded,
            "{lines}"
        );
    }
    let (plimsoll, _server) = before("compress gzip secrets", |_| {
        let page = page();
        Answer::bytes(format!(
            "{HTML}Set-Cookie: a=b\r\nContent-Length: {}\r\n\r\n{page}",
            page.len()
        ))
    });
    let response = ask(&plimsoll, "GET", "Accept-Encoding: br, gzip\r\n");
    assert_eq!(response.field("Content-Encoding"), Some("gzip"));
}

#[test]
fn a_body_that_ends_with_its_connection_has_an_end_in_its_coding() {
    let authority = Authority::make("DNS:a.example");
    let server = Recorder::start(|_| {
        Answer::bytes(format!("{HTML}Connection: close\r\n\r\n{}", page())).then(Step::Close)
    });
    let plimsoll = Start::run(&format!(
        "admin off\nsite a.example {{ listen 127.0.0.1:{{port}}; tls {} {}\n\
         route {{ compress; response-buffer 64KiB; proxy {} }} }}\n",
        authority.certificate(),
        authority.key(),
        server.address()
    ))
    .start();
    for version in ["--http1.1", "--http2"] {
        let body = plimsoll_e2e::tls::curl(
            &plimsoll,
            &authority,
            "https://a.example/",
            &["--compressed", version],
        );
        assert_eq!(body, Some(format!("{} 200", page())), "{version}");
    }
}

#[test]
fn files_are_compressed_once() {
    let web = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &[u8]| std::fs::write(web.path().join(name), content).unwrap();
    let (page, long) = (page(), page().repeat(4));
    put("index.html", &page.as_bytes()[..30_000]);
    put("page.html", page.as_bytes());
    put("long.html", long.as_bytes());
    put("a.png", page.as_bytes());
    put("short.html", b"short");
    put("own.html", page.as_bytes());
    put("own.html.gz", b"own");
    let plimsoll = Start::run(&format!(
        "admin off\nworkers 1\nsite * {{ listen 127.0.0.1:{{port}}; compress gzip\n\
         route {{ files {} precompressed }} }}\n",
        web.path().display()
    ))
    .start();
    let get = |path: &str, lines: &str| {
        let mut client = Raw::connect(plimsoll.address());
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n{lines}\r\n");
        client.send(request).unwrap();
        client.response("GET")
    };
    for (path, content) in [
        ("/", &page.as_bytes()[..30_000]),
        ("/page.html", page.as_bytes()),
        ("/page.html", page.as_bytes()),
    ] {
        let response = get(path, "");
        assert_eq!(response.field("Content-Encoding"), Some("gzip"), "{path}");
        assert_eq!(response.field("Vary"), Some("Accept-Encoding"), "{path}");
        let length = response.field("Content-Length").unwrap().parse();
        assert_eq!(Ok(response.body.bytes.len()), length, "{path}");
        assert!(gunzip(&response.body.bytes) == content, "{path}");
    }
    let whole = get("/page.html", "");
    let tag = whole.field("ETag").unwrap();
    assert!(tag.starts_with("W/"), "{tag}");
    let response = get("/page.html", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!(
        (response.status(), response.field("ETag")),
        (304, Some(tag))
    );
    let response = get("/page.html", "Range: bytes=5-9\r\n");
    assert_eq!(
        (response.status(), &*response.body.bytes),
        (206, &whole.body.bytes[5..10])
    );
    for path in ["/long.html", "/a.png", "/short.html"] {
        assert_eq!(get(path, "").field("Content-Encoding"), None, "{path}");
    }
    assert_eq!(get("/own.html", "").text(), "own");
    put("page.html", b"another");
    plimsoll_e2e::wait::expect("the other page", PATIENCE, || {
        get("/page.html", "").text() == "another"
    });
}
