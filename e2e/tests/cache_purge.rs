//! What is purged, and who may not.

use plimsoll_e2e::cached::{ask, ask_as, count, echo, is_hit, purge_at, request, stand, status};
use plimsoll_e2e::script::{Gate, Step};
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::wait;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// Runs `plimsoll cache purge` with these arguments; what it says, or why it failed.
fn purge(stand: &Stand, arguments: &[&str]) -> Result<String, String> {
    purge_at(&stand.plimsoll.admin_socket(), arguments)
}

#[test]
fn answers_are_purged_by_url_by_prefix_and_by_tag() {
    let stand = stand(|request| {
        let lines = match request.head.target.as_str() {
            "/a/1" => "Cache-Tag: one,both",
            "/a/2" => "Surrogate-Key: two both",
            _ => "A: b",
        };
        let stale = "Cache-Control: max-age=1000, stale-while-revalidate=1000";
        echo(request, &format!("{stale}|Vary: X|ETag: \"e\"|{lines}"))
    });
    let port = stand.address().port();
    let url = |path: &str| format!("http://A.example:{port}{path}");
    let host = format!("Host: a.example:{port}");
    let all = ["/a/1", "/a/2", "/a?b", "/ab"];
    let is_stored = |target: &str| {
        let only = format!("{host}|Cache-Control: only-if-cached");
        ask_as(&stand, "GET", target, &only).status() == 200
    };
    for (arguments, purged, kept) in [
        (
            ["--url", &*url("/a/1")],
            "1 purged",
            &["/a/2", "/a?b", "/ab"][..],
        ),
        (
            ["--url", &*url("/x/../a?b")],
            "1 purged",
            &["/a/1", "/a/2", "/ab"],
        ),
        (["--url", &*url("/a")], "0 purged", &all),
        (["--prefix", &*url("/a/")], "2 purged", &["/a?b", "/ab"]),
        (["--prefix", &*url("/")], "4 purged", &[]),
        (["--tag", "both"], "2 purged", &["/a?b", "/ab"]),
        (["--tag", "two"], "1 purged", &["/a/1", "/a?b", "/ab"]),
        (["--tag", "bot"], "0 purged", &all),
    ] {
        for target in all {
            let answer = ask_as(&stand, "GET", target, &host);
            // What is for caches alone reaches no client.
            assert_eq!(
                (answer.field("cache-tag"), answer.field("surrogate-key")),
                (None, None)
            );
        }
        assert_eq!(
            purge(&stand, &arguments).as_deref(),
            Ok(purged),
            "{arguments:?}"
        );
        let stored: Vec<_> = all.into_iter().filter(|target| is_stored(target)).collect();
        assert_eq!(stored, kept, "{arguments:?}");
    }
    for target in all {
        let _ = ask_as(&stand, "GET", target, &host);
    }
    let before = count(&stand, "/a/1");
    assert_eq!(
        purge(&stand, &["--soft", "--tag", "one"]).as_deref(),
        Ok("1 purged")
    );
    let stale = ask_as(&stand, "GET", "/a/1", &host);
    assert!(
        status(&stale).starts_with("plimsoll; hit"),
        "{}",
        status(&stale)
    );
    wait::expect("the server to be asked", SOON, || {
        count(&stand, "/a/1") == before + 1
    });
}

#[test]
fn tags_reach_no_client_whether_the_answer_is_stored_or_not() {
    let stand = stand(|request| {
        echo(
            request,
            "Cache-Control: no-store|Cache-Tag: a|Surrogate-Key: b",
        )
    });
    let answer = ask(&stand, "/", "");
    assert_eq!(
        (answer.field("cache-tag"), answer.field("surrogate-key")),
        (None, None)
    );
    assert_eq!(answer.status(), 200);
}

#[test]
fn purges_that_say_nothing_are_errors() {
    let stand = stand(|request| echo(request, "Cache-Control: max-age=1000"));
    let _ = ask(&stand, "/", "");
    for (arguments, why) in [
        (&["--url", ""][..], "not empty"),
        (&["--prefix", ""], "not empty"),
        (&["--tag", ""], "not empty"),
        (&["--url", "/a"], "a whole URL"),
        (
            &["--tag", "a", "--cache", "none"],
            "no cache with this name",
        ),
        (&[], "--url"),
        (
            &["--url", "http://a.example/", "--tag", "a"],
            "cannot be used with",
        ),
    ] {
        let said = purge(&stand, arguments).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
    assert!(is_hit(&ask(&stand, "/", "")));
    // Whoever comes over an address has to show a token, and there is none.
    let address = stand.plimsoll.address_of("admin").to_string();
    let said = purge_at(&address, &["--url", "http://a.example/"]).unwrap_err();
    assert!(said.contains("403"), "{said}");
    assert!(is_hit(&ask(&stand, "/", "")));
}

/// What was asked for before a purge, and comes after it, is not stored.
#[test]
fn what_is_on_its_way_is_purged_too() {
    let gate = Gate::new();
    let held = gate.clone();
    let stand = stand(move |request| {
        let answer = echo(request, "Cache-Control: max-age=1000");
        match request.head.method.as_str() {
            "POST" => answer,
            _ => answer.after(Step::Await(held.clone())),
        }
    });
    let purges: [fn(&Stand); 3] = [
        |stand| assert!(purge(stand, &["--url", "http://a.example/0"]).is_ok()),
        |stand| assert!(purge(stand, &["--tag", "any"]).is_ok()),
        |stand| {
            let changed = "POST /2 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n";
            assert_eq!(stand.ask("POST", changed).status(), 200);
        },
    ];
    let targets: Vec<_> = (0..purges.len())
        .map(|number| format!("/{number}"))
        .collect();
    let mut clients: Vec<_> = targets.iter().map(|_| stand.connect()).collect();
    for ((client, target), purge) in clients.iter_mut().zip(&targets).zip(purges) {
        client
            .send(request("GET", target, "Host: a.example"))
            .unwrap();
        wait::expect("a request", SOON, || count(&stand, target) == 1);
        purge(&stand);
    }
    gate.open();
    for (client, target) in clients.iter_mut().zip(&targets) {
        assert_eq!(client.response("GET").status(), 200);
        assert_eq!(
            status(&ask(&stand, target, "")),
            "plimsoll; fwd=uri-miss; stored",
            "{target}"
        );
        assert!(is_hit(&ask(&stand, target, "")), "{target}");
    }
}
