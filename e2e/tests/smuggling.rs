//! Requests whose length or lines two parsers could read in two ways are refused, and nothing
//! behind them is read; what is forwarded can be read in one way only.

use plimsoll_e2e::stand::{Stand, assert_canonical};
use plimsoll_e2e::wire::Close;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn post(fields: impl AsRef<[u8]>, body: &str) -> Vec<u8> {
    let head = b"POST / HTTP/1.1\r\nHost: x\r\n";
    [head, fields.as_ref(), b"\r\n\r\n", body.as_bytes()].concat()
}

fn all(status: u16, vectors: impl IntoIterator<Item = Vec<u8>>) -> Vec<(Vec<u8>, u16)> {
    vectors.into_iter().map(|vector| (vector, status)).collect()
}

fn refused(vectors: &[(Vec<u8>, u16)]) {
    Stand::ok().assert_refused(vectors);
}

#[test]
fn a_length_and_a_coding_together_are_refused() {
    let (length, coding) = ("Content-Length: 6", "Transfer-Encoding: chunked");
    let orders = [
        format!("{length}\r\n{coding}"),
        format!("{coding}\r\n{length}"),
    ];
    let bodies = ["0\r\n\r\nG", "5c\r\nGET", "0\r\n\r\n", ""];
    let vectors = orders
        .iter()
        .flat_map(|order| bodies.map(|body| post(order, body)));
    refused(&all(400, vectors));
}

#[test]
fn a_transfer_coding_that_is_not_exactly_chunked_is_refused() {
    let malformed: [&[u8]; 20] = [
        b"xchunked",
        b"chunked\x0b",
        b"\x0cchunked",
        b"chunked;a=b",
        b"Chunked ",
        b" chunked",
        b"chunked\t",
        b"\"chunked\"",
        b"'chunked'",
        b"\xa0chunked",
        b"\xffchunked",
        b",chunked",
        b"chunked,",
        b"",
        b"identity",
        b"identity, chunked",
        b"chunked, identity",
        b"chunked, chunked",
        b"chunked chunked",
        b"gzip",
    ];
    let line = |value: &[u8]| [b"Transfer-Encoding: ", value].concat();
    let mut vectors = Vec::new();
    for value in malformed {
        vectors.push((post(line(value), "0\r\n\r\n"), 400));
        let both = [&line(value)[..], b"\r\nContent-Length: 5"].concat();
        vectors.push((post(both, "0\r\n\r\n"), 400));
    }
    vectors.push((post(line(b"gzip, chunked"), "0\r\n\r\n"), 501));
    refused(&vectors);
}

#[test]
fn two_transfer_codings_are_refused() {
    let chunked = "Transfer-Encoding: chunked";
    let lines = [
        format!("{chunked}\r\n{chunked}"),
        format!("{chunked}\r\nX: y\r\ntransfer-encoding: CHUNKED"),
        format!("{chunked}\r\nTransfer-Encoding: identity"),
        format!("Transfer-Encoding: x\r\n{chunked}"),
        format!("Transfer-Encoding:\r\n{chunked}"),
    ];
    refused(&all(400, lines.map(|line| post(line, "0\r\n\r\n"))));
}

#[test]
fn a_transfer_coding_in_http_1_0_is_refused() {
    let line = "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n";
    let vectors = [
        format!("{line}\r\n0\r\n\r\n"),
        format!("{line}Content-Length: 5\r\n\r\n0\r\n\r\n"),
        format!("{line}Connection: keep-alive\r\n\r\n0\r\n\r\n"),
    ];
    refused(&all(400, vectors.map(String::into_bytes)));
}

