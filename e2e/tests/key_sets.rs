//! Keys of tokens that are fetched from their issuer.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::issuer::{Authority, Key};
use plimsoll_e2e::names::{NameServer, Say};
use plimsoll_e2e::nginx::Nginx;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Step};
use plimsoll_e2e::wire::Response;
use plimsoll_e2e::{ports, wait};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A set may have to wait for its time, ten seconds, and one fetch may take as long.
const SOON: Duration = Duration::from_secs(60);

const WITHOUT: &str = "a key set cannot be used; without it no token is let in";
const STILL: &str = "a key set cannot be used; the last good one still counts";

/// A configuration whose site asks at each of these paths for a token by a rule.
fn configuration(more: &str, rules: &[(&str, String)]) -> String {
    let route = |(path, rule): &(&str, String)| {
        format!("route {path} {{ jwt {rule} algorithms=RS256 ; respond 200 ${{auth.user}} }}\n")
    };
    let routes: String = rules.iter().map(route).collect();
    format!(
        "admin 127.0.0.1:{{port:admin}}\n{more}\nsite * {{\nlisten 127.0.0.1:{{port}}\n{routes}}}\n"
    )
}

fn start(rule: &str) -> Plimsoll {
    Start::run(&configuration("", &[("/*", rule.to_owned())])).start()
}

fn ask(plimsoll: &Plimsoll, path: &str, token: &str) -> Response {
    let mut client = Raw::connect(plimsoll.address());
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    client.send(request).unwrap();
    client.response("GET")
}

fn reads(plimsoll: &Plimsoll, url: &str, result: &str) -> f64 {
    let labels = format!("file=\"{url}\",kind=\"jwt-keys\",result=\"{result}\"");
    let count = plimsoll.metric(&format!("plimsoll_file_reads_total{{{labels}}}"));
    count.unwrap()
}

fn is_current(plimsoll: &Plimsoll, url: &str) -> bool {
    let name = format!("plimsoll_file_current{{file=\"{url}\",kind=\"jwt-keys\"}}");
    plimsoll.metric(&name) == Some(1.0)
}

/// The one line of the log that says `what` of a set.
fn told(plimsoll: &Plimsoll, url: &str, what: &str) -> String {
    let lines = || -> Vec<String> {
        let log = plimsoll.stderr();
        let lines = log.lines().map(str::to_owned);
        lines
            .filter(|line| line.contains(&format!("{url}\"")) && line.contains(what))
            .collect()
    };
    wait::expect(what, SOON, || !lines().is_empty());
    let lines = lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.concat()
}

/// An answer that can be changed while it is given.
#[derive(Clone)]
struct Said(Arc<Mutex<Answer>>);

impl Said {
    fn new(answer: Answer) -> Self {
        Self(Arc::new(Mutex::new(answer)))
    }

    fn say(&self, answer: Answer) {
        *self.0.lock().unwrap() = answer;
    }

    fn issuer(&self) -> Recorder {
        let said = self.clone();
        Recorder::start(move |_| said.0.lock().unwrap().clone())
    }
}

/// The issuer behind a certificate: NGINX that shows it on `port`.
fn secured(authority: &Authority, port: u16, issuer: &Recorder) -> Nginx {
    let listen = authority.listen(port);
    let to = issuer.address();
    Nginx::start(&format!(
        "{listen} location / {{ proxy_pass http://{to}; }}"
    ))
}

#[test]
fn keys_come_over_tls_from_whoever_the_rule_trusts() {
    let (key, authority) = (
        Key::make("one"),
        Authority::make("DNS:id.example,IP:127.0.0.1"),
    );
    let issuer = Said::new(Answer::ok(key.set())).issuer();
    let port = ports::free();
    let _nginx = secured(&authority, port, &issuer);
    let ca = authority.trusted();
    // Nobody can be at the first address that the name has.
    let names = NameServer::start(Say::At(
        vec![Ipv4Addr::new(127, 0, 0, 0), Ipv4Addr::LOCALHOST],
        60,
    ));
    let by_address = format!("https://127.0.0.1:{port}/keys?v=1");
    let by_name = format!("https://id.example:{port}/keys");
    let rules = [
        ("/address", format!("{by_address} ca={ca}")),
        ("/name", format!("{by_name} ca={ca}")),
    ];
    let resolver = format!("resolver {}", names.address());
    let plimsoll = Start::run(&configuration(&resolver, &rules)).start();
    for (path, url) in [("/address", &by_address), ("/name", &by_name)] {
        wait::expect("the keys", SOON, || is_current(&plimsoll, url));
        let response = ask(&plimsoll, path, &key.token());
        assert_eq!((response.status(), response.text().as_str()), (200, "ada"));
        assert_eq!(ask(&plimsoll, path, "junk").status(), 401);
    }
    let asked: BTreeSet<String> = issuer
        .requests()
        .iter()
        .map(|request| request.head.target.clone())
        .collect();
    assert_eq!(
        asked,
        BTreeSet::from(["/keys".to_owned(), "/keys?v=1".to_owned()])
    );
}

