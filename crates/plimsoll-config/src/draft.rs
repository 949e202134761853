//! What the user said, before names are resolved and defaults filled in.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{
    AccessLog, Adaptive, Admin, Balance, Buffer, CacheDisk, CacheKey, Challenge, Check,
    ClientCertificate, Compress, Condition, ConnectionLimits, DnsUpdate, ErrorPage, Files, HashKey,
    Hedge, Hide, Host, Issuer, KeyPair, OnDown, Opening, Outlier, Overload, PathPattern, Priority,
    Protocol, ProxyVersion, Queue, Resolver, Retry, ServerAddress, ServerTls, SocketOptions,
    Source, Spool, Step, Sticky, Template, Tickets, User,
};
use crate::source::Span;
use crate::syntax::Word;

/// Everything that was said.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) workers: Option<(Option<NonZeroU16>, Span)>,
    pub(crate) admin: Option<(Admin, Span)>,
    pub(crate) user: Option<(User, Span)>,
    pub(crate) zone: Option<(Box<str>, Span)>,
    pub(crate) geo: Option<(Box<str>, Span)>,
    pub(crate) acme: Option<(AcmeDraft, Span)>,
    pub(crate) issuers: Vec<(Issuer, Span)>,
    pub(crate) dns_updates: Vec<(DnsUpdate, Span)>,
    pub(crate) spool: Option<(Spool, Span)>,
    pub(crate) tickets: Option<(Tickets, Span)>,
    pub(crate) connections: Option<(ConnectionLimits, Span)>,
    /// The inner `None` is `off`.
    pub(crate) overload: Option<(Option<Overload>, Span)>,
    pub(crate) max_requests: Option<(NonZeroU32, Span)>,
    pub(crate) resolver: Option<(Resolver, Span)>,
    pub(crate) defaults: Option<(Settings, Span)>,
    pub(crate) sites: Vec<SiteDraft>,
    pub(crate) tcp: Vec<RelayDraft>,
    pub(crate) udp: Vec<UdpDraft>,
    pub(crate) pools: Vec<PoolDraft>,
    pub(crate) caches: Vec<CacheDraft>,
    /// Where each pool was written first.
    pub(crate) pool_names: BTreeMap<String, Span>,
}

/// What `defaults` says for all, and each site and pool for itself. Merged field by field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) header: Option<Duration>,
    pub(crate) idle: Option<Duration>,
    pub(crate) body: Option<Duration>,
    pub(crate) tunnel: Option<Duration>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) detect: Option<Duration>,
    pub(crate) connect: Option<Duration>,
    pub(crate) response: Option<Duration>,
    pub(crate) log: Option<Vec<AccessLog>>,
    pub(crate) errors: Vec<ErrorPage>,
    pub(crate) hide: Option<Hide>,
    /// The inner `None` is `off`.
    pub(crate) compress: Option<(Option<Compress>, Span)>,
    /// An empty list is `off`.
    pub(crate) trust: Option<Vec<IpNet>>,
    /// An empty list is `off`.
    pub(crate) tls: Option<Vec<Certified>>,
    pub(crate) https_redirect: Option<bool>,
    /// The inner `None` is `off`.
    pub(crate) client_certificate: Option<Option<ClientCertificate>>,
    /// An empty list is `off`.
    pub(crate) proxy_protocol: Option<Vec<IpNet>>,
    pub(crate) socket: Option<SocketOptions>,
    pub(crate) source: Option<Source>,
    pub(crate) head_bytes: Option<u32>,
    pub(crate) fields: Option<u16>,
    pub(crate) uri_bytes: Option<u32>,
    /// The inner `None` is `unlimited`.
    pub(crate) body_bytes: Option<Option<u64>>,
    pub(crate) min_rate: Option<u32>,
    pub(crate) balance: Option<Balance>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) keep_max: Option<u16>,
    pub(crate) keep_idle: Option<Duration>,
    pub(crate) checks: Option<Vec<Check>>,
    /// Inside of these, `None` is `off`.
    pub(crate) outlier: Option<Option<Outlier>>,
    pub(crate) fail_open: Option<Option<u8>>,
    pub(crate) slow_start: Option<Option<Duration>>,
    pub(crate) on_down: Option<OnDown>,
    pub(crate) subset: Option<Option<NonZeroU32>>,
    pub(crate) retry: Option<Retry>,
    pub(crate) hedge: Option<Option<Hedge>>,
    pub(crate) queue: Option<Option<Queue>>,
    pub(crate) adaptive: Option<Option<Adaptive>>,
    pub(crate) sticky: Option<Option<Sticky>>,
}

/// Where a certificate comes from.
#[derive(Clone, Debug)]
pub(crate) enum Certified {
    /// Others bring it.
    Files(KeyPair),
    /// We issue it ourselves; this is where that is said.
    Internal(Span),
    /// An issuer is asked for it; this is where that is said.
    Auto(Span),
}

