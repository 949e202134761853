//! Caches with a disk: what is there after a start, and what is not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::body::digest;
use plimsoll_e2e::cache_disk::{FRESH, Place, SOON, bodies, body, disk, kill, stop, wait_written};
use plimsoll_e2e::cached::{message, purge_at, status};
use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::plimsoll::{Plimsoll, Start, binary};
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::wait;
use std::fs;
use std::process::Command;

#[test]
fn what_is_on_disk_answers_after_the_next_start_in_every_form() {
    let place = Place::new(|_| {
        Answer::bytes(message(
            "Cache-Control: max-age=1000|ETag: \"e\"|Cache-Tag: t|Content-Type: a/b",
            b"0123456789",
        ))
    });
    let plimsoll = place.start();
    assert_eq!(place.ask("/").text(), "0123456789");
    wait_written(&plimsoll, 1.0);
    stop(plimsoll);
    for (method, lines, code, text) in [
        ("GET", "", 200, "0123456789"),
        ("GET", "Range: bytes=2-4", 206, "234"),
        ("GET", "If-None-Match: \"e\"", 304, ""),
        ("GET", "Cache-Control: only-if-cached", 200, "0123456789"),
        ("HEAD", "", 200, ""),
    ] {
        let plimsoll = place.start();
        let answer = place.ask_as(method, "/", lines);
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (code, text),
            "{lines}"
        );
        assert!(
            status(&answer).starts_with("plimsoll; hit; ttl=")
                && status(&answer).ends_with("; detail=disk"),
            "{}",
            status(&answer)
        );
        assert_eq!(
            (answer.field("cache-tag"), answer.field("etag")),
            (None, Some("\"e\""))
        );
        wait::expect("it to be in memory", SOON, || {
            let again = place.ask("/");
            status(&again).starts_with("plimsoll; hit; ttl=")
                && !status(&again).ends_with("; detail=disk")
        });
        assert_eq!(disk(&plimsoll, "read_total"), 1.0);
        stop(plimsoll);
    }
    assert_eq!(place.count("/"), 1);
}

#[test]
fn the_disk_has_what_memory_has_no_room_for() {
    const LENGTH: usize = 30_000;
    let place = Place::new(bodies(LENGTH));
    let text = place.text().replace(
        "memory 16MiB ; object-size-max 2MiB",
        "memory 1MiB ; object-size-max 64KiB",
    );
    let plimsoll = place.ready(Start::run(&text).start());
    for number in 0..300 {
        let target = format!("/{number}");
        assert_eq!(
            place.ask(&target).body.digest,
            digest(&body(&target, LENGTH))
        );
        // What waits to be written takes its room in memory until it is.
        wait_written(&plimsoll, f64::from(number + 1));
    }
    for number in 0..300 {
        let target = format!("/{number}");
        let answer = place.ask(&target);
        assert_eq!(answer.body.digest, digest(&body(&target, LENGTH)));
        assert_eq!(place.count(&target), 1);
    }
    assert!(disk(&plimsoll, "read_total") > 200.0);
    let bytes = plimsoll.metric("plimsoll_cache_bytes{cache=\"c\"}");
    assert!(bytes.is_some_and(|bytes| bytes <= f64::from(1 << 20)));
}

#[test]
fn one_reads_for_all_who_ask() {
    const LENGTH: usize = 2 << 20;
    let place = Place::new(bodies(LENGTH));
    place.store_one();
    let plimsoll = place.start();
    let expected = digest(&body("/", LENGTH));
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| assert_eq!(place.ask("/").body.digest, expected));
        }
    });
    assert_eq!((place.count("/"), disk(&plimsoll, "read_total")), (1, 1.0));
}

#[test]
fn forms_of_one_url_are_kept_apart_on_disk() {
    let place = Place::new(|request| {
        let language = request.head.fields.first("accept-language");
        let text = language.unwrap_or_default().to_owned();
        Answer::bytes(message(
            "Cache-Control: max-age=1000|Vary: Accept-Language",
            text.as_bytes(),
        ))
    });
    let languages = ["de", "en", "fr"];
    let ask = |language: &str| {
        let lines = format!("Accept-Language: {language}");
        place.ask_as("GET", "/", &lines).text()
    };
    let plimsoll = place.start();
    for language in languages {
        assert_eq!(ask(language), language);
    }
    wait_written(&plimsoll, 3.0);
    stop(plimsoll);
    let _plimsoll = place.start();
    for language in languages {
        assert_eq!(ask(language), language);
    }
    assert_eq!(place.count("/"), 3);
    assert_eq!(ask("es"), "es");
}

/// Runs `plimsoll cache purge` with these arguments.
fn purge(plimsoll: &Plimsoll, arguments: &[&str]) -> String {
    purge_at(&plimsoll.admin_socket(), arguments).unwrap()
}

