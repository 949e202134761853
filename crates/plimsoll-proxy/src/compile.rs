//! The model becomes a generation. Nothing here can fail: the model is checked, and names have been
//! resolved by whoever calls.

use std::num::NonZeroU32;
use std::sync::Arc;

use plimsoll_balance::ceiling::Ceiling;
use plimsoll_config::model::{self, AccessLog, Config, Hide, PathPattern, ServerAddress};
use plimsoll_observe::metrics::{Labels, PoolLabels};
use regex::bytes::Regex;

use crate::addresses::Known;
use crate::caching::{self, Caching, Keeping};
use crate::condition::{Condition, Matches};
use crate::edits::Edits;
use crate::files::Files;
use crate::generation::{
    Action, Generation, Listener, PathMatch, Port, Route, Server, Site, Split,
};
use crate::http::compress::Compress;
use crate::listeners;
use crate::material::Materials;
use crate::page::OwnPage;
use crate::pools;
use crate::routes::Routes;
use crate::steps::Builder;
use crate::succession::{Before, Limits};
use crate::template::Template;
use crate::tls::sessions::Sessions;

/// What a generation depends on besides its configuration.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The number of the generation.
    pub number: u64,
    /// Its name, by which it is told from other nodes.
    pub name: String,
    /// Secret and random.
    pub seed: u64,
    /// How many workers there are.
    pub workers: usize,
    /// How many there may be, without a restart.
    pub capacity: usize,
    /// How many connections clients may have unless the configuration says.
    pub connections_max: usize,
    /// What sessions of TLS share with those of generations before.
    pub sessions: Arc<Sessions>,
    /// The generation that serves now, of which much goes on; nothing for the first one.
    pub before: Option<Arc<Generation>>,
}

/// Compiles `config`; `resolve` tells what is known of where a server is.
///
/// Returns the generation, and the distinct access logs: a site's `logs` are numbers in that list.
pub fn compile(
    config: &Config,
    resolve: impl Fn(&ServerAddress) -> Known,
    machine: Machine,
) -> (Generation, Vec<AccessLog>) {
    let before = Before(machine.before.as_deref());
    let seed = before.0.map_or(machine.seed, |before| before.seed);
    let mut logs = Vec::new();
    let mut materials = Materials::succeeding(machine.before.as_ref());
    let (mut rules, mut secret_parameters) = (Vec::new(), Vec::new());
    let caches = before.caches(config);
    let mut parts = Parts {
        matches: Matches::new(&config.matches),
        files: Vec::new(),
        caches: &caches,
        steps: Builder {
            materials: &mut materials,
            rules: &mut rules,
            secret_parameters: &mut secret_parameters,
            geo: config.geo.as_deref(),
            limits: Limits::new(before, seed),
        },
    };
    let names = site_names(config);
    let sites: Vec<Site> = config
        .sites
        .iter()
        .enumerate()
        .map(|(index, s)| site((index, s), (&names, before), &mut logs, &mut parts))
        .collect();
    let (files, limiters) = (parts.files, parts.steps.limits.finish());
    let berths = before.berths();
    let pools = pools::compile(config, &resolve, (&machine, &berths), &mut materials);
    let numbers = pools.iter().flat_map(|pool| &pool.servers).map(Server::id);
    let servers = numbers.max().map_or(0, |highest| highest + 1);
    let challenges = before.challenges();
    let beside = (&machine.sessions, &challenges);
    let listeners = listeners::compile(config, &mut materials, beside, &mut logs);
    let ports = listeners::ports(config, (&machine, before), &mut logs);
    let labels = labels(config, names, (&listeners, &ports), rules);
    let gathered = materials.finish();
    (
        Generation {
            number: machine.number,
            config: Arc::new(config.clone()),
            listeners,
            ports,
            sites,
            pools,
            servers,
            berths,
            caches,
            workers: config.workers,
            gate: before.gate(config, machine.connections_max, seed),
            ceiling: ceiling(config.max_requests, before.ceiling()),
            overload: config.overload,
            memory: before.memory(),
            sessions: Arc::clone(&machine.sessions),
            spool: before.spool(config),
            files,
            materials: gathered.files,
            key_sets: gathered.key_sets,
            stapled: gathered.stapled,
            system_roots: gathered.system_roots,
            challenges,
            turns: before.turns(machine.workers, seed),
            limiters,
            seed,
            secret_parameters,
            labels,
        },
        logs,
    )
}

