//! The text of the configuration, shown, checked and replaced over the admin socket.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::{Called, JSON, Plimsoll, Start};
use plimsoll_e2e::raw::{PATIENCE, get};
use plimsoll_e2e::wait;
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

const TEXT: &str = "Content-Type: text/plain\r\n";

fn configuration(answer: &str) -> String {
    format!(
        "admin unix:{{dir}}/admin.sock 127.0.0.1:{{port:admin}} # kept as it is\n\
         site * {{ listen 127.0.0.1:{{port}} ; route {{ respond 200 {answer} }} }}\n"
    )
}

fn start() -> Plimsoll {
    Start::run(&configuration("one")).start()
}

fn said(plimsoll: &Plimsoll) -> String {
    get(plimsoll.address(), "/").text()
}

fn file(plimsoll: &Plimsoll) -> String {
    fs::read_to_string(plimsoll.directory().join("plimsoll.conf")).unwrap()
}

/// The text, and its entity tag.
fn text(plimsoll: &Plimsoll) -> (String, String) {
    let called = plimsoll.call("GET /v1/configuration", "Accept: text/plain\r\n", "");
    assert_eq!(called.status, 200, "{called:?}");
    let tag = tag(&called);
    (called.text, tag)
}

fn tag(called: &Called) -> String {
    let mut lines = called.head.lines();
    let tag = lines.find_map(|line| line.strip_prefix("etag: "));
    tag.unwrap().to_owned()
}

fn put(plimsoll: &Plimsoll, query: &str, tag: &str, text: &str) -> Called {
    let fields = format!("{TEXT}If-Match: {tag}\r\n");
    plimsoll.call(&format!("PUT /v1/configuration{query}"), &fields, text)
}

#[test]
fn a_text_is_replaced_as_a_whole_where_nobody_else_has_changed_it() {
    let plimsoll = start();
    let path = plimsoll.directory().join("plimsoll.conf");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let (one, first) = text(&plimsoll);
    assert_eq!(one, file(&plimsoll));
    let two = one.replace("one", "two");
    let called = put(&plimsoll, "", &first, &two);
    assert_eq!(called.status, 200, "{called:?}");
    let reloaded: Value = serde_json::from_str(&called.text).unwrap();
    assert_eq!(reloaded["generation"], 2);
    assert!(
        !reloaded["differences"].as_array().unwrap().is_empty(),
        "{reloaded}"
    );
    assert_eq!(
        (said(&plimsoll), file(&plimsoll)),
        ("two".into(), two.clone())
    );
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    let (shown, second) = text(&plimsoll);
    assert_eq!((shown, &second), (two.clone(), &tag(&called)));
    assert_ne!(first, second);

    // Somebody who has seen the first text only.
    let called = put(&plimsoll, "", &first, &one);
    assert_eq!(called.status, 412, "{called:?}");
    assert_eq!((said(&plimsoll), file(&plimsoll)), ("two".into(), two));
    for either in [format!("{first}, {second}"), "*".to_owned()] {
        assert_eq!(put(&plimsoll, "", &either, &one).status, 200);
        assert_eq!(
            (said(&plimsoll), file(&plimsoll)),
            ("one".into(), one.clone())
        );
        let (_, tag) = text(&plimsoll);
        assert_eq!(tag, first, "the same text has the same tag");
        put(&plimsoll, "", &tag, &one.replace("one", "two"));
    }
    let names: Vec<_> = fs::read_dir(plimsoll.directory())
        .unwrap()
        .flatten()
        .collect();
    assert!(
        names
            .iter()
            .all(|entry| !entry.file_name().to_string_lossy().contains(".new"))
    );
}

#[test]
fn what_is_not_served_is_not_written() {
    let plimsoll = start();
    let (one, tag) = text(&plimsoll);
    let taken = plimsoll.address_of("admin");
    let elsewhere = one.replace("listen ", &format!("listen {taken} ; listen "));
    for (text, status, why) in [
        ("site * { rout { } }\n", 422, "error[E"),
        ("", 422, "error"),
        (
            &*one.replace("{ listen", "{ tls missing.pem missing.key ; listen"),
            422,
            "missing",
        ),
        (&*elsewhere, 422, "in use"),
        (&*one.replace("admin.sock", "other.sock"), 422, "restart"),
        (&*format!("include {{*.conf\n{one}"), 422, "error"),
    ] {
        let called = put(&plimsoll, "", &tag, text);
        assert_eq!(called.status, status, "{text}: {called:?}");
        assert!(called.text.contains(why), "{text}: {called:?}");
        assert_eq!(
            (said(&plimsoll), file(&plimsoll)),
            ("one".into(), one.clone())
        );
    }
    let without = plimsoll.call("PUT /v1/configuration", TEXT, &one);
    assert_eq!(without.status, 428, "{without:?}");
    for (fields, body) in [
        (format!("If-Match: {tag}\r\n"), &*one),
        (format!("If-Match: {tag}\r\n{JSON}"), "{}"),
    ] {
        let called = plimsoll.call("PUT /v1/configuration", &fields, body);
        assert_eq!(called.status, 400, "{called:?}");
    }
    let called = put(&plimsoll, "?confirm=60", &tag, &one);
    assert_eq!(called.status, 400, "{called:?}");
    let weak = put(&plimsoll, "", &format!("W/{tag}"), &one);
    assert_eq!(weak.status, 412, "{weak:?}");
    assert_eq!(
        plimsoll.metric("plimsoll_config_last_reload_successful"),
        Some(1.0)
    );
}

