//! Every byte of a head: what may stand where, and what of it the server gets to see.
#![expect(clippy::panic, reason = "a test that cannot go on fails")]

use plimsoll_e2e::head::Framing;
use plimsoll_e2e::recorder::Request;
use plimsoll_e2e::stand::{Cut, Stand, assert_canonical, check_all};
use plimsoll_e2e::wait;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// Where a byte stands in a word.
const PLACES: [fn(u8) -> Vec<u8>; 3] = [
    |b| vec![b, b'a', b'b'],
    |b| vec![b'a', b, b'b'],
    |b| vec![b'a', b'b', b],
];

fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn is_value_byte(b: u8) -> bool {
    b == b'\t' || (b >= b' ' && b != 0x7f)
}

/// What the server sees of a value with these bytes, as Latin-1.
fn as_value(bytes: &[u8]) -> String {
    let text: String = bytes.iter().map(|&b| char::from(b)).collect();
    text.trim_matches([' ', '\t']).to_owned()
}

fn found<'a>(requests: &'a [Request], target: &str) -> &'a Request {
    let mut all = requests.iter();
    all.find(|request| request.head.target == target)
        .unwrap_or_else(|| panic!("{target} was not forwarded"))
}

/// A line, what the server must see of it (nothing means that it is refused), and its target.
type Case = (Vec<u8>, Option<(String, String)>, String);

fn assert_lines(cases: &[Case]) {
    let stand = Stand::ok();
    check_all(cases, |(line, seen, target)| {
        let start = format!("GET {target} HTTP/1.1\r\nHost: x\r\n");
        let request = [start.as_bytes(), line, b"\r\n\r\n"].concat();
        match seen {
            None => stand.refuses(&request, 400, Cut::Whole),
            Some(_) => match stand.ask("GET", request).status() {
                200 => Ok(()),
                status => Err(format!("{}: {status}", line.escape_ascii())),
            },
        }
    });
    let requests = stand.upstream.requests();
    let accepted = cases
        .iter()
        .filter_map(|(_, seen, target)| Some((seen.as_ref()?, target)));
    for ((name, value), target) in accepted.clone() {
        let request = found(&requests, target);
        assert_canonical(request);
        let values: Vec<_> = request.head.fields.all(name).collect();
        match name.contains('_') {
            true => assert_eq!(values, Vec::<&str>::new(), "{target}"),
            false => assert_eq!(values, [value], "{target}"),
        }
    }
    assert_eq!(requests.len(), accepted.count());
    assert_eq!(stand.upstream.malformed(), []);
}

#[test]
fn a_name_holds_token_bytes_and_nothing_else() {
    let mut cases = Vec::new();
    for b in 0..=255 {
        for (number, place) in PLACES.iter().enumerate() {
            let name = place(b);
            let line = [&name[..], b": v"].concat();
            let seen = match (b, number) {
                (b':', 1) => Some(("a".to_owned(), "b: v".to_owned())),
                (b':', 2) => Some(("ab".to_owned(), ": v".to_owned())),
                _ => is_token_byte(b).then(|| (as_value(&name), "v".to_owned())),
            };
            cases.push((line, seen, format!("/name/{number}/{b}")));
        }
    }
    assert_lines(&cases);
}

#[test]
fn a_value_holds_no_control_byte() {
    let mut cases = Vec::new();
    for b in 0..=255 {
        for (number, place) in PLACES.iter().enumerate() {
            let value = place(b);
            let line = [b"X-V: ", &value[..]].concat();
            let seen = is_value_byte(b).then(|| ("X-V".to_owned(), as_value(&value)));
            cases.push((line, seen, format!("/value/{number}/{b}")));
        }
    }
    assert_lines(&cases);
}

#[test]
fn a_method_holds_token_bytes_and_nothing_else() {
    let stand = Stand::ok();
    let cases: Vec<_> = (0..=255)
        .filter(|&b| !is_token_byte(b) && b != b' ')
        .flat_map(|b: u8| PLACES.map(|place| place(b)))
        // An empty line before a request is let pass.
        .map(|method| [&method, &b" / HTTP/1.1\r\nHost: x\r\n\r\n"[..]].concat())
        .collect();
    check_all(&cases, |request| stand.refuses(request, 400, Cut::Whole));
    assert_eq!(stand.upstream.requests().len(), 0);
}