/// The names of sites. Those on several listeners may share one, and are counted together: nobody could
/// read counters with the same name and labels.
fn site_names(config: &Config) -> Vec<Arc<str>> {
    let mut names: Vec<_> = config
        .sites
        .iter()
        .map(|site| Arc::clone(&site.name))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The names of all that is counted.
fn labels(
    config: &Config,
    sites: Vec<Arc<str>>,
    (listeners, ports): (&[Listener], &[Port]),
    rules: Vec<String>,
) -> Labels {
    let addresses = listeners
        .iter()
        .map(|listener| listener.address.to_string());
    let numbered = listeners.iter().enumerate();
    let relays = numbered.filter(|(_, listener)| listener.relay.is_some());
    // An address may be listened on for both.
    let ports: Vec<String> = ports
        .iter()
        .map(|port| format!("{}/udp", port.address))
        .collect();
    Labels {
        caches: config
            .caches
            .iter()
            .map(|cache| Arc::clone(&cache.name))
            .collect(),
        sites,
        pools: config
            .pools
            .iter()
            .map(|pool| PoolLabels {
                name: Arc::clone(&pool.name),
                servers: pool
                    .servers
                    .iter()
                    .map(|server| Arc::clone(&server.name))
                    .collect(),
            })
            .collect(),
        listeners: addresses.chain(ports.iter().cloned()).collect(),
        relays: relays.map(|(number, _)| number).collect(),
        ports,
        rules,
    }
}

fn site(
    (index, site): (usize, &model::Site),
    (names, before): (&[Arc<str>], Before<'_>),
    logs: &mut Vec<AccessLog>,
    parts: &mut Parts<'_>,
) -> Site {
    parts.steps.limits.enter(&(&site.name, &site.listen));
    Site {
        name: Arc::clone(&site.name),
        index,
        label: names.binary_search(&site.name).unwrap_or(usize::MAX),
        logs: log_numbers(&site.log, logs),
        log_targets: site.log.clone(),
        steps: parts.steps.steps(&site.steps, &site.step_places),
        routes: Routes::new(site.routes.iter().map(|r| route(r, site, parts)).collect()),
        trust: site.trust.clone(),
        timeouts: site.timeouts,
        limits: site.limits,
        ceiling: ceiling(site.max_requests, before.ceiling_of(site)),
        caches: site.routes.iter().any(|route| route.cache.is_some()),
        asks_for_certificates: site.client_certificate.is_some(),
        hide: site.hide,
        pages: pages(&[&site.errors], parts),
        monitor: site.monitor.clone(),
        response: edits(&[&site.steps], Of::Response, site.hide),
    }
}

/// The numbers of `own` among all logs.
pub(crate) fn log_numbers(own: &[AccessLog], logs: &mut Vec<AccessLog>) -> Vec<usize> {
    let number = |log: &AccessLog| {
        let known = logs.iter().position(|known| known == log);
        known.unwrap_or_else(|| {
            logs.push(log.clone());
            logs.len() - 1
        })
    };
    own.iter().map(number).collect()
}

fn path(pattern: &PathPattern) -> PathMatch {
    match pattern {
        PathPattern::Any => PathMatch::Any,
        PathPattern::Exact(path) => PathMatch::Exact(path.as_bytes().into()),
        PathPattern::Prefix(path) => PathMatch::Prefix(path.as_bytes().into()),
        PathPattern::Glob(pattern) => glob(pattern),
    }
}

/// `*` is any part of a segment, `**` any part of the path, and `/*` at the end everything below.
fn glob(pattern: &str) -> PathMatch {
    let (start, end) = match pattern.strip_suffix("/*") {
        Some(start) => (start, "(?:/.*)?"),
        None => (pattern, ""),
    };
    let whole = start.split("**").map(|part| {
        let parts: Vec<String> = part.split('*').map(regex::escape).collect();
        parts.join("[^/]*")
    });
    let whole: Vec<String> = whole.collect();
    let expression = Regex::new(&format!("(?s)^{}{end}$", whole.join(".*")));
    // What is made of escaped text and these pieces compiles.
    expression.map_or(
        PathMatch::Exact(pattern.as_bytes().into()),
        PathMatch::Pattern,
    )
}

/// A ceiling, below which there are those already that are below the one `before`.
pub(crate) fn ceiling(most: Option<NonZeroU32>, before: Option<&Ceiling>) -> Option<Ceiling> {
    let most = most?.get();
    Some(before.map_or_else(|| Ceiling::new(most), |before| before.succeed(most)))
}

/// What sites and routes are compiled with.
struct Parts<'a> {
    matches: Matches<'a>,
    /// Directories whose files are served, so far.
    files: Vec<Arc<Files>>,
    caches: &'a [Arc<Keeping>],
    steps: Builder<'a>,
}

impl Parts<'_> {
    fn files(&mut self, files: &model::Files) -> Arc<Files> {
        let number = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        let immutable = files.immutable.iter().map(path).collect();
        let files = Arc::new(Files::new(number, files, immutable));
        self.files.push(Arc::clone(&files));
        files
    }
}