#[test]
fn what_is_not_confirmed_goes_back_with_its_file() {
    let plimsoll = start();
    let (one, tag) = text(&plimsoll);
    let two = one.replace("one", "two");
    assert_eq!(
        put(&plimsoll, "?confirm_within=600", &tag, &two).status,
        200
    );
    assert_eq!(
        (said(&plimsoll), file(&plimsoll)),
        ("two".into(), two.clone())
    );
    let other = put(&plimsoll, "", "*", &one);
    assert!(
        other.status == 422 && other.text.contains("waits to be confirmed"),
        "{other:?}"
    );
    plimsoll.verb(&["reload", "back"]).unwrap();
    assert_eq!(
        (said(&plimsoll), file(&plimsoll)),
        ("one".into(), one.clone())
    );

    assert_eq!(
        put(&plimsoll, "?confirm_within=600", &tag, &two).status,
        200
    );
    plimsoll.verb(&["reload", "confirm"]).unwrap();
    assert_eq!(
        (said(&plimsoll), file(&plimsoll)),
        ("two".into(), two.clone())
    );

    let (_, tag) = text(&plimsoll);
    assert_eq!(put(&plimsoll, "?confirm_within=1", &tag, &one).status, 200);
    wait::expect("it to go back", PATIENCE, || file(&plimsoll) == two);
    assert_eq!(said(&plimsoll), "two");

    // What somebody has written meanwhile is left alone.
    assert_eq!(put(&plimsoll, "?confirm_within=600", "*", &one).status, 200);
    fs::write(plimsoll.directory().join("plimsoll.conf"), "# mine\n").unwrap();
    plimsoll.verb(&["reload", "back"]).unwrap();
    assert_eq!(
        (said(&plimsoll), file(&plimsoll)),
        ("two".into(), "# mine\n".into())
    );
}

#[test]
fn a_text_is_checked_and_nothing_changes() {
    let plimsoll = start();
    let (one, _) = text(&plimsoll);
    let check = |text: &str| {
        let called = plimsoll.call("POST /v1/configuration/check", TEXT, text);
        assert_eq!(called.status, 200, "{called:?}");
        serde_json::from_str::<Value>(&called.text).unwrap()
    };
    let good = check(&one.replace("one", "two"));
    assert_eq!(
        (&good["ok"], &good["problems"]),
        (&true.into(), &Value::Array(vec![]))
    );
    let bad = check(&one.replace("respond", "respnd"));
    assert_eq!(bad["ok"], false);
    let problem = &bad["problems"][0];
    assert_eq!(
        (&problem["line"], &problem["severity"]),
        (&2.into(), &"error".into())
    );
    let unusable = check(&one.replace("{ listen", "{ tls missing.pem missing.key ; listen"));
    assert!(
        unusable["unusable"][0]
            .as_str()
            .unwrap()
            .contains("missing"),
        "{unusable}"
    );
    assert_eq!((said(&plimsoll), file(&plimsoll)), ("one".into(), one));
}

#[test]
fn several_files_are_changed_where_they_are() {
    let text = "include {dir}/more/*.conf\nadmin unix:{dir}/admin.sock\n";
    let plimsoll = Start::run(&configuration("one")).start();
    let directory = plimsoll.directory();
    fs::create_dir(directory.join("more")).unwrap();
    fs::write(
        directory.join("more/a.conf"),
        "pool spare { server 127.0.0.1:1 }\n",
    )
    .unwrap();
    let include = text.lines().next().unwrap();
    let include = include.replace("{dir}", &directory.display().to_string());
    let one = file(&plimsoll);
    let called = put(&plimsoll, "", "*", &format!("{include}\n{one}"));
    assert!(
        called.status == 409 && called.text.contains("more/a.conf"),
        "{called:?}"
    );
    fs::write(directory.join("plimsoll.conf"), format!("{include}\n{one}")).unwrap();
    for called in [
        put(&plimsoll, "", "*", &one),
        plimsoll.call("GET /v1/configuration", "Accept: text/plain\r\n", ""),
    ] {
        assert!(
            called.status == 409 && called.text.contains("several files"),
            "{called:?}"
        );
    }
    let shown = plimsoll.call("GET /v1/configuration", "", "");
    assert!(
        shown.status == 200 && shown.text.starts_with('{'),
        "{shown:?}"
    );
}

#[test]
fn a_text_is_changed_by_those_who_may_and_by_them_alone() {
    let plimsoll = start();
    let (one, _) = text(&plimsoll);
    let at = plimsoll.address_of("admin");
    let mut client = plimsoll_e2e::raw::Raw::connect(at);
    for request in ["PUT /v1/configuration", "POST /v1/configuration/check"] {
        let length = one.len();
        let head = format!(
            "{request} HTTP/1.1\r\nHost: {at}\r\nIf-Match: *\r\n{TEXT}Content-Length: {length}\r\n\r\n"
        );
        client.send(head + &one).unwrap();
        let response = client.response("PUT");
        assert_eq!(response.status(), 403, "{request}: {}", response.text());
    }
}
