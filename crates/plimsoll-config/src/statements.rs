//! Parts of a model as statements: for the text that `--print-config` prints, and for the JSON form.

mod acme;
mod cache;
mod check;
mod compress;
mod files;
mod logs;
mod socket;
mod steps;
mod tcp;
mod tls;
mod udp;

pub(crate) use cache::cache;
use check::check;
pub(crate) use logs::{log_format, log_options, log_target, logs};
pub(crate) use steps::step;
pub(crate) use tcp::{tcp, tcp_rule};
pub(crate) use udp::udp;

use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{
    Adaptive, Admin, Buffer, Config, ConnectionLimits, ErrorPage, Excess, HashKey, Hedge,
    HedgeAfter, KeyPair, Limit, LimitBy, Limited, NamedMatch, OnDown, Outlier, Overload,
    PageSource, Pool, Priority, ProxyVersion, Queue, Resolver, Retry, Route, SameSite, ServerTls,
    Site, Spool, Sticky, StickyBy, User, Way,
};
use crate::text;
use crate::units::{duration_text, size_text};

/// A statement: its words, the first of them its name.
pub(crate) type Words = Vec<String>;

/// What a pool does about servers that fail, complete: nothing depends on defaults.
pub(crate) fn policy(pool: &Pool) -> Vec<Words> {
    let mut out: Vec<Words> = pool.tls.iter().map(server_tls).collect();
    out.extend(pool.proxy_protocol.map(|version| {
        words(match version {
            ProxyVersion::V1 => ["proxy-protocol", "v1"],
            ProxyVersion::V2 => ["proxy-protocol", "v2"],
        })
    }));
    out.extend(socket::source(&pool.source));
    out.extend(socket::socket(&pool.socket));
    out.extend(pool.checks.iter().map(check));
    if pool.checks.is_empty() {
        out.push(words(["check", "off"]));
    }
    out.push(outlier(pool.outlier.as_ref()));
    let percent = pool.fail_open.map(|percent| format!("{percent}%"));
    out.push(words(["fail-open", percent.as_deref().unwrap_or("off")]));
    let slow_start = pool.slow_start.map(duration_text);
    out.push(words([
        "slow-start",
        slow_start.as_deref().unwrap_or("off"),
    ]));
    out.extend(pool.max_requests.map(max_requests));
    out.push(words(match pool.on_down {
        OnDown::Finish => ["on-down", "finish"],
        OnDown::CloseConnections => ["on-down", "close-connections"],
    }));
    out.push(words(["http", pool.protocol.version()]));
    let subset = pool.subset.map(|most| most.to_string());
    out.push(words(["subset", subset.as_deref().unwrap_or("off")]));
    out.push(retry(&pool.retry));
    out.push(match pool.hedge {
        None => words(["hedge", "off"]),
        Some(Hedge { after, budget }) => {
            let after = match after {
                HedgeAfter::Percentile(share) if share % 10 == 0 => format!("p{}", share / 10),
                HedgeAfter::Percentile(share) => format!("p{}.{}", share / 10, share % 10),
                HedgeAfter::Delay(delay) => duration_text(delay),
            };
            vec!["hedge".into(), after, format!("budget={budget}%")]
        }
    });
    out.push(match pool.queue {
        None => words(["queue", "off"]),
        Some(Queue { length, timeout }) => vec![
            "queue".into(),
            length.to_string(),
            format!("timeout={}", duration_text(timeout)),
        ],
    });
    out.push(match pool.adaptive {
        None => words(["adaptive-concurrency", "off"]),
        Some(Adaptive { min, max }) => {
            vec![
                "adaptive-concurrency".into(),
                format!("min={min}"),
                format!("max={max}"),
            ]
        }
    });
    out.push(match &pool.sticky {
        None => words(["sticky", "off"]),
        Some(by) => sticky(by),
    });
    out
}