/// Whose fields are edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Request,
    Response,
}

/// Folds what steps do to the fields of requests or answers.
fn edits(steps: &[&[model::Step]], of: Of, hide: Hide) -> Edits {
    let mut edits = Edits::default();
    if of == Of::Response && hide.server {
        TELLTALES.iter().for_each(|name| edits.remove(name));
    }
    for step in steps.iter().copied().flatten() {
        match step {
            model::Step::RequestHeader(edit) if of == Of::Request => edits.push(edit),
            model::Step::ResponseHeader(edit) if of == Of::Response => edits.push(edit),
            model::Step::Cookie(edit) if of == Of::Response => edits.push_cookie(edit),
            model::Step::BasicAuth(auth) if of == Of::Request && !auth.pass => {
                edits.remove("Authorization");
            }
            model::Step::ForwardAuth(auth) if of == Of::Request => {
                auth.copy.iter().for_each(|name| edits.remove(name));
            }
            model::Step::Cors(_) if of == Of::Response => {
                CORS_FIELDS.iter().for_each(|name| edits.remove(name));
            }
            model::Step::SecurityHeaders { strict } if of == Of::Response => {
                edits.secure(*strict);
            }
            _ => {}
        }
    }
    edits
}

/// What tells which programs are behind.
const TELLTALES: [&str; 9] = [
    "Proxy-Status",
    "Server",
    "Via",
    "X-AspNet-Version",
    "X-AspNetMvc-Version",
    "X-Generator",
    "X-Powered-By",
    "X-Runtime",
    "X-Version",
];

/// Own pages for errors, the ones that count first in front.
fn pages(pages: &[&[model::ErrorPage]], parts: &mut Parts<'_>) -> Vec<OwnPage> {
    let all = pages.iter().copied().flatten();
    all.map(|page| OwnPage::new(page, parts.steps.materials))
        .collect()
}

/// What servers say of CORS, where Plimsoll says it.
const CORS_FIELDS: [&str; 6] = [
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers",
    "Access-Control-Expose-Headers",
    "Access-Control-Max-Age",
];

fn split(split: &model::Split) -> Split {
    let mut end = 0;
    let ends = split.shares.iter().map(|(share, pool)| {
        end += u64::from(*share);
        (end, *pool)
    });
    Split {
        ends: ends.collect(),
        sticky: split.sticky.clone(),
    }
}

fn route(route: &model::Route, site: &model::Site, parts: &mut Parts<'_>) -> Route {
    let caching = Caching::new(route, site, parts.caches);
    let who = (
        &site.name,
        &site.listen,
        &route.path,
        &route.methods,
        &route.conditions,
    );
    parts.steps.limits.enter(&who);
    let steps = [&*site.steps, &*route.steps];
    let mut response = edits(&steps, Of::Response, site.hide);
    if caching.is_some() {
        caching::TAGS.iter().for_each(|name| response.remove(name));
    }
    Route {
        path: path(&route.path),
        buffer: route.buffer,
        response_buffer: route.response_buffer,
        is_internal: route.is_internal,
        methods: route
            .methods
            .iter()
            .map(|method| method.as_bytes().into())
            .collect(),
        conditions: route
            .conditions
            .iter()
            .map(|c| Condition::new(c, &mut parts.matches))
            .collect(),
        caching,
        steps: parts.steps.steps(&route.steps, &route.step_places),
        request: edits(&steps, Of::Request, site.hide),
        response,
        pages: pages(&[&route.errors, &site.errors], parts),
        compress: route.compress.as_ref().map(Compress::new),
        priority: route.priority,
        action: match &route.action {
            model::Action::Proxy(pool) => Action::Proxy(*pool),
            model::Action::Respond { status, body } => Action::Respond {
                status: *status,
                body: Template::new(body),
            },
            model::Action::Redirect { status, to } => Action::Redirect {
                status: *status,
                to: Template::new(to),
            },
            model::Action::Split(shares) => Action::Split(split(shares)),
            model::Action::Files(files) => Action::Files(parts.files(files)),
        },
        place: format!("{}:{}", route.place.file, route.place.line).into(),
        number: 0, // until it stands among the others
    }
}
