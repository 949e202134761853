//! The page of metrics.

use std::sync::Arc;

use plimsoll_control::engine::Engine;
use plimsoll_observe::metrics::WorkerMetrics;
use plimsoll_observe::prometheus;

use crate::{acme, caches, disks, logs, process, reloads, servers, tls};

/// More metrics, for whoever has some: text in Prometheus' format.
pub type MoreMetrics = fn(&mut String);

/// Everything that is counted, in Prometheus' format.
pub(crate) fn page(engine: &Engine, more: MoreMetrics) -> String {
    let running = &engine.now();
    let workers: Vec<&WorkerMetrics> = running.metrics.iter().map(Arc::as_ref).collect();
    let mut text = prometheus::render(&running.generation.labels, &workers);
    servers::render(&running.generation, &mut text);
    servers::render_checks(running, &mut text);
    servers::render_names(running, &mut text);
    servers::render_materials(&running.generation, &mut text);
    tls::render(&running.generation, &mut text);
    acme::render(running, &mut text);
    servers::render_queues(&running.generation, &mut text);
    servers::render_spool(&running.generation, &mut text);
    caches::render(&running.generation, &mut text);
    disks::render(&running.generation, &mut text);
    logs::render(running, &mut text);
    process::render(&mut text);
    reloads::render(engine, &mut text);
    more(&mut text);
    text
}
