use super::*;
use proptest::prelude::*;

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE, &[command, family][..], &len, body].concat()
}

/// 192.0.2.1:56324 to 198.51.100.7:443.
const FOUR: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb];

fn tlv(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[kind][..], &len, bytes].concat()
}

fn with(tlvs: &[Vec<u8>]) -> Vec<u8> {
    v2(0x21, 0x11, &[&FOUR[..], &tlvs.concat()].concat())
}

fn addresses(source: &str, destination: &str) -> Option<Addresses> {
    Some(Addresses {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    })
}

fn header(bytes: &[u8]) -> Header<'_> {
    match parse(bytes) {
        Ok(Parsed::Complete(header)) => header,
        other => panic!("{other:?}"),
    }
}

/// Each datagram has a whole header, and one of datagrams.
#[test]
fn datagrams_have_headers_of_their_own() {
    let ends = addresses("192.0.2.1:56324", "198.51.100.7:443");
    let datagram = [&v2(0x21, 0x12, &FOUR)[..], b"question"].concat();
    let found = parse_datagram(&datagram).unwrap();
    assert_eq!((found.len, found.addresses), (28, ends));
    let own = v2(0x20, 0x00, b"whatever");
    assert_eq!(parse_datagram(&own).unwrap().addresses, None);
    for (bytes, why) in [
        (&b""[..], Malformed::Missing),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2\r\n",
            Malformed::Missing,
        ),
        (&V2_SIGNATURE[..], Malformed::Short),
        (&datagram[..27], Malformed::Short),
        (&v2(0x21, 0x11, &FOUR), Malformed::Family),
        (&v2(0x21, 0x12, &FOUR[1..]), Malformed::Short),
        (&v2(0x22, 0x12, &FOUR), Malformed::Command),
    ] {
        assert_eq!(parse_datagram(bytes), Err(why), "{bytes:?}");
    }
    assert_eq!(parse(&datagram), Err(Malformed::Family));
}

#[test]
fn lines_of_version_1() {
    let four = addresses("192.0.2.1:56324", "198.51.100.7:443");
    for (line, due) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", four),
        (
            "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
            addresses("[2001:db8::1]:1", "[2001:db8::2]:65535"),
        ),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff:f...f:ffff whatever 65535\r\n", None),
        (
            "PROXY TCP4 0.0.0.0 255.255.255.255 0 0\r\n",
            addresses("0.0.0.0:0", "255.255.255.255:0"),
        ),
    ] {
        let bytes = format!("{line}PROXY TCP4 and so on");
        let found = header(bytes.as_bytes());
        assert_eq!((found.len, found.addresses), (line.len(), due), "{line}");
    }
    let longest = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!(longest.len(), 107);
    assert_eq!(header(longest.as_bytes()).len, 107);
    let longer = longest.replace("UNKNOWN ", "UNKNOWN  ");
    assert_eq!(parse(longer.as_bytes()), Err(Malformed::TooLong));
}

#[test]
fn what_is_no_line() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 \r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.7 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\rX",
        "PROXY TCP4 192.0.2.01 198.51.100.7 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 056324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 +1 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.7 56324 443\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.7 56324 443\r\n",
        "PROXY \r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.7 56324 443\r\n",
    ] {
        assert_eq!(parse(line.as_bytes()), Err(Malformed::Line), "{line:?}");
    }
    for bytes in [
        "GET / HTTP/1.1\r\n\r\n",
        "proxy UNKNOWN\r\n",
        "PROXYTCP4",
        "\r\n\r\nX",
        "\0",
        "PROXY\r\n",
    ] {
        assert_eq!(
            parse(bytes.as_bytes()),
            Err(Malformed::Missing),
            "{bytes:?}"
        );
    }
    assert_eq!(
        parse(&[b"PROXY ", &[b'x'; 101][..]].concat()),
        Err(Malformed::TooLong)
    );
    assert_eq!(parse(b""), Ok(Parsed::Partial));
}

#[test]
fn headers_of_version_2() {
    let six = [[0x20; 16], [0x21; 16]].concat();
    let six = [&six[..], &[0, 1, 0, 2]].concat();
    let due_six = addresses(
        "[2020:2020:2020:2020:2020:2020:2020:2020]:1",
        "[2121:2121:2121:2121:2121:2121:2121:2121]:2",
    );
    for (bytes, due) in [
        (
            v2(0x21, 0x11, &FOUR),
            addresses("192.0.2.1:56324", "198.51.100.7:443"),
        ),
        (v2(0x21, 0x21, &six), due_six),
        (v2(0x21, 0x00, b"whatever"), None),
        (v2(0x21, 0x00, b""), None),
        (v2(0x20, 0x00, b""), None),
        // What comes with a connection of the sender's own is passed over.
        (v2(0x20, 0x11, &FOUR), None),
        (v2(0x20, 0x99, &[1]), None),
    ] {
        let behind = [&bytes[..], &bytes].concat();
        let found = header(&behind);
        assert_eq!(
            (found.len, found.addresses),
            (bytes.len(), due),
            "{bytes:?}"
        );
    }
}

