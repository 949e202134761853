//! What issuers wish for: when to renew, and when not to ask. Pebble is the issuer, and what it does not
//! know is said before it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::acme::{SOON, Stand, orders};
use plimsoll_e2e::front::{Asked, Front, Said, Through};
use plimsoll_e2e::pebble::Pebble;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::{issuer, wait};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

/// How long certificates are good, in seconds: without a wish they are renewed after 66 of them.
const LIFETIME: u64 = 100;

/// When they are to be renewed, in seconds from now.
const WISHED: (u64, u64) = (12, 13);

/// How long it takes until the next order, in seconds, if that is heard.
const HEARD: std::ops::Range<u64> = 11..40;

/// A moment that many seconds from now.
fn date(seconds: u64, format: &str) -> String {
    let mut date = Command::new("date");
    date.env("LC_ALL", "C");
    let from_now = format!("+{seconds} seconds");
    let output = date.args(["-u", "-d", &from_now, format]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Stands before Pebble and says when to renew (RFC 9773); `refuse` looks at orders first.
fn front(pebble: &Pebble, refuse: impl Fn(&Asked) -> Option<Said> + Send + 'static) -> Front {
    let window = Mutex::new(None);
    Front::before(pebble, move |asked, through| match &*asked.path {
        "/dir" => with_renewals(asked, through),
        "/order-plz" => refuse(asked).unwrap_or_else(|| reflected(asked, through)),
        path if path.starts_with("/renewal/") => {
            let mut window = window.lock().unwrap();
            let body = window.get_or_insert_with(|| {
                let (from, until) = WISHED;
                let [from, until] = [from, until].map(|seconds| date(seconds, "+%FT%TZ"));
                format!(r#"{{"suggestedWindow": {{"start": "{from}", "end": "{until}"}}}}"#)
            });
            let fields = [
                ("Content-Type", "application/json"),
                ("Retry-After", "21600"),
            ];
            Said::new(200, &fields, &*body)
        }
        _ => through.pass(asked),
    })
}

fn with_renewals(asked: &Asked, through: Through) -> Said {
    let mut said = through.pass(asked);
    let place = format!(r#"{{"renewalInfo": "https://{}/renewal","#, asked.host);
    said.body = said.body.replacen('{', &place, 1);
    said
}

/// An order says again what it replaces.
fn reflected(asked: &Asked, through: Through) -> Said {
    let mut said = through.pass(asked);
    if let Some(id) = replaces(asked) {
        let again = format!(r#"{{"replaces": "{id}","#);
        said.body = said.body.replacen('{', &again, 1);
    }
    said
}

/// What an order replaces.
fn replaces(order: &Asked) -> Option<String> {
    let (_, rest) = order.payload.split_once(r#""replaces":""#)?;
    rest.split('"').next().map(str::to_owned)
}

fn ordered(front: &Front) -> Vec<Asked> {
    let asked = front.asked().into_iter();
    asked.filter(|asked| asked.path == "/order-plz").collect()
}

/// How many seconds are between two requests.
fn between(first: &Asked, second: &Asked) -> u64 {
    (second.at - first.at).as_secs()
}

#[test]
fn a_certificate_is_renewed_when_its_issuer_says_so() {
    let stand = Stand::new();
    let pebble = stand.pebble().lifetime(LIFETIME).start();
    let front = front(&pebble, |_| None);
    let plimsoll = stand.plimsoll("", &front.issuer());
    stand.wait(&plimsoll, "a.example", &pebble.root());
    let id = issuer::identifier(&stand.file());
    wait::expect("another certificate", SOON, || {
        orders(&plimsoll, "issued") >= 2.0
    });
    let asked = front.asked();
    let of_it = format!("/renewal/{id}");
    assert!(asked.iter().any(|asked| asked.path == of_it), "{asked:?}");
    let [first, second] = &*ordered(&front) else {
        panic!("{asked:?}")
    };
    assert!(HEARD.contains(&between(first, second)), "{asked:?}");
    assert_eq!((replaces(first), replaces(second)), (None, Some(id)));
    assert_eq!(orders(&plimsoll, "failed"), 0.0);
}

#[test]
fn what_another_order_has_replaced_is_renewed_all_the_same() {
    let stand = Stand::new();
    let pebble = stand.pebble().lifetime(LIFETIME).start();
    let front = front(&pebble, |order| {
        let problem = Said::problem(409, "alreadyReplaced", &[]);
        replaces(order).map(|_| problem)
    });
    let plimsoll = stand.plimsoll("", &front.issuer());
    stand.wait(&plimsoll, "a.example", &pebble.root());
    wait::expect("another certificate", SOON, || {
        orders(&plimsoll, "issued") >= 2.0
    });
    let ordered = ordered(&front);
    let replaces: Vec<_> = ordered
        .iter()
        .map(|order| replaces(order).is_some())
        .collect();
    assert_eq!(replaces, [false, true, false]);
    assert_eq!(orders(&plimsoll, "failed"), 0.0);
}

/// S-163: an issuer that refuses says until when, in either form, and nothing is asked before that.
#[test]
fn an_issuer_that_has_had_enough_is_left_alone() {
    let seconds: fn() -> String = || "6".to_owned();
    let with_date: fn() -> String = || date(6, "+%a, %d %b %Y %T GMT");
    for (status, kind, wish) in [
        (429, "rateLimited", seconds),
        (429, "rateLimited", with_date),
        (503, "serverInternal", with_date),
    ] {
        let stand = Stand::new();
        let pebble = stand.pebble().start();
        let refused = Mutex::new(false);
        let front = front(&pebble, move |_| {
            let is_first = !std::mem::replace(&mut *refused.lock().unwrap(), true);
            is_first.then(|| Said::problem(status, kind, &[("Retry-After", &wish())]))
        });
        // Without a wish, the next attempt would be after a second.
        let plimsoll = stand.plimsoll("", &front.issuer());
        stand.wait(&plimsoll, "a.example", &pebble.root());
        let asked = front.asked();
        let at = asked
            .iter()
            .position(|asked| asked.path == "/order-plz")
            .unwrap();
        let [refused, next, ..] = asked.split_at(at).1 else {
            panic!("{asked:?}")
        };
        // A date says no parts of a second.
        assert!((5..12).contains(&between(refused, next)), "{asked:?}");
        assert_eq!(
            (orders(&plimsoll, "failed"), orders(&plimsoll, "issued")),
            (1.0, 1.0)
        );
        let said = plimsoll.stderr();
        assert!(
            said.contains("an order has failed") && said.contains(kind),
            "{said}"
        );
    }
}

/// S-163: what is shown to an issuer is shown by us, whatever the routes are.
#[test]
fn no_challenge_reaches_a_server() {
    let stand = Stand::new();
    let server = Recorder::start(|_| Answer::ok("of the server"));
    let pebble = stand.pebble().start();
    let pool = format!("pool app {{ server {} }}", server.address());
    let issuers = format!("{}\n{pool}", pebble.issuer());
    let plimsoll = stand.serve_with("", &issuers, "a.example b.example", "route { proxy app }");
    stand.wait(&plimsoll, "a.example", &pebble.root());
    assert_eq!(pebble.given(), 1, "{}", pebble.said());
    assert_eq!(server.requests().len(), 0);
}

/// S-163: pauses become longer, so that nobody who cannot be certified asks on and on.
#[test]
fn who_is_refused_asks_less_and_less_often() {
    let stand = Stand::new();
    let pebble = stand.pebble().start();
    let front = front(&pebble, |_| Some(Said::problem(429, "rateLimited", &[])));
    let plimsoll = stand.plimsoll("", &front.issuer());
    wait::expect("four orders", SOON, || ordered(&front).len() >= 4);
    let [first, second, third, fourth, ..] = &*ordered(&front) else {
        panic!()
    };
    // After 1, 2 and 4 seconds, each of them shorter by a quarter at most.
    let pauses = [(first, second), (second, third), (third, fourth)].map(|(a, b)| b.at - a.at);
    for (pause, least) in pauses.iter().zip([750, 1500, 3000]) {
        assert!(*pause >= Duration::from_millis(least), "{pauses:?}");
    }
    assert_eq!(orders(&plimsoll, "issued"), 0.0);
}