/// What `acme` says.
#[derive(Debug, Default)]
pub(crate) struct AcmeDraft {
    pub(crate) email: Option<Box<str>>,
    pub(crate) storage: Option<Box<str>>,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) retry: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct SiteDraft {
    pub(crate) name: String,
    pub(crate) hosts: Vec<(Host, Span)>,
    pub(crate) listen: Vec<(SocketAddr, Span)>,
    pub(crate) settings: Settings,
    pub(crate) steps: Vec<Step>,
    /// Where each step is written.
    pub(crate) step_spans: Vec<Span>,
    /// The pools that steps refer to, by the number of the step.
    pub(crate) step_pools: Vec<(usize, Word)>,
    pub(crate) max_requests: Option<(NonZeroU32, Span)>,
    pub(crate) priority: Option<(Priority, Span)>,
    pub(crate) monitor: Option<(MonitorDraft, Span)>,
    pub(crate) routes: Vec<RouteDraft>,
    pub(crate) span: Span,
}

#[derive(Debug)]
pub(crate) struct MonitorDraft {
    pub(crate) path: Box<str>,
    pub(crate) pools: Vec<Word>,
}

#[derive(Debug)]
pub(crate) struct RouteDraft {
    pub(crate) path: PathPattern,
    pub(crate) methods: Vec<Box<str>>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) buffer: Option<(Buffer, Span)>,
    pub(crate) response_buffer: Option<(Buffer, Span)>,
    pub(crate) internal: Option<((), Span)>,
    /// The inner `None` is `off`.
    pub(crate) compress: Option<(Option<Compress>, Span)>,
    pub(crate) cache: Option<(Word, Span)>,
    pub(crate) errors: Vec<ErrorPage>,
    /// Whether it takes only some of the requests on its path, as far as that could be read.
    pub(crate) is_narrow: bool,
    pub(crate) steps: Vec<Step>,
    /// Where each step is written.
    pub(crate) step_spans: Vec<Span>,
    /// The pools that steps refer to, by the number of the step.
    pub(crate) step_pools: Vec<(usize, Word)>,
    pub(crate) priority: Option<(Priority, Span)>,
    pub(crate) action: Option<(ActionDraft, Span)>,
    pub(crate) span: Span,
}

/// A service whose bytes pass as they are.
#[derive(Debug)]
pub(crate) struct RelayDraft {
    pub(crate) name: String,
    pub(crate) listen: Vec<(SocketAddr, Span)>,
    /// For which its certificates are, where it does not bring them.
    pub(crate) hosts: Vec<(Host, Span)>,
    pub(crate) settings: Settings,
    pub(crate) rules: Vec<TcpRuleDraft>,
    /// Where all connections go.
    pub(crate) pool: Option<(Word, Span)>,
    /// Where those go that no rule takes.
    pub(crate) default: Option<(Word, Span)>,
    pub(crate) span: Span,
}

#[derive(Debug)]
pub(crate) struct TcpRuleDraft {
    pub(crate) openings: Vec<(Opening, Span)>,
    pub(crate) pool: Word,
    pub(crate) span: Span,
}

#[derive(Debug)]
pub(crate) struct UdpDraft {
    pub(crate) relay: RelayDraft,
    pub(crate) responses: Option<(u32, Span)>,
    pub(crate) flows: Option<(NonZeroU32, Span)>,
    pub(crate) quic: Option<((), Span)>,
}

#[derive(Debug)]
pub(crate) enum ActionDraft {
    /// A pool's name, or a host and port.
    Proxy(Word),
    Respond {
        status: u16,
        body: Template,
    },
    Redirect {
        status: u16,
        to: Template,
    },
    /// Shares, and the pools that get them.
    Split {
        shares: Vec<(u32, Word)>,
        sticky: Option<HashKey>,
    },
    Files(Files),
}

