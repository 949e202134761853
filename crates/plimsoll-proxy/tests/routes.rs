//! The index over routes changes nothing but the time that finding one takes.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_config::{NoFiles, load_text};
use plimsoll_http::h1::parse::{self, HeadLimits};
use plimsoll_http::head::RequestHead;
use plimsoll_http::request;
use plimsoll_http::target::Target;
use plimsoll_proxy::compile::{Machine, compile};
use plimsoll_proxy::condition::{Body, Verdict};
use plimsoll_proxy::generation::Generation;
use plimsoll_proxy::routes::Found;
use plimsoll_proxy::seen::{Origin, Seen};
use proptest::prelude::*;

fn generation(text: &str) -> Generation {
    let loaded = load_text("test", text, &NoFiles);
    let problems = loaded
        .diagnostics
        .iter()
        .map(|p| p.render(&loaded.sources, false));
    let problems: Vec<_> = problems.collect();
    let config = loaded
        .config
        .unwrap_or_else(|| panic!("{}", problems.join("\n")));
    let machine = Machine {
        number: 1,
        name: "test".into(),
        seed: 1,
        workers: 1,
        capacity: 1,
        connections_max: 1000,
        sessions: std::sync::Arc::default(),
        before: None,
    };
    compile(&config, |_| Ok(Box::default()), machine).0
}

/// Finds the place of the route with the index, and by trying one after the other.
fn found(generation: &Generation, head: &str) -> (Option<String>, Option<String>) {
    let bytes = format!("{head}\r\nHost: x\r\n\r\n").into_bytes();
    let (mut head, mut target) = (RequestHead::default(), Target::default());
    parse::request(&bytes, &HeadLimits::default(), &mut head).unwrap();
    let sound = request::check(&head, &bytes, &mut target).unwrap();
    let origin = Origin::new(([127, 0, 0, 1], 1).into(), 80, 0);
    let seen = Seen::new((&head, &target, sound.authority), &bytes, &origin);
    let site = generation.sites.first().unwrap();
    let by_index = match site.routes.find(&seen, Body::Whole(b"")) {
        Found::Route(route) => Some(route.place.to_string()),
        Found::Depends(_) | Found::Nothing => None,
    };
    let takes = |route: &&_| matches!(route_judges(route, &seen), Verdict::Takes);
    let one_by_one = site.routes.iter().find(takes);
    (by_index, one_by_one.map(|route| route.place.to_string()))
}

fn route_judges(route: &plimsoll_proxy::generation::Route, seen: &Seen<'_>) -> Verdict {
    route.judge(seen, Body::Whole(b""))
}

/// Paths that meet each other often.
fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["a", "b", "c"], 0..5)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

fn route() -> impl Strategy<Value = String> {
    let pattern = (path(), prop_oneof![Just(""), Just("/*"), Just("/")]).prop_map(|(path, end)| {
        match (path.as_str(), end) {
            ("/", _) => "/".to_owned() + end.trim_start_matches('/'),
            _ => path + end,
        }
    });
    let pattern = prop_oneof![
        8 => pattern,
        1 => Just("*".to_owned()),
        1 => Just("/a/*/c".to_owned()),
        1 => Just("`path~^/b`".to_owned()),
    ];
    let narrow = prop_oneof![3 => Just(""), 1 => Just("method=POST"), 1 => Just("header:x")];
    (pattern, narrow)
        .prop_map(|(pattern, narrow)| format!("route {pattern} {narrow} {{ respond 200 }}\n"))
}

proptest! {
    #[test]
    fn the_first_route_wins_however_it_is_found(
        routes in proptest::collection::vec(route(), 0..60),
        requests in proptest::collection::vec((path(), prop_oneof!["", "/"], prop_oneof!["GET", "POST"]), 30),
    ) {
        let text = format!("site * {{\nlisten :80\n{}route /z {{ respond 200 }}\n}}\n", routes.concat());
        let generation = generation(&text);
        for (path, end, method) in requests {
            let head = format!("{method} {path}{end} HTTP/1.1");
            let (by_index, one_by_one) = found(&generation, &head);
            prop_assert_eq!(by_index, one_by_one, "{} in\n{}", head, text);
        }
    }
}

#[test]
fn deep_paths_and_prefixes_are_found_too() {
    let deep = "/x".repeat(20);
    let many: String = (0..20)
        .map(|n| format!("route /n{n}/* {{ respond 200 }}\n"))
        .collect();
    let text = format!(
        "site * {{\nlisten :80\n{many}route {deep}/* {{ respond 200 }}\nroute /x/* {{ respond 200 }}\n}}\n"
    );
    let generation = generation(&text);
    for (path, line) in [
        (format!("{deep}/y"), "test:23"),
        (deep.clone(), "test:23"),
        ("/x".into(), "test:24"),
        (format!("/x{}", "/y".repeat(2000)), "test:24"),
        ("/n19/a".into(), "test:22"),
    ] {
        let (by_index, one_by_one) = found(&generation, &format!("GET {path} HTTP/1.1"));
        assert_eq!(by_index.as_deref(), Some(line), "{path}");
        assert_eq!(by_index, one_by_one);
    }
}
