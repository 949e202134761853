//! Answers that are files: what is sent of them.

use plimsoll_e2e::body::digest;
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::raw::{PATIENCE, Raw};
use plimsoll_e2e::wait;
use plimsoll_e2e::web::{DATE, PLAIN, Web, ask, get, noise, tag};
use plimsoll_e2e::wire::Close;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

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
