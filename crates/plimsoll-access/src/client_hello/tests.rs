use proptest::prelude::*;

use super::*;

fn vector8(content: &[u8]) -> Vec<u8> {
    let len = u8::try_from(content.len()).unwrap();
    [&[len][..], content].concat()
}

fn vector16(content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).unwrap();
    [&len.to_be_bytes()[..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(content)].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    extension(SERVER_NAME, &vector16(&host(name)))
}

fn host(name: &[u8]) -> Vec<u8> {
    [&[0][..], &vector16(name)].concat()
}

fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = protocols
        .iter()
        .flat_map(|protocol| vector8(protocol))
        .collect();
    extension(ALPN, &vector16(&list))
}

/// The body of a message with these extensions.
fn body_with(extensions: &[Vec<u8>]) -> Vec<u8> {
    let all = vector16(&extensions.concat());
    [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &vector16(&[0x13, 1]),
        &[1, 0],
        &all,
    ]
    .concat()
}

fn message(body: &[u8]) -> Vec<u8> {
    [&[1, 0][..], &vector16(body)].concat()
}

/// A message in records of this length.
fn records(message: &[u8], len: usize) -> Vec<u8> {
    let cut = message.chunks(len);
    cut.flat_map(|part| [&[22, 3, 1][..], &vector16(part)].concat())
        .collect()
}

fn read(bytes: &[u8]) -> Result<Option<Hello>, Malformed> {
    match progress(bytes)? {
        Progress::Whole(body) => Hello::read(&body).map(Some),
        Progress::Partial(_) => Ok(None),
    }
}

/// What rustls and OpenSSL say first.
fn real() -> Vec<Vec<u8>> {
    include_str!("hellos.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let digits = line.as_bytes().chunks(2);
            let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            digits.map(byte).collect()
        })
        .collect()
}

#[test]
fn real_ones_say_their_name_and_protocols() {
    let found: Vec<_> = real()
        .iter()
        .map(|hello| read(hello).unwrap().unwrap())
        .collect();
    let said = |name: Option<&str>, protocols: &[&[u8]]| Hello {
        name: name.map(Into::into),
        protocols: protocols
            .iter()
            .flat_map(|protocol| vector8(protocol))
            .collect(),
    };
    let expected = [
        said(Some("mail.example.com"), &[b"h2", b"http/1.1"]),
        said(None, &[]),
        said(Some("mail.example.com"), &[b"h2", b"http/1.1"]),
        said(None, &[]),
        said(Some("mail.example.com"), &[]),
    ];
    assert_eq!(found, expected);
}

#[test]
fn it_does_not_matter_how_real_ones_are_cut() {
    for hello in real() {
        let whole = read(&hello).unwrap();
        for len in 0..hello.len() {
            assert_eq!(read(&hello[..len]), Ok(None), "{len}");
        }
        for len in [1, 2, 3, 5, 100, 16_384] {
            let cut = records(&hello[5..], len);
            assert_eq!(read(&cut).unwrap(), whole, "{len}");
            fuzz(&cut);
        }
    }
}

#[test]
fn one_byte_after_the_other_is_looked_at_a_few_times() {
    let body = body_with(&[extension(21, &[0; 12_000])]);
    let cut = records(&message(&body), 1);
    let (mut len, mut looks) = (0, 0);
    while let Ok(Progress::Partial(least)) = progress(&cut[..len]) {
        looks += 1;
        len = least;
    }
    assert!(len <= cut.len() && looks < 80, "{looks} looks");
}

#[test]
fn names_are_compared_in_one_form() {
    for (sent, found) in [
        (&b"Mail.Example.COM"[..], Some("mail.example.com")),
        (b"mail.example.com.", Some("mail.example.com")),
        (b"_dns.example.com", Some("_dns.example.com")),
        (b"localhost", Some("localhost")),
        (b"192.0.2.7", None),
        (b"192.0.2.7.", None),
        (b"2001:db8::7", None),
    ] {
        let hello = Hello::read(&body_with(&[sni(sent)])).unwrap();
        assert_eq!(hello.name.as_deref(), found, "{}", sent.escape_ascii());
    }
    let long = [&[b'a'; 64][..], b".example"].concat();
    let many = b"a.".repeat(128);
    for sent in [
        &b""[..],
        b".",
        b"a..b",
        b"a.example..",
        b"a b",
        b"a\0.example",
        b"*.example",
        b"\xe4.example",
        b"a/b",
        &long,
        &many,
    ] {
        let found = Hello::read(&body_with(&[sni(sent)]));
        assert_eq!(found, Err(Malformed::Name), "{}", sent.escape_ascii());
    }
}

