//! What people are told of what a cache has.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::cached::{ask, message, verb_at};
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::wait;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn stand() -> Stand {
    let text = "workers 2\nadmin unix:{dir}/admin.sock 127.0.0.1:{port:admin}\n\
        site a.example { listen 127.0.0.1:{port} ; route { cache c ; proxy app } }\n\
        cache c { memory 16MiB ; disk {dir}/disk 16MiB }\n\
        pool app { server {server} }\n";
    Stand::run(text, |request| {
        let lines = match request.head.target.as_str() {
            "/de" => "Cache-Control: max-age=1000|Vary: Accept-Language|Cache-Tag: t u",
            "/old" => "Cache-Control: max-age=10|Age: 20|ETag: \"e\"",
            _ => "Cache-Control: max-age=1000",
        };
        Answer::bytes(message(lines, b"0123456789"))
    })
}

fn show(stand: &Stand, arguments: &[&str]) -> Result<Value, String> {
    let arguments = [arguments, &["--json"]].concat();
    let said = verb_at("show", &stand.plimsoll.admin_socket(), &arguments)?;
    Ok(serde_json::from_str(&said).unwrap())
}

#[test]
fn answers_are_shown_with_all_that_is_known_of_them() {
    let stand = stand();
    for _ in 0..3 {
        let _ = ask(&stand, "/de", "Accept-Language: de");
    }
    let _ = ask(&stand, "/de", "Accept-Language: fr");
    let _ = ask(&stand, "/old", "");
    wait::expect("them to be written", SOON, || {
        let name = "plimsoll_cache_disk_written_total{cache=\"c\"}";
        stand.plimsoll.metric(name) == Some(2.0)
    });
    let shown = show(&stand, &["--url", "http://a.example/de"]).unwrap();
    let answers = shown["answers"].as_array().unwrap();
    assert_eq!((answers.len(), &shown["is_more"]), (2, &json!(false)));
    let of = |varies: &str| {
        let mut answers = answers.iter();
        let found = answers.find(|answer| answer["varies"] == json!([varies]));
        found.unwrap_or_else(|| panic!("{varies}: {shown}"))
    };
    let german = of("accept-language: de");
    for (name, value) in [
        ("cache", json!("c")),
        ("url", json!("http://a.example/de")),
        ("status", json!(200)),
        ("bytes", json!(10)),
        ("state", json!("fresh")),
        ("tags", json!(["t", "u"])),
        ("tier", json!("memory, disk")),
        ("hits", json!(2)),
    ] {
        assert_eq!(german[name], value, "{name}");
    }
    assert!(german["ttl"].as_i64().unwrap() > 900 && german["age"].as_i64().unwrap() < 100);
    assert_eq!(of("accept-language: fr")["hits"], json!(0));
    let old = show(&stand, &["--prefix", "http://a.example/o"]).unwrap();
    assert_eq!(old["answers"][0]["state"], json!("stale"));
    assert_eq!(old["answers"][0]["tier"], json!("memory"));
    let tagged = show(&stand, &["--tag", "u", "--limit", "1"]).unwrap();
    assert_eq!(
        (
            tagged["answers"].as_array().unwrap().len(),
            &tagged["is_more"]
        ),
        (1, &json!(true))
    );
    let none = show(&stand, &["--tag", "none"]).unwrap();
    assert_eq!(none["answers"], json!([]));
    let text = verb_at(
        "show",
        &stand.plimsoll.admin_socket(),
        &["--url", "http://a.example/de"],
    );
    let text = text.unwrap();
    assert!(
        text.starts_with("URL") && text.contains("accept-language: de | #t #u"),
        "{text}"
    );
}

#[test]
fn questions_that_ask_for_nothing_are_refused() {
    let stand = stand();
    for arguments in [&["--url", ""][..], &["--prefix", ""], &["--tag", ""], &[]] {
        assert!(show(&stand, arguments).is_err(), "{arguments:?}");
    }
    assert!(show(&stand, &["--tag", "t", "--cache", "d"]).is_err());
}
