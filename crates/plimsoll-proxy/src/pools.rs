//! From a configuration to pools: their servers, and what picks one.

use std::sync::Arc;

use hashbrown::HashMap;

use plimsoll_balance::subset;
use plimsoll_balance::{Algorithm, OutlierRule, Pool as Balancer, Rules, ServerSpec};
use plimsoll_config::model::{self, Balance, Config, OnDown, ServerAddress, SocketOptions};
use plimsoll_net::connect::{Connector, Source, Turns};
use plimsoll_net::idle_pool::Berths;
use plimsoll_net::options::Options;
use xxhash_rust::xxh3::xxh3_64;

use crate::addresses::{Addresses, Known};
use crate::compile::{Machine, ceiling};
use crate::generation::{Pool, Server};
use crate::http::line::Board;
use crate::material::Materials;
use crate::server_tls::{Terms, spoken};
use crate::sticky::Sticky;
use crate::succession::Before;

/// Which node this is, of all that have the configuration.
#[derive(Clone, Copy, Debug)]
struct Node<'a> {
    name: &'a str,
    zone: Option<&'a str>,
}

/// The pools of `config`.
pub(crate) fn compile(
    config: &Config,
    resolve: impl Fn(&ServerAddress) -> Known,
    (machine, berths): (&Machine, &Arc<Berths>),
    materials: &mut Materials,
) -> Vec<Pool> {
    let before = Before(machine.before.as_deref());
    let node = Node {
        name: &machine.name,
        zone: config.zone.as_deref(),
    };
    let pools = config.pools.iter().enumerate().map(|(index, settings)| {
        let terms = settings.tls.as_ref().map(|tls| Terms::new(tls, materials));
        let before = before.pool(&settings.name);
        let known = Servers::new(before);
        let server = |server: &model::Server| {
            let known = known.find(server);
            let same = known.filter(|_| is_reached_alike(settings, before));
            let cuts = settings.on_down == OnDown::CloseConnections;
            Server {
                name: Arc::clone(&server.name),
                berth: match same {
                    Some(known) => Arc::clone(&known.berth),
                    None => Arc::new(berths.berth(machine.capacity)),
                },
                addresses: match known {
                    Some(known) => known.addresses.clone(),
                    None => Addresses::new(resolve(&server.address)),
                },
                tls: terms
                    .as_ref()
                    .map(|terms| terms.server(&server.address, spoken(settings.protocol))),
                cut: cuts.then(|| {
                    known
                        .and_then(|known| known.cut.clone())
                        .unwrap_or_default()
                }),
            }
        };
        let servers = settings.servers.iter().map(server).collect();
        pool((index, settings), servers, before, (machine.capacity, node))
    });
    pools.collect()
}

/// The servers of the pool before, by name.
struct Servers<'a>(HashMap<&'a str, (&'a ServerAddress, &'a Server)>);

impl<'a> Servers<'a> {
    fn new(before: Option<(&'a model::Pool, &'a Pool)>) -> Self {
        let all = before.iter().flat_map(|(settings, pool)| {
            let servers = settings.servers.iter().zip(&pool.servers);
            servers.map(|(settings, server)| (&*settings.name, (&settings.address, server)))
        });
        Self(all.collect())
    }

    fn find(&self, server: &model::Server) -> Option<&'a Server> {
        let (address, known) = self.0.get(&*server.name)?;
        (**address == server.address).then_some(*known)
    }
}

/// Tells whether what was kept of connections to the servers of the pool before is as good as new.
fn is_reached_alike(settings: &model::Pool, before: Option<(&model::Pool, &Pool)>) -> bool {
    let way = |pool: &model::Pool| {
        let tls = pool.tls.clone();
        (tls, pool.protocol, pool.source.clone(), pool.proxy_protocol)
    };
    before.is_some_and(|(old, _)| way(old) == way(settings))
}

