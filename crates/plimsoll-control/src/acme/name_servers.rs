//! Who serves a zone, and whether all of them have a record: issuers ask any of them, and secondary servers
//! learn of changes later.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_proto::rr::{Name, RData, RecordType};
use plimsoll_config::model::ServerAddress;
use plimsoll_net::clock;

use super::dns;
use super::dns_update::Written;
use crate::fetch::Fetcher;

/// How long servers may take to learn of records.
const SPREAD_MAX: Duration = Duration::from_secs(60);

/// How often they are asked.
const LOOK: Duration = Duration::from_secs(1);

/// How many servers of a zone are asked, and at how many addresses each.
const SERVERS_MAX: usize = 16;
const ADDRESSES_MAX: usize = 4;

/// Where name servers are asked.
const PORT: u16 = 53;

/// The zone that a name is in, if a server has it.
///
/// # Errors
/// Why that is not known.
pub(super) async fn zone_of(server: SocketAddr, name: &Name) -> Result<Name, String> {
    let mut at = name.clone();
    while !at.is_root() {
        let answer = dns::ask(server, &at, RecordType::SOA).await?;
        // Who has no such record says in which zone there is none (RFC 2308 §3).
        let mut said = answer.answers.iter().chain(&answer.authorities);
        let zone = said
            .find(|said| matches!(said.data, RData::SOA(_)) && said.name.zone_of(name))
            .map(|said| said.name.clone());
        if let Some(zone) = zone {
            return Ok(zone);
        }
        at = at.base_name();
    }
    Err(format!(
        "the name server {server} has no zone with `{name}`"
    ))
}

/// Waits until all servers of their zones have these records, or until it is likely that some never will:
/// that is for the issuer to judge.
pub(super) async fn wait(records: &[&Written], fetcher: &Fetcher) {
    let end = clock::now() + SPREAD_MAX;
    for record in records {
        if let Err(problem) = wait_for(record, fetcher, end).await {
            let record = record.name.to_string();
            tracing::warn!(record, problem, "not all name servers may have a record");
        }
    }
}

