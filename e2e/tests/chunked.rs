//! Chunked request bodies: what is no chunked coding is cut off with nothing behind it read, and
//! what is one reaches the server as content, without extensions or dangerous trailers.

use plimsoll_e2e::body::digest;
use plimsoll_e2e::head::Framing;
use plimsoll_e2e::recorder::Request;
use plimsoll_e2e::stand::{Cut, Stand, assert_canonical, check_all};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn post(body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    [head, body.as_ref()].concat()
}

fn refused<const N: usize>(bodies: [&[u8]; N]) {
    let vectors = bodies.map(|body| (post(body), 400));
    Stand::ok().assert_cut_off(&vectors);
}

#[test]
fn chunk_sizes_that_are_no_plain_hexadecimal_are_refused() {
    let zeros = [&[b'0'; 1000][..], b"5\r\nhello\r\n0\r\n\r\n"].concat();
    refused([
        b"\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"\t5\r\nhello\r\n0\r\n\r\n",
        b"5\t\r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b"5g\r\nhello\r\n0\r\n\r\n",
        b"5.0\r\nhello\r\n0\r\n\r\n",
        b"5\0\r\nhello\r\n0\r\n\r\n",
        b"\xef\xbc\x95\r\nhello\r\n0\r\n\r\n",
        b"00000000000000005\r\nhello\r\n0\r\n\r\n",
        b"10000000000000000\r\nhello\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"8000000000000000\r\nhello\r\n0\r\n\r\n",
        b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        &zeros,
    ]);
}

#[test]
fn chunk_extensions_that_are_not_grammatical_are_refused() {
    let long = [b"5;a=", &[b'b'; 300][..], b"\r\nhello\r\n0\r\n\r\n"].concat();
    let mebibyte = [b"5;", &vec![b'a'; 1 << 20][..], b"\r\nhello\r\n0\r\n\r\n"].concat();
    refused([
        b"5;\r\nhello\r\n0\r\n\r\n",
        b"5;;\r\nhello\r\n0\r\n\r\n",
        b"5;=\r\nhello\r\n0\r\n\r\n",
        b"5;a=\r\nhello\r\n0\r\n\r\n",
        b"5;\0\r\nhello\r\n0\r\n\r\n",
        b"5;a\0=b\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"5;a\nhello\r\n0\r\n\r\n",
        b"5;\nhello\r\n0\r\n\r\n",
        b"5;a=\"b\r\nc\"\r\nhello\r\n0\r\n\r\n",
        b"5;a=\"b\nc\"\r\nhello\r\n0\r\n\r\n",
        b"5;a=\"b\"c\r\nhello\r\n0\r\n\r\n",
        b"5\r\r;a\r\nhello\r\n0\r\n\r\n",
        b"5;\r\r\nhello\r\n0\r\n\r\n",
        b"5;a b\r\nhello\r\n0\r\n\r\n",
        b"2;\nxx\r\n4c\r\n0\r\n\r\n",
        b"2;\n02\r\n41\r\n0\r\n\r\n",
        &long,
        &mebibyte,
    ]);
}

#[test]
fn chunk_data_that_ends_in_another_way_is_refused() {
    refused([
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhello world\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\rhello\r\n0\r\n\r\n",
        b"5\r\r\nhello\r\n0\r\n\r\n",
        b"5\n\r\nhello\r\n0\r\n\r\n",
    ]);
}

#[test]
fn last_chunks_that_are_not_clean_are_refused() {
    refused([
        b"5\r\nhello\r\n\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"5\r\nhello\r\n0\n\n",
        b"5\r\nhello\r\n0\r\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\r\n",
        b"5\r\nhello\r\n0;\r\n\r\n",
        b"5\r\nhello\r\n-0\r\n\r\n",
        b"5\r\nhello\r\n0x0\r\n\r\n",
        // What follows is read as a trailer, and is none.
        b"5\r\nhello\r\n0\r\n",
    ]);
}

#[test]
fn trailer_sections_that_are_malformed_or_large_are_refused() {
    let many = [b"0\r\n", "A: b\r\n".repeat(10_000).as_bytes(), b"\r\n"].concat();
    let long = [b"0\r\nA: ", &[b'b'; 9000][..], b"\r\n\r\n"].concat();
    refused([
        b"0\r\nA\r\n\r\n",
        b"0\r\n: b\r\n\r\n",
        b"0\r\n:path: /x\r\n\r\n",
        b"0\r\nA : b\r\n\r\n",
        b"0\r\n A: b\r\n\r\n",
        b"0\r\nA: b\r\n c\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\nA: b\r\n\n",
        b"0\r\nA: b\rC: d\r\n\r\n",
        b"0\r\nA: b\0\r\n\r\n",
        &many,
        &long,
    ]);
}

