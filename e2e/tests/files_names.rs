//! Answers that are files: what names reach, and what they never do.

use plimsoll_e2e::plimsoll::Start;
use plimsoll_e2e::raw::{PATIENCE, Raw};
use plimsoll_e2e::recorder::{Recorder, Request};
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::web::{PLAIN, Web, ask, get, noise, tag};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

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
