//! The process as the kernel sees it, in the names that Prometheus clients share.

use std::fmt::Write;

/// Appends the `process_*` metrics; what the kernel does not tell is left out.
pub fn render(out: &mut String) {
    let ticks = rustix::param::clock_ticks_per_second();
    let page = rustix::param::page_size() as u64;
    if let Some(stat) = stat() {
        metric(
            out,
            "process_cpu_seconds_total",
            "counter",
            "CPU time used.",
            seconds(stat.cpu_ticks, ticks),
        );
        metric(
            out,
            "process_threads",
            "gauge",
            "Threads.",
            stat.threads.to_string(),
        );
        metric(
            out,
            "process_virtual_memory_bytes",
            "gauge",
            "Address space.",
            stat.virtual_bytes.to_string(),
        );
        let resident = stat.resident_pages.saturating_mul(page);
        metric(
            out,
            "process_resident_memory_bytes",
            "gauge",
            "Memory in use.",
            resident.to_string(),
        );
        if let Some(boot) = boot_time() {
            let start = boot + stat.start_ticks / ticks.max(1);
            metric(
                out,
                "process_start_time_seconds",
                "gauge",
                "When it started, since 1970.",
                start.to_string(),
            );
        }
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        metric(
            out,
            "process_open_fds",
            "gauge",
            "Open file descriptors.",
            open.count().to_string(),
        );
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if let Some(limit) = limit {
        metric(
            out,
            "process_max_fds",
            "gauge",
            "Most file descriptors that may be open.",
            limit.to_string(),
        );
    }
}

fn metric(out: &mut String, name: &str, kind: &str, help: &str, value: String) {
    let _ = writeln!(
        out,
        "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
    );
}

fn seconds(ticks: u64, per_second: u64) -> String {
    let per_second = per_second.max(1);
    format!(
        "{}.{:02}",
        ticks / per_second,
        ticks % per_second * 100 / per_second
    )
}

struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// `/proc/self/stat` (proc_pid_stat(5)); the fields are counted after the name, which may hold
/// anything.
fn stat() -> Option<Stat> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = text.rsplit_once(')')?;
    let fields: Vec<u64> = after_name
        .split_whitespace()
        .map(|f| f.parse().unwrap_or_default())
        .collect();
    // Field 3, the state, is at 0.
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        cpu_ticks: field(14)? + field(15)?,
        threads: field(20)?,
        start_ticks: field(22)?,
        virtual_bytes: field(23)?,
        resident_pages: field(24)?,
    })
}

fn boot_time() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}