#[test]
fn what_is_no_header_of_version_2() {
    for (bytes, due) in [
        (v2(0x11, 0x11, &FOUR), Malformed::Command),
        (v2(0x22, 0x11, &FOUR), Malformed::Command),
        (v2(0x2f, 0x11, &FOUR), Malformed::Command),
        (v2(0x21, 0x12, &FOUR), Malformed::Family),
        (v2(0x21, 0x31, &[0; 216]), Malformed::Family),
        (v2(0x21, 0x41, &FOUR), Malformed::Family),
        (v2(0x21, 0x01, &FOUR), Malformed::Family),
        (v2(0x21, 0x11, &FOUR[..11]), Malformed::Short),
        (v2(0x21, 0x21, &FOUR), Malformed::Short),
        (v2(0x21, 0x11, &[0; 65_535]), Malformed::TooLong),
        (with(&[vec![2]]), Malformed::Value),
        (with(&[vec![2, 0]]), Malformed::Value),
        (with(&[vec![2, 0, 1]]), Malformed::Value),
        (
            with(&[tlv(2, b"a.example"), vec![4, 0xff, 0xff, 0]]),
            Malformed::Value,
        ),
        (with(&[tlv(5, &[7; 129])]), Malformed::Value),
        (with(&[tlv(3, &[0; 3])]), Malformed::Value),
        (with(&[tlv(3, &[0; 4])]), Malformed::Checksum),
        (with(&[tlv(0x20, &[1, 0, 0, 0])]), Malformed::Value),
        (
            with(&[tlv(0x20, &[1, 0, 0, 0, 0, 0x22, 0, 9, b'x'])]),
            Malformed::Value,
        ),
    ] {
        assert_eq!(parse(&bytes), Err(due), "{bytes:?}");
    }
    let long = [V2_SIGNATURE, &[0x21, 0x11, 0xff, 0xff][..]].concat();
    assert_eq!(
        parse(&long),
        Err(Malformed::TooLong),
        "before the rest has come"
    );
}

#[test]
fn values_of_version_2() {
    let ssl = [
        &[3, 0, 0, 0, 0][..],
        &tlv(0x21, b"TLSv1.3"),
        &tlv(0x22, b"ada"),
        &tlv(0x23, b"TLS_AES_128_GCM_SHA256"),
        &tlv(0x25, b"EC256"),
    ];
    let bytes = with(&[
        tlv(4, b"padding"),
        tlv(1, b"h2"),
        tlv(2, b"a.example"),
        tlv(5, &[7; 128]),
        tlv(0x20, &ssl.concat()),
        tlv(0xea, b"others"),
        tlv(4, b""),
    ]);
    let told = header(&bytes).told;
    assert_eq!(told.alpn, Some(&b"h2"[..]));
    assert_eq!(told.authority, Some(&b"a.example"[..]));
    assert_eq!(told.unique_id, Some(&[7; 128][..]));
    let ssl = told.ssl.unwrap();
    assert!(ssl.is_verified);
    assert_eq!(ssl.version, Some(&b"TLSv1.3"[..]));
    assert_eq!(ssl.common_name, Some(&b"ada"[..]));
    assert_eq!(ssl.cipher, Some(&b"TLS_AES_128_GCM_SHA256"[..]));
    assert_eq!((ssl.signature, ssl.key), (None, Some(&b"EC256"[..])));
    for (client, verify, due) in [
        (1, 0, Some((false, false))),
        (3, 1, Some((false, false))),
        (5, 1, Some((false, false))),
        (3, 0, Some((true, false))),
        (7, 0, Some((true, false))),
        (5, 0, Some((true, true))),
        (0, 0, None),
    ] {
        let bytes = with(&[tlv(0x20, &[client, 0, 0, 0, verify])]);
        let ssl = header(&bytes).told.ssl;
        let found = ssl.map(|ssl| (ssl.is_verified, ssl.is_from_before));
        assert_eq!(found, due, "{client} {verify}");
    }
}