/// Sends a chunked body under a target of its own and returns what reached the upstream.
fn forwarded(stand: &Stand, target: &str, body: &[u8], cut: Cut) -> Result<Request, String> {
    let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let bytes = [head.as_bytes(), body].concat();
    let pause = Duration::from_micros(200);
    let mut client = stand.connect();
    let sent = match cut {
        Cut::Whole => client.send(&bytes),
        Cut::Bytewise => client.send_bytewise(&bytes, pause / 4),
        Cut::At(at) => client.send_split(&bytes, &[head.len() + at], pause),
    };
    let case = format!("{} cut {cut:?}", body.escape_ascii());
    sent.map_err(|error| format!("{case}: {error}"))?;
    let response = client.try_response("POST");
    let response = response.map_err(|unfinished| format!("{case}: {unfinished:?}"))?;
    // The connection goes on: the body's end was found where it is.
    let again = client
        .send("GET /again HTTP/1.1\r\nHost: x\r\n\r\n")
        .map_err(|error| error.to_string())
        .and_then(|()| client.try_response("GET").map_err(|u| format!("{u:?}")));
    match (response.status(), again.map(|again| again.status())) {
        (200, Ok(200)) => {}
        statuses => return Err(format!("{case}: {statuses:?}")),
    }
    let mut requests = stand.upstream.requests().into_iter();
    requests
        .find(|request| request.head.target == target)
        .ok_or_else(|| format!("{case}: not forwarded"))
}

#[test]
fn chunked_bodies_arrive_as_content_however_they_are_cut() {
    let accepted: [(&[u8], &[u8]); 13] = [
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"0\r\n\r\n", b""),
        (b"00\r\n\r\n", b""),
        (b"05\r\nhello\r\n000\r\n\r\n", b"hello"),
        (
            b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
            b"01234567890123456789",
        ),
        (b"0000000000000005\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5;a\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5;a=b;c=\"d;\\\"e\"\r\nhello\r\n0;last\r\n\r\n", b"hello"),
        (b"1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", b"\r\n"),
        (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
        (b"5\r\nGET /\r\n0\r\n\r\n", b"GET /"),
        (b"5\r\nhello\r\n0\r\nX-Checksum: 1\r\n\r\n", b"hello"),
        (b"1\r\n\0\r\n1\r\n\xff\r\n0\r\n\r\n", b"\0\xff"),
    ];
    let stand = Stand::ok();
    let mut cases = Vec::new();
    for (number, (body, content)) in accepted.iter().enumerate() {
        for (cut_number, cut) in Cut::all(body.len()).enumerate() {
            cases.push((format!("/{number}/{cut_number}"), *body, *content, cut));
        }
    }
    check_all(&cases, |(target, body, content, cut)| {
        let request = forwarded(&stand, target, body, *cut)?;
        assert_canonical(&request);
        let same = request.complete && request.body.bytes == *content;
        same.then_some(())
            .ok_or_else(|| format!("{} cut {cut:?}: {request:?}", body.escape_ascii()))
    });
    assert_eq!(stand.upstream.malformed(), []);
}

#[test]
fn trailers_that_frame_route_or_identify_are_dropped() {
    let stand = Stand::ok();
    let dangerous = [
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Host: evil",
        "Authorization: Basic eDp5",
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-Proto: https",
        "X-Real-IP: 6.6.6.6",
        "Forwarded: for=6.6.6.6",
        "Cookie: admin=1",
        "Set-Cookie: admin=1",
        "Connection: close",
        "Content-Type: text/html",
        "Expect: 100-continue",
        "X_Forwarded_For: 6.6.6.6",
    ];
    for (number, line) in dangerous.iter().enumerate() {
        let target = format!("/{number}");
        let body = format!("5\r\nhello\r\n0\r\n{line}\r\nX-Sum: 9\r\n\r\n");
        let request = forwarded(&stand, &target, body.as_bytes(), Cut::Whole).unwrap();
        assert_canonical(&request);
        let trailers = &request.body.trailers.0;
        assert_eq!(
            trailers[..],
            [("X-Sum".to_owned(), "9".to_owned())],
            "{line}"
        );
        let (name, value) = line.split_once(": ").unwrap();
        let merged = request.head.fields.all(name).any(|found| found == value);
        assert!(!merged || name == "Transfer-Encoding", "{line}");
    }
}

#[test]
fn large_chunked_bodies_arrive_unchanged() {
    let stand = Stand::ok();
    let content: Vec<u8> = (0..5 << 20)
        .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut body = Vec::new();
    let (mut rest, mut size) = (&content[..], 1);
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
        (rest, size) = (after, size * 3 % 70_001 + 1);
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let request = forwarded(&stand, "/large", &body, Cut::Whole).unwrap();
    assert_eq!(request.head.framing(), Ok(Framing::Chunked));
    assert_eq!(request.body.length, content.len() as u64);
    assert_eq!(request.body.digest, digest(&content));
    stand.upstream.wait_completed(2, SOON);
}
