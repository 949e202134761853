//! What is shared, and what must never be.

use plimsoll_e2e::cached::{ask, ask_as, echo, is_hit, message, purge_at, stand, status};
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::Stand;

#[test]
fn nothing_is_shared_that_differs_in_what_was_asked() {
    let stand = stand(|request| echo(request, "Cache-Control: max-age=1000"));
    let port = stand.address().port();
    for (target, lines, text) in [
        ("/a", "Host: a.example".to_owned(), "/a a.example "),
        ("/a", "Host: b.example".to_owned(), "/a b.example "),
        (
            "/a",
            format!("Host: a.example:{port}"),
            &*format!("/a a.example:{port} "),
        ),
        ("/a?x=1", "Host: a.example".to_owned(), "/a?x=1 a.example "),
        (
            "/a?x=1&x=2",
            "Host: a.example".to_owned(),
            "/a?x=1&x=2 a.example ",
        ),
        ("/a?", "Host: a.example".to_owned(), "/a? a.example "),
        ("/A", "Host: a.example".to_owned(), "/A a.example "),
        // Another route takes it.
        (
            "/a",
            "Host: a.example|X-Beta: yes".to_owned(),
            "/a a.example yes",
        ),
    ] {
        for is_second in [false, true] {
            let answer = ask_as(&stand, "GET", target, &lines);
            assert_eq!(answer.text(), text, "{target} {lines}");
            assert_eq!(
                is_hit(&answer),
                is_second,
                "{target} {lines} {}",
                status(&answer)
            );
        }
    }
    // And what is the same has one key.
    for (target, lines) in [
        ("/a", "Host: A.EXAMPLE"),
        ("/x/../a", "Host: a.example"),
        ("/%61", "Host: a.example"),
        ("http://a.example/a", "Host: other.example"),
    ] {
        let answer = ask_as(&stand, "GET", target, lines);
        assert!(
            is_hit(&answer) && answer.text() == "/a a.example ",
            "{target} {lines}"
        );
    }
}

/// What servers may take for a part of the target, and no key has, neither reads from the cache nor writes to it.
#[test]
fn poison_is_not_stored() {
    let stand = stand(|request| {
        let fields = &request.head.fields;
        let poison = [
            "x-original-url",
            "x-rewrite-url",
            "x-http-method-override",
            "x-forwarded-scheme",
            "x-host",
        ];
        let is_poisoned = poison.iter().any(|name| fields.first(name).is_some())
            || fields.first("content-length") == Some("1");
        let text = if is_poisoned { "poison" } else { "clean" };
        Answer::bytes(message("Cache-Control: max-age=1000", text.as_bytes()))
    });
    for (number, lines) in [
        "X-Original-URL: /admin",
        "X-Rewrite-Url: /admin",
        "X-HTTP-Method-Override: POST",
        "X-Forwarded-Scheme: nothttps",
        "X-Host: evil.example",
        "X-Forwarded-Host: evil.example",
        "Content-Length: 0",
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/{number}");
        let _ = ask(&stand, &target, lines);
        assert_eq!(ask(&stand, &target, "").text(), "clean", "{lines}");
        assert_eq!(ask(&stand, &target, "").text(), "clean", "{lines}");
    }
    // A body of a GET is a part of what is asked, too.
    let fat = "GET /fat HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\n\r\nx";
    let answer = stand.ask("GET", fat);
    assert_eq!(
        (answer.text().as_str(), status(&answer)),
        ("poison", "plimsoll; fwd=bypass")
    );
    assert_eq!(ask(&stand, "/fat", "").text(), "clean");
    assert!(is_hit(&ask(&stand, "/fat", "")));
    let answer = stand.ask("GET", fat);
    assert_eq!(
        (answer.text().as_str(), status(&answer)),
        ("poison", "plimsoll; fwd=bypass")
    );
}

/// A hit that leaves a body unread ends the connection, as each early answer does.
#[test]
fn access_is_asked_for_before_the_cache() {
    let stand = stand(|request| echo(request, "Cache-Control: max-age=1000"));
    assert_eq!(ask(&stand, "/private/a", "").status(), 403);
    assert_eq!(stand.upstream.requests().len(), 0);
}

#[test]
fn variants_are_kept_apart() {
    let stand = stand(|request| {
        let language = request
            .head
            .fields
            .first("accept-language")
            .unwrap_or("none")
            .to_owned();
        Answer::bytes(message(
            "Cache-Control: max-age=1000|Vary: Accept-Language",
            language.as_bytes(),
        ))
    });
    for language in ["de", "en", "de, en"] {
        for is_second in [false, true] {
            let answer = ask(&stand, "/", &format!("Accept-Language: {language}"));
            assert_eq!(
                (answer.text().as_str(), is_hit(&answer)),
                (language, is_second)
            );
        }
    }
    let answer = ask(&stand, "/", "");
    assert_eq!(
        (answer.text().as_str(), status(&answer)),
        ("none", "plimsoll; fwd=vary-miss; stored")
    );
}

