//! The matching and filter tables of the Kubernetes Gateway API's HTTPRoute conformance, in our words: each
//! table is a configuration and requests with the backend that answers, or the status.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::{Recorder, Request};
use plimsoll_e2e::script::Answer;

/// Backends v1, v2 and v3, which answer with their names, and Plimsoll in front.
struct Gateway {
    plimsoll: Plimsoll,
    backends: Vec<Recorder>,
}

/// What a table expects: the backend that answers, or a status.
type Expected = Result<&'static str, u16>;

impl Gateway {
    fn start(sites: &str) -> Self {
        let backend = |name: &'static str| Recorder::start(move |_| Answer::ok(name));
        let backends = vec![backend("v1"), backend("v2"), backend("v3")];
        let text = format!(
            "admin off\n{}",
            sites.replace("LISTEN", "listen 127.0.0.1:{port}")
        );
        let start = Start::run(&text).set("v1", backends[0].address());
        let start = start.set("v2", backends[1].address());
        let plimsoll = start.set("v3", backends[2].address()).start();
        Self { plimsoll, backends }
    }

    fn ask(&self, head: &str, fields: &str) -> (u16, String, Option<String>) {
        let mut client = Raw::connect(self.plimsoll.address());
        let host = if fields.contains("Host:") {
            ""
        } else {
            "Host: example.com\r\n"
        };
        client
            .send(format!("{head} HTTP/1.1\r\n{host}{fields}\r\n"))
            .unwrap();
        let method = head.split(' ').next().unwrap();
        let response = client.response(method);
        let location = response.field("location").map(str::to_owned);
        (response.status(), response.text(), location)
    }

    fn holds(&self, table: &[(&str, &str, Expected)]) {
        for (head, fields, expected) in table {
            let (status, text, _) = self.ask(head, fields);
            match expected {
                Ok(backend) => {
                    assert_eq!((status, text.as_str()), (200, *backend), "{head} {fields}")
                }
                Err(refused) => assert_eq!(status, *refused, "{head} {fields}"),
            }
        }
    }

    fn last(&self, backend: usize) -> Request {
        self.backends[backend].requests().pop().unwrap()
    }
}

#[test]
fn exact_paths() {
    let gateway = Gateway::start(
        "site * { LISTEN ; route /one { proxy {v1} } ; route /two { proxy {v2} } }\n",
    );
    gateway.holds(&[
        ("GET /one", "", Ok("v1")),
        ("GET /two", "", Ok("v2")),
        ("GET /", "", Err(404)),
        ("GET /one/example", "", Err(404)),
        ("GET /two/", "", Err(404)),
        ("GET /Two", "", Err(404)),
    ]);
}