async fn wait_for(record: &Written, fetcher: &Fetcher, end: Instant) -> Result<(), String> {
    let mut lacking = servers(record, fetcher).await?;
    loop {
        let mut asked = Vec::new();
        for server in lacking {
            if !server.has(record).await {
                asked.push(server);
            }
        }
        lacking = asked;
        if lacking.is_empty() {
            return Ok(());
        }
        if clock::now() >= end {
            let names = lacking.iter().map(|server| server.name.to_string());
            let names: Vec<String> = names.collect();
            return Err(format!("{} did not show it", names.join(" ")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// One of those who serve a zone.
struct Server {
    name: Name,
    addresses: Vec<SocketAddr>,
}

/// What is seen of a record at one address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    There,
    Missing,
    /// Nobody answers.
    Nothing,
}

impl Server {
    async fn has(&self, record: &Written) -> bool {
        let mut seen = Vec::new();
        for &address in &self.addresses {
            seen.push(look(address, record).await);
        }
        is_there(&seen)
    }
}

/// Tells whether a server has a record that was seen so at its addresses: some may not be reached from
/// here.
fn is_there(seen: &[Seen]) -> bool {
    seen.contains(&Seen::There) && !seen.contains(&Seen::Missing)
}

async fn look(address: SocketAddr, record: &Written) -> Seen {
    let Ok(answer) = dns::ask(address, &record.name, RecordType::TXT).await else {
        return Seen::Nothing;
    };
    let mut said = answer.answers.iter();
    let is_there = said.any(|said| said.data == record.data());
    if is_there { Seen::There } else { Seen::Missing }
}

/// Who serves the zone of a record, as the server says that took it.
async fn servers(record: &Written, fetcher: &Fetcher) -> Result<Vec<Server>, String> {
    let answer = dns::ask(record.server, &record.zone, RecordType::NS).await?;
    let names = answer
        .answers
        .into_iter()
        .filter_map(|said| match said.data {
            RData::NS(name) => Some(name.0),
            _ => None,
        });
    let mut servers = Vec::new();
    for name in names.take(SERVERS_MAX) {
        let addresses = addresses(record.server, &name, fetcher).await;
        servers.push(Server { name, addresses });
    }
    match servers.is_empty() {
        true => Err(format!("nobody says who serves `{}`", record.zone)),
        false => Ok(servers),
    }
}

/// Where a name server is asked: `known` may serve its name, too, and is asked where we know it to be.
async fn addresses(known: SocketAddr, name: &Name, fetcher: &Fetcher) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for kind in [RecordType::A, RecordType::AAAA] {
        let answer = dns::ask(known, name, kind).await;
        let said = answer.map(|answer| answer.answers).unwrap_or_default();
        found.extend(said.into_iter().filter_map(|said| match said.data {
            RData::A(ip) => Some(SocketAddr::from((ip.0, PORT))),
            RData::AAAA(ip) => Some(SocketAddr::from((ip.0, PORT))),
            _ => None,
        }));
    }
    if found.is_empty() {
        let name = ServerAddress::Name(name.to_string().into(), PORT);
        found = fetcher.addresses(&name).await.unwrap_or_default();
    }
    found.truncate(ADDRESSES_MAX);
    for address in &mut found {
        if address.ip() == known.ip() {
            *address = known;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Message;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, NS, SOA};
    use plimsoll_config::model::Resolver;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    /// A server that has the zone `example` by itself, and shows `record` from the third question for it on.
    async fn serve(listener: TcpListener, record: Option<RData>) {
        let mut looks = 0;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut bytes).await.unwrap();
            let mut message = Message::from_vec(&bytes).unwrap().into_response();
            let query = message.queries[0].clone();
            let said = |name: &Name, data| Record::from_rdata(name.clone(), 1, data);
            let zone = name("example.");
            match query.query_type() {
                RecordType::NS => {
                    let ns = RData::NS(NS(name("ns.example.")));
                    message.add_answer(said(&zone, ns));
                }
                RecordType::A => {
                    let ip = RData::A(A([127, 0, 0, 1].into()));
                    message.add_answer(said(query.name(), ip));
                }
                RecordType::TXT => {
                    looks += 1;
                    let shown = record.clone().filter(|_| looks > 2);
                    message.add_answers(shown.map(|data| said(query.name(), data)));
                }
                _ => {
                    let soa = SOA::new(zone.clone(), zone.clone(), 1, 1, 1, 1, 1);
                    message.add_authority(said(&zone, RData::SOA(soa)));
                }
            }
            let bytes = message.to_vec().unwrap();
            let length = u16::try_from(bytes.len()).unwrap();
            stream.write_u16(length).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    }

    async fn written() -> (Written, TcpListener, Fetcher) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let written = Written {
            server: listener.local_addr().unwrap(),
            zone: name("example."),
            name: name("_acme-challenge.a.example."),
            value: "proof".to_owned(),
        };
        (written, listener, Fetcher::new(&Resolver::default()))
    }

    #[tokio::test]
    async fn a_record_is_waited_for_but_not_for_ever() {
        let second = Duration::from_secs(1);
        for (is_shown, patience, expected) in [
            (true, second * 20, Ok(())),
            (false, second, Err("ns.example. did not show it".to_owned())),
        ] {
            let (record, listener, fetcher) = written().await;
            let data = is_shown.then(|| record.data());
            let server = tokio::spawn(serve(listener, data));
            let began = clock::now();
            let waited = wait_for(&record, &fetcher, began + patience).await;
            assert_eq!(waited, expected);
            assert!(clock::now() >= began + second, "{expected:?}");
            server.abort();
        }
        // Nobody is there.
        let (record, listener, fetcher) = written().await;
        drop(listener);
        let waited = wait_for(&record, &fetcher, clock::now() + second).await;
        assert!(waited.unwrap_err().contains("refused"));
    }

    #[tokio::test]
    async fn a_server_says_in_which_of_its_zones_a_name_is() {
        let (record, listener, _) = written().await;
        let server = tokio::spawn(serve(listener, None));
        let found = zone_of(record.server, &record.name).await;
        assert_eq!(found, Ok(record.zone.clone()));
        let elsewhere = zone_of(record.server, &name("a.test.")).await;
        assert!(
            elsewhere
                .unwrap_err()
                .contains("has no zone with `a.test.`")
        );
        server.abort();
    }

    #[test]
    fn a_server_has_a_record_where_it_can_be_reached() {
        use Seen::{Missing, Nothing, There};
        for (seen, expected) in [
            (&[There][..], true),
            (&[There, Nothing], true),
            (&[There, There], true),
            (&[There, Missing], false),
            (&[Missing], false),
            (&[Nothing], false),
            (&[], false),
        ] {
            assert_eq!(is_there(seen), expected);
        }
    }
}