fn sticky(sticky: &Sticky) -> Words {
    let mut out = words(["sticky"]);
    match &sticky.by {
        StickyBy::Cookie(cookie) => {
            out.extend([
                format!("cookie={}", cookie.name),
                format!("path={}", cookie.path),
            ]);
            out.extend(
                cookie
                    .domain
                    .as_ref()
                    .map(|domain| format!("domain={domain}")),
            );
            out.extend(
                cookie
                    .max_age
                    .map(|age| format!("max-age={}", duration_text(age))),
            );
            let limits = [("max-idle", cookie.max_idle), ("max-life", cookie.max_life)];
            out.extend(limits.into_iter().filter_map(|(name, limit)| {
                limit.map(|limit| format!("{name}={}", duration_text(limit)))
            }));
            let same_site = match cookie.same_site {
                SameSite::Strict => "strict",
                SameSite::Lax => "lax",
                SameSite::None => "none",
            };
            out.push(format!("same-site={same_site}"));
            let flags = [
                (cookie.secure, "secure"),
                (!cookie.http_only, "http-only=no"),
                (cookie.visible, "visible"),
            ];
            out.extend(
                flags
                    .iter()
                    .filter(|(is_set, _)| *is_set)
                    .map(|(_, flag)| (*flag).to_owned()),
            );
        }
        StickyBy::Rewrite(name) => out.push(format!("rewrite={name}")),
        StickyBy::Prefix(name) => out.push(format!("prefix={name}")),
        StickyBy::Key { key, idle, entries } => remembered("by", key, *idle, *entries, &mut out),
        StickyBy::Learn { key, idle, entries } => {
            remembered("learn", key, *idle, *entries, &mut out)
        }
    }
    out.extend((!sticky.key.is_empty()).then(|| format!("key={}", sticky.key)));
    out.extend(sticky.force.then(|| "force".to_owned()));
    out
}

fn remembered(name: &str, key: &HashKey, idle: Duration, entries: u32, out: &mut Words) {
    out.push(format!("{name}={}", text::key(key)));
    out.push(format!("idle={}", duration_text(idle)));
    out.push(format!("entries={entries}"));
}

/// Where the admin listener is, and what it asks for.
pub(crate) fn admin(admin: &Admin) -> Words {
    let mut out: Words = match &admin.listen {
        None => words(["auto"]),
        Some(places) if places.is_empty() => words(["off"]),
        Some(places) => places.iter().map(ToString::to_string).collect(),
    };
    out.extend(admin.token.as_ref().map(|file| format!("token={file}")));
    out
}

fn user(user: &User) -> Words {
    let mut out = words(["user", &user.name]);
    out.extend(user.group.as_ref().map(|group| format!("group={group}")));
    out
}

/// What the top level says besides workers and admin.
pub(crate) fn root(config: &Config) -> Vec<Words> {
    let user = config.user.as_ref().map(user);
    let zone = config.zone.as_deref().map(|zone| words(["zone", zone]));
    let geo = config.geo.as_deref().map(|geo| words(["geo", geo]));
    user.into_iter()
        .chain(zone)
        .chain(geo)
        .chain(config.spool.as_ref().map(spool))
        .chain(tls::tickets(&config.tickets))
        .chain(connections(&config.connections))
        .chain(config.max_requests.map(max_requests))
        .chain(overload(config.overload))
        .chain(resolver(&config.resolver))
        .chain(config.acme.iter().flat_map(acme::root))
        .chain(config.matches.iter().flat_map(named_match))
        .collect()
}

fn error_page(page: &ErrorPage) -> Words {
    let mut out = words(["error"]);
    out.extend(page.status.iter().map(ToString::to_string));
    out.push(match &page.source {
        PageSource::File(text) | PageSource::Text(text) => text.to_string(),
    });
    out
}

/// A line for each of the alternatives of a match.
fn named_match(named: &NamedMatch) -> impl Iterator<Item = Words> {
    named.alternatives.iter().map(|conditions| {
        let name = words(["match", &named.name]);
        let conditions = conditions.iter();
        name.into_iter()
            .chain(conditions.map(|condition| condition.text.to_string()))
            .collect()
    })
}

/// How many connections clients may have; nothing when that is the default.
fn connections(limits: &ConnectionLimits) -> Option<Words> {
    let mut out = words(["connection-limit"]);
    out.extend(limits.max.map(|max| format!("max={max}")));
    out.extend(limits.per_client.map(|max| format!("per-client={max}")));
    let rate = limits.new_per_client;
    out.extend(rate.map(|(count, per)| format!("new-per-client={count}/{}", unit(per))));
    (out.len() > 1).then_some(out)
}