#[test]
fn what_only_keeps_servers_from_choking_is_not_offered() {
    let hello = body_with(&[extension(0x1a1a, b"\0"), alpn(&[b"\x0a\x0a", b"h2"])]);
    let hello = Hello::read(&hello).unwrap();
    assert_eq!(hello.protocols().collect::<Vec<_>>(), [b"h2"]);
    assert!(hello.offers(b"h2") && !hello.offers(b"\x0a\x0a") && !hello.offers(b"h"));
}

#[test]
fn what_no_server_would_take_is_refused() {
    let two = extension(SERVER_NAME, &vector16(&[host(b"a"), host(b"b")].concat()));
    for extensions in [
        vec![two],
        vec![sni(b"a"), sni(b"a")],
        vec![alpn(&[b"h2"]), alpn(&[b"h2"])],
        vec![alpn(&[])],
        vec![alpn(&[b""])],
        vec![extension(SERVER_NAME, b"")],
        vec![extension(SERVER_NAME, &vector16(b""))],
        vec![extension(ALPN, b"\0\x03\x05h2")],
        vec![extension(ALPN, b"\0\x03\x02h2more")],
    ] {
        let found = Hello::read(&body_with(&extensions));
        assert_eq!(found, Err(Malformed::Content), "{extensions:?}");
    }
    let body = body_with(&[sni(b"a")]);
    for len in (0..body.len()).filter(|len| *len != 41) {
        let found = Hello::read(&body[..len]);
        assert_eq!(found, Err(Malformed::Content), "{len}");
    }
}

#[test]
fn what_is_no_first_message_says_so() {
    for (bytes, found) in [
        (&b"GET /"[..], Malformed::Other),
        (b"\x17\x03\x01\0\x01\x01", Malformed::Other),
        (b"\x16\x03\x01\0\x01\x02", Malformed::Other),
        (b"\x16\x03\x01\0\x01\x01\x15", Malformed::Other),
        (b"\x16\x03\x01\0\0", Malformed::Content),
        (b"\x16\x03\x01\0\x04\x01\x02\0\0", Malformed::TooLong),
    ] {
        assert_eq!(progress(bytes), Err(found), "{}", bytes.escape_ascii());
    }
}

proptest! {
    #[test]
    fn any_cut_into_records_reads_the_same(name in "[a-z]{1,20}", cuts in prop::collection::vec(1_usize..40, 1..80), end in 0_usize..600) {
        let message = message(&body_with(&[sni(name.as_bytes()), alpn(&[b"h2"])]));
        let mut rest = &message[..];
        let mut sent = Vec::new();
        for len in cuts {
            let (part, more) = rest.split_at(len.min(rest.len()));
            if !part.is_empty() {
                sent.extend(records(part, part.len()));
            }
            rest = more;
        }
        if !rest.is_empty() {
            sent.extend(records(rest, rest.len()));
        }
        let hello = read(&sent).unwrap().unwrap();
        prop_assert_eq!(hello.name.as_deref(), Some(&*name));
        prop_assert!(hello.offers(b"h2"));
        fuzz(&sent);
        fuzz(&sent[..end.min(sent.len())]);
    }

    #[test]
    fn anything_at_all_can_come(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..200, byte: u8) {
        fuzz(&bytes);
        let mut sent = records(&message(&body_with(&[sni(b"a.example"), alpn(&[b"h2"])])), 30);
        if let Some(place) = sent.get_mut(at) {
            *place = byte;
        }
        fuzz(&sent);
        fuzz(&[&b"\x16\x03\x01\0\x40"[..], &bytes].concat());
    }
}