#[test]
fn a_content_length_that_is_not_one_plain_number_is_refused() {
    let values: [&[u8]; 33] = [
        b"+5",
        b"-5",
        b"-0",
        b"0x5",
        b"5 ",
        b" 5",
        b"\t5",
        b"5\t",
        b"5,5",
        b"5, 5",
        b"5,6",
        b"5 5",
        b"1_0",
        b"010",
        b"00",
        b"",
        b" ",
        b";",
        b"5;",
        b"\0",
        b"5\0",
        b"5\x0b",
        b"\xd9\xa5",
        b"5.0",
        b"5e0",
        b"five",
        b"\"5\"",
        b"9223372036854775808",
        b"18446744073709551615",
        b"18446744073709551616",
        b"18446744073709551621",
        b"99999999999999999999999999999999",
        b"NaN",
    ];
    let line = |value: &[u8]| [b"Content-Length: ", value].concat();
    let mut vectors: Vec<_> = values.map(|value| post(line(value), "hello")).into();
    vectors.push(post(line(b"Content-Length:\t5"), "hello"));
    vectors.push(post(line("9".repeat(400).as_bytes()), "hello"));
    vectors.push(post(line("0".repeat(400).as_bytes()), "hello"));
    refused(&all(400, vectors));
}

#[test]
fn two_content_lengths_are_refused() {
    let lines = [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 0\r\nX: y\r\ncontent-length: 5",
        "Content-Length: 5\r\nContent-Length:",
    ];
    refused(&all(400, lines.map(|line| post(line, "hello"))));
}

