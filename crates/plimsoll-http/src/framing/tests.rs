#![expect(clippy::too_many_lines, reason = "tables of cases")]

use super::*;
use crate::h1::parse::{self, HeadLimits, Parsed};

fn request(fields: &str, version: &str) -> Result<Framing, BadFraming> {
    let bytes = format!("POST / HTTP/{version}\r\n{fields}\r\n");
    let mut head = RequestHead::default();
    assert_eq!(
        parse::request(bytes.as_bytes(), &HeadLimits::default(), &mut head),
        Ok(Parsed::Complete),
        "{bytes:?}"
    );
    Framing::of_request(&head, bytes.as_bytes())
}

fn response(start: &str, fields: &str, method: Method) -> Result<Framing, BadFraming> {
    let bytes = format!("{start}\r\n{fields}\r\n");
    let mut head = ResponseHead::default();
    assert_eq!(
        parse::response(bytes.as_bytes(), &mut head),
        Ok(Parsed::Complete),
        "{bytes:?}"
    );
    Framing::of_response(&head, bytes.as_bytes(), method)
}

#[test]
fn ambiguous_requests_are_refused() {
    use BadFraming as B;
    let zeros = format!("Content-Length: {}\r\n", "1".repeat(400));
    for (fields, fault) in [
        (
            "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
            B::LengthAndCoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
            B::LengthAndCoding,
        ),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", B::TwoLengths),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", B::TwoLengths),
        ("Content-Length: +5\r\n", B::Length),
        ("Content-Length: -5\r\n", B::Length),
        ("Content-Length: 0x5\r\n", B::Length),
        ("Content-Length: 5 \r\n", B::Length),
        ("Content-Length:  5\r\n", B::Length),
        ("Content-Length: 5,5\r\n", B::Length),
        ("Content-Length: 5 5\r\n", B::Length),
        ("Content-Length: 1_0\r\n", B::Length),
        ("Content-Length: 010\r\n", B::Length),
        ("Content-Length: 00\r\n", B::Length),
        ("Content-Length:\r\n", B::Length),
        ("Content-Length: ;\r\n", B::Length),
        ("Content-Length: 5.0\r\n", B::Length),
        ("Content-Length: \u{665}\r\n", B::Length),
        ("Content-Length: 9223372036854775808\r\n", B::Length),
        ("Content-Length: 18446744073709551621\r\n", B::Length),
        (&zeros, B::Length),
        ("Transfer-Encoding: xchunked\r\n", B::Coding),
        ("Transfer-Encoding: chunked;a=b\r\n", B::Coding),
        ("Transfer-Encoding: Chunked \r\n", B::Coding),
        ("Transfer-Encoding: \"chunked\"\r\n", B::Coding),
        ("Transfer-Encoding: [chunked]\r\n", B::Coding),
        ("Transfer-Encoding: \u{a0}chunked\r\n", B::Coding),
        ("Transfer-Encoding: ,chunked\r\n", B::Coding),
        ("Transfer-Encoding: chunked,\r\n", B::Coding),
        ("Transfer-Encoding:\r\n", B::Coding),
        ("Transfer-Encoding: identity\r\n", B::Coding),
        ("Transfer-Encoding: identity, chunked\r\n", B::Coding),
        ("Transfer-Encoding: chunked, identity\r\n", B::Coding),
        ("Transfer-Encoding: chunked, chunked\r\n", B::Coding),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            B::Coding,
        ),
        ("Transfer-Encoding: gzip, chunked\r\n", B::UnknownCoding),
        (
            "Connection: content-length\r\nContent-Length: 5\r\n",
            B::Nominated,
        ),
        ("Connection: close, Transfer-Encoding\r\n", B::Nominated),
    ] {
        assert_eq!(request(fields, "1.1").err(), Some(fault), "{fields:?}");
    }
    assert_eq!(
        request("Transfer-Encoding: chunked\r\n", "1.0").err(),
        Some(B::CodingInHttp10)
    );
    let many = format!("Connection: {}\r\n", "a,".repeat(20));
    assert_eq!(request(&many, "1.1").err(), Some(B::ConnectionOptions));
}

#[test]
fn request_lengths_and_persistence() {
    for (fields, version, length, reuse) in [
        ("", "1.1", Length::Empty, Reuse::Keep),
        ("Connection: Close\r\n", "1.1", Length::Empty, Reuse::Close),
        ("", "1.0", Length::Empty, Reuse::Close),
        (
            "Connection: keep-alive\r\nContent-Length: 0\r\n",
            "1.0",
            Length::Exactly(0),
            Reuse::Keep,
        ),
        (
            "Connection: keep-alive\r\n",
            "1.0",
            Length::Empty,
            Reuse::Close,
        ),
        (
            "Content-Length:0\r\n",
            "1.1",
            Length::Exactly(0),
            Reuse::Keep,
        ),
    ] {
        let framing = request(fields, version).unwrap();
        assert_eq!(
            (framing.length(), framing.reuse()),
            (length, reuse),
            "{fields:?}"
        );
    }
}