#[test]
fn names_that_alias_another_by_an_underscore_are_dropped() {
    let stand = Stand::ok();
    let aliases = [
        "Content_Length: 99",
        "Transfer_Encoding: chunked",
        "X_Forwarded_For: 6.6.6.6",
        "X-Forwarded_For: 6.6.6.6",
        "X_Forwarded_Proto: https",
        "X_Forwarded_Host: evil",
        "X_Forwarded_Port: 1",
        "X_Real_IP: 6.6.6.6",
        "X_Request_ID: 6",
        "X_Auth_User: admin",
        "_: x",
        "a_: x",
        "_a: x",
    ];
    let fields = aliases.join("\r\n");
    let request = format!(
        "POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nhi"
    );
    assert_eq!(stand.ask("POST", request).status(), 200);
    let request = stand.upstream.requests().remove(0);
    assert_canonical(&request);
    let names: Vec<_> = request.head.fields.0.iter().map(|(name, _)| name).collect();
    assert!(!names.iter().any(|name| name.contains('_')), "{names:?}");
    assert_eq!(request.head.fields.first("x-kept"), Some("1"));
    assert_eq!(request.body.bytes, b"hi");
}

#[test]
fn fields_of_one_name_keep_their_order_and_are_not_merged() {
    let stand = Stand::ok();
    let fields = [
        ("Content-Type", "a/b"),
        ("X-A", "1"),
        ("Authorization", "Basic eDp5"),
        ("Content-Type", "c/d"),
        ("x-a", "2,3"),
        ("Authorization", "Bearer z"),
        ("X-A", ""),
        ("Cookie", "a=1"),
        ("Cookie", "b=2"),
        ("If-None-Match", "\"e\""),
        ("X-Latin", "caf\u{e9}"),
    ];
    let lines = fields
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .concat();
    let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let latin: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap()).collect();
    assert_eq!(stand.ask("GET", latin).status(), 200);
    let request = stand.upstream.requests().remove(0);
    let seen: Vec<_> = request
        .head
        .fields
        .0
        .iter()
        .map(|(n, v)| (&**n, &**v))
        .collect();
    let passed = seen.iter().filter(|field| fields.contains(field));
    assert_eq!(passed.copied().collect::<Vec<_>>(), fields, "{seen:?}");
}

#[test]
fn the_forwarded_head_is_this() {
    let stand = Stand::ok();
    let mut client = stand.connect();
    client
        .send("\r\nPOST http://Shop.Example:80/a/../b?c=d HTTP/1.1\r\nhOST: other\r\nA:  1 \t\r\nTE: trailers\r\nConnection: TE, b\r\nB: 2\r\ncontent-length: 2\r\n\r\nhi")
        .unwrap();
    let response = client.response("POST");
    assert_eq!(response.status(), 200);
    let request = stand.upstream.requests().remove(0);
    let id = request.head.fields.first("x-request-id").unwrap();
    let expected = format!(
        "POST /b?c=d HTTP/1.1\r\nHost: Shop.Example:80\r\nA: 1\r\nVia: 1.1 plimsoll\r\n\
         X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: Shop.Example:80\r\n\
         Forwarded: for=127.0.0.1;proto=http;host=\"Shop.Example:80\"\r\nX-Request-ID: {id}\r\n\
         Content-Length: 2\r\n\r\n"
    );
    assert_eq!(String::from_utf8_lossy(&request.raw_head), expected);
}

#[test]
fn a_request_is_the_same_however_it_is_cut() {
    let stand = Stand::ok();
    let request =
        "\r\nPUT /a/../b?c HTTP/1.1\r\nHost: x\r\nA:  1 \r\nContent-Length: 5\r\n\r\nhello";
    let cuts: Vec<_> = Cut::all(request.len()).collect();
    check_all(&cuts, |cut| {
        let mut client = stand.connect();
        let sent = cut.send(&mut client, request);
        sent.map_err(|error| format!("{cut:?}: {error}"))?;
        let response = client.try_response("PUT");
        let status = response.map(|response| response.status());
        matches!(status, Ok(200))
            .then_some(())
            .ok_or_else(|| format!("{cut:?}: {status:?}"))
    });
    let requests = stand.upstream.requests();
    assert_eq!(requests.len(), cuts.len());
    for request in requests {
        let id = request
            .head
            .fields
            .first("x-request-id")
            .unwrap_or_default();
        let head = String::from_utf8_lossy(&request.raw_head).replace(id, "ID");
        assert_eq!(
            head,
            "PUT /b?c HTTP/1.1\r\nHost: x\r\nA: 1\r\nVia: 1.1 plimsoll\r\nX-Forwarded-For: 127.0.0.1\r\n\
             X-Forwarded-Proto: http\r\nX-Forwarded-Host: x\r\n\
             Forwarded: for=127.0.0.1;proto=http;host=\"x\"\r\nX-Request-ID: ID\r\nContent-Length: 5\r\n\r\n"
        );
        assert!(request.complete && request.body.bytes == b"hello");
    }
}

