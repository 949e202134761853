//! What clients send, and what logs show of it: a line for each request, and no secrets.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::Stand;
use std::fs;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

const LOGS: [&str; 3] = ["json", "combined", "haproxy"];

/// Texts that would break a line, a quoted word, a terminal or a reader; none is refused in a field.
const NASTY: [&[u8]; 8] = [
    b"a\"b\\c|d'e`f",
    b"\\\" 200 0 \"-\" \"x",
    b"{\"a\":1}%0d%0a\\n\\u000a",
    b"a\tb",
    b"\xe2\x80\xaea\xe2\x81\xa6b\xe2\x80\x8b\xef\xbb\xbf", // U+202E U+2066 U+200B U+FEFF
    b"\xc2\x85\xc2\x9b31m\xe2\x80\xa8",                    // U+0085 U+009B U+2028
    b"\xff\xfe\xc0\xae\xed\xa0\x80",
    b"caf\xc3\xa9",
];

/// A user whose name is one, with the password `secret`.
const USER: &str = "a\"\\|\u{202e}";
const USERS: &str = "a\"\\|\u{202e}:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

/// A stand that writes a log in each format; `FILES` stands for `files`.
fn stand(routes: &str, files: &tempfile::TempDir) -> Stand {
    let logs = LOGS
        .map(|format| format!("log {format}.log {format}\n"))
        .concat();
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\nsite * {{\nlisten 127.0.0.1:{{port}}\ntrust-proxy 127.0.0.1\n{logs}{routes}\nroute {{ proxy {{server}} }}\n}}\n"
    );
    let text = text.replace("FILES", &files.path().display().to_string());
    Stand::run(&text, |_| Answer::ok("ok"))
}

/// Checks that each log has a line for each request, and that it holds nothing but text.
fn assert_lines(stand: &Stand, requests: usize) {
    for format in LOGS {
        let lines = stand
            .plimsoll
            .wait_log(&format!("{format}.log"), requests, SOON);
        assert_eq!(lines.len(), requests, "{format}: {lines:#?}");
        for line in &lines {
            assert!(line.len() < 16 << 10, "{format}: {}", line.len());
            assert!(line.chars().all(is_harmless), "{format}: {line:?}");
            match format {
                "json" => {}
                // Quotes stand around what clients say, and nowhere else.
                "combined" => assert_eq!(line.matches('"').count(), 6, "{line}"),
                _ => assert_eq!(line.matches('"').count(), 2, "{line}"),
            }
            assert!(format == "json" || line.is_ascii(), "{format}: {line}");
        }
        assert!(format != "json" || are_objects(&lines), "{lines:#?}");
    }
}

fn is_harmless(c: char) -> bool {
    let hides = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    // A line that is no UTF-8 is read with U+FFFD in it.
    !c.is_control() && !hides && c != '\u{fffd}'
}

/// Tells whether Python reads each line as one JSON object.
fn are_objects(lines: &[String]) -> bool {
    let script = "import json,sys; sys.exit(not all(type(json.loads(line)) is dict for line in sys.argv[1:]))";
    let mut python = std::process::Command::new("python3");
    let status = python.args(["-c", script]).args(lines).status();
    status.unwrap().success()
}

