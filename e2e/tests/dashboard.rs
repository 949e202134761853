//! The dashboard in a real browser. `PLIMSOLL_SCREENSHOTS=DIR` keeps pictures of it.

use plimsoll_e2e::browser::Browser;
use plimsoll_e2e::plimsoll::{Plimsoll, Start, binary};
use plimsoll_e2e::raw::get;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::wait;
use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// A pool with two servers, and one with a thousand.
fn plimsoll(server: &Recorder) -> Plimsoll {
    let mut text = "workers 2\nadmin unix:{dir}/admin.sock 127.0.0.1:{port:admin}\n\
        site * { listen 127.0.0.1:{port} ; route /many { proxy many } ; route { proxy app } }\n\
        cache c { memory 16MiB }\n\
        pool app { server {server} ; server 127.0.0.1:1 backup ; check tcp every=1s }\n\
        pool many {\n"
        .to_owned();
    for number in 0..1000 {
        let _ = writeln!(
            text,
            "server 127.9.{}.{}:80",
            number / 250,
            number % 250 + 1
        );
    }
    text.push_str("}\n");
    Start::run(&text).set("server", server.address()).start()
}

/// Waits until an expression is true in the page.
fn expect(browser: &mut Browser, what: &str, expression: &str) {
    wait::expect(what, SOON, || browser.value(expression) == true);
}

#[test]
fn it_shows_what_goes_on_and_follows_it() {
    let server = Recorder::start(|_| Answer::ok("ok"));
    let plimsoll = plimsoll(&server);
    let url = format!("http://{}/", plimsoll.address_of("admin"));
    let mut browser = Browser::open(&url, (1280, 1400));
    expect(
        &mut browser,
        "the page to be live",
        "document.getElementById('line')?.textContent === 'live'",
    );
    for _ in 0..20 {
        assert_eq!(get(plimsoll.address(), "/").status(), 200);
    }
    let requests = "[...document.querySelectorAll('#sites tbody td')].at(-1)?.textContent === '20'";
    expect(&mut browser, "the requests to be shown", requests);
    let name = server.address();
    let state = |wanted: &str| {
        format!(
            "[...document.querySelectorAll('#pools tr')].some((row) => row.cells[0].textContent === '{name}' && row.cells[1].textContent === '{wanted}')"
        )
    };
    expect(&mut browser, "the server to be ready", &state("ready"));
    let why = "[...document.querySelectorAll('#pools tr')].some((row) => row.cells[1].textContent.startsWith('unreachable: Connection refused'))";
    expect(&mut browser, "why the other one is not", why);
    let output = Command::new(binary())
        .args([
            "pool",
            "app",
            "drain",
            &name.to_string(),
            "--force",
            "--running",
        ])
        .arg(plimsoll.admin_socket())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    expect(&mut browser, "the server to drain", &state("drain"));
    let points = "document.querySelector('#rates polyline.first').points.length > 0";
    assert_eq!(browser.value(points), true);
    browser.picture("dashboard.png");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_thousand_servers_are_found_by_name() {
    let server = Recorder::start(|_| Answer::ok("ok"));
    let plimsoll = plimsoll(&server);
    let url = format!("http://{}/", plimsoll.address_of("admin"));
    // On a phone.
    let mut browser = Browser::open(&url, (400, 800));
    expect(
        &mut browser,
        "the page to be live",
        "document.getElementById('line')?.textContent === 'live'",
    );
    // They are folded away, and not drawn.
    let rows = "document.querySelectorAll('#pools details:nth-of-type(2) tbody tr').length";
    assert_eq!(browser.value(rows), 0);
    browser.value("document.querySelectorAll('#pools details')[1].open = true; 0");
    expect(&mut browser, "all to be drawn", &format!("{rows} === 1000"));
    let find = |text: &str| {
        format!(
            "{{ const box = document.getElementById('filter'); box.value = '{text}'; box.dispatchEvent(new Event('input')); }} 0"
        )
    };
    browser.value(&find("127.9.3.7"));
    // 127.9.3.7 itself, and those that begin like it.
    expect(&mut browser, "one to be found", &format!("{rows} === 11"));
    browser.picture("dashboard-phone.png");
    browser.value(&find(""));
    expect(
        &mut browser,
        "all to be drawn again",
        &format!("{rows} === 1000"),
    );
    let width = "document.documentElement.scrollWidth <= window.innerWidth";
    assert_eq!(browser.value(width), true, "nothing sticks out of a phone");
    assert_eq!(browser.complaints(), [""; 0]);
}
