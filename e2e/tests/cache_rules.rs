//! RFC 9111 against the running program: for each case, what a server answers, what is asked then, and whether the
//! second request is answered from the cache.

use plimsoll_e2e::cached::{ask, ask_as, count, is_hit, message, stand, status};
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::{Stand, check_all};

/// Fields of the answer, fields of the first request, fields of the second one, and whether that is a hit.
type Case = (&'static str, &'static str, &'static str, bool);

const FRESH: &str = "Cache-Control: max-age=1000";

const CASES: &[Case] = &[
    // Lifetimes (§4.2.1).
    (FRESH, "", "", true),
    ("Cache-Control: s-maxage=1000", "", "", true),
    ("Cache-Control: max-age=0, s-maxage=1000", "", "", true),
    ("Cache-Control: max-age=1000, s-maxage=0", "", "", false),
    ("Cache-Control: MaX-aGe=1000", "", "", true),
    ("Cache-Control: max-age=\"1000\"", "", "", true),
    ("Cache-Control: max-age='1000'", "", "", false),
    ("Cache-Control: max-age=1000, max-age=0", "", "", false),
    ("Cache-Control: max-age=0, max-age=1000", "", "", false),
    (
        "Cache-Control: max-age=0|Cache-Control: max-age=1000",
        "",
        "",
        false,
    ),
    ("Cache-Control: a=\"max-age=0\", max-age=1000", "", "", true),
    ("Cache-Control: a=\", max-age=1000\"", "", "", false),
    ("Cache-Control: max-age=-1", "", "", false),
    ("Cache-Control: max-age=1000.0", "", "", false),
    ("Cache-Control: max-age=1000x", "", "", false),
    ("Cache-Control: max-age= 1000", "", "", false),
    ("Cache-Control: max-age=2147483648", "", "", true),
    ("Cache-Control: max-age=99999999999999999999", "", "", true),
    ("Cache-Control: unknown, max-age=1000", "", "", true),
    ("Cache-Control: public", "", "", false),
    ("Expires: Thu, 18 Aug 2050 02:01:18 GMT", "", "", true),
    ("Expires: Thursday, 18-Aug-50 02:01:18 GMT", "", "", true),
    ("Expires: Thu Aug 18 02:01:18 2050", "", "", true),
    ("Expires: Thu, 18 Aug 1994 02:01:18 GMT", "", "", false),
    ("Expires: Thu, 18 Aug 2050 02:01:18 UTC", "", "", false),
    ("Expires: 0", "", "", false),
    ("Expires: 99999999999", "", "", false),
    (
        "Expires: Thu, 18 Aug 2050 02:01:18 GMT|Cache-Control: max-age=0",
        "",
        "",
        false,
    ),
    ("Expires: 0|Cache-Control: max-age=1000", "", "", true),
    (
        "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
        "",
        "",
        false,
    ),
    ("ETag: \"e\"", "", "", false),
    ("A: b", "", "", false),
    // Ages (§4.2.3, §5.1).
    ("Cache-Control: max-age=1000|Age: 900", "", "", true),
    ("Cache-Control: max-age=1000|Age: 1000", "", "", false),
    ("Cache-Control: max-age=1000|Age: 2147483648", "", "", false),
    (
        "Cache-Control: max-age=1000|Age: 99999999999999999999",
        "",
        "",
        false,
    ),
    ("Cache-Control: max-age=1000|Age: 0, 5000", "", "", true),
    ("Cache-Control: max-age=1000|Age: 5000, 0", "", "", false),
    ("Cache-Control: max-age=1000|Age: abc", "", "", true),
    ("Cache-Control: max-age=1000|Age: -5000", "", "", true),
    ("Cache-Control: max-age=1000|Age: 5000.0", "", "", true),
    (
        "Cache-Control: max-age=1000|Date: Sun, 06 Nov 1994 08:49:37 GMT",
        "",
        "",
        false,
    ),
    (
        "Cache-Control: max-age=1000|Date: Thu, 18 Aug 2050 02:01:18 GMT",
        "",
        "",
        true,
    ),
    ("Cache-Control: max-age=1000|Date: yesterday", "", "", true),
    // What may be stored (§3).
    ("Cache-Control: no-store", "", "", false),
    ("Cache-Control: no-store, max-age=1000", "", "", false),
    ("Cache-Control: No-StOrE, max-age=1000", "", "", false),
    (
        "Cache-Control: max-age=1000|Cache-Control: no-store",
        "",
        "",
        false,
    ),
    ("Cache-Control: private, max-age=1000", "", "", false),
    ("Cache-Control: private=\"x\", max-age=1000", "", "", false),
    (
        "Cache-Control: private|Expires: Thu, 18 Aug 2050 02:01:18 GMT",
        "",
        "",
        false,
    ),
    ("Cache-Control: no-cache, max-age=1000", "", "", false),
    ("Cache-Control: no-cache=\"x\", max-age=1000", "", "", false),
    ("Cache-Control: max-age=1000|Set-Cookie: a=b", "", "", false),
    (
        "Cache-Control: public, max-age=1000|Set-Cookie: a=b",
        "",
        "",
        false,
    ),
    ("Cache-Control: max-age=1000|Pragma: no-cache", "", "", true),
    (
        "Cache-Control: must-understand, no-store, max-age=1000",
        "",
        "",
        true,
    ),
    ("Cache-Control: must-revalidate, max-age=1000", "", "", true),
    (
        "Cache-Control: proxy-revalidate, max-age=1000",
        "",
        "",
        true,
    ),
    ("Cache-Control: immutable, max-age=1000", "", "", true),
    (FRESH, "Cache-Control: no-store", "", false),
    (FRESH, "Cache-Control: no-cache", "", true),
    (FRESH, "Pragma: no-cache", "", true),
    // Authorization (§3.5).
    (FRESH, "Authorization: x", "", false),
    (FRESH, "", "Authorization: x", true),
    (
        "Cache-Control: max-age=1000, public",
        "Authorization: x",
        "",
        true,
    ),
    ("Cache-Control: s-maxage=1000", "Authorization: x", "", true),
    (
        "Cache-Control: max-age=1000, must-revalidate",
        "Authorization: x",
        "",
        true,
    ),
    (
        "Cache-Control: max-age=1000, proxy-revalidate",
        "Authorization: x",
        "",
        false,
    ),
    // What clients ask for has no say (§5.2.1).
    (FRESH, "", "Cache-Control: no-cache", true),
    (FRESH, "", "Cache-Control: max-age=0", true),
    (FRESH, "", "Cache-Control: max-age=1", true),
    (FRESH, "", "Cache-Control: min-fresh=5000", true),
    (FRESH, "", "Cache-Control: no-store", true),
    (FRESH, "", "Pragma: no-cache", true),
    (FRESH, "Cookie: a", "Cookie: b", true),
    // Vary (§4.1).
    ("Cache-Control: max-age=1000|Vary: *", "", "", false),
    (
        "Cache-Control: max-age=1000|Vary: X, *",
        "X: 1",
        "X: 1",
        false,
    ),
    ("Cache-Control: max-age=1000|Vary: X", "X: 1", "X: 1", true),
    ("Cache-Control: max-age=1000|Vary: X", "X: 1", "X: 2", false),
    ("Cache-Control: max-age=1000|Vary: X", "X: 1", "", false),
    ("Cache-Control: max-age=1000|Vary: X", "", "X: 1", false),
    ("Cache-Control: max-age=1000|Vary: X", "", "", true),
    ("Cache-Control: max-age=1000|Vary: x", "X: 1", "x: 1", true),
    (
        "Cache-Control: max-age=1000|Vary: X",
        "X: 1, 2",
        "X: 1|X: 2",
        true,
    ),
    (
        "Cache-Control: max-age=1000|Vary: X, Y",
        "X: 1|Y: 2",
        "Y: 2|X: 1",
        true,
    ),
    (
        "Cache-Control: max-age=1000|Vary: X|Vary: Y",
        "X: 1|Y: 2",
        "X: 1|Y: 3",
        false,
    ),
    (
        "Cache-Control: max-age=1000|Vary: Accept-Encoding",
        "Accept-Encoding: gzip, br",
        "Accept-Encoding: br;q=1,gzip",
        true,
    ),
    (
        "Cache-Control: max-age=1000|Vary: Accept-Encoding",
        "Accept-Encoding: gzip",
        "Accept-Encoding: br",
        false,
    ),
    (
        "Cache-Control: max-age=1000|Vary: Accept-Encoding",
        "Accept-Encoding: gzip",
        "Accept-Encoding: gzip;q=0",
        false,
    ),
    // RFC 9213.
    ("CDN-Cache-Control: max-age=1000", "", "", true),
    (
        "Cache-Control: no-store|CDN-Cache-Control: max-age=1000",
        "",
        "",
        true,
    ),
    (
        "Cache-Control: max-age=1000|CDN-Cache-Control: max-age=0",
        "",
        "",
        false,
    ),
    (
        "Cache-Control: max-age=1000|CDN-Cache-Control: no-store",
        "",
        "",
        false,
    ),
    (
        "Cache-Control: max-age=1000|CDN-Cache-Control: private",
        "",
        "",
        false,
    ),
    (
        "Cache-Control: max-age=1000|CDN-Cache-Control: &&&",
        "",
        "",
        true,
    ),
    (
        "Cache-Control: max-age=1000|CDN-Cache-Control: max-age=\"0\"",
        "",
        "",
        false,
    ),
    (
        "Cache-Control: max-age=1000|CDN-Cache-Control:",
        "",
        "",
        true,
    ),
    (
        "Expires: Thu, 18 Aug 2050 02:01:18 GMT|CDN-Cache-Control: public",
        "",
        "",
        false,
    ),
];

/// The number of a case, from a target.
fn number(target: &str) -> usize {
    target.trim_start_matches('/').parse().unwrap_or_default()
}

#[test]
fn answers_are_given_again_as_the_rules_have_it() {
    let stand = stand(|request| {
        let case = CASES.get(number(&request.head.target));
        Answer::bytes(message(case.map_or("", |case| case.0), b"body"))
    });
    let numbers: Vec<_> = (0..CASES.len()).collect();
    check_all(&numbers, |number| case(&stand, *number));
}

fn case(stand: &Stand, number: usize) -> Result<(), String> {
    let Some((answer, first, second, expected)) = CASES.get(number) else {
        return Err("no such case".to_owned());
    };
    let target = format!("/{number}");
    let first = ask(stand, &target, first);
    let again = ask(stand, &target, second);
    let is_whole = [&first, &again]
        .iter()
        .all(|answer| answer.text() == "body");
    match is_whole
        && is_hit(&again) == *expected
        && count(stand, &target) == 2 - usize::from(*expected)
    {
        true => Ok(()),
        false => Err(format!(
            "{answer} | {second}: {} and {}",
            status(&first),
            status(&again)
        )),
    }
}

/// Statuses that are stored when they say so, and those that never are.
#[test]
fn statuses_are_stored_that_are_whole_answers() {
    let stand = stand(|request| {
        let status = number(&request.head.target);
        let body = if matches!(status, 204 | 304) {
            ""
        } else {
            "body"
        };
        let length = match status {
            204 | 304 => String::new(),
            _ => "Content-Length: 4\r\n".to_owned(),
        };
        Answer::bytes(format!(
            "HTTP/1.1 {status} X\r\nCache-Control: max-age=1000\r\n{length}\r\n{body}"
        ))
    });
    let all: Vec<usize> = vec![
        200, 201, 202, 203, 204, 206, 299, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405,
        410, 414, 416, 429, 451, 499, 500, 501, 502, 503, 504, 599,
    ];
    check_all(&all, |status| {
        let target = format!("/{status}");
        let first = ask(&stand, &target, "");
        let again = ask(&stand, &target, "");
        let expected = *status != 206;
        let is_same = usize::from(first.status()) == *status && again.status() == first.status();
        match is_same && is_hit(&again) == expected {
            true => Ok(()),
            false => Err(format!(
                "{status}: {} {}",
                again.status(),
                self::status(&again)
            )),
        }
    });
}

/// Only a GET is stored; a HEAD is answered from it, and stores nothing.
#[test]
fn methods_that_are_not_get_store_nothing() {
    let stand = stand(|request| match request.head.method.as_str() {
        "HEAD" => Answer::bytes(format!(
            "HTTP/1.1 200 OK\r\n{FRESH}\r\nContent-Length: 4\r\n\r\n"
        )),
        _ => Answer::bytes(message(FRESH, b"body")),
    });
    for (number, method) in ["HEAD", "OPTIONS"].into_iter().enumerate() {
        let target = format!("/{number}");
        for _ in 0..2 {
            assert!(
                !is_hit(&ask_as(&stand, method, &target, "Host: a.example")),
                "{method}"
            );
        }
        assert!(!is_hit(&ask(&stand, &target, "")), "{method}");
        assert_eq!(ask(&stand, &target, "").text(), "body");
    }
}