#[test]
fn an_unfinished_message_never_frees_its_connection() {
    let mut framing = request("Content-Length: 5\r\n", "1.1").unwrap();
    assert_eq!(framing.reuse(), Reuse::Close);
    assert_eq!(
        framing.decode(&mut [0; 3]).unwrap(),
        Decoded {
            data: 3,
            consumed: 3
        }
    );
    assert_eq!(framing.reuse(), Reuse::Close);
    assert_eq!(
        framing.decode(&mut [0; 9]).unwrap(),
        Decoded {
            data: 2,
            consumed: 2
        }
    );
    assert_eq!(framing.reuse(), Reuse::Keep);

    let mut cut = request("Content-Length: 5\r\n", "1.1").unwrap();
    assert_eq!(cut.end_of_input(), Err(BadBody::Truncated));
    assert_eq!(cut.reuse(), Reuse::Close);

    let mut chunked = request("Transfer-Encoding: chunked\r\n", "1.1").unwrap();
    chunked.decode(&mut b"3\r\nabc\r\n".to_vec()).unwrap();
    assert_eq!(chunked.reuse(), Reuse::Close);
    chunked.decode(&mut b"0\r\n\r\n".to_vec()).unwrap();
    assert_eq!(chunked.reuse(), Reuse::Keep);

    let mut broken = request("Transfer-Encoding: chunked\r\n", "1.1").unwrap();
    assert!(broken.decode(&mut b"x".to_vec()).is_err());
    assert_eq!(broken.reuse(), Reuse::Close);
    assert!(!broken.is_complete());
}

#[test]
fn response_lengths_follow_the_request_and_the_status() {
    let ok = "HTTP/1.1 200 OK";
    let cases = [
        (
            ok,
            "Content-Length: 5\r\n",
            Method::Get,
            Length::Exactly(5),
            Reuse::Keep,
        ),
        (
            ok,
            "Content-Length: 5\r\n",
            Method::Head,
            Length::Empty,
            Reuse::Keep,
        ),
        (
            ok,
            "Transfer-Encoding: chunked\r\n",
            Method::Get,
            Length::Chunked,
            Reuse::Keep,
        ),
        (
            ok,
            "Transfer-Encoding: chunked\r\n",
            Method::Head,
            Length::Empty,
            Reuse::Keep,
        ),
        (ok, "", Method::Get, Length::UntilClose, Reuse::Close),
        (
            "HTTP/1.1 204 No",
            "Content-Length: 5\r\n",
            Method::Get,
            Length::Empty,
            Reuse::Keep,
        ),
        (
            "HTTP/1.1 304 Not",
            "Content-Length: 5\r\n",
            Method::Get,
            Length::Empty,
            Reuse::Keep,
        ),
        (
            "HTTP/1.1 103 Early",
            "",
            Method::Get,
            Length::Empty,
            Reuse::Keep,
        ),
        (
            "HTTP/1.0 200 OK",
            "Content-Length: 5\r\n",
            Method::Get,
            Length::Exactly(5),
            Reuse::Close,
        ),
        (
            ok,
            "Connection: close\r\nContent-Length: 5\r\n",
            Method::Get,
            Length::Exactly(5),
            Reuse::Close,
        ),
    ];
    for (start, fields, method, length, reuse) in cases {
        let framing = response(start, fields, method).unwrap();
        assert_eq!(
            (framing.length(), framing.peer_allows()),
            (length, reuse),
            "{start} {fields:?}"
        );
    }
    for (start, fields) in [
        (ok, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        (ok, "Content-Length: 5\r\nContent-Length: 5\r\n"),
        (ok, "Transfer-Encoding: gzip, chunked\r\n"),
        ("HTTP/1.0 200 OK", "Transfer-Encoding: chunked\r\n"),
    ] {
        assert!(
            response(start, fields, Method::Get).is_err(),
            "{start} {fields:?}"
        );
    }
}

#[test]
fn a_length_may_be_more_than_32_bits_count() {
    let field = "Content-Length: 5368709120\r\n";
    let mut framing = response("HTTP/1.1 200 OK", field, Method::Get).unwrap();
    assert_eq!(framing.opaque(), Some(5 << 30));
    framing.moved(3 << 30);
    let mut block = [0; 1000];
    assert_eq!(framing.decode(&mut block).unwrap().data, 1000);
    assert_eq!(framing.opaque(), Some((2 << 30) - 1000));
    framing.moved((2 << 30) - 1000);
    assert!(framing.is_complete());
    assert_eq!(framing.decode(&mut block).unwrap().consumed, 0);
}