#[test]
fn nothing_that_a_client_sends_breaks_a_line() {
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("users"), USERS).unwrap();
    let stand = stand("route /in { basic-auth FILES/users ; respond 200 }", &files);
    let mut sent = 0;
    let mut ask = |bytes: Vec<u8>, status: u16| {
        let case = bytes.escape_ascii().to_string();
        assert_eq!(stand.ask("GET", bytes).status(), status, "{case:.300}");
        sent += 1;
    };
    for text in NASTY {
        for name in [
            "User-Agent",
            "Referer",
            "traceparent",
            "X-Request-ID",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Forwarded-Host",
        ] {
            let start = format!("GET / HTTP/1.1\r\nHost: x\r\n{name}: ");
            ask([start.as_bytes(), text, b"\r\n\r\n"].concat(), 200);
        }
        ask(
            [b"GET / HTTP/1.1\r\nHost: ", text, b"\r\n\r\n"].concat(),
            400,
        );
        // What a target may not hold is refused; what it may, stands in the log.
        let plain: Vec<u8> = text.iter().copied().filter(u8::is_ascii_graphic).collect();
        ask(
            [b"GET /?q=", &plain[..], b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat(),
            200,
        );
    }
    ask(
        b"GET /a\"|<b>%22%0a HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        200,
    );
    ask(b"GET /a\"\\b HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 400);
    ask(b"G|'`T / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 501);
    ask(
        b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: a\x1b[31m\r\n\r\n".to_vec(),
        400,
    );
    ask(
        b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: a\r\n b\r\n\r\n".to_vec(),
        400,
    );
    let long = "a".repeat(20_000);
    ask(
        format!("GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: {long}\r\n\r\n").into_bytes(),
        200,
    );
    let start = format!("GET /?{} HTTP/1.1\r\nHost: x\r\n", &long[..8_000]);
    ask(format!("{start}Referer: {long}\r\n\r\n").into_bytes(), 200);
    let larger = "a".repeat(1 << 20);
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: {larger}\r\n\r\n");
    ask(request.into_bytes(), 431);
    let credentials = base64(&format!("{USER}:secret"));
    let request =
        format!("GET /in HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\n\r\n");
    ask(request.into_bytes(), 200);
    assert_lines(&stand, sent);
    let lines = stand.plimsoll.log("json.log").join("\n");
    assert!(lines.contains(r#""user":"a\"\\|\u202e""#), "{lines}");
}

fn base64(text: &str) -> String {
    let mut python = std::process::Command::new("python3");
    let script = "import base64,sys; print(base64.b64encode(sys.argv[1].encode()).decode())";
    let output = python.args(["-c", script, text]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn no_secret_stands_in_a_log() {
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("users"), USERS).unwrap();
    fs::write(
        files.path().join("keys"),
        format!("ci:{}\n", "0".repeat(64)),
    )
    .unwrap();
    let routes = "route /in { basic-auth FILES/users ; respond 200 }\n\
                  route /key { api-key FILES/keys from=query:ticket ; respond 200 }\n\
                  route /cookie { api-key FILES/keys from=cookie:ticket ; respond 200 }\n\
                  route /signed { signed-url 0123456789abcdef ; respond 200 }";
    let stand = stand(routes, &files);
    // `Basic YTpTM0NSRVQ=` is a:S3CRET.
    let requests = [
        (
            "/",
            "Authorization: Bearer S3CRET\r\nProxy-Authorization: Basic YTpTM0NSRVQ=\r\n",
        ),
        ("/in", "Authorization: Basic YTpTM0NSRVQ=\r\n"),
        ("/", "Cookie: session=S3CRET\r\nX-Api-Key: S3CRET\r\n"),
        ("/cookie", "Cookie: ticket=S3CRET\r\n"),
        ("/key?a=1&ticket=S3CRET", ""),
        ("/key?Ticket=S3CRET&tick%65t=S3CRET", ""),
        ("/?token=S3CRET&TOKEN=S3CRET&%74oken=S3CRET&a=1", ""),
        (
            "/?access_token=S3CRET&access%5Ftoken=S3CRET&password=S3CRET",
            "",
        ),
        ("/..;/?token=S3CRET", ""),
        ("/signed?expires=4000000000&signature=S3CRET", ""),
        ("/", "Referer: https://x/a?b=1&token=S3CRET&c=2#d\r\n"),
        ("/", "Referer: /key?%74icket=S3CRET\r\n"),
        (
            "/",
            "Referer: https://x/?code=S3CRET\r\nUser-Agent: S0ME\r\n",
        ),
    ];
    for (target, fields) in requests {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        assert!(stand.ask("GET", request).status() < 500, "{target}");
    }
    assert_lines(&stand, requests.len());
    for format in LOGS {
        let lines = stand.plimsoll.log(&format!("{format}.log"));
        for line in &lines {
            let hidden = ["S3CRET", "YTpTM0NSRVQ"];
            assert!(
                !hidden.iter().any(|hidden| line.contains(hidden)),
                "{format}: {line}"
            );
        }
        let referers = lines.join("\n");
        let is_shown = referers.contains("https://x/a?b=1&token=***&c=2#d");
        assert_eq!(is_shown, format != "haproxy", "{referers}");
    }
    let metrics = plimsoll_e2e::raw::get(stand.plimsoll.address_of("admin"), "/metrics").text();
    assert!(!metrics.contains("S3CRET") && !stand.plimsoll.stderr().contains("S3CRET"));
}