#[test]
fn every_method_may_carry_a_body_with_exact_framing() {
    let stand = Stand::ok();
    let framings = [
        ("Content-Length: 0\r\n\r\n", Framing::Length(0), ""),
        (
            "Content-Length: 5\r\n\r\nhello",
            Framing::Length(5),
            "hello",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            Framing::Chunked,
            "hello",
        ),
        (
            "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
            Framing::Chunked,
            "",
        ),
        ("\r\n", Framing::None, ""),
    ];
    for method in [
        "GET", "HEAD", "OPTIONS", "DELETE", "POST", "PUT", "PATCH", "QUERY", "M-SEARCH",
    ] {
        for (number, (rest, framing, body)) in framings.iter().enumerate() {
            let target = format!("/{method}/{number}");
            let mut client = stand.connect();
            client
                .send(format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{rest}"))
                .unwrap();
            assert_eq!(client.response(method).status(), 200, "{target}");
            // What follows the body is the next request.
            client
                .send("GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
                .unwrap();
            assert_eq!(client.response("GET").status(), 200, "{target}");
            let requests = stand.upstream.requests();
            let request = found(&requests, &target);
            assert_canonical(request);
            assert_eq!(request.head.framing().as_ref(), Ok(framing), "{target}");
            assert_eq!(request.body.bytes, body.as_bytes(), "{target}");
            assert!(request.complete, "{target}");
        }
    }
    assert_eq!(stand.upstream.malformed(), []);
}

#[test]
fn trace_with_a_body_is_refused() {
    let stand = Stand::ok();
    let rest = [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    let vectors = rest.map(|rest| {
        (
            format!("TRACE / HTTP/1.1\r\nHost: x\r\n{rest}").into_bytes(),
            405,
        )
    });
    stand.assert_refused(&vectors);
}

#[test]
fn heads_over_the_limits_are_refused_early() {
    let stand = Stand::ok();
    let fields = |count: usize| "A: b\r\n".repeat(count);
    let request = |target: &str, fields: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes()
    };
    let long = |count: usize| format!("/{}", "a".repeat(count - 1));
    stand.assert_refused(&[
        (request("/", &fields(100)), 431),
        (request("/", &fields(10_000)), 431),
        (
            request("/", &format!("A: {}\r\n", "b".repeat(33 << 10))),
            431,
        ),
        (
            request("/", &format!("A: {}\r\n", "b".repeat(1 << 20))),
            431,
        ),
        (
            request("/", &format!("{}: b\r\n", "a".repeat(33 << 10))),
            431,
        ),
        (request(&long(8193), ""), 414),
        (request(&long(1 << 20), ""), 414),
    ]);
    // One less is accepted.
    assert_eq!(
        stand.ask("GET", request(&long(8192), &fields(99))).status(),
        200
    );
    let target = &stand.upstream.requests()[0].head.target;
    assert_eq!(target.len(), 8192);
}

#[test]
fn a_declared_length_is_not_believed_before_it_comes() {
    let stand = Stand::ok();
    let before = stand.plimsoll.resident();
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut client = stand.connect();
        client
            .send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n")
            .unwrap();
        held.push(client);
    }
    wait::expect("200 requests", SOON, || {
        stand.upstream.requests().len() == 200
    });
    let grown = stand.plimsoll.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for 200 empty requests");
    drop(held);
    wait::expect("the connections to end", SOON, || {
        stand.upstream.open() == 0
    });
    assert!(
        stand
            .upstream
            .requests()
            .iter()
            .all(|request| !request.complete)
    );
}
