//! What finding a route costs: `cargo bench -p plimsoll-proxy`. Medians of several rounds.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a program that measures and prints"
)]

use plimsoll_config::{NoFiles, load_text};
use plimsoll_http::h1::parse::{self, HeadLimits};
use plimsoll_http::head::RequestHead;
use plimsoll_http::request;
use plimsoll_http::target::Target;
use plimsoll_proxy::compile::{Machine, compile};
use plimsoll_proxy::condition::Body;
use plimsoll_proxy::generation::Generation;
use plimsoll_proxy::routes::Found;
use plimsoll_proxy::seen::{Origin, Seen};
use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: usize = 9;
const LOOKUPS: usize = 100_000;

fn text(sites: usize, routes: usize) -> String {
    let mut out = String::from("defaults { log off }\n");
    for site in 0..sites {
        let _ = writeln!(out, "site s{site}.example.com {{ listen :80");
        for route in 1..routes {
            let _ = match route % 3 {
                0 => writeln!(out, "route /exact{route} {{ respond 200 }}"),
                1 => writeln!(
                    out,
                    "route /api/v{route}/* method=GET,POST {{ respond 200 }}"
                ),
                _ => writeln!(
                    out,
                    "route /below{route}/* header:x-canary=yes {{ respond 200 }}"
                ),
            };
        }
        out.push_str("route { respond 404 }\n}\n");
    }
    out
}

fn build(text: &str) -> (Generation, f64) {
    let start = Instant::now();
    let config = load_text("bench", text, &NoFiles).config.unwrap();
    let machine = Machine {
        number: 1,
        name: "bench".into(),
        seed: 1,
        workers: 1,
        capacity: 1,
        connections_max: 1000,
        sessions: std::sync::Arc::default(),
        before: None,
    };
    let (generation, _) = compile(&config, |_| Ok(Box::default()), machine);
    (generation, start.elapsed().as_secs_f64())
}

struct Request {
    bytes: Vec<u8>,
    head: RequestHead,
    target: Target,
    authority: plimsoll_http::head::Span,
}

fn request(host: usize, path: &str) -> Request {
    let bytes = format!("GET {path} HTTP/1.1\r\nHost: s{host}.example.com\r\n\r\n").into_bytes();
    let (mut head, mut target) = (RequestHead::default(), Target::default());
    parse::request(&bytes, &HeadLimits::default(), &mut head).unwrap();
    let sound = request::check(&head, &bytes, &mut target).unwrap();
    Request {
        authority: sound.authority,
        bytes,
        head,
        target,
    }
}

/// Nanoseconds for finding site and route.
fn measure(generation: &Generation, requests: &[Request]) -> f64 {
    let origin = Origin::new(([127, 0, 0, 1], 1).into(), 80, 0);
    let listener = generation.listeners.first().unwrap();
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for request in requests.iter().cycle().take(LOOKUPS) {
                let head = (&request.head, &request.target, request.authority);
                let seen = Seen::new(head, &request.bytes, &origin);
                let site = listener.site(seen.host()).unwrap();
                let site = generation.sites.get(site).unwrap();
                match site.routes.find(&seen, Body::Whole(b"")) {
                    Found::Route(route) => drop(black_box(route)),
                    _ => std::process::exit(1),
                }
            }
            start.elapsed().as_nanos() as f64 / LOOKUPS as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(ROUNDS / 2).copied().unwrap_or_default()
}

/// Resident memory of the process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let size = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    size.unwrap_or(0) * 1024
}

fn main() {
    println!(
        "{:>8} {:>8} {:>10} {:>10} {:>12}",
        "sites", "routes", "ns", "load s", "B a route"
    );
    for (sites, routes) in [
        (1, 3),
        (1, 10),
        (1, 1000),
        (100, 10),
        (10_000, 10),
        (1, 100_000),
    ] {
        let text = text(sites, routes);
        let before = resident();
        let (generation, load) = build(&text);
        let memory = resident().saturating_sub(before) / (sites * routes);
        let path = |n: usize| match n % 4 {
            0 => format!("/api/v{}/users/{n}", (n % routes) / 3 * 3 + 1),
            1 => format!("/exact{}", n % routes / 3 * 3),
            2 => format!("/below{}/a/b/c", n % routes),
            _ => format!("/other/{n}/index.html"),
        };
        let requests: Vec<_> = (0..2048)
            .map(|n| request(n * 7 % sites, &path(n * 31)))
            .collect();
        let ns = measure(&generation, &requests);
        println!("{sites:>8} {routes:>8} {ns:>10.0} {load:>10.2} {memory:>12}");
    }
}
