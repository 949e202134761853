//! Temporary stand-in until the language is in: the model by hand.

use std::net::SocketAddr;
use std::time::Duration;

use plimsoll_config::model::*;

pub(crate) fn proxy(listen: &str, servers: &[String]) -> Result<Config, String> {
    let listen = listen
        .strip_prefix(':')
        .map_or(listen.to_owned(), |port| format!("[::]:{port}"));
    let listen: SocketAddr = listen.parse().map_err(|e| format!("{listen}: {e}"))?;
    let place = Place {
        file: "command line".into(),
        line: 1,
    };
    let log = std::env::var("PLIMSOLL_TEST_LOG")
        .ok()
        .map(|path| AccessLog {
            to: if path == "stdout" {
                LogTarget::Stdout
            } else {
                LogTarget::File(path.into())
            },
            format: LogFormat::Json,
        });
    Ok(Config {
        workers: std::env::var("PLIMSOLL_TEST_WORKERS")
            .ok()
            .and_then(|n| n.parse().ok()),
        admin: vec![([127, 0, 0, 1], 9900).into()],
        sites: vec![Site {
            name: "*".into(),
            hosts: vec![Host::Any],
            listen: vec![listen],
            timeouts: ClientTimeouts {
                header: Duration::from_secs(10),
                idle: Duration::from_secs(60),
                body: Duration::from_secs(30),
            },
            limits: RequestLimits {
                head: 32768,
                fields: 100,
                uri: 8192,
                body: None,
                min_rate: 240,
            },
            log: log.into_iter().collect(),
            routes: vec![Route {
                path: PathPattern::Any,
                methods: vec![],
                action: Action::Proxy(0),
                place: place.clone(),
            }],
            place: place.clone(),
        }],
        pools: vec![Pool {
            name: "app".into(),
            balance: Balance::RoundRobin,
            servers: servers
                .iter()
                .map(|s| {
                    let (host, port) = s.rsplit_once(':').unwrap();
                    let port = port.parse().unwrap();
                    Server {
                        name: s.as_str().into(),
                        address: host.parse().map_or_else(
                            |_| ServerAddress::Name(host.into(), port),
                            |ip| ServerAddress::Ip(ip, port),
                        ),
                        weight: 1,
                        max_connections: None,
                        backup: false,
                        place: place.clone(),
                    }
                })
                .collect(),
            timeouts: ServerTimeouts {
                connect: Duration::from_secs(3),
                response: Duration::from_secs(60),
            },
            keep_alive: KeepAlive {
                max: 128,
                idle: Duration::from_secs(30),
            },
            place,
        }],
    })
}