impl ActionDraft {
    /// The text in it that is filled in for each request.
    pub(crate) fn templates(&self) -> Option<&Template> {
        match self {
            Self::Respond { body: text, .. } | Self::Redirect { to: text, .. } => Some(text),
            Self::Proxy(_) | Self::Split { .. } | Self::Files(_) => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct PoolDraft {
    pub(crate) name: String,
    pub(crate) servers: Vec<ServerDraft>,
    /// Where each address was written first.
    pub(crate) addresses: BTreeMap<String, Span>,
    pub(crate) max_requests: Option<(NonZeroU32, Span)>,
    /// The inner `None` is `off`.
    pub(crate) tls: Option<(Option<ServerTls>, Span)>,
    /// The inner `None` is `off`.
    pub(crate) proxy_protocol: Option<(Option<ProxyVersion>, Span)>,
    pub(crate) settings: Settings,
    pub(crate) span: Span,
}

#[derive(Debug)]
pub(crate) struct ServerDraft {
    pub(crate) name: String,
    pub(crate) address: ServerAddress,
    pub(crate) weight: u32,
    pub(crate) max_connections: Option<NonZeroU32>,
    pub(crate) tier: u8,
    pub(crate) zone: Option<Box<str>>,
    pub(crate) check_address: Option<IpAddr>,
    pub(crate) quic_id: Option<Box<[u8]>>,
    pub(crate) span: Span,
}

#[derive(Debug)]
pub(crate) struct CacheDraft {
    pub(crate) name: String,
    pub(crate) memory: Option<(u64, Span)>,
    pub(crate) disk: Option<(CacheDisk, Span)>,
    pub(crate) key: Option<(CacheKey, Span)>,
    pub(crate) slice: Option<(u64, Span)>,
    pub(crate) object_max: Option<(u64, Span)>,
    pub(crate) ttl: Option<(Vec<(u16, Duration)>, Span)>,
    /// The inner `None` is `off`.
    pub(crate) heuristic: Option<(Option<u8>, Span)>,
    pub(crate) stale: Option<(StaleDraft, Span)>,
    pub(crate) wait: Option<(Duration, Span)>,
    pub(crate) span: Span,
}

/// For how long answers serve that are no longer fresh.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StaleDraft {
    pub(crate) while_revalidate: Option<Duration>,
    pub(crate) if_error: Option<Duration>,
}

impl CacheDraft {
    /// One of which nothing has been said yet.
    pub(crate) fn new(name: String, span: Span) -> Self {
        Self {
            name,
            memory: None,
            disk: None,
            key: None,
            slice: None,
            object_max: None,
            ttl: None,
            heuristic: None,
            stale: None,
            wait: None,
            span,
        }
    }
}

/// The block that is being read.
#[derive(Debug)]
pub(crate) enum Scope<'a> {
    Root(&'a mut Draft),
    Defaults(&'a mut Settings),
    Site(&'a mut SiteDraft),
    Route(&'a mut RouteDraft),
    Tcp(&'a mut RelayDraft),
    Udp(&'a mut UdpDraft),
    Pool(&'a mut PoolDraft),
    Cache(&'a mut CacheDraft),
}

impl Scope<'_> {
    /// The same block, for one statement.
    pub(crate) fn again(&mut self) -> Scope<'_> {
        match self {
            Self::Root(draft) => Scope::Root(draft),
            Self::Defaults(settings) => Scope::Defaults(settings),
            Self::Site(site) => Scope::Site(site),
            Self::Route(route) => Scope::Route(route),
            Self::Tcp(service) => Scope::Tcp(service),
            Self::Udp(service) => Scope::Udp(service),
            Self::Pool(pool) => Scope::Pool(pool),
            Self::Cache(cache) => Scope::Cache(cache),
        }
    }

    /// What is done with the block's requests, in written order.
    pub(crate) fn steps(&mut self) -> Option<&mut Vec<Step>> {
        match self {
            Self::Site(site) => Some(&mut site.steps),
            Self::Route(route) => Some(&mut route.steps),
            Self::Root(_)
            | Self::Defaults(_)
            | Self::Tcp(_)
            | Self::Udp(_)
            | Self::Pool(_)
            | Self::Cache(_) => None,
        }
    }

    /// Notes that the next step refers to a pool.
    pub(crate) fn refer(&mut self, pool: &Word) {
        match self {
            Self::Site(site) => site.step_pools.push((site.steps.len(), pool.clone())),
            Self::Route(route) => route.step_pools.push((route.steps.len(), pool.clone())),
            Self::Root(_)
            | Self::Defaults(_)
            | Self::Tcp(_)
            | Self::Udp(_)
            | Self::Pool(_)
            | Self::Cache(_) => {}
        }
    }

    /// Notes that the steps that were added last are written at `span`.
    pub(crate) fn note_steps(&mut self, span: Span) {
        let (steps, spans) = match self {
            Self::Site(site) => (&site.steps, &mut site.step_spans),
            Self::Route(route) => (&route.steps, &mut route.step_spans),
            Self::Root(_)
            | Self::Defaults(_)
            | Self::Tcp(_)
            | Self::Udp(_)
            | Self::Pool(_)
            | Self::Cache(_) => {
                return;
            }
        };
        spans.resize(steps.len(), span);
    }

    /// What the block inherits or hands down.
    pub(crate) fn settings(&mut self) -> Option<&mut Settings> {
        match self {
            Self::Defaults(settings) => Some(settings),
            Self::Site(site) => Some(&mut site.settings),
            Self::Tcp(service) => Some(&mut service.settings),
            Self::Udp(service) => Some(&mut service.relay.settings),
            Self::Pool(pool) => Some(&mut pool.settings),
            Self::Root(_) | Self::Route(_) | Self::Cache(_) => None,
        }
    }
}