/// When there is too little memory or time; nothing when that is the default.
fn overload(overload: Option<Overload>) -> Option<Words> {
    let Some(Overload { memory, lag }) = overload else {
        return Some(words(["overload", "off"]));
    };
    let mut out = words(["overload"]);
    out.extend(memory.map(|bytes| format!("memory={}", size_text(bytes))));
    let default = Overload::default().lag;
    out.extend((lag != default).then(|| format!("lag={}", duration_text(lag))));
    (out.len() > 1).then_some(out)
}

/// Who says where names are; nothing when that is the default.
fn resolver(resolver: &Resolver) -> Option<Words> {
    let default = Resolver::default();
    if *resolver == default {
        return None;
    }
    let mut out = words(["resolver"]);
    match resolver.servers.as_slice() {
        [] => out.push("system".into()),
        servers => out.extend(servers.iter().map(ToString::to_string)),
    }
    out.push(format!("timeout={}", duration_text(resolver.timeout)));
    out.push(format!("hold={}", duration_text(resolver.hold)));
    Some(out)
}

fn unit(per: Duration) -> &'static str {
    match per.as_secs() {
        60 => "m",
        3600 => "h",
        _ => "s",
    }
}

fn max_requests(most: NonZeroU32) -> Words {
    words(["max-requests", &most.to_string()])
}

/// What is done with the requests of a site.
pub(crate) fn site(config: &Config, site: &Site) -> Vec<Words> {
    let most = site.max_requests.map(max_requests);
    let trust = (!site.trust.is_empty()).then(|| {
        let networks = site.trust.iter().map(ToString::to_string);
        std::iter::once("trust-proxy".to_owned())
            .chain(networks)
            .collect()
    });
    let hide = site.hide;
    let hidden = [(hide.server, "server"), (hide.errors, "errors")];
    let hidden = hidden.iter().filter(|(is, _)| *is).map(|(_, what)| *what);
    let hidden: Words = std::iter::once("hide")
        .chain(hidden)
        .map(str::to_owned)
        .collect();
    let monitor = site.monitor.as_ref().map(|monitor| {
        let pools = monitor
            .pools
            .iter()
            .filter_map(|pool| config.pools.get(*pool));
        let pools = pools.map(|pool| pool.name.to_string());
        ["monitor".to_owned(), monitor.path.to_string()]
            .into_iter()
            .chain(pools)
            .collect()
    });
    tls::site(site)
        .chain(accept(&site.proxy_protocol))
        .chain(socket::socket(&site.socket))
        .chain(trust)
        .chain((hidden.len() > 1).then_some(hidden))
        .chain(monitor)
        .chain(site.errors.iter().map(error_page))
        .chain(most)
        .chain(site.steps.iter().map(|of| step(config, of)))
        .collect()
}

fn spool(spool: &Spool) -> Words {
    let max = format!("max={}", size_text(spool.max));
    words(["spool", &*spool.directory, &max])
}

/// What is done with requests, but for actions that the forms write in a way of their own.
pub(crate) fn route(config: &Config, route: &Route) -> Vec<Words> {
    let name = Priority::NAMES.iter().find(|(_, p)| *p == route.priority);
    let priority = name.map(|(name, _)| words(["priority", name]));
    priority
        .into_iter()
        .filter(|_| route.priority != Priority::default())
        .chain(buffer("buffer", route.buffer))
        .chain(buffer("response-buffer", route.response_buffer))
        .chain(route.compress.as_ref().map(compress::compress))
        .chain(route.is_internal.then(|| words(["internal"])))
        .chain(route.cache.and_then(|cache| {
            let cache = config.caches.get(cache)?;
            Some(words(["cache", &cache.name]))
        }))
        .chain(route.errors.iter().map(error_page))
        .chain(route.steps.iter().map(|of| step(config, of)))
        .chain(steps::action(config, &route.action))
        .collect()
}

fn accept(networks: &[IpNet]) -> Option<Words> {
    let texts: Vec<String> = networks.iter().map(ToString::to_string).collect();
    let accept = || words(["proxy-protocol", &format!("accept={}", texts.join(","))]);
    (!networks.is_empty()).then(accept)
}

/// Where what a service relays goes.
fn proxy(config: &Config, pool: usize) -> Option<Words> {
    let pool = config.pools.get(pool)?;
    Some(words(["proxy", &*pool.name]))
}