fn pool(
    (index, pool): (usize, &model::Pool),
    servers: Vec<Server>,
    before: Option<(&model::Pool, &Pool)>,
    (workers, node): (usize, Node<'_>),
) -> Pool {
    let known = before.map(|(_, known)| known);
    let (algorithm, key) = match &pool.balance {
        Balance::RoundRobin => (Algorithm::RoundRobin, None),
        Balance::Random => (Algorithm::Random, None),
        Balance::TwoChoices => (Algorithm::TwoChoices, None),
        Balance::LeastConnections => (Algorithm::LeastConnections, None),
        Balance::LeastTime => (Algorithm::LeastTime, None),
        Balance::First => (Algorithm::First, None),
        Balance::Hash(key) => (Algorithm::Ring, Some(key.clone())),
        Balance::Maglev(key) => (Algorithm::Maglev, Some(key.clone())),
    };
    let tiers = tiers(pool, node);
    let specs = pool.servers.iter().zip(tiers);
    let specs = specs.map(|(server, tier)| ServerSpec {
        name: Arc::clone(&server.name),
        weight: server.weight,
        max_connections: server.max_connections,
        tier,
    });
    let rules = Rules {
        outlier: pool.outlier.as_ref().map(outlier),
        slow_start: pool.slow_start,
        fail_open: pool.fail_open,
    };
    let specs: Vec<_> = specs.collect();
    let balancer = match known.map(|known| &known.balancer) {
        Some(known) if known.is_made_of(&specs, algorithm, &rules) => Arc::clone(known),
        Some(known) => Arc::new(known.succeed(specs, algorithm).with_rules(rules)),
        None => Arc::new(Balancer::new(specs, algorithm).with_rules(rules)),
    };
    let sticky = pool.sticky.as_ref();
    let remembered = before.and_then(|(old, known)| old.sticky.as_ref().zip(known.sticky.as_ref()));
    Pool {
        name: Arc::clone(&pool.name),
        index,
        id: xxh3_64(pool.name.as_bytes()),
        balancer,
        key,
        sticky: sticky.map(|sticky| Sticky::new(sticky, &pool.name, &servers, remembered)),
        servers,
        timeouts: pool.timeouts,
        protocol: pool.protocol,
        keep_for: pool.keep_alive.idle,
        proxy_protocol: pool.proxy_protocol,
        connector: Connector {
            source: source(&pool.source),
            options: options(pool.socket),
        },
        // What a server was told or shown of a connection holds for one client.
        keep_max: match (pool.proxy_protocol, &pool.source) {
            (Some(_), _) | (_, model::Source::Client) => 0,
            _ => usize::from(pool.keep_alive.max),
        },
        retry: pool.retry.clone(),
        adaptive: pool.adaptive,
        // A client that belongs to a server is served by no other.
        hedge: pool.hedge.filter(|_| pool.sticky.is_none()),
        ceiling: ceiling(
            pool.max_requests,
            known.and_then(|known| known.ceiling.as_ref()),
        ),
        line: pool
            .queue
            .map(|queue| match known.and_then(|known| known.line.as_ref()) {
                Some(board) => board.succeed(queue),
                None => Board::new(queue, workers),
            }),
    }
}

fn source(source: &model::Source) -> Source {
    match source {
        model::Source::System => Source::System,
        model::Source::Addresses(addresses) => Source::Turns(Turns::new(addresses)),
        model::Source::Client => Source::Client,
    }
}

/// What the system is asked to do for connections.
pub(crate) fn options(socket: SocketOptions) -> Options {
    let SocketOptions {
        keepalive,
        user_timeout,
        fast_open,
        multipath,
    } = socket;
    Options {
        keepalive,
        user_timeout,
        fast_open,
        multipath,
    }
}

/// In which tier the balancer has each server: those of other zones come after those of ours, and
/// those that this node does not use after those that it does, all before the next tier.
fn tiers(pool: &model::Pool, node: Node<'_>) -> Vec<u8> {
    let zoned =
        |server: &model::Server| server.tier * 2 + u8::from(is_elsewhere(server, node.zone));
    let most = pool.subset.map_or(usize::MAX, |most| most.get() as usize);
    let servers = || pool.servers.iter();
    let used = subset::of_node(node.name, servers().map(|s| (&*s.name, zoned(s))), most);
    let tiers = servers().zip(used);
    tiers
        .map(|(server, is_used)| zoned(server) * 2 + u8::from(!is_used))
        .collect()
}

/// Tells whether a server is known to be in another zone.
fn is_elsewhere(server: &model::Server, zone: Option<&str>) -> bool {
    zone.is_some_and(|zone| server.zone.as_deref().is_some_and(|own| own != zone))
}

fn outlier(outlier: &model::Outlier) -> OutlierRule {
    OutlierRule {
        consecutive_5xx: outlier.consecutive_5xx,
        consecutive_gateway: outlier.consecutive_gateway,
        consecutive_failures: outlier.consecutive_failures,
        failure_percent: outlier.failure_percent,
        success_rate: outlier.success_rate,
        interval: outlier.interval,
        volume: outlier.volume,
        eject: outlier.eject,
        eject_max: outlier.eject_max,
        max_ejected: outlier.max_ejected,
    }
}
