//! Answers that are files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::body::digest;
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{PATIENCE, Raw};
use plimsoll_e2e::recorder::{Recorder, Request};
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::{Close, Response};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};
use tempfile::TempDir;

/// Sunday, 6 November 1994, 08:49:37 GMT.
const CHANGED: u64 = 784_111_777;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A directory with files, and another one beside it.
struct Web(TempDir);

impl Web {
    fn new() -> Self {
        let web = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(web.path("www")).unwrap();
        web
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that was changed in 1994.
    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path("www").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let changed = UNIX_EPOCH + Duration::from_secs(CHANGED);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(changed)
            .unwrap();
        self
    }

    fn serve(&self, route: &str) -> Plimsoll {
        self.serve_with("", route)
    }

    fn serve_with(&self, site: &str, route: &str) -> Plimsoll {
        Start::run(&format!(
            "admin off\nworkers 1\nsite * {{ listen 127.0.0.1:{{port}}; log {{dir}}/access.log; {site}\n{route}\n}}\n"
        ))
        .set("www", self.path("www").display())
        .start()
    }
}

const PLAIN: &str = "route { files {www} }";

fn ask(plimsoll: &Plimsoll, method: &str, target: &str, lines: &str) -> Response {
    let mut client = Raw::connect(plimsoll.address());
    let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    client.send(request).unwrap();
    client.response(method)
}

fn get(plimsoll: &Plimsoll, target: &str) -> Response {
    ask(plimsoll, "GET", target, "")
}

fn tag(size: usize) -> String {
    format!("\"{:x}-{size:x}\"", CHANGED * 1_000_000_000)
}

/// Bytes that differ from place to place.
fn noise(length: usize) -> Vec<u8> {
    let low = |number: usize| u8::try_from(number % 251).unwrap();
    (0..length).map(|at| low(at) ^ low(at / 65_536)).collect()
}

#[test]
fn a_file_is_sent_as_it_is() {
    let web = Web::new();
    let plimsoll = web.put("a.html", "<p>hello\n").serve(PLAIN);
    let response = get(&plimsoll, "/a.html");
    let head = String::from_utf8(response.raw_head.clone()).unwrap();
    let head: Vec<&str> = head
        .lines()
        .filter(|line| !line.starts_with("Date: ") && !line.starts_with("X-Request-ID: "))
        .collect();
    let expected = format!(
        "HTTP/1.1 200 OK\nServer: plimsoll\nContent-Type: text/html; charset=utf-8\nContent-Length: 9\n\
         Last-Modified: {DATE}\nETag: {}\nAccept-Ranges: bytes\n",
        tag(9)
    );
    assert_eq!(head.join("\n"), expected);
    assert_eq!(response.text(), "<p>hello\n");
    let response = ask(&plimsoll, "HEAD", "/a.html", "");
    assert_eq!(response.field("Content-Length"), Some("9"));
    assert_eq!(response.text(), "");
    let log = plimsoll.wait_log("access.log", 2, PATIENCE);
    assert!(
        log[0].contains("\"status\":200") && log[0].contains("\"res_bytes\":9"),
        "{log:?}"
    );
    assert!(!log[0].contains("\"reason\""), "{log:?}");
}

#[test]
fn requests_on_one_connection_are_answered_in_turn() {
    let web = Web::new();
    let long = noise(1_000_000);
    let plimsoll = web
        .put("a", "a")
        .put("long", &long)
        .put("empty", "")
        .serve(PLAIN);
    let mut client = Raw::connect(plimsoll.address());
    let request = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let all = ["/a", "/long", "/empty", "/none", "/long", "/a"];
    let text: String = all.iter().map(|target| request(target)).collect();
    client.send(text).unwrap();
    for target in all {
        let response = client.response("GET");
        let expected: &[u8] = match target {
            "/a" => b"a",
            "/long" => &long,
            "/empty" => b"",
            _ => {
                assert_eq!(response.status(), 404);
                continue;
            }
        };
        assert_eq!(response.status(), 200, "{target}");
        assert_eq!(response.body.bytes, expected, "{target}");
    }
}