fn buffer(name: &str, buffer: Buffer) -> Option<Words> {
    let Buffer { memory, disk } = buffer;
    let disk = (disk > 0).then(|| format!("disk={}", size_text(disk)));
    (memory > 0).then(|| {
        words([name, &size_text(memory.into())])
            .into_iter()
            .chain(disk)
            .collect()
    })
}

fn limit(limit: &Limit) -> Words {
    let mut out = words(["limit"]);
    match limit.of {
        Limited::Concurrent(count) => out.push(format!("concurrent={count}")),
        Limited::Rate { count, per, burst } => {
            out.extend([format!("{count}/{}", unit(per)), format!("burst={burst}")]);
        }
        Limited::Bytes { rate, burst, way } => {
            let (rate, burst) = (size_text(rate.into()), size_text(burst.into()));
            let way = match way {
                Way::Down => "way=down",
                Way::Up => "way=up",
            };
            out.extend([
                format!("{rate}/s"),
                format!("burst={burst}"),
                way.to_owned(),
            ]);
        }
    }
    let by = match &limit.by {
        LimitBy::All => "all".to_owned(),
        LimitBy::Request => "request".to_owned(),
        LimitBy::Key(key) => text::key(key),
    };
    out.push(format!("by={by}"));
    let action = match limit.action {
        Excess::Refuse => "action=refuse",
        Excess::Drop => "action=drop",
        Excess::Tarpit => "action=tarpit",
    };
    let is_bytes = matches!(limit.of, Limited::Bytes { .. });
    out.extend((!is_bytes).then(|| action.to_owned()));
    out.push(format!("entries={}", limit.entries));
    out
}

/// A statement in the language.
pub(crate) fn line(statement: &Words) -> String {
    let words: Vec<String> = statement.iter().map(|text| text::word(text)).collect();
    words.join(" ")
}

fn words<const N: usize>(words: [&str; N]) -> Words {
    words.map(str::to_owned).to_vec()
}

fn server_tls(tls: &ServerTls) -> Words {
    let mut out = words([
        "tls",
        if tls.verify {
            "verify=on"
        } else {
            "verify=off"
        },
    ]);
    out.extend(tls.sni.as_ref().map(|name| format!("sni={name}")));
    out.extend(tls.ca.as_ref().map(|file| format!("ca={file}")));
    if let Some(KeyPair {
        certificate, key, ..
    }) = &tls.identity
    {
        out.extend([format!("certificate={certificate}"), format!("key={key}")]);
    }
    out
}

fn outlier(outlier: Option<&Outlier>) -> Words {
    let Some(outlier) = outlier else {
        return words(["outlier", "off"]);
    };
    let mut out = words(["outlier"]);
    let rows = [
        ("5xx", outlier.consecutive_5xx),
        ("gateway", outlier.consecutive_gateway),
        ("failures", outlier.consecutive_failures),
    ];
    out.extend(rows.map(|(name, row)| format!("consecutive-{name}={}", row.map_or(0, Into::into))));
    out.extend(
        outlier
            .failure_percent
            .map(|percent| format!("failure-percent={percent}%")),
    );
    out.extend(
        outlier
            .success_rate
            .map(|n| format!("success-rate={}.{:03}", n / 1000, n % 1000)),
    );
    out.push(format!("interval={}", duration_text(outlier.interval)));
    out.push(format!("volume={}", outlier.volume));
    out.push(format!("eject={}", duration_text(outlier.eject)));
    out.push(format!("eject-max={}", duration_text(outlier.eject_max)));
    out.push(format!("max-ejected={}%", outlier.max_ejected));
    out
}

fn retry(retry: &Retry) -> Words {
    let mut on: Vec<String> = vec!["connect".into()];
    on.extend(retry.on_reset.then(|| "reset".into()));
    on.extend(retry.on_timeout.then(|| "timeout".into()));
    on.extend(retry.on_status.iter().map(ToString::to_string));
    let mut out = vec![
        "retry".into(),
        retry.attempts.to_string(),
        format!("on={}", on.join(",")),
    ];
    out.extend(
        retry
            .per_try
            .map(|time| format!("per-try={}", duration_text(time))),
    );
    out.push(format!("budget={}%", retry.budget));
    out.push(format!("reserve={}/s", retry.reserve));
    out
}
