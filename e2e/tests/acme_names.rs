//! Names that are shown to be ours by records: BIND has them, and Pebble looks for them.

use plimsoll_e2e::acme::{Stand, orders};
use plimsoll_e2e::bind::Bind;
use plimsoll_e2e::network::isolated;

const HOSTS: &str = "a.example *.a.example www.b.test";

/// The issuer asks a server that learns of changes seconds later, so it is told to look when that has
/// come true; the zones of the hosts are found by asking.
#[test]
fn records_are_waited_for_on_all_servers_of_all_zones() {
    let name = "records_are_waited_for_on_all_servers_of_all_zones";
    isolated(name, || {
        let stand = Stand::new();
        let [first, second] = Bind::pair(&["example", "b.test"]);
        let pebble = stand.pebble().names(second.address()).start();
        let update = format!("dns-update {} key={}", first.address(), first.key());
        let issuers = format!("{}\n{update}", pebble.issuer());
        let plimsoll = stand.serve("challenge=dns-01", &issuers, HOSTS);
        stand.wait(&plimsoll, "a.example", &pebble.root());
        stand.wait(&plimsoll, "www.b.test", &pebble.root());
        assert_eq!(orders(&plimsoll, "failed"), 0.0, "{}", plimsoll.stderr());
        assert_eq!(orders(&plimsoll, "issued"), 1.0);
        // At the beginning, and for the records.
        assert!(second.transfers() >= 4, "{}", second.said());
        let said = first.said();
        let count = |what| said.matches(what).count();
        let changes = (count("adding an RR"), count("deleting an RR"));
        assert_eq!(changes, (3, 3), "{said}");
    });
}

#[test]
fn each_zone_has_its_server() {
    let stand = Stand::new();
    let (of_example, of_test) = (Bind::start("example"), Bind::start("b.test"));
    let pebble = stand.pebble().environment("PEBBLE_VA_ALWAYS_VALID", "1");
    let pebble = pebble.start();
    let line = |bind: &Bind, zone: &str| {
        format!(
            "\ndns-update {} zone={zone} key={}",
            bind.address(),
            bind.key()
        )
    };
    let lines = line(&of_example, "example") + &line(&of_test, "b.test");
    let plimsoll = stand.serve("challenge=dns-01", &(pebble.issuer() + &lines), HOSTS);
    stand.wait(&plimsoll, "www.b.test", &pebble.root());
    for (bind, records) in [(&of_example, 2), (&of_test, 1)] {
        let said = bind.said();
        assert_eq!(said.matches("adding an RR").count(), records, "{said}");
    }
}