#[test]
fn files_are_only_read() {
    let web = Web::new();
    let plimsoll = web.put("a", "a").serve(PLAIN);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let response = ask(&plimsoll, method, "/a", "Content-Length: 0\r\n");
        assert_eq!(response.status(), 405, "{method}");
        assert_eq!(response.field("Allow"), Some("GET, HEAD"), "{method}");
    }
}

#[test]
fn clients_that_have_a_file_are_told_so() {
    let web = Web::new();
    let plimsoll = web.put("a", "abc").serve(PLAIN);
    let (same, other) = (tag(3), tag(4));
    for (lines, status) in [
        (format!("If-None-Match: {same}\r\n"), 304),
        (format!("If-None-Match: W/{same}\r\n"), 304),
        (format!("If-None-Match: {other}\r\n"), 200),
        (format!("If-Modified-Since: {DATE}\r\n"), 304),
        (
            format!("If-None-Match: {other}\r\nIf-Modified-Since: {DATE}\r\n"),
            200,
        ),
        (format!("If-Match: {same}\r\n"), 200),
        (format!("If-Match: {other}\r\n"), 412),
        (
            "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n".to_owned(),
            412,
        ),
    ] {
        let response = ask(&plimsoll, "GET", "/a", &lines);
        assert_eq!(response.status(), status, "{lines}");
        if status == 304 {
            assert_eq!(response.field("ETag"), Some(&*same), "{lines}");
            assert_eq!(response.field("Content-Length"), None, "{lines}");
        }
    }
}

#[test]
fn parts_of_a_file_are_sent() {
    let web = Web::new();
    let long = noise(300_000);
    let plimsoll = web
        .put("a.txt", "0123456789")
        .put("long", &long)
        .serve(PLAIN);
    for (range, part, body) in [
        ("0-0", "0-0", "0"),
        ("2-4", "2-4", "234"),
        ("7-", "7-9", "789"),
        ("-2", "8-9", "89"),
        ("0-", "0-9", "0123456789"),
        ("3-99", "3-9", "3456789"),
    ] {
        let response = ask(
            &plimsoll,
            "GET",
            "/a.txt",
            &format!("Range: bytes={range}\r\n"),
        );
        assert_eq!(response.status(), 206, "{range}");
        let expected = format!("bytes {part}/10");
        assert_eq!(response.field("Content-Range"), Some(&*expected), "{range}");
        assert_eq!(response.text(), body, "{range}");
    }
    let response = ask(&plimsoll, "GET", "/long", "Range: bytes=100000-299998\r\n");
    assert_eq!(response.body.bytes, long[100_000..299_999]);
    let response = ask(&plimsoll, "GET", "/a.txt", "Range: bytes=10-\r\n");
    assert_eq!(response.status(), 416);
    assert_eq!(response.field("Content-Range"), Some("bytes */10"));
    let many: Vec<String> = (0..40).map(|n| format!("{0}-{0}", n * 1000)).collect();
    for lines in [
        "Range: items=0-1\r\n".to_owned(),
        "Range: bytes=4-2\r\n".to_owned(),
        "Range: bytes=0-1\r\nRange: bytes=2-3\r\n".to_owned(),
        format!("Range: bytes={}\r\n", many.join(",")),
        format!("Range: bytes=0-1\r\nIf-Range: {}\r\n", tag(5)),
    ] {
        let response = ask(&plimsoll, "GET", "/long", &lines);
        assert_eq!(
            (response.status(), response.body.bytes.len()),
            (200, long.len()),
            "{lines}"
        );
    }
    let lines = format!("Range: bytes=0-1\r\nIf-Range: {}\r\n", tag(10));
    assert_eq!(ask(&plimsoll, "GET", "/a.txt", &lines).status(), 206);
    let lines = format!("Range: bytes=0-1\r\nIf-Range: {DATE}\r\n");
    assert_eq!(ask(&plimsoll, "GET", "/a.txt", &lines).status(), 206);
    assert_eq!(
        ask(&plimsoll, "HEAD", "/a.txt", "Range: bytes=0-1\r\n").status(),
        200
    );
}