#[test]
fn checksums_are_those_of_the_standard() {
    assert_eq!(crc32c(b"123456789", 0..0), 0xe306_9283);
    assert_eq!(crc32c(&[0; 32], 0..0), 0x8a91_36aa);
    let mut bytes = with(&[tlv(2, b"a.example"), tlv(3, &[0; 4]), tlv(4, b"")]);
    let at = bytes.len() - 7;
    let sum = crc32c(&bytes, at..at + 4).to_be_bytes();
    bytes[at..at + 4].copy_from_slice(&sum);
    assert_eq!(header(&bytes).told.authority, Some(&b"a.example"[..]));
    for at in [16, 20, bytes.len() - 8] {
        let mut broken = bytes.clone();
        broken[at] ^= 1;
        assert!(parse(&broken).is_err(), "{at}");
    }
}

#[test]
fn what_is_said_is_bounded() {
    let ends = addresses("192.0.2.1:1", "198.51.100.7:2").unwrap();
    let long = vec![b'a'; 70_000];
    for told in [
        Told {
            authority: Some(&long),
            ..Told::default()
        },
        Told {
            authority: Some(&long[..HEADER_BYTES_MAX]),
            ..Told::default()
        },
        Told {
            unique_id: Some(&long[..129]),
            ..Told::default()
        },
        Told {
            ssl: Some(Ssl {
                common_name: Some(&long[..65_535]),
                ..Ssl::default()
            }),
            ..Told::default()
        },
    ] {
        let mut out = b"before".to_vec();
        assert_eq!(
            write_v2(Some(&ends), Transport::Stream, &told, &mut out),
            Err(TooLong)
        );
        assert_eq!(out, b"before");
    }
}

#[test]
fn two_families_become_one() {
    let ends = addresses("192.0.2.1:1", "[2001:db8::2]:2").unwrap();
    let mut out = Vec::new();
    write_v1(Some(&ends), &mut out);
    assert_eq!(out, b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n");
    let mapped = addresses("[::ffff:192.0.2.1]:1", "198.51.100.7:2").unwrap();
    let mut out = Vec::new();
    write_v1(Some(&mapped), &mut out);
    assert_eq!(out, b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2\r\n");
    let mut out = Vec::new();
    write_v1(None, &mut out);
    write_v2(None, Transport::Stream, &Told::default(), &mut out).unwrap();
    assert_eq!(
        out,
        [&b"PROXY UNKNOWN\r\n"[..], V2_SIGNATURE, &[0x20, 0, 0, 0]].concat()
    );
}

fn ends() -> impl Strategy<Value = Addresses> {
    let four = any::<([u8; 4], u16, [u8; 4], u16)>();
    let four = four.prop_map(|(a, b, c, d)| ((IpAddr::from(a), b), (IpAddr::from(c), d)));
    let six = any::<([u8; 16], u16, [u8; 16], u16)>();
    let six = six.prop_map(|(a, b, c, d)| ((IpAddr::from(a), b), (IpAddr::from(c), d)));
    prop_oneof![four, six].prop_map(|(source, destination)| Addresses {
        source: source.into(),
        destination: destination.into(),
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        ends in ends(),
        authority in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
        id in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..=128)),
        is_verified: bool,
        is_resumed: bool,
        payload in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let ssl = Ssl {
            is_verified,
            is_from_before: is_verified && is_resumed,
            version: Some(b"TLSv1.3"),
            common_name: authority.as_deref(),
            cipher: id.as_deref(),
            signature: Some(b"RSA-SHA256"),
            key: authority.as_deref(),
        };
        let told = Told {
            alpn: Some(b"h2"),
            authority: authority.as_deref(),
            unique_id: id.as_deref(),
            ssl: Some(ssl),
        };
        let mut out = Vec::new();
        write_v2(Some(&ends), Transport::Stream, &told, &mut out).unwrap();
        let len = out.len();
        out.extend_from_slice(&payload);
        prop_assert_eq!(header(&out), Header { len, addresses: Some(ends), told });
        let mut out = Vec::new();
        write_v2(Some(&ends), Transport::Datagram, &told, &mut out).unwrap();
        prop_assert_eq!(out.len(), len);
        out.extend_from_slice(&payload);
        prop_assert_eq!(parse_datagram(&out), Ok(Header { len, addresses: Some(ends), told }));
        let mut out = Vec::new();
        write_v1(Some(&ends), &mut out);
        let len = out.len();
        prop_assert!(len <= V1_BYTES_MAX);
        out.extend_from_slice(&payload);
        prop_assert_eq!((header(&out).len, header(&out).addresses), (len, Some(ends)));
    }

    #[test]
    fn the_verdict_does_not_depend_on_the_cut(
        begin in prop_oneof![Just(&b"PROXY TCP4 "[..]), Just(&V2_SIGNATURE[..]), Just(&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"[..])],
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        crate::fuzz::fuzz_proxy_protocol(&[begin, &rest].concat());
        crate::fuzz::fuzz_proxy_protocol(&rest);
    }
}
