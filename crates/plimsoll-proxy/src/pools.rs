//! From a configuration to pools: their servers, and what picks one.

use std::sync::Arc;

use plimsoll_balance::subset;
use plimsoll_balance::{Algorithm, OutlierRule, Pool as Balancer, Rules, ServerSpec};
use plimsoll_config::model::{self, Balance, Config, OnDown, ServerAddress, SocketOptions};
use plimsoll_net::connect::{Connector, Source, Turns};
use plimsoll_net::options::Options;
use tokio::sync::Notify;

use crate::addresses::{Addresses, Known};
use crate::compile::{Machine, ceiling};
use crate::generation::{Pool, Server};
use crate::http::line::Board;
use crate::material::Materials;
use crate::server_tls::{Terms, spoken};
use crate::sticky::Sticky;

/// Which node this is, of all that have the configuration.
#[derive(Clone, Copy, Debug)]
struct Node<'a> {
    name: &'a str,
    zone: Option<&'a str>,
}

/// The pools of `config`, and how many servers they have together.
pub(crate) fn compile(
    config: &Config,
    resolve: impl Fn(&ServerAddress) -> Known,
    machine: &Machine,
    materials: &mut Materials,
) -> (Vec<Pool>, usize) {
    let mut servers = 0;
    let node = Node {
        name: &machine.name,
        zone: config.zone.as_deref(),
    };
    let pools = config.pools.iter().enumerate().map(|(index, settings)| {
        let terms = settings.tls.as_ref().map(|tls| Terms::new(tls, materials));
        let server = |server: &model::Server, id| Server {
            name: Arc::clone(&server.name),
            id,
            addresses: Addresses::new(resolve(&server.address)),
            tls: terms
                .as_ref()
                .map(|terms| terms.server(&server.address, spoken(settings.protocol))),
            cut: (settings.on_down == OnDown::CloseConnections).then(Notify::new),
        };
        let first = servers;
        servers += settings.servers.len();
        let compiled = settings.servers.iter().zip(first..);
        let compiled = compiled.map(|(of, id)| server(of, id)).collect();
        pool(index, settings, compiled, machine.workers, node)
    });
    (pools.collect(), servers)
}

fn pool(
    index: usize,
    pool: &model::Pool,
    servers: Vec<Server>,
    workers: usize,
    node: Node<'_>,
) -> Pool {
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
    let balancer = Balancer::new(specs.collect(), algorithm).with_rules(rules);
    let sticky = pool.sticky.as_ref();
    Pool {
        name: Arc::clone(&pool.name),
        index,
        balancer: Arc::new(balancer),
        key,
        sticky: sticky.map(|sticky| Sticky::new(sticky, &pool.name, &servers)),
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
        ceiling: ceiling(pool.max_requests),
        line: pool.queue.map(|queue| Board::new(queue, workers)),
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