#[test]
fn bare_line_ends_in_a_head_are_refused() {
    let heads = [
        "GET / HTTP/1.1\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\n",
        "GET / HTTP/1.1\nHost: x\n\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA\r: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\r\n\r\n",
        "GET / HTTP/1.1\rHost: x\r\r",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\r\n",
        "GET /\r HTTP/1.1\r\nHost: x\r\n\r\n",
        "GE\rT / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\r\nHost: x\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    refused(&all(400, heads.map(|head| head.as_bytes().to_vec())));
}

#[test]
fn folded_lines_are_refused() {
    let fields = [
        "A: b\r\n c",
        "A: b\r\n\tc",
        "A: b\r\n c\r\n d",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: chunked\r\n x",
        "Content-Length:\r\n 5",
        "Content-Length: 5\r\n 5",
        "Content-\r\n Length: 5",
        "A\r\n : b",
        "A:\r\n ",
    ];
    let mut vectors: Vec<_> = fields.map(|field| post(field, "hello")).into();
    vectors.push(b"GET / HTTP/1.1\r\n Host: x\r\n\r\n".to_vec());
    vectors.push(b"GET / HTTP/1.1\r\n\tHost: x\r\n\r\n".to_vec());
    vectors.push(b"GET /\r\n HTTP/1.1\r\nHost: x\r\n\r\n".to_vec());
    refused(&all(400, vectors));
}

#[test]
fn blanks_where_none_belong_are_refused() {
    let fields: [&[u8]; 11] = [
        b"A : b",
        b"A\t: b",
        b"A\x85: b",
        b"A\xa0: b",
        b"A B: c",
        b"Content-Length : 5",
        b"Transfer-Encoding : chunked",
        b"Content Length: 5",
        b"Transfer Encoding: chunked",
        b" ",
        b"\t",
    ];
    refused(&all(400, fields.map(|field| post(field, "0\r\n\r\n"))));
}

#[test]
fn names_that_are_no_tokens_are_refused() {
    let names = "\"(),/;<=>?@[\\]{}".chars().map(|c| format!("a{c}b: v"));
    let mut vectors: Vec<_> = names.map(|field| post(field, "")).collect();
    for field in [
        ": x",
        ":",
        "no colon",
        "nocolon",
        "Content-Length",
        "(): x",
        "n\u{e4}me: x",
        "Transfer-Encod\u{131}ng: chunked",
        "\u{feff}A: x",
    ] {
        vectors.push(post(field, "0\r\n\r\n"));
    }
    refused(&all(400, vectors));
}

#[test]
fn request_lines_with_other_blanks_are_refused() {
    let lines: [&[u8]; 16] = [
        b"GET\t/ HTTP/1.1",
        b"GET\x0b/ HTTP/1.1",
        b"GET /\tHTTP/1.1",
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b" GET / HTTP/1.1",
        b"\tGET / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET / HTTP/1.1\t",
        b"GET /a b HTTP/1.1",
        b"GET / x HTTP/1.1",
        b"GET /\xa0HTTP/1.1",
        b"GET /\x0c HTTP/1.1",
        b"GET/ HTTP/1.1",
        b"GET /HTTP/1.1",
        b"GET",
    ];
    let request = |line: &[u8]| [line, b"\r\nHost: x\r\n\r\n"].concat();
    refused(&all(400, lines.map(request)));
}

#[test]
fn methods_that_are_no_methods_are_refused() {
    let long = "A".repeat(1024);
    let methods: [(&[u8], u16); 13] = [
        (b"G=\":", 400),
        (b"G@T", 400),
        (b"G\0T", 400),
        (b"\0", 400),
        (b"", 400),
        (b"G\xc3\x89T", 400),
        (b"{}", 400),
        (b"get", 501),
        (b"Get", 501),
        (b"~", 501),
        (b"PRI", 400),
        (b"TRACE", 405),
        (long.as_bytes(), 501),
    ];
    let mut vectors: Vec<_> = methods
        .iter()
        .map(|(method, status)| {
            (
                [method, &b" / HTTP/1.1\r\nHost: x\r\n\r\n"[..]].concat(),
                *status,
            )
        })
        .collect();
    vectors.push((
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_vec(),
        405,
    ));
    refused(&vectors);
}

#[test]
fn other_versions_are_refused() {
    let versions = [
        ("HTTP/1.2", 505),
        ("HTTP/1.9", 505),
        ("HTTP/2.0", 505),
        ("HTTP/0.9", 505),
        ("HTTP/3.0", 505),
        ("HTTP/1.10", 400),
        ("HTTP/01.1", 400),
        ("HTTP/1", 400),
        ("HTTP/1.", 400),
        ("HTTP/.1", 400),
        ("HTTP/2", 400),
        ("HTTP/4294967295.255", 400),
        ("http/1.1", 400),
        ("HTTP/1.1x", 400),
        ("HTTPS/1.1", 400),
        ("HTTP 1.1", 400),
        ("ICY/1.1", 400),
        ("", 400),
    ];
    let mut vectors: Vec<_> = versions
        .iter()
        .map(|(version, status)| {
            let request = format!("GET / {version}\r\nHost: x\r\n\r\n");
            (request.into_bytes(), *status)
        })
        .collect();
    vectors.push((b"GET /\r\n".to_vec(), 400)); // HTTP/0.9
    refused(&vectors);
}

#[test]
fn doubled_hosts_and_nominated_lengths_are_refused() {
    let vectors = [
        "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nhOsT: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close, transfer-encoding\r\n\r\n",
    ];
    refused(&all(400, vectors.map(|vector| vector.as_bytes().to_vec())));
}

#[test]
fn a_body_hides_no_request_from_an_older_client() {
    let stand = Stand::ok();
    let get = b"GET / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello".to_vec();
    let head = b"HEAD / HTTP/1.0\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello";
    stand.assert_refused(&[(get, 413)]);
    let mut client = stand.connect();
    client.send(head).unwrap();
    assert_eq!(client.response("HEAD").status(), 413);
    assert_eq!(client.read_to_close(SOON).close, Close::Fin);
    assert_eq!(stand.upstream.requests().len(), 0);
}

#[test]
fn an_older_post_without_a_length_has_no_body_and_no_successor() {
    let stand = Stand::ok();
    for keep in ["", "Connection: keep-alive\r\n"] {
        let before = stand.upstream.requests().len();
        let mut client = stand.connect();
        let first = format!("POST /first HTTP/1.0\r\nHost: x\r\n{keep}\r\n");
        client
            .send(first + "GET /second HTTP/1.0\r\nHost: x\r\n\r\n")
            .unwrap();
        let response = client.response("POST");
        assert_eq!(response.status(), 200);
        assert!(response.head.wants_close());
        let left = client.read_to_close(SOON);
        assert_eq!((left.bytes.len(), left.close), (0, Close::Fin), "{keep}");
        let requests = stand.upstream.requests().split_off(before);
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].head.target, "/first");
        assert_eq!(requests[0].body.length, 0);
        assert_canonical(&requests[0]);
    }
}