#[test]
fn whoever_is_not_trusted_brings_no_keys() {
    let (key, authority) = (Key::make("one"), Authority::make("DNS:id.example"));
    let issuer = Said::new(Answer::ok(key.set())).issuer();
    let port = ports::free();
    let _nginx = secured(&authority, port, &issuer);
    let stranger = Authority::make("IP:127.0.0.1");
    let url = |path: &str| format!("https://127.0.0.1:{port}{path}");
    let rules = [
        (
            "/stranger",
            format!("{} ca={}", url("/stranger"), stranger.trusted()),
        ),
        (
            "/name",
            format!("{} ca={}", url("/name"), authority.trusted()),
        ),
        ("/system", url("/system")),
    ];
    let plimsoll = Start::run(&configuration("", &rules)).start();
    for (path, _) in &rules {
        wait::expect("a refusal", SOON, || {
            reads(&plimsoll, &url(path), "refused") >= 1.0
        });
        assert!(!is_current(&plimsoll, &url(path)));
        let response = ask(&plimsoll, path, &key.token());
        assert_eq!(response.status(), 503, "{path}");
        assert!(response.field("retry-after").is_some());
    }
    // Without a token the client is at fault, keys or not.
    let mut client = Raw::connect(plimsoll.address());
    client
        .send("GET /name HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    assert_eq!(client.response("GET").status(), 401);
    for (path, why) in [
        ("/stranger", "invalid peer certificate"),
        ("/name", "not valid for name"),
        ("/system", "problem="),
    ] {
        let line = told(&plimsoll, &url(path), WITHOUT);
        assert!(line.contains(why), "{line}");
    }
    assert_eq!(issuer.requests().len(), 0, "nothing is said to a stranger");
}

#[test]
fn an_issuer_may_come_after_the_start_and_go() {
    let key = Key::make("one");
    let port = ports::free();
    let url = format!("http://localhost:{port}/keys");
    let plimsoll = start(&url);
    let line = told(&plimsoll, &url, WITHOUT);
    assert!(line.contains("Connection refused"), "{line}");
    assert_eq!(ask(&plimsoll, "/", &key.token()).status(), 503);
    let set = key.set();
    let issuer = Recorder::start_at(ports::local(port), move |_| Answer::ok(&set));
    wait::expect("the keys", SOON, || is_current(&plimsoll, &url));
    assert_eq!(ask(&plimsoll, "/", &key.token()).status(), 200);
    let request = issuer.requests().pop().unwrap();
    let field = |name: &str| request.head.fields.all(name).collect::<Vec<_>>().join("|");
    assert_eq!(
        (
            request.head.target.as_str(),
            field("host"),
            field("user-agent")
        ),
        ("/keys", format!("localhost:{port}"), "plimsoll".to_owned())
    );
    drop(issuer);
    assert_eq!(ask(&plimsoll, "/", &key.token()).status(), 200);
}

#[test]
fn an_issuer_that_is_silent_holds_nothing_up() {
    let key = Key::make("one");
    let said = Said::new(Answer(vec![Step::Hold]));
    let issuer = said.issuer();
    let url = format!("http://{}/keys", issuer.address());
    let plimsoll = start(&url);
    assert_eq!(ask(&plimsoll, "/", &key.token()).status(), 503);
    said.say(Answer::ok(key.set()));
    let line = told(&plimsoll, &url, WITHOUT);
    assert!(line.contains("it took longer than 10 seconds"), "{line}");
    wait::expect("the keys", SOON, || is_current(&plimsoll, &url));
    assert_eq!(ask(&plimsoll, "/", &key.token()).status(), 200);
}

#[test]
fn a_token_that_names_a_new_key_has_it_fetched() {
    let (old, new) = (Key::make("old"), Key::make("new"));
    let said = Said::new(Answer::ok(old.set()));
    let issuer = said.issuer();
    let url = format!("http://{}/keys", issuer.address());
    // Nothing but the token brings the next fetch about.
    let plimsoll = start(&format!("{url} refresh=1d"));
    wait::expect("the keys", SOON, || is_current(&plimsoll, &url));
    assert_eq!(ask(&plimsoll, "/", &old.token()).status(), 200);
    said.say(Answer::ok(new.set()));
    let token = new.token();
    let response = ask(&plimsoll, "/", &token);
    assert_eq!(response.status(), 401, "nobody waits for an issuer");
    assert!(
        response
            .field("www-authenticate")
            .unwrap()
            .contains("key is unknown")
    );
    wait::expect("the new key", SOON, || {
        ask(&plimsoll, "/", &token).status() == 200
    });
    assert_eq!(ask(&plimsoll, "/", &old.token()).status(), 401);
}

#[test]
fn a_bad_answer_keeps_the_keys_that_were_good() {
    let key = Key::make("one");
    let set = key.set();
    let large = format!("{}{set}", " ".repeat(1024 * 1024));
    let moved =
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/else\r\nContent-Length: 0\r\n\r\n";
    let bad = [
        (
            "/status",
            Answer::status(500, &set),
            "the answer has status 500",
        ),
        ("/junk", Answer::ok("<html>"), "not a JWK set"),
        (
            "/none",
            Answer::ok(r#"{"keys":[]}"#),
            "no key that can be used",
        ),
        ("/empty", Answer::ok(""), "the answer is empty"),
        ("/large", Answer::ok(&large), "larger than 1 MiB"),
        (
            "/moved",
            Answer::bytes(moved),
            "it leads to `http://127.0.0.1/else`",
        ),
        ("/broken", Answer::bytes("nonsense\r\n\r\n"), "invalid HTTP"),
    ];
    let answers: Vec<(&str, Answer)> = bad
        .iter()
        .map(|(path, answer, _)| (*path, answer.clone()))
        .collect();
    let known = Mutex::new(BTreeSet::new());
    let issuer = Recorder::start(move |request| {
        let target = request.head.target.clone();
        let answer = answers.iter().find(|(path, _)| *path == target);
        match known.lock().unwrap().insert(target) {
            true => Answer::ok(&set),
            false => answer.unwrap().1.clone(),
        }
    });
    let url = |path: &str| format!("http://{}{path}", issuer.address());
    let rules = bad
        .each_ref()
        .map(|(path, ..)| (*path, format!("{} refresh=10s", url(path))));
    let plimsoll = Start::run(&configuration("", &rules)).start();
    let token = key.token();
    for (path, _, why) in &bad {
        // Twice, so that what is told once could have been told again.
        wait::expect("bad answers", SOON, || {
            reads(&plimsoll, &url(path), "refused") >= 2.0
        });
        assert_eq!(reads(&plimsoll, &url(path), "taken"), 1.0, "{path}");
        assert!(!is_current(&plimsoll, &url(path)));
        assert_eq!(ask(&plimsoll, path, &token).status(), 200, "{path}");
        let line = told(&plimsoll, &url(path), STILL);
        assert!(line.contains(why), "{line}");
    }
}

#[test]
fn a_check_asks_no_issuer_and_certificates_must_be_there() {
    let issuer = Said::new(Answer::ok("")).issuer();
    let run = |verb: &str, rule: &str| {
        let arguments = [verb, "-c", "{dir}/plimsoll.conf"].map(str::to_owned);
        let text = configuration("", &[("/*", rule.to_owned())]);
        let mut plimsoll = Start::with(arguments.into()).configuration(&text).spawn();
        let code = plimsoll.wait_exit(SOON).code();
        (code, plimsoll.daemon().stdout() + &plimsoll.stderr())
    };
    let url = format!("http://{}/keys", issuer.address());
    let (code, said) = run("check", &url);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(issuer.connections().len(), 0);
    for verb in ["check", "run"] {
        let (code, said) = run(verb, "https://id.example/keys ca=nowhere.pem");
        assert_eq!(code, Some(78), "{said}");
        assert!(
            said.contains("cannot use `nowhere.pem`: No such file"),
            "{said}"
        );
    }
}
