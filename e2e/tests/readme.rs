//! What the README shows works as it is written there; only ports and paths are the test's own.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::certifier::{Certifier, put};
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Start, binary};
use plimsoll_e2e::ports;
use plimsoll_e2e::raw::{Raw, get};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const README: &str = include_str!("../../README.md");
const SOON: Duration = Duration::from_secs(15);

/// The fenced blocks of a language in the README.
fn blocks(language: &str) -> Vec<&'static str> {
    fenced(README, language)
}

fn fenced<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let fenced = text.split("```").skip(1).step_by(2);
    fenced
        .filter_map(|block| block.split_once('\n'))
        .filter_map(|(name, text)| (name == language).then_some(text))
        .collect()
}

/// The arguments of every `plimsoll` command on a line of its own.
fn commands() -> Vec<Vec<String>> {
    let lines = blocks("sh").into_iter().flat_map(str::lines);
    let commands = lines.filter_map(|line| {
        let (line, _) = line.split_once(" #").unwrap_or((line, ""));
        let programs = ["plimsoll ", "cargo run --release -- "];
        programs.iter().find_map(|name| line.strip_prefix(name))
    });
    commands
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

/// Runs `plimsoll` to its end, with `configuration` in `plimsoll.conf`, and returns its output.
fn succeeds(arguments: &[String], configuration: &str) -> String {
    let start = Start::with(arguments.to_vec()).configuration(configuration);
    let mut ended = start.spawn();
    let status = ended.wait_exit(SOON);
    let (stdout, stderr) = (ended.daemon().stdout(), ended.stderr());
    assert!(status.success(), "{arguments:?}: {stdout}{stderr}");
    stdout
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn every_configuration_is_without_fault() {
    let configurations = blocks("text");
    assert!(!configurations.is_empty());
    for text in configurations {
        let check = words("check --strict -c plimsoll.conf");
        assert_eq!(succeeds(&check, text), "plimsoll.conf: ok\n");
    }
}

/// The same configuration with files that are there.
fn with_files(text: &str, authority: &Authority, clients: &Certifier, tickets: &str) -> String {
    let list = Path::new(&clients.trusted()).with_extension("crl");
    let there = |word: &str| match word {
        "ca=/etc/plimsoll/clients-ca.pem" => format!("ca={}", clients.trusted()),
        "crl=/etc/plimsoll/clients.crl" => {
            clients.list_revoked(&list);
            format!("crl={}", list.display())
        }
        "plimsoll" => "nobody".to_owned(), // as whom everything is done
        "token=/etc/plimsoll/admin.token" => {
            let token = Path::new(&clients.trusted()).with_extension("token");
            std::fs::write(&token, "a-word-that-nobody-guesses").unwrap();
            put(token.clone(), &token); // for its owner alone
            format!("token={}", token.display())
        }
        word if word.starts_with("/etc/plimsoll/tickets.") => tickets.to_owned(),
        word if word.starts_with("/srv/www") => "/tmp".to_owned(),
        word => match word.split_once("/etc/ssl/") {
            Some((option, name)) if name.ends_with(".key") => {
                format!("{option}{}", authority.key())
            }
            Some((option, _)) => format!("{option}{}", authority.certificate()),
            None => word.to_owned(),
        },
    };
    let line = |line: &str| line.split(' ').map(there).collect::<Vec<_>>().join(" ");
    text.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn every_configuration_of_the_guides_is_without_fault() {
    let guides = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/how-to");
    let authority = Authority::make("DNS:example.com");
    let clients = Certifier::make("clients");
    let tickets = Path::new(&clients.trusted()).with_extension("tickets");
    let random: Vec<u8> = (0..80).collect();
    std::fs::write(&tickets, random).unwrap();
    put(tickets.clone(), &tickets); // for its owner alone
    let tickets = tickets.display().to_string();
    let mut count = 0;
    for guide in std::fs::read_dir(guides).unwrap() {
        let text = std::fs::read_to_string(guide.unwrap().path()).unwrap();
        for configuration in fenced(&text, "text") {
            let configuration = with_files(configuration, &authority, &clients, &tickets);
            let said = succeeds(&words("check -c plimsoll.conf"), &configuration);
            // Names of examples lead nowhere, and everything else would show in the last line.
            let (names, verdict): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| {
                line.starts_with("warning: no address for") || line.starts_with("certificate: ")
            });
            assert_eq!(verdict, ["plimsoll.conf: ok"], "{names:?}");
            count += 1;
        }
    }
    assert!(count > 5, "{count}");
}

#[test]
fn every_verb_exists() {
    let after = README.split("plimsoll ").skip(1);
    let verbs = after.map(|text| {
        let end = text.find(|c: char| !c.is_ascii_lowercase());
        text.split_at(end.unwrap_or(text.len())).0
    });
    let mut verbs: Vec<_> = verbs.filter(|verb| !verb.is_empty()).collect();
    verbs.sort_unstable();
    verbs.dedup();
    assert!(verbs.len() >= 4, "{verbs:?}");
    for verb in verbs {
        succeeds(&words(&format!("{verb} --help")), "");
    }
}

#[test]
fn every_command_does_what_it_is_shown_for() {
    let mut shown: Vec<String> = Vec::new();
    for arguments in commands() {
        match arguments[0].as_str() {
            "demo" => demonstrates(arguments.clone()),
            "proxy" | "tcp" => balances(&arguments),
            "serve" => shows(&arguments),
            "run" => serves(&arguments),
            _ => drop(succeeds(&arguments, blocks("text")[0])),
        }
        shown.push(arguments[0].clone());
    }
    assert_eq!(
        shown,
        ["demo", "proxy", "tcp", "serve", "check", "trace", "run"]
    );
}

fn demonstrates(mut arguments: Vec<String>) {
    let help = succeeds(&[arguments[0].clone(), "--help".to_owned()], "");
    assert!(help.contains("[default: 127.0.0.1:8080]"), "{help}");
    arguments.push("127.0.0.1:{port}".to_owned());
    let demo = Start::with(arguments).start();
    let pages = [(); 2].map(|()| get(demo.address(), "/").text());
    assert!(pages.concat().contains("`port side`") && pages.concat().contains("`starboard`"));
}

fn balances(arguments: &[String]) {
    let draft = [arguments, &words("--print-config")].concat();
    let draft = succeeds(&draft, "");
    succeeds(&words("check -c plimsoll.conf"), &draft);

    let servers = ["one", "two"].map(|name| Recorder::start(move |_| Answer::ok(name)));
    let mut arguments = arguments.to_vec();
    let [_, listen, one, two] = arguments.as_mut_slice() else {
        panic!("{arguments:?} are not a listener and two servers");
    };
    *listen = "127.0.0.1:{port}".to_owned();
    *one = servers[0].address().to_string();
    *two = servers[1].address().to_string();
    let proxy = Start::with(arguments).start();
    let mut answers = [(); 2].map(|()| get(proxy.address(), "/").text());
    answers.sort();
    assert_eq!(answers, ["one", "two"]);
}

fn shows(arguments: &[String]) {
    let [verb, _, _] = arguments else {
        panic!("{arguments:?}");
    };
    let serve = [verb, "{dir}", "127.0.0.1:{port}"].map(str::to_owned);
    let serve = Start::with(serve.into()).configuration("site").start();
    let page = get(serve.address(), "/").text();
    assert!(page.contains("<a href=\"./plimsoll.conf\">"), "{page}");
    assert_eq!(get(serve.address(), "/plimsoll.conf").text(), "site");
}

fn serves(arguments: &[String]) {
    let shown = blocks("text")[0];
    let listen = "listen :8080";
    assert!(shown.contains(listen), "{shown}");
    let own = shown.replace(listen, "listen 127.0.0.1:{port}");
    let own = format!("admin 127.0.0.1:{{port:admin}}\n{own}");
    let running = Start::with(arguments.to_vec()).configuration(&own).start();
    let mut client = Raw::connect(running.address());
    let request = "GET /health HTTP/1.1\r\nHost: example.com\r\n\r\n";
    client.send(request).unwrap();
    assert_eq!(client.response("GET").text(), "ok");
    let line = running.wait_log("access.log", 1, SOON).remove(0);
    assert!(line.contains("\"status\":200,"), "{line}");
}

/// The blocks for a shell are typed into one, with pauses as a person makes them: until a server
/// that was started listens, and until one that was killed is gone.
#[test]
fn the_walk_through_goes_as_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let mut blocks = blocks("sh").into_iter();
    let mut text = blocks
        .find(|block| block.contains("kill %1"))
        .unwrap()
        .replace("/tmp", &directory.path().display().to_string())
        .replace("target/release/plimsoll", &binary().display().to_string());
    let own = ["8080", "3000", "3001"].map(|shown| {
        assert!(text.contains(shown), "{shown} is not shown");
        let port = ports::free().to_string();
        text = text.replace(shown, &port);
        port
    });
    let mut script = "trap 'kill $(jobs -p); wait' EXIT\n".to_owned();
    for line in text.lines() {
        script += &format!("{line}\n");
        if line.ends_with('&') {
            for port in own.iter().filter(|port| line.contains(*port)) {
                let listens = format!(": < /dev/tcp/127.0.0.1/{port}");
                script += &format!("until ({listens}) 2>/dev/null; do sleep 0.01; done\n");
            }
        } else if line.starts_with("kill %1") {
            script += "wait %1\n";
        }
    }
    // `timeout` ends the servers too if one of them keeps the script from its end.
    let mut shell = Command::new("timeout");
    let output = shell.args(["60", "bash", "-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let context = format!("{script}{output:?}");
    let served = said.lines().filter(|line| ["one", "two"].contains(line));
    let mut served: Vec<_> = served.collect();
    assert_eq!(served.len(), 3, "{context}");
    assert_eq!(served.pop(), Some("two"), "{context}");
    served.sort_unstable();
    assert_eq!(served, ["one", "two"], "{context}");
    assert_eq!(said.matches("\"status\":200,").count(), 3, "{context}");
}