#[test]
fn several_parts_are_sent_as_one_body() {
    let web = Web::new();
    let long = noise(300_000);
    let plimsoll = web
        .put("small.txt", &long[..1000])
        .put("long", &long)
        .serve(PLAIN);
    for (target, size, media) in [
        ("/small.txt", 1000, "text/plain; charset=utf-8"),
        ("/long", 300_000, "application/octet-stream"),
    ] {
        let lines = "Range: bytes=0-3,500-509,200-200\r\n";
        let response = ask(&plimsoll, "GET", target, lines);
        assert_eq!(response.status(), 206, "{target}");
        let kind = response.field("Content-Type").unwrap().to_owned();
        let boundary = kind
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        let mut expected = Vec::new();
        for part in [0..4, 200..201, 500..510] {
            let (first, last) = (part.start, part.end - 1);
            let head = format!(
                "\r\n--{boundary}\r\nContent-Type: {media}\r\nContent-Range: bytes {first}-{last}/{size}\r\n\r\n"
            );
            expected.extend_from_slice(head.as_bytes());
            expected.extend_from_slice(&long[part]);
        }
        expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert_eq!(response.body.bytes, expected, "{target}");
    }
}

#[test]
fn directories_have_an_index_or_a_listing() {
    let web = Web::new();
    web.put("index.html", "top")
        .put("sub/index.html", "sub")
        .put("list/b", "bb");
    web.put("list/<a>&", "a")
        .put("list/.hidden", "")
        .put("list/c/d", "");
    symlink("../sub", web.path("www/list/in")).unwrap();
    symlink("/etc", web.path("www/list/out")).unwrap();
    let plain = web.serve(PLAIN);
    assert_eq!(get(&plain, "/").text(), "top");
    assert_eq!(get(&plain, "/sub/").text(), "sub");
    assert_eq!(get(&plain, "/sub/index.html").text(), "sub");
    let response = get(&plain, "/sub?a=b");
    assert_eq!(response.status(), 301);
    assert_eq!(response.field("Location"), Some("/sub/?a=b"));
    assert_eq!(get(&plain, "/list/").status(), 404);
    assert_eq!(get(&plain, "/sub/index.html/").status(), 404);
    let listing = web.serve("route { files {www} listing }");
    assert_eq!(get(&listing, "/sub/").text(), "sub");
    let response = get(&listing, "/list/");
    assert_eq!(
        response.field("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    let page = response.text();
    let rows: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("<tr><td>"))
        .map(|row| row.split("<td>").next().unwrap())
        .collect();
    assert_eq!(
        rows,
        [
            "<a href=\"../\">../</a>",
            "<a href=\"./c/\">c/</a>",
            "<a href=\"./in/\">in/</a>",
            "<a href=\"./%3Ca%3E%26\">&lt;a&gt;&amp;</a>",
            "<a href=\"./b\">b</a>",
        ]
    );
    assert_eq!(get(&listing, "/none/").status(), 404);
    assert_eq!(
        ask(&listing, "HEAD", "/list/", "").field("Content-Length"),
        Some(&*page.len().to_string())
    );
}

#[test]
fn others_are_tried_where_there_is_no_file() {
    let web = Web::new();
    web.put("index.html", "app")
        .put("about.html", "about")
        .put("a.js", "js");
    let plimsoll = web.serve("route { files {www} try=.html,/index.html }");
    for (target, body) in [
        ("/a.js", "js"),
        ("/about", "about"),
        ("/users/12", "app"),
        ("/users/12/", "app"),
        ("/.env", ""),
    ] {
        assert_eq!(
            get(&plimsoll, target).text().as_str() == body,
            !body.is_empty(),
            "{target}"
        );
    }
}

#[test]
fn the_path_names_the_file_as_rules_have_left_it() {
    let web = Web::new();
    web.put("static/a", "whole")
        .put("a", "stripped")
        .put("b/index.html", "b");
    let plimsoll = web.serve(
        "route /static/* { files {www} }\nroute /s/* { strip-prefix /s; files {www} immutable=/s/a }",
    );
    assert_eq!(get(&plimsoll, "/static/a").text(), "whole");
    let response = get(&plimsoll, "/s/a");
    assert_eq!(response.text(), "stripped");
    assert_eq!(
        response.field("Cache-Control"),
        Some("public, max-age=31536000, immutable")
    );
    let response = get(&plimsoll, "/s/b");
    assert_eq!(response.field("Location"), Some("/s/b/"));
    assert_eq!(response.field("Cache-Control"), None);
}

#[test]
fn what_lies_beside_a_file_is_the_same_in_a_coding() {
    let web = Web::new();
    web.put("a.js", "plain")
        .put("a.js.br", "brotli")
        .put("a.js.gz", "gzip")
        .put("b.js", "b");
    let plimsoll = web.serve("route { files {www} precompressed }");
    for (accepted, body, coding, tag) in [
        ("", "plain", None, tag(5)),
        (
            "Accept-Encoding: gzip, br\r\n",
            "brotli",
            Some("br"),
            tag(6),
        ),
        (
            "Accept-Encoding: gzip, br;q=0.5\r\n",
            "gzip",
            Some("gzip"),
            tag(4),
        ),
        ("Accept-Encoding: zstd\r\n", "plain", None, tag(5)),
        ("Accept-Encoding: br;q=0\r\n", "plain", None, tag(5)),
    ] {
        let response = ask(&plimsoll, "GET", "/a.js", accepted);
        assert_eq!(response.text(), body, "{accepted}");
        assert_eq!(response.field("Content-Encoding"), coding, "{accepted}");
        assert_eq!(
            response.field("Vary"),
            Some("Accept-Encoding"),
            "{accepted}"
        );
        assert_eq!(
            response.field("Content-Type"),
            Some("text/javascript; charset=utf-8"),
            "{accepted}"
        );
        let tag = match coding {
            Some(coding) => format!("{}-{coding}\"", tag.trim_end_matches('"')),
            None => tag,
        };
        assert_eq!(response.field("ETag"), Some(&*tag), "{accepted}");
    }
    let response = ask(
        &plimsoll,
        "GET",
        "/a.js",
        "Accept-Encoding: br\r\nRange: bytes=0-2\r\n",
    );
    assert_eq!((response.status(), &*response.text()), (206, "bro"));
    let response = ask(&plimsoll, "GET", "/b.js", "Accept-Encoding: br\r\n");
    assert_eq!(
        (response.text(), response.field("Vary")),
        ("b".to_owned(), Some("Accept-Encoding"))
    );
}

#[test]
fn nothing_leads_out_of_the_directory() {
    let web = Web::new();
    fs::write(web.path("secret"), "secret").unwrap();
    web.put("a", "a")
        .put("sub/b", "b")
        .put(".env", "secret")
        .put(".git/config", "secret");
    web.put(".well-known/security.txt", "known")
        .put("a.", "dot")
        .put("b ", "blank");
    let www = |name: &str| web.path("www").join(name);
    symlink(web.path("secret"), www("absolute")).unwrap();
    symlink("../secret", www("relative")).unwrap();
    symlink("..", www("parent")).unwrap();
    symlink("/proc/self/environ", www("proc")).unwrap();
    symlink("/proc/self/root/etc/passwd", www("magic")).unwrap();
    symlink("sub/b", www("inside")).unwrap();
    fs::hard_link(www("a"), www("hard")).unwrap();
    let _socket = UnixListener::bind(www("socket")).unwrap();
    let made = Command::new("mkfifo").arg(www("pipe")).status().unwrap();
    assert!(made.success());
    let plimsoll = web.serve(PLAIN);
    for (target, body) in [
        ("/inside", "b"),
        ("/hard", "a"),
        ("/sub/../a", "a"),
        ("/a.", "dot"),
        ("/b%20", "blank"),
        ("/.well-known/security.txt", "known"),
    ] {
        assert_eq!(get(&plimsoll, target).text(), body, "{target}");
    }
    for (target, status) in [
        ("/../secret", 400),
        ("/%2e%2e/secret", 400),
        ("/sub/../../secret", 400),
        ("/..%2fsecret", 400),
        ("/%2e%2e%5csecret", 400),
        ("/a%00.html", 400),
        ("/..;/secret", 400),
        ("/.../secret", 404),
        ("/%252e%252e/secret", 404),
        ("/absolute", 404),
        ("/relative", 404),
        ("/parent/secret", 404),
        ("/proc", 404),
        ("/magic", 404),
        ("/socket", 404),
        ("/pipe", 404),
        ("/.env", 404),
        ("/%2eenv", 404),
        ("/.git/config", 404),
        ("/a/b", 404),
        ("/a ", 400),
        ("/A", 404),
    ] {
        let response = get(&plimsoll, target);
        assert_eq!(response.status(), status, "{target}");
        assert!(!response.text().contains("secret"), "{target}");
    }
}

#[test]
fn a_link_that_is_turned_round_meanwhile_leads_nowhere_else() {
    const ROUNDS: usize = 2000;
    let web = Web::new();
    for number in 0..ROUNDS {
        web.put(&format!("inside/{number}"), "inside");
    }
    fs::create_dir(web.path("outside")).unwrap();
    for number in 0..ROUNDS {
        fs::write(web.path("outside").join(number.to_string()), "secret").unwrap();
    }
    symlink("inside", web.path("www/link")).unwrap();
    let plimsoll = web.serve(PLAIN);
    let ends = Arc::new(AtomicBool::new(false));
    let (stop, www) = (Arc::clone(&ends), web.path("www"));
    let turner = thread::spawn(move || {
        for target in ["../outside", "inside"].iter().cycle() {
            symlink(target, www.join("next")).unwrap();
            fs::rename(www.join("next"), www.join("link")).unwrap();
            if stop.load(Relaxed) {
                return;
            }
        }
    });
    let mut client = Raw::connect(plimsoll.address());
    let mut seen = 0;
    for number in 0..ROUNDS {
        client
            .send(format!("GET /link/{number} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .unwrap();
        let response = client.response("GET");
        match response.status() {
            200 => assert_eq!(response.text(), "inside"),
            status => assert_eq!(status, 404),
        }
        seen += usize::from(response.status() == 200);
    }
    ends.store(true, Relaxed);
    turner.join().unwrap();
    assert!(seen < ROUNDS, "the link was never seen to lead out");
}

#[test]
fn a_long_file_arrives_whole_however_it_is_asked_for() {
    let web = Web::new();
    let long = noise(5 << 20);
    let authority = Authority::make("DNS:a.example");
    let site = format!("tls {} {}", authority.certificate(), authority.key());
    let plain = web.put("long.bin", &long).serve(PLAIN);
    let secure = web.serve_with(&site, PLAIN);
    let url = format!("http://{}/long.bin", plain.address());
    let to = format!("::127.0.0.1:{}", secure.address().port());
    let trusted = authority.trusted();
    let over_tls = ["--cacert", &trusted, "--connect-to", &to];
    let secure_url = "https://a.example/long.bin";
    let runs: [(&[&str], &str); 5] = [
        (&["--http1.1"], &url),
        (&["--http2-prior-knowledge"], &url),
        (&["--http1.1"], secure_url),
        (&["--http2"], secure_url),
        (&["--http2", "--range", "1000000-"], secure_url),
    ];
    for (options, url) in runs {
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--noproxy", "*", "--max-time", "60"])
            .args(options);
        if url == secure_url {
            command.args(over_tls);
        }
        let output = command
            .arg(url)
            .output()
            .expect("install the Debian package curl");
        assert!(output.status.success(), "{options:?} {url}: {output:?}");
        let start = if options.contains(&"--range") {
            1_000_000
        } else {
            0
        };
        assert_eq!(
            digest(&output.stdout),
            digest(&long[start..]),
            "{options:?} {url}"
        );
    }
}

#[test]
fn a_file_that_is_cut_off_ends_its_connection() {
    let web = Web::new();
    let path = web.path("www/long");
    let file = File::create(&path).unwrap();
    file.set_len(64 << 20).unwrap();
    let plimsoll = web.serve(PLAIN);
    let mut client = Raw::connect_narrow(plimsoll.address(), 16 * 1024);
    client
        .send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let first = client.read_at_least(1000, PATIENCE).unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200 OK\r\n"));
    file.set_len(32 << 20).unwrap();
    let rest = client.read_to_close(PATIENCE * 6);
    assert_eq!(rest.close, Close::Reset);
    assert!(
        rest.bytes.len() < 33 << 20,
        "nothing is made up: {}",
        rest.bytes.len()
    );
    let log = plimsoll.wait_log("access.log", 1, PATIENCE);
    assert!(log[0].contains("http_response_incomplete"), "{log:?}");
}

#[test]
fn a_file_that_grows_is_sent_as_long_as_was_said() {
    let web = Web::new();
    let path = web.path("www/long");
    let file = File::create(&path).unwrap();
    file.set_len(16 << 20).unwrap();
    let plimsoll = web.serve(PLAIN);
    let mut client = Raw::connect_narrow(plimsoll.address(), 16 * 1024);
    client
        .send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    file.set_len(32 << 20).unwrap();
    let response = client.try_response_within("GET", PATIENCE * 6).unwrap();
    let announced = response.field("Content-Length").unwrap().parse();
    assert_eq!(Ok(response.body.length), announced);
    client
        .send("GET /long HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let response = client.try_response_within("GET", PATIENCE * 6).unwrap();
    assert_eq!(response.body.length, 32 << 20);
}

#[test]
fn what_changes_is_seen() {
    let web = Web::new();
    for release in ["one", "two"] {
        fs::create_dir(web.path(release)).unwrap();
        fs::write(web.path(release).join("a"), release).unwrap();
    }
    fs::remove_dir(web.path("www")).unwrap();
    let lead_to = |target: &str| {
        symlink(target, web.path("next")).unwrap();
        fs::rename(web.path("next"), web.path("www")).unwrap();
    };
    lead_to("one");
    let plimsoll = web.serve(PLAIN);
    let expect = |text: &str| {
        wait::expect(text, PATIENCE, || get(&plimsoll, "/a").text() == text);
    };
    expect("one");
    fs::write(web.path("one/a"), "another one").unwrap();
    expect("another one");
    lead_to("two");
    expect("two");
    fs::remove_file(web.path("two/a")).unwrap();
    wait::expect("nothing", PATIENCE, || get(&plimsoll, "/a").status() == 404);
    let long = web.path("two/long");
    fs::write(&long, noise(100_000)).unwrap();
    assert_eq!(get(&plimsoll, "/long").body.bytes.len(), 100_000);
    fs::write(&long, noise(200_000)).unwrap();
    assert_eq!(
        get(&plimsoll, "/long").body.bytes.len(),
        200_000,
        "at once, as it was open"
    );
}

#[test]
fn a_server_may_name_a_file_that_is_sent_in_its_place() {
    let web = Web::new();
    web.put("paid/film.mp4", noise(200_000));
    let answer = |request: &Request| {
        if request.head.target != "/film" {
            return Answer::ok("nothing");
        }
        Answer::bytes(
            "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /paid/film.mp4\r\nContent-Type: video/x-own\r\n\
             Content-Disposition: attachment\r\nContent-Length: 0\r\n\r\n",
        )
    };
    let server = Recorder::start(answer);
    let routes = format!(
        "route /paid/* {{ internal; files {{www}} }}\nroute {{ proxy {} }}",
        server.address()
    );
    let plimsoll = web.serve(&routes);
    let response = ask(&plimsoll, "GET", "/film", "Range: bytes=-5\r\n");
    assert_eq!(response.status(), 206);
    assert_eq!(response.body.bytes, noise(200_000)[199_995..]);
    assert_eq!(response.field("Content-Type"), Some("video/x-own"));
    assert_eq!(response.field("Content-Disposition"), Some("attachment"));
    assert_eq!(get(&plimsoll, "/paid/film.mp4").text(), "nothing");
}

#[test]
fn a_directory_that_is_not_there_is_said_at_the_start() {
    let mut plimsoll =
        Start::run("admin off\nsite * { listen 127.0.0.1:{port}; route { files {dir}/none } }\n")
            .spawn();
    assert_eq!(plimsoll.wait_exit(PATIENCE).code(), Some(78));
    let said = plimsoll.stderr();
    assert!(
        said.contains("cannot serve files from") && said.contains("none"),
        "{said}"
    );
}

#[test]
fn own_pages_and_rules_apply() {
    let web = Web::new();
    web.put("a", "a");
    let page: &Path = &web.path("missing.html");
    fs::write(page, "<p>lost").unwrap();
    let route = format!(
        "route {{ error 404 {}; response-header set X-A b; files {{www}} }}",
        page.display()
    );
    let plimsoll = web.serve(&route);
    let response = get(&plimsoll, "/none");
    assert_eq!((response.status(), &*response.text()), (404, "<p>lost"));
    assert_eq!(get(&plimsoll, "/a").field("X-A"), Some("b"));
}
