use super::*;
use crate::access_log::Secured;

fn record<'a>() -> Record<'a> {
    Record {
        cache: "",
        at: Duration::from_millis(1_795_415_644_007),
        id: b"0197",
        client: b"192.0.2.1",
        client_port: 4242,
        generation: 7,
        user: "",
        site: "example.com",
        route: "plimsoll.conf:4",
        method: b"GET",
        scheme: "http",
        host: b"example.com",
        path: b"/b",
        raw_path: b"/a/../b",
        query: Some(b"q=1&token=secret"),
        secrets: &[],
        tls: Secured {
            fingerprint: "t13d1516h2_8daaf6152771_e5627efa2ab1",
            version: "TLSv1.3",
            alpn: b"http/1.1",
            sni: "example.com",
            subject: "CN=ada",
        },
        proto: "HTTP/1.1",
        status: Some(200),
        req_bytes: 0,
        res_bytes: 512,
        pool: Some("app"),
        server: Some("10.0.0.1:80"),
        attempts: 2,
        failed: Some(("10.0.0.2:80", "connection_refused")),
        reason: None,
        detail: None,
        queue: Some(Duration::from_millis(3)),
        connect: None,
        first_byte: Some(Duration::from_micros(1_234)),
        total: Duration::from_micros(2_000_345),
        user_agent: b"curl/8",
        referer: b"",
        trace_id: b"",
    }
}

fn line(format: Format, record: &Record<'_>) -> String {
    let mut out = Vec::new();
    format.write(record, &mut Dates::default(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_three_formats() {
    assert_eq!(
        line(Format::Json, &record()),
        concat!(
            r#"{"ts":"2026-11-23T06:34:04.007Z","id":"0197","client":"192.0.2.1","client_port":4242,"site":"example.com","#,
            r#""route":"plimsoll.conf:4","generation":7,"method":"GET","scheme":"http","host":"example.com","path":"/b","#,
            r#""query":"q=1&token=***","proto":"HTTP/1.1","status":200,"req_bytes":0,"res_bytes":512,"pool":"app","#,
            r#""server":"10.0.0.1:80","attempts":2,"failed_server":"10.0.0.2:80","failed_reason":"connection_refused","t_queue":0.003000,"t_first_byte":0.001234,"t_total":2.000345,"tls":"TLSv1.3","alpn":"http/1.1","sni":"example.com","cert":"CN=ada","ua":"curl/8"}"#,
            "\n"
        )
    );
    assert_eq!(
        line(Format::Combined, &record()),
        "192.0.2.1 - - [23/Nov/2026:06:34:04 +0000] \"GET /a/../b?q=1&token=*** HTTP/1.1\" 200 512 \"-\" \"curl/8\"\n"
    );
    assert_eq!(
        line(Format::Haproxy, &record()),
        "192.0.2.1:4242 [23/Nov/2026:06:34:04.007] example.com app/10.0.0.1:80 0/3/-1/1/2000 200 512 - - ---- \
         0/0/0/0/1 0/0 \"GET /a/../b?q=1&token=*** HTTP/1.1\"\n"
    );
}

#[test]
fn connections_have_a_line_of_their_own() {
    let record = Record {
        status: None,
        method: b"",
        proto: "TCP",
        connect: Some(Duration::from_millis(2)),
        reason: Some("connection_refused"),
        ..record()
    };
    assert_eq!(
        line(Format::Haproxy, &record),
        "192.0.2.1:4242 [23/Nov/2026:06:34:04.007] example.com app/10.0.0.1:80 3/2/2000 512 SC 0/0/0/0/1 0/0\n"
    );
}

#[test]
fn what_a_client_sends_cannot_break_a_line() {
    let nasty = "a\"b\\c\r\n\x1b[31m\u{202e}\u{85}é".as_bytes();
    let nasty = [nasty, b"\xff\xfe"].concat();
    let record = Record {
        user_agent: &nasty,
        host: &nasty,
        ..record()
    };
    let json = line(Format::Json, &record);
    assert!(
        json.contains(r#""ua":"a\"b\\c\u000d\u000a\u001b[31m\u202e\u0085é\\xff\\xfe""#),
        "{json}"
    );
    for format in [Format::Json, Format::Combined, Format::Haproxy] {
        let line = line(format, &record);
        assert_eq!(line.bytes().filter(|b| *b < b' ').count(), 1, "{line:?}");
    }
    assert!(
        line(Format::Combined, &record).contains(r#""a\x22b\x5Cc\x0D\x0A\x1B[31m\xE2\x80\xAE"#)
    );
    let long = vec![b'a'; 1 << 20];
    assert!(
        line(
            Format::Json,
            &Record {
                referer: &long,
                ..record
            }
        )
        .len()
            < 4096
    );
}
