//! What caches have on disk, in Prometheus' format.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use plimsoll_cache::disk::{Disk, Stats};
use plimsoll_proxy::generation::Generation;

use crate::caches::table;

/// Name and meaning of a number, and where it stands.
type Row<T> = (&'static str, &'static str, T);

type Gauge = fn(&Disk) -> u64;

type Counter = fn(&Stats) -> &AtomicU64;

const GAUGES: [Row<Gauge>; 6] = [
    (
        "up",
        "Whether it is used, and has not failed too often.",
        |disk| disk.is_up().into(),
    ),
    (
        "known",
        "Whether all is known that was there at the start.",
        |disk| disk.is_known().into(),
    ),
    ("bytes", "Bytes of files.", |disk| disk.size().bytes),
    ("max_bytes", "Bytes that they may have.", |disk| {
        disk.place.limits.max
    }),
    (
        "index_bytes",
        "Bytes of memory that keeping track of files takes.",
        |disk| disk.size().memory,
    ),
    ("files", "Answers that are on disk.", |disk| {
        disk.size().files as u64
    }),
];

const COUNTERS: [Row<Counter>; 6] = [
    ("read", "Answers that were read.", |stats| &stats.read),
    ("written", "Answers that were written.", |stats| {
        &stats.written
    }),
    ("evicted", "Answers that made room for others.", |stats| {
        &stats.evicted
    }),
    (
        "corrupt",
        "Files that were not what was written, and were removed.",
        |stats| &stats.corrupt,
    ),
    ("errors", "What the system refused to do.", |stats| {
        &stats.errors
    }),
    (
        "skipped",
        "Answers that were not read or not written, as there was too much to do.",
        |stats| &stats.skipped,
    ),
];

/// Appends what is on disk, of the caches that have one.
pub(crate) fn render(generation: &Generation, out: &mut String) {
    let disks = || {
        let caches = generation.caches.iter();
        caches.filter_map(|keeping| Some((keeping, keeping.cache.disk.as_ref()?)))
    };
    if disks().next().is_none() {
        return;
    }
    for (name, help, value) in GAUGES {
        let rows = disks().map(|(keeping, disk)| (keeping, value(disk)));
        table((&format!("disk_{name}"), "gauge", help), rows, out);
    }
    for (name, help, counter) in COUNTERS {
        let count = |disk: &Disk| disk.stats().map_or(0, |stats| counter(stats).load(Relaxed));
        let rows = disks().map(|(keeping, disk)| (keeping, count(disk)));
        table((&format!("disk_{name}_total"), "counter", help), rows, out);
    }
}
