//! The metrics as Prometheus reads them (text format 0.0.4).

use std::fmt::Write;
use std::sync::Arc;

use plimsoll_http::method::Method;
use plimsoll_http::reason::Reason;

use crate::counter::{CODE_MIN, CodeCounters, Counter};
use crate::histogram::{BOUNDS_US, Histogram};
use crate::metrics::{
    CacheResult, Dropped, Labels, ListenerMetrics, PoolMetrics, PortMetrics, Traffic, WorkerMetrics,
};

/// The `Content-Type` of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes the metrics of all workers.
pub fn render(labels: &Labels, workers: &[&WorkerMetrics]) -> String {
    let mut page = Page {
        text: String::with_capacity(16 * 1024),
        workers,
    };
    page.sites(labels);
    page.listeners(labels);
    page.relayed(labels);
    page.ports(labels);
    page.servers(labels);
    page.pools(labels);
    page.caches(labels);
    page.process();
    page.text
}

struct Page<'a> {
    text: String,
    workers: &'a [&'a WorkerMetrics],
}

impl<'a> Page<'a> {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.text, "{name}{{{labels}}} {value}");
    }

    /// The sum over all workers of what `find` finds in each.
    fn sum(&self, find: impl Fn(&'a WorkerMetrics) -> Option<&'a Counter>) -> u64 {
        self.workers
            .iter()
            .filter_map(|worker| find(worker))
            .map(Counter::value)
            .sum()
    }

    fn codes(
        &mut self,
        name: &str,
        labels: &str,
        find: impl Fn(&'a WorkerMetrics) -> Option<&'a CodeCounters>,
    ) {
        let tables: Vec<_> = self
            .workers
            .iter()
            .filter_map(|w| find(w))
            .filter(|table| table.is_used())
            .collect();
        if tables.is_empty() {
            return;
        }
        for code in CODE_MIN..600 {
            let count: u64 = tables.iter().map(|table| table.value(code)).sum();
            if count > 0 {
                self.sample(name, &format!("{labels},code=\"{code}\""), count);
            }
        }
    }

    fn histogram(
        &mut self,
        name: &str,
        labels: &str,
        find: impl Fn(&'a WorkerMetrics) -> Option<&'a Histogram>,
    ) {
        let parts: Vec<_> = self
            .workers
            .iter()
            .filter_map(|worker| find(worker))
            .collect();
        let mut counts = vec![0; BOUNDS_US.len() + 1];
        for part in &parts {
            for (total, count) in counts.iter_mut().zip(part.counts()) {
                *total += count;
            }
        }
        let bounds = BOUNDS_US
            .iter()
            .map(|&us| seconds(us))
            .chain(["+Inf".to_owned()]);
        let mut below = 0;
        for (bound, count) in bounds.zip(counts) {
            below += count;
            self.sample(
                &format!("{name}_bucket"),
                &format!("{labels},le=\"{bound}\""),
                below,
            );
        }
        let sum = parts.iter().map(|part| part.sum_us()).sum();
        let _ = writeln!(self.text, "{name}_sum{{{labels}}} {}", seconds(sum));
        self.sample(&format!("{name}_count"), labels, below);
    }

    fn caches(&mut self, labels: &Labels) {
        if labels.caches.is_empty() {
            return;
        }
        let name = "plimsoll_cache_requests_total";
        self.family(
            name,
            "counter",
            "Requests of routes with a cache, by what it did with them.",
        );
        for (at, cache) in labels.caches.iter().enumerate() {
            for result in CacheResult::ALL {
                let count = self.sum(|w| w.caches.get(at)?.requests.get(result as usize));
                let labels = format!("cache=\"{}\",result=\"{}\"", escape(cache), result.word());
                self.sample(name, &labels, count);
            }
        }
    }

    fn sites(&mut self, labels: &Labels) {
        let name = "plimsoll_requests_total";
        self.family(name, "counter", "Answered requests.");
        for (at, site) in labels.sites.iter().enumerate() {
            for method in Method::ALL {
                let labels = format!("site=\"{}\",method=\"{}\"", escape(site), method.label());
                self.codes(name, &labels, |w| {
                    w.sites.get(at)?.requests.get(method as usize)
                });
            }
        }
        let name = "plimsoll_request_duration_seconds";
        self.family(
            name,
            "histogram",
            "Time from the first byte of a request to the last byte of its answer.",
        );
        for (at, site) in labels.sites.iter().enumerate() {
            self.histogram(name, &format!("site=\"{}\"", escape(site)), |w| {
                Some(&w.sites.get(at)?.duration)
            });
        }
        let name = "plimsoll_limited_total";
        self.family(name, "counter", "Requests above a limit.");
        for (at, site) in labels.sites.iter().enumerate() {
            let count = self.sum(|w| Some(&w.sites.get(at)?.limited));
            self.sample(name, &format!("site=\"{}\"", escape(site)), count);
        }
        let name = "plimsoll_denied_total";
        self.family(name, "counter", "Requests that a `deny` refused.");
        for (at, rule) in labels.rules.iter().enumerate() {
            let count = self.sum(|w| w.denied.get(at).map(Arc::as_ref));
            self.sample(name, &format!("rule=\"{}\"", escape(rule)), count);
        }
        let name = "plimsoll_request_errors_total";
        self.family(
            name,
            "counter",
            "Exchanges that did not end with the server's own answer, by reason.",
        );
        for reason in Reason::ALL {
            let count = self.sum(|w| w.totals.reasons.get(*reason as usize));
            self.sample(name, &format!("reason=\"{}\"", reason.token()), count);
        }
        let name = "plimsoll_request_fields_dropped_total";
        self.family(
            name,
            "counter",
            "Request fields dropped because their name holds an underscore.",
        );
        let count = self.sum(|w| Some(&w.totals.aliases_dropped));
        let _ = writeln!(self.text, "{name} {count}");
    }

    fn listeners(&mut self, labels: &Labels) {
        let name = "plimsoll_connections";
        self.family(
            name,
            "gauge",
            "Client connections: active ones have an exchange under way, idle ones wait.",
        );
        for (at, listener) in labels.listeners.iter().enumerate() {
            let accepted = self.sum(|w| Some(&w.listeners.get(at)?.accepted));
            let closed = self.sum(|w| Some(&w.listeners.get(at)?.closed));
            let active = self.sum(|w| Some(&w.listeners.get(at)?.active));
            // Workers are read one after the other, so the parts may be a moment apart.
            let idle = accepted.saturating_sub(closed).saturating_sub(active);
            self.sample(
                name,
                &format!("listener=\"{listener}\",state=\"active\""),
                active,
            );
            self.sample(
                name,
                &format!("listener=\"{listener}\",state=\"idle\""),
                idle,
            );
        }
        type Count = fn(&ListenerMetrics) -> &Counter;
        let counters: [(&str, &str, Count); 6] = [
            (
                "plimsoll_connections_accepted_total",
                "Client connections accepted.",
                |listener| &listener.accepted,
            ),
            (
                "plimsoll_connections_refused_total",
                "Client connections closed because their client had too many.",
                |listener| &listener.refused,
            ),
            (
                "plimsoll_tls_failures_total",
                "Client connections whose TLS failed.",
                |listener| &listener.tls_failed,
            ),
            (
                "plimsoll_tls_handshakes_late_total",
                "Client connections closed because their handshake did not come to its turn in time.",
                |listener| &listener.tls_late,
            ),
            (
                "plimsoll_proxy_protocol_failures_total",
                "Client connections closed because no sound header of the PROXY protocol came, or not from where it may come.",
                |listener| &listener.unannounced,
            ),
            (
                "plimsoll_tcp_unmatched_total",
                "Client connections closed because no rule of their `tcp` took what they said first.",
                |listener| &listener.unmatched,
            ),
        ];
        for (name, help, find) in counters {
            self.family(name, "counter", help);
            for (at, listener) in labels.listeners.iter().enumerate() {
                let count = self.sum(|w| Some(find(w.listeners.get(at)?)));
                self.sample(name, &format!("listener=\"{listener}\""), count);
            }
        }
    }

    /// What connections carry that are relayed.
    fn relayed(&mut self, labels: &Labels) {
        type Count = fn(&ListenerMetrics) -> &Counter;
        let name = "plimsoll_tcp_bytes_total";
        self.family(
            name,
            "counter",
            "Bytes of relayed connections, from clients (in) and to them (out).",
        );
        let ways: [(&str, Count); 2] = [("in", |at| &at.bytes_in), ("out", |at| &at.bytes_out)];
        let relays = labels.listeners.iter().enumerate();
        for (at, listener) in relays.filter(|(at, _)| labels.relays.contains(at)) {
            for (way, count) in ways {
                let count = self.sum(|w| Some(count(w.listeners.get(at)?)));
                let labels = format!("listener=\"{listener}\",direction=\"{way}\"");
                self.sample(name, &labels, count);
            }
        }
    }

    fn ports(&mut self, labels: &Labels) {
        type Of = fn(&PortMetrics) -> &Traffic;
        type What = fn(&Traffic) -> &Counter;
        let ways: [(&str, Of); 2] = [("in", |port| &port.received), ("out", |port| &port.sent)];
        let whats: [(&str, &str, What); 2] = [
            (
                "plimsoll_datagrams_total",
                "Datagrams from clients (in) and to them (out).",
                |traffic| &traffic.datagrams,
            ),
            (
                "plimsoll_datagram_bytes_total",
                "Bytes in datagrams from clients (in) and to them (out).",
                |traffic| &traffic.bytes,
            ),
        ];
        for (name, help, what) in whats {
            self.family(name, "counter", help);
            for (at, port) in labels.ports.iter().enumerate() {
                for (way, of) in ways {
                    let count = self.sum(|w| Some(what(of(w.ports.get(at)?))));
                    let labels = format!("listener=\"{port}\",direction=\"{way}\"");
                    self.sample(name, &labels, count);
                }
            }
        }
        let name = "plimsoll_datagrams_dropped_total";
        self.family(
            name,
            "counter",
            "Datagrams that went no further, by reason.",
        );
        for (at, port) in labels.ports.iter().enumerate() {
            for why in Dropped::ALL {
                let count = self.sum(|w| w.ports.get(at)?.dropped.get(why as usize));
                let labels = format!("listener=\"{port}\",reason=\"{}\"", why.word());
                self.sample(name, &labels, count);
            }
        }
    }

    fn servers(&mut self, labels: &Labels) {
        let name = "plimsoll_upstream_requests_total";
        self.family(name, "counter", "Answers of servers.");
        for (at, number, labels) in servers(labels) {
            self.codes(name, &labels, |w| Some(&w.server(at, number)?.requests));
        }
        let name = "plimsoll_upstream_errors_total";
        self.family(
            name,
            "counter",
            "Attempts to have a server answer that failed.",
        );
        for (at, number, labels) in servers(labels) {
            for reason in Reason::ALL {
                let count = self.sum(|w| w.server(at, number)?.errors.get(*reason as usize));
                if count > 0 {
                    let labels = format!("{labels},reason=\"{}\"", reason.token());
                    self.sample(name, &labels, count);
                }
            }
        }
        let name = "plimsoll_server_ejections_total";
        self.family(name, "counter", "How often a server was ejected.");
        for (at, number, labels) in servers(labels) {
            let count = self.sum(|w| Some(&w.server(at, number)?.ejections));
            self.sample(name, &labels, count);
        }
    }

    fn pools(&mut self, labels: &Labels) {
        let name = "plimsoll_upstream_duration_seconds";
        self.family(
            name,
            "histogram",
            "Time to open a connection, and from the request to the first byte of the answer.",
        );
        for (at, pool) in labels.pools.iter().enumerate() {
            let labels = format!("pool=\"{}\"", escape(&pool.name));
            self.histogram(name, &format!("{labels},phase=\"connect\""), |w| {
                Some(&w.pools.get(at)?.connect)
            });
            self.histogram(name, &format!("{labels},phase=\"first_byte\""), |w| {
                Some(&w.pools.get(at)?.first_byte)
            });
        }
        self.server_connections(labels);
        let name = "plimsoll_upstream_exhausted_total";
        self.family(
            name,
            "counter",
            "Connections to servers that could not be opened for want of a local port, an address or a descriptor.",
        );
        self.pool_counters(labels, name, "", |pool| &pool.connections_wanting);
        let name = "plimsoll_retries_total";
        self.family(name, "counter", "Requests that were sent once more.");
        self.pool_counters(labels, name, "", |pool| &pool.retries);
        let name = "plimsoll_retries_refused_total";
        self.family(
            name,
            "counter",
            "Requests that were not sent once more because the budget was spent.",
        );
        self.pool_counters(labels, name, "", |pool| &pool.retries_refused);
        let name = "plimsoll_mirrored_total";
        self.family(name, "counter", "Copies of requests, by what came of them.");
        type Count = fn(&PoolMetrics) -> &Counter;
        let results: [(&str, Count); 5] = [
            ("result=\"answered\"", |pool| &pool.mirrored),
            ("result=\"same\"", |pool| &pool.mirrored_same),
            ("result=\"different\"", |pool| &pool.mirrored_different),
            ("result=\"failed\"", |pool| &pool.mirrored_failed),
            ("result=\"skipped\"", |pool| &pool.mirrored_skipped),
        ];
        for (label, count) in results {
            self.pool_counters(labels, name, label, count);
        }
        let name = "plimsoll_hedges_total";
        self.family(
            name,
            "counter",
            "Requests that a second server was asked for, by whether it answered first.",
        );
        self.pool_counters(labels, name, "won=\"true\"", |pool| &pool.hedges_won);
        self.pool_counters(labels, name, "won=\"false\"", |pool| &pool.hedges_lost);
        let name = "plimsoll_concurrency_limit";
        self.family(
            name,
            "gauge",
            "Requests that an adaptive pool may have at once; 0 without a limit.",
        );
        self.pool_counters(labels, name, "", |pool| &pool.concurrency_limit);
    }

    fn server_connections(&mut self, labels: &Labels) {
        let name = "plimsoll_upstream_connections_total";
        self.family(
            name,
            "counter",
            "Attempts, by whether they found a kept connection.",
        );
        self.pool_counters(labels, name, "reused=\"false\"", |pool| {
            &pool.connections_new
        });
        self.pool_counters(labels, name, "reused=\"true\"", |pool| {
            &pool.connections_reused
        });
        let name = "plimsoll_upstream_tls_handshakes_total";
        let help =
            "New connections to servers with TLS, by whether they took up a session from before.";
        self.family(name, "counter", help);
        self.pool_counters(labels, name, "resumed=\"false\"", |pool| &pool.tls_new);
        self.pool_counters(labels, name, "resumed=\"true\"", |pool| &pool.tls_resumed);
    }

    fn pool_counters(
        &mut self,
        labels: &Labels,
        name: &str,
        more: &str,
        find: impl Fn(&'a PoolMetrics) -> &'a Counter,
    ) {
        for (at, pool) in labels.pools.iter().enumerate() {
            let comma = if more.is_empty() { "" } else { "," };
            let labels = format!("pool=\"{}\"{comma}{more}", escape(&pool.name));
            let count = self.sum(|w| Some(find(w.pools.get(at)?)));
            self.sample(name, &labels, count);
        }
    }

    fn process(&mut self) {
        self.family(
            "plimsoll_log_dropped_total",
            "counter",
            "Access log lines that could not be written.",
        );
        let count = self.sum(|w| Some(&w.totals.log_dropped));
        let _ = writeln!(self.text, "plimsoll_log_dropped_total {count}");
        self.family(
            "plimsoll_panics_total",
            "counter",
            "Connections that ended in a panic.",
        );
        let count = self.sum(|w| Some(&w.totals.panics));
        let _ = writeln!(self.text, "plimsoll_panics_total {count}");
        self.family(
            "plimsoll_overload_refused_total",
            "counter",
            "Requests that were refused because there was too little memory or time for all.",
        );
        let count = self.sum(|w| Some(&w.totals.overload_refused));
        let _ = writeln!(self.text, "plimsoll_overload_refused_total {count}");
        let name = "plimsoll_worker_lag_seconds";
        self.family(
            name,
            "gauge",
            "How late a worker comes to what it has to do.",
        );
        for (number, worker) in self.workers.iter().enumerate() {
            let lag = seconds(worker.totals.lag.value());
            let _ = writeln!(self.text, "{name}{{worker=\"{number}\"}} {lag}");
        }
        let name = "plimsoll_tls_handshakes_waiting";
        let help = "Client connections whose handshake waits for its turn.";
        self.family(name, "gauge", help);
        let waiting = self.sum(|w| Some(&w.totals.handshakes_waiting));
        let _ = writeln!(self.text, "{name} {waiting}");
        self.family("plimsoll_build_info", "gauge", "Which version this is.");
        self.sample(
            "plimsoll_build_info",
            concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""),
            1,
        );
    }
}

/// The place of each server, and the labels that name it.
fn servers(labels: &Labels) -> impl Iterator<Item = (usize, usize, String)> {
    labels.pools.iter().enumerate().flat_map(|(at, pool)| {
        let name = escape(&pool.name);
        let servers = pool.servers.iter().enumerate();
        servers.map(move |(number, server)| {
            let labels = format!("pool=\"{name}\",server=\"{}\"", escape(server));
            (at, number, labels)
        })
    })
}

fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Escapes a label's value: it comes from the configuration, which may hold anything.
pub fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::PoolLabels;
    use std::time::Duration;

    #[test]
    fn workers_are_summed_and_labels_escaped() {
        let labels = Labels {
            caches: vec!["c".into()],
            sites: vec!["a\"b".into()],
            pools: vec![PoolLabels {
                name: "app".into(),
                servers: vec!["s:1".into()],
            }],
            rules: vec!["a.conf:1".into()],
            listeners: vec!["[::]:80".into(), "[::]:53/udp".into()],
            relays: Vec::new(),
            ports: vec!["[::]:53/udp".into()],
        };
        let workers = [WorkerMetrics::new(&labels), WorkerMetrics::new(&labels)];
        for worker in &workers {
            worker.sites[0].requests[Method::Get as usize].count(200);
            worker.sites[0].duration.record(Duration::from_micros(150));
            worker
                .server(0, 0)
                .unwrap()
                .count_error(Reason::ConnectionRefused);
            worker.listeners[0].accepted.add(3);
            worker.listeners[0].active.add(1);
            worker.ports[0].received.add(2, 100);
            worker.ports[0].count_dropped(1, Dropped::NoServer);
        }
        let text = render(&labels, &[&workers[0], &workers[1]]);
        for line in [
            r#"plimsoll_requests_total{site="a\"b",method="GET",code="200"} 2"#,
            r#"plimsoll_request_duration_seconds_bucket{site="a\"b",le="0.0001"} 0"#,
            r#"plimsoll_request_duration_seconds_bucket{site="a\"b",le="0.00025"} 2"#,
            r#"plimsoll_request_duration_seconds_bucket{site="a\"b",le="+Inf"} 2"#,
            r#"plimsoll_request_duration_seconds_sum{site="a\"b"} 0.0003"#,
            r#"plimsoll_upstream_errors_total{pool="app",server="s:1",reason="connection_refused"} 2"#,
            r#"plimsoll_connections{listener="[::]:80",state="idle"} 4"#,
            r#"plimsoll_datagram_bytes_total{listener="[::]:53/udp",direction="in"} 200"#,
            r#"plimsoll_datagrams_dropped_total{listener="[::]:53/udp",reason="no_server"} 2"#,
            r#"plimsoll_upstream_connections_total{pool="app",reused="true"} 0"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