/// What was purged does not come back, even if the process dies at once.
#[test]
fn purges_reach_the_disk() {
    let place = Place::new(|request| {
        let tag = request.head.target.trim_matches('/').to_owned();
        let lines = format!("{FRESH}, stale-while-revalidate=1000|ETag: \"e\"|Cache-Tag: {tag}");
        Answer::bytes(message(&lines, b"body"))
    });
    let plimsoll = place.start();
    for target in ["/a", "/b", "/c", "/d"] {
        let _ = place.ask(target);
    }
    wait_written(&plimsoll, 4.0);
    stop(plimsoll);
    let plimsoll = place.start();
    assert_eq!(purge(&plimsoll, &["--tag", "a"]), "1 purged");
    assert_eq!(
        purge(&plimsoll, &["--url", "http://a.example/b"]),
        "1 purged"
    );
    assert_eq!(purge(&plimsoll, &["--tag", "c", "--soft"]), "1 purged");
    kill(plimsoll);
    let plimsoll = place.start();
    for (target, count) in [("/a", 2), ("/b", 2), ("/d", 1)] {
        let _ = place.ask(target);
        assert_eq!(place.count(target), count, "{target}");
    }
    // What was purged softly serves once more, while the server is asked.
    let stale = place.ask("/c");
    assert!(
        status(&stale).starts_with("plimsoll; hit; "),
        "{}",
        status(&stale)
    );
    wait::expect("the server to be asked", SOON, || place.count("/c") == 2);
    assert_eq!(
        purge(&plimsoll, &["--prefix", "http://a.example/"]),
        "4 purged"
    );
    assert_eq!(disk(&plimsoll, "files"), 0.0);
}

#[test]
fn stale_answers_on_disk_serve_while_the_server_is_asked() {
    let gate = Gate::new();
    let held = gate.clone();
    let place = Place::new(
        move |request| match request.head.fields.first("if-none-match") {
            Some(_) => Answer::bytes(message(FRESH, b"new")).after(Step::Await(held.clone())),
            None => Answer::bytes(message(
                "Cache-Control: max-age=11, stale-while-revalidate=1000|ETag: \"e\"",
                b"old",
            )),
        },
    );
    let plimsoll = place.start();
    assert_eq!(place.ask("/").text(), "old");
    wait_written(&plimsoll, 1.0);
    assert_eq!(
        purge(&plimsoll, &["--soft", "--url", "http://a.example/"]),
        "1 purged"
    );
    stop(plimsoll);
    let _plimsoll = place.start();
    assert_eq!(place.ask("/").text(), "old");
    wait::expect("the question", SOON, || place.count("/") == 2);
    assert_eq!(place.ask("/").text(), "old");
    gate.open();
    wait::expect("the new answer", SOON, || place.ask("/").text() == "new");
}

/// Files stay in use over reloads, also where the cache changes in size or name.
#[test]
fn reloads_go_on_with_the_disk() {
    let place = Place::new(bodies(100));
    let mut plimsoll = place.start();
    let _ = place.ask("/");
    wait_written(&plimsoll, 1.0);
    let text = place.text();
    for (round, text) in [
        text.replace("retry 0", "retry 1"),
        text.replace("memory 16MiB", "memory 17MiB"),
        text.replace("64MiB", "65MiB"),
        text.replace("cache c", "cache d"),
        text,
    ]
    .iter()
    .enumerate()
    {
        plimsoll.rewrite(text);
        plimsoll.signal(Signal::HUP);
        wait::expect("the reload", SOON, || {
            let name = "plimsoll_config_reloads_total{result=\"done\"}";
            plimsoll.metric(name) == Some((round + 1) as f64)
        });
        let answer = place.ask("/");
        assert!(status(&answer).starts_with("plimsoll; hit; "));
    }
    assert_eq!(place.count("/"), 1);
}

/// What a process may not share, or others may write to, is refused, and `check` says so.
#[test]
fn directories_that_cannot_be_used_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new(bodies(1));
    let plimsoll = place.start();
    let mut second = Start::run(&place.text().replace(
        &format!("listen 127.0.0.1:{}", place.port),
        "listen 127.0.0.1:{port}",
    ))
    .spawn();
    assert!(!second.wait_exit(SOON).success());
    assert!(
        second.stderr().contains("it is in use"),
        "{}",
        second.stderr()
    );
    let check = || {
        let output = Command::new(binary())
            .args(["check", "-c", "plimsoll.conf"])
            .current_dir(plimsoll.directory())
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    assert!(check().0, "{}", check().1);
    fs::set_permissions(place.disk(), fs::Permissions::from_mode(0o777)).unwrap();
    let (is_good, said) = check();
    assert!(!is_good && said.contains("may write to it"), "{said}");
}