const KEYED: &str = "workers 2\nadmin unix:{dir}/admin.sock 127.0.0.1:{port:admin}\n\
    site a.example { listen 127.0.0.1:{port} ; route { cache c ; proxy app } }\n\
    cache c { key query=sorted without=utm_*,fbclid header=X-Device cookie=theme }\n\
    pool app { server {server} }\n";

/// A server that tells what it was asked.
fn keyed() -> Stand {
    Stand::run(KEYED, |request| match request.head.method.as_str() {
        "GET" => {
            let fields = &request.head.fields;
            let said = |name| fields.first(name).unwrap_or_default().to_owned();
            let text = format!(
                "{} {} {}",
                request.head.target,
                said("x-device"),
                said("cookie")
            );
            Answer::bytes(message("Cache-Control: max-age=1000", text.as_bytes()))
        }
        _ => Answer::status(204, ""),
    })
}

#[test]
fn keys_have_the_parts_that_are_said_and_no_others() {
    let stand = keyed();
    let first = ask(
        &stand,
        "/a?b=2&a=1&utm_source=x",
        "X-Device: m|Cookie: theme=dark; id=1",
    );
    assert_eq!(first.text(), "/a?b=2&a=1&utm_source=x m theme=dark; id=1");
    for (target, lines, is_same) in [
        ("/a?a=1&b=2", "X-Device: m|Cookie: id=2; theme=dark", true),
        (
            "/a?a=1&fbclid=z&b=2",
            "X-Device:  m|Cookie: theme=dark",
            true,
        ),
        ("/a?a=1&b=3", "X-Device: m|Cookie: theme=dark", false),
        ("/a?a=1", "X-Device: m|Cookie: theme=dark", false),
        (
            "/a?b=2&a=1&xutm_source=x",
            "X-Device: m|Cookie: theme=dark",
            false,
        ),
        (
            "/a?a=1&b=2;utm_x=1",
            "X-Device: m|Cookie: theme=dark",
            false,
        ),
        ("/a?a=1&b=2", "X-Device: t|Cookie: theme=dark", false),
        ("/a?a=1&b=2", "Cookie: theme=dark", false),
        ("/a?a=1&b=2", "X-Device: m|Cookie: theme=light", false),
        ("/a?a=1&b=2", "X-Device: m", false),
    ] {
        let answer = ask(&stand, target, lines);
        assert_eq!(answer.text() == first.text(), is_same, "{target} {lines}");
        assert_eq!(is_hit(&answer), is_same, "{target} {lines}");
    }
}

/// Purges and changes mean the URL, with whatever else belongs to the key.
#[test]
fn purges_and_changes_reach_all_that_is_kept_for_a_url() {
    let stand = keyed();
    let ask_all = |expected: bool| {
        for device in ["m", "t"] {
            let answer = ask(&stand, "/a?a=1&b=2", &format!("X-Device: {device}"));
            assert_eq!(is_hit(&answer), expected, "{device}");
        }
    };
    ask_all(false);
    ask_all(true);
    let url = "http://a.example/a?b=2&utm_x=1&a=1";
    let purged = purge_at(&stand.plimsoll.admin_socket(), &["--url", url]);
    assert_eq!(purged.as_deref(), Ok("2 purged"));
    ask_all(false);
    ask_all(true);
    let _ = ask_as(&stand, "DELETE", "/a?b=2&a=1", "Host: a.example");
    ask_all(false);
}

#[test]
fn traces_name_the_cache_and_the_key() {
    let stand = keyed();
    let url = "http://A.example:{port}/x/../a?b=2&utm_x=1&a=1";
    let port = stand.address().port().to_string();
    let url = url.replace("{port}", &port);
    let key = format!("http://a.example:{port}/a?a=1&b=2");
    for (request, verdict) in [
        (url.clone(), "answers, or stores what the server allows"),
        (
            format!("HEAD {url}"),
            "answers, and stores nothing of what comes",
        ),
        (format!("POST {url}"), "passed by"),
    ] {
        let said = stand.plimsoll.traced(&[&request, "-H", "X-Device: m"]);
        let line = format!("cache    c  {key}, x-device: m, cookie theme:   {verdict}\n");
        assert!(said.contains(&line), "{line}{said}");
    }
}