#[test]
fn prefixes_and_headers() {
    // Where the API orders by length, the written order does.
    let gateway = Gateway::start(
        "site * { LISTEN
         route /v2/* { proxy {v2} }
         route header:version=two { proxy {v2} }
         route { proxy {v1} } }\n",
    );
    gateway.holds(&[
        ("GET /", "", Ok("v1")),
        ("GET /example", "", Ok("v1")),
        ("GET /", "Version: one\r\n", Ok("v1")),
        ("GET /v2", "", Ok("v2")),
        ("GET /v2/example", "", Ok("v2")),
        ("GET /", "Version: two\r\n", Ok("v2")),
        ("GET /v2/", "", Ok("v2")),
        // Not a prefix by segments.
        ("GET /v2example", "", Ok("v1")),
        ("GET /foo/v2/example", "", Ok("v1")),
    ]);
}

#[test]
fn the_order_of_paths() {
    let gateway = Gateway::start(
        "site * { LISTEN
         route /match/exact/one { proxy {v3} }
         route /match/exact { proxy {v2} }
         route /match/prefix/one/* { proxy {v2} }
         route /match/prefix/* { proxy {v1} }
         route /match/* { proxy {v1} } }\n",
    );
    gateway.holds(&[
        ("GET /match/exact/one", "", Ok("v3")),
        ("GET /match/exact", "", Ok("v2")),
        ("GET /match/prefix/one/any", "", Ok("v2")),
        ("GET /match/prefix/any", "", Ok("v1")),
        ("GET /match/any", "", Ok("v1")),
        ("GET /matching", "", Err(404)),
    ]);
}

#[test]
fn headers() {
    let gateway = Gateway::start(
        "site * { LISTEN
         route header:version=two header:color=orange { proxy {v1} }
         route header:version=one { proxy {v1} }
         route header:version=two { proxy {v2} }
         route header:color=blue { proxy {v1} }
         route header:color=green { proxy {v1} }
         route header:color=red { proxy {v2} }
         route header:color=yellow { proxy {v2} } }\n",
    );
    gateway.holds(&[
        ("GET /", "Version: one\r\n", Ok("v1")),
        ("GET /", "Version: two\r\n", Ok("v2")),
        ("GET /", "Version: two\r\nColor: orange\r\n", Ok("v1")),
        ("GET /", "Color: blue\r\n", Ok("v1")),
        ("GET /", "Color: green\r\n", Ok("v1")),
        ("GET /", "Color: red\r\n", Ok("v2")),
        ("GET /", "Color: yellow\r\n", Ok("v2")),
        ("GET /", "Color: purple\r\n", Err(404)),
        ("GET /", "Version: two\r\nColor: blue\r\n", Ok("v2")),
        ("GET /", "Color: Blue\r\n", Err(404)),
        ("GET /", "", Err(404)),
    ]);
}

#[test]
fn methods() {
    let gateway = Gateway::start(
        "site * { LISTEN
         route /path1/* method=GET { proxy {v1} }
         route /path2/* method=PUT header:version=one { proxy {v2} }
         route /path3/* method=GET,POST { proxy {v3} }
         route /path5/* { proxy {v1} }
         route method=PATCH { proxy {v2} }
         route method=POST { proxy {v1} }
         route method=GET { proxy {v2} } }\n",
    );
    gateway.holds(&[
        ("POST /", "Content-Length: 0\r\n", Ok("v1")),
        ("GET /", "", Ok("v2")),
        ("HEAD /none", "", Err(404)),
        ("GET /path1", "", Ok("v1")),
        ("PUT /path1", "Content-Length: 0\r\n", Err(404)),
        (
            "PUT /path2",
            "Version: one\r\nContent-Length: 0\r\n",
            Ok("v2"),
        ),
        ("PUT /path2", "Content-Length: 0\r\n", Err(404)),
        ("POST /path3", "Content-Length: 0\r\n", Ok("v3")),
        ("PATCH /path4", "Content-Length: 0\r\n", Ok("v2")),
        ("DELETE /path5", "", Ok("v1")),
    ]);
}

#[test]
fn query_parameters() {
    let gateway = Gateway::start(
        "site * { LISTEN
         route query:animal=dolphin query:color=blue { proxy {v3} }
         route /path5 query:ghost=casper header:version=two { proxy {v1} }
         route query:animal=whale { proxy {v1} }
         route query:animal=dolphin { proxy {v2} }
         route query:ANIMAL=Whale { proxy {v3} } }\n",
    );
    gateway.holds(&[
        ("GET /?animal=whale", "", Ok("v1")),
        ("GET /?animal=dolphin", "", Ok("v2")),
        ("GET /?animal=dolphin&color=blue", "", Ok("v3")),
        ("GET /?color=blue&animal=dolphin", "", Ok("v3")),
        ("GET /?ANIMAL=Whale", "", Ok("v3")),
        ("GET /?animal=whale&otherparam=irrelevant", "", Ok("v1")),
        ("GET /?animal=dolphin&color=yellow", "", Ok("v2")),
        ("GET /?color=blue", "", Err(404)),
        ("GET /?animal=dog", "", Err(404)),
        ("GET /?animal=whaledolphin", "", Err(404)),
        ("GET /path5?ghost=casper", "Version: two\r\n", Ok("v1")),
        ("GET /path5?ghost=casper", "", Err(404)),
        ("GET /", "", Err(404)),
    ]);
}

#[test]
fn hosts() {
    let gateway = Gateway::start(
        "site very.specific.com { LISTEN ; route /s1/* { proxy {v1} } ; route /s3/* { proxy {v3} } }
         site *.wildcard.io { LISTEN ; route /s2/* { proxy {v2} } }
         site *.anotherwildcard.io { LISTEN ; route host=one.anotherwildcard.io,two.anotherwildcard.io /s3 { proxy {v3} } }\n"
            .replace("host=one.anotherwildcard.io,two.anotherwildcard.io /s3", "/s3/* host=one.anotherwildcard.io,two.anotherwildcard.io")
            .as_str(),
    );
    let host = |name: &'static str| format!("Host: {name}\r\n");
    for (name, target, expected) in [
        ("very.specific.com", "/s1", Ok("v1")),
        ("very.specific.com:1234", "/s1", Ok("v1")),
        ("VERY.specific.com", "/s3", Ok("v3")),
        ("very.specific.com", "/non-matching-prefix", Err(404)),
        ("non.matching.com", "/s1", Err(404)),
        ("foo.very.specific.com", "/s1", Err(404)),
        ("wildcard.io", "/s2", Err(404)),
        ("foo.wildcard.io", "/s2", Ok("v2")),
        ("bar.foo.wildcard.io", "/s2", Ok("v2")),
        ("one.anotherwildcard.io", "/s3", Ok("v3")),
        ("two.anotherwildcard.io", "/s3", Ok("v3")),
        ("three.anotherwildcard.io", "/s3", Err(404)),
    ] {
        gateway.holds(&[(&format!("GET {target}"), &host(name), expected)]);
    }
}

#[test]
fn redirects() {
    let gateway = Gateway::start(
        "site * { LISTEN
         route /hostname-redirect/* { redirect http://example.org${request.uri} }
         route /host-and-status/* { redirect http://example.org${request.uri} permanent }
         route /scheme/* { redirect https://${request.host}${request.uri} }
         route /port/* { redirect http://${request.host}:8083${request.uri} }
         route `path~^/original-prefix/?(.*)$` { redirect http://${request.host}/replacement-prefix/${match.1} }
         route /full-path-original { redirect http://${request.host}/full-path-replacement } }\n",
    );
    for (target, status, location) in [
        (
            "/hostname-redirect",
            302,
            "http://example.org/hostname-redirect",
        ),
        (
            "/host-and-status",
            301,
            "http://example.org/host-and-status",
        ),
        ("/scheme/a?b", 302, "https://example.com/scheme/a?b"),
        ("/port", 302, "http://example.com:8083/port"),
        (
            "/original-prefix/lemon",
            302,
            "http://example.com/replacement-prefix/lemon",
        ),
        (
            "/full-path-original",
            302,
            "http://example.com/full-path-replacement",
        ),
    ] {
        let (is, _, to) = gateway.ask(&format!("GET {target}"), "");
        assert_eq!((is, to.as_deref()), (status, Some(location)), "{target}");
    }
}

#[test]
fn header_modifiers() {
    let gateway = Gateway::start(
        "site * { LISTEN
         route /set { request-header set X-Header-Set set-overwrites-values ; proxy {v1} }
         route /add { request-header add X-Header-Add add-appends-values ; proxy {v1} }
         route /remove { request-header remove X-Header-Remove ; proxy {v1} }
         route /multiple { request-header set X-Header-Set-1 header-set-1 ; request-header set X-Header-Set-2 header-set-2
             request-header add X-Header-Add-1 header-add-1 ; request-header add X-Header-Add-2 header-add-2
             request-header remove X-Header-Remove-1 ; request-header remove X-Header-Remove-2 ; proxy {v1} } }\n",
    );
    let seen = |target: &str, fields: &str, name: &str| {
        gateway.holds(&[(&format!("GET {target}"), fields, Ok("v1"))]);
        let request = gateway.last(0);
        request
            .head
            .fields
            .all(name)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let some = "Some-Other-Header: val\r\n";
    assert_eq!(
        seen("/set", some, "x-header-set"),
        ["set-overwrites-values"]
    );
    assert_eq!(
        seen("/set", "X-Header-Set: val\r\n", "x-header-set"),
        ["set-overwrites-values"]
    );
    assert_eq!(seen("/set", some, "some-other-header"), ["val"]);
    assert_eq!(seen("/add", some, "x-header-add"), ["add-appends-values"]);
    assert_eq!(
        seen("/add", "X-Header-Add: val\r\n", "x-header-add"),
        ["val", "add-appends-values"]
    );
    assert_eq!(
        seen("/remove", "X-Header-Remove: val\r\n", "x-header-remove"),
        [""; 0]
    );
    let many =
        "X-Header-Set-2: a\r\nX-Header-Add-2: a\r\nX-Header-Remove-2: a\r\nAnother-Header: a\r\n";
    assert_eq!(seen("/multiple", many, "x-header-set-2"), ["header-set-2"]);
    assert_eq!(
        seen("/multiple", many, "x-header-add-2"),
        ["a", "header-add-2"]
    );
    assert_eq!(seen("/multiple", many, "x-header-remove-2"), [""; 0]);
    assert_eq!(seen("/multiple", many, "another-header"), ["a"]);
}

#[test]
fn rewrites() {
    let gateway = Gateway::start(
        "site * { LISTEN
         route /prefix/one/* { rewrite `^/prefix/one` /one ; proxy {v1} }
         route /strip-prefix/* { strip-prefix /strip-prefix ; proxy {v1} }
         route /full/one/* { rewrite `^.*$` /one ; proxy {v1} }
         route /host/* { request-header set Host one.example.org ; proxy {v1} } }\n",
    );
    for (target, sent, host) in [
        ("/prefix/one/two", "/one/two", "example.com"),
        ("/prefix/one", "/one", "example.com"),
        ("/strip-prefix/three", "/three", "example.com"),
        ("/strip-prefix", "/", "example.com"),
        ("/full/one/two", "/one", "example.com"),
        ("/full/one", "/one", "example.com"),
        ("/host/x?y", "/host/x?y", "one.example.org"),
    ] {
        gateway.holds(&[(&format!("GET {target}"), "", Ok("v1"))]);
        let request = gateway.last(0);
        assert_eq!(request.head.target, sent, "{target}");
        assert_eq!(request.head.fields.first("host"), Some(host), "{target}");
    }
}

#[test]
fn weights_and_mirrors() {
    let gateway = Gateway::start(
        "site * { LISTEN
         route /weighted { split 70 {v1} ; split 30 {v2} ; split 0 {v3} }
         route /mirror { mirror {v2} ; proxy {v1} } }\n",
    );
    let count = (0..500)
        .filter(|_| gateway.ask("GET /weighted", "").1 == "v1")
        .count();
    // 350 are expected; 500 draws are this far off once in 10^9 runs.
    assert!((285..=415).contains(&count), "{count}");
    assert_eq!(gateway.backends[2].requests().len(), 0);
    let before = gateway.backends[1].requests().len();
    gateway.holds(&[("GET /mirror", "", Ok("v1"))]);
    plimsoll_e2e::wait::expect("the copy", std::time::Duration::from_secs(10), || {
        gateway.backends[1].requests().len() == before + 1
    });
}
