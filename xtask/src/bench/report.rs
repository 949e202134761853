//! The results: a table for people, a file for the history.

use super::Results;
use super::changes::Lost;
use super::idle::Idle;
use super::machine::Machine;
use super::measure::{Row, Sample};
use super::overload::Overload;
use super::sites::Reloaded;
use crate::command::root;
use anyhow::Result;
use plimsoll_e2e::load::Fate;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::fs;

/// Prints the table and writes the file.
pub(crate) fn write(machine: &Machine, results: &Results) -> Result<()> {
    println!("\n{}", table(machine, results)?);
    let directory = root().join("bench/results");
    fs::create_dir_all(&directory)?;
    let file = directory.join(format!("{}-{}.json", machine.date, machine.commit));
    fs::write(&file, format!("{:#}\n", document(machine, results)))?;
    println!(
        "written to {}",
        file.strip_prefix(root()).unwrap_or(&file).display()
    );
    Ok(())
}

fn idle_table(rows: &[Idle], text: &mut String) -> Result<()> {
    if !rows.is_empty() {
        *text += "\n| case | proxy | idle connections | RSS bytes each | PSS bytes each |\n";
        *text += "|---|---|---:|---:|---:|\n";
    }
    for idle in rows {
        let Idle {
            case,
            proxy,
            connections,
            resident,
            proportional,
        } = idle;
        writeln!(
            text,
            "| {case} | {proxy} | {connections} | {resident:.0} | {proportional:.0} |"
        )?;
    }
    Ok(())
}

fn table(machine: &Machine, results: &Results) -> Result<String> {
    let mut text = String::new();
    let Machine {
        cpu, cores, kernel, ..
    } = machine;
    writeln!(text, "{cpu}, {cores} cores, kernel {kernel}; medians\n")?;
    if !results.rows.is_empty() {
        text += "| case | proxy | CPU us/request (user + system) | requests/s | p50 us | p99 us \
                 | data syscalls/request | allocations/request | bytes/answer | errors |\n\
                 |---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n";
    }
    for row in &results.rows {
        writeln!(
            text,
            "| {} | {} | {:.1} ({:.1} + {:.1}) | {:.0} | {:.0} | {:.0} | {} | {} | {} | {} |",
            row.case.name,
            row.proxy,
            row.median(Sample::cpu_us),
            row.median(|sample| sample.user_us),
            row.median(|sample| sample.system_us),
            row.median(|sample| sample.per_second),
            row.median(|sample| sample.p50_us),
            row.median(|sample| sample.p99_us),
            optional(row.syscalls, 2),
            optional(row.median_of(|sample| sample.allocations), 2),
            optional(row.median_of(|sample| sample.bytes), 0),
            row.errors(),
        )?;
    }
    idle_table(&results.idle, &mut text)?;
    if !results.overload.is_empty() {
        text += "\n| proxy | peak/s | goodput/s at 3x | of peak | good p50, p99 ms \
                 | refused p50, p99 ms | unanswered | recovery |\n";
        text += "|---|---:|---:|---:|---:|---:|---:|---:|\n";
    }
    for overload in &results.overload {
        let Overload {
            proxy,
            peak,
            goodput,
            good,
            refused,
            unanswered,
            recovery,
        } = overload;
        writeln!(
            text,
            "| {proxy} | {peak:.0} | {goodput:.0} | {:.0} % | {:.1}, {:.1} | {:.1}, {:.1} \
             | {unanswered:.1} % | {recovery:.1} s |",
            100.0 * goodput / peak,
            good.p50_ms,
            good.p99_ms,
            refused.p50_ms,
            refused.p99_ms,
        )?;
    }
    changes_table(&results.changes, &mut text)?;
    sites_table(&results.sites, &mut text)?;
    Ok(text)
}

fn changes_table(rows: &[Lost], text: &mut String) -> Result<()> {
    if !rows.is_empty() {
        *text += "\n| proxy | changes | load | requests | refused | reset | cut short | wrong | 5xx | other \
                  | connections | p99 ms | processes |\n";
        *text += "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
    }
    for lost in rows {
        let fates = FATES.map(|(_, fate)| lost.count(&[fate]).to_string());
        writeln!(
            text,
            "| {} | {} {}s | {} | {} | {} | {} | {:.1} | {} |",
            lost.proxy,
            lost.changes,
            lost.change,
            lost.load,
            lost.report.total(),
            fates.join(" | "),
            lost.report.connections,
            lost.report.percentile(0.99).as_secs_f64() * 1e3,
            lost.processes,
        )?;
    }
    Ok(())
}

fn sites_table(rows: &[Reloaded], text: &mut String) -> Result<()> {
    if !rows.is_empty() {
        *text += "\n| proxy | reload of 10,000 sites, s (median, worst) | p99 ms at rest | meanwhile | errors |\n";
        *text += "|---|---:|---:|---:|---:|\n";
    }
    for row in rows {
        let (typical, worst) = row.typical_and_worst();
        let Reloaded {
            proxy,
            quiet_p99_ms,
            p99_ms,
            errors,
            ..
        } = row;
        writeln!(
            text,
            "| {proxy} | {typical:.2}, {worst:.2} | {quiet_p99_ms:.1} | {p99_ms:.1} | {errors} |"
        )?;
    }
    Ok(())
}

/// How a request may be lost.
const FATES: [(&str, Fate); 6] = [
    ("refused", Fate::Refused),
    ("reset", Fate::Reset),
    ("short", Fate::Short),
    ("wrong_body", Fate::WrongBody),
    ("server_error", Fate::ServerError),
    ("other", Fate::Other),
];

fn optional(figure: Option<f64>, places: usize) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.places$}"))
}

fn document(machine: &Machine, results: &Results) -> Value {
    let versions: Map<_, _> = machine
        .versions
        .iter()
        .map(|(name, text)| ((*name).to_owned(), json!(text)))
        .collect();
    let idle = |idle: &Idle| {
        json!({
            "case": idle.case,
            "proxy": idle.proxy,
            "connections": idle.connections,
            "rss_bytes": idle.resident,
            "pss_bytes": idle.proportional,
        })
    };
    let overload = |overload: &Overload| {
        json!({
            "proxy": overload.proxy,
            "peak_per_second": overload.peak,
            "goodput_per_second": overload.goodput,
            "good_p50_ms": overload.good.p50_ms,
            "good_p99_ms": overload.good.p99_ms,
            "refused_p50_ms": overload.refused.p50_ms,
            "refused_p99_ms": overload.refused.p99_ms,
            "unanswered_percent": overload.unanswered,
            "recovery_seconds": overload.recovery,
        })
    };
    let changes = |lost: &Lost| {
        let fates = FATES.map(|(name, fate)| (name.to_owned(), json!(lost.count(&[fate]))));
        json!({
            "proxy": lost.proxy,
            "change": lost.change,
            "changes": lost.changes,
            "load": lost.load,
            "requests": lost.report.total(),
            "lost": fates.into_iter().collect::<Map<_, _>>(),
            "connections": lost.report.connections,
            "p99_ms": lost.report.percentile(0.99).as_secs_f64() * 1e3,
            "processes": lost.processes,
        })
    };
    let sites = |row: &Reloaded| {
        json!({
            "proxy": row.proxy,
            "seconds": row.seconds,
            "quiet_p99_ms": row.quiet_p99_ms,
            "p99_ms": row.p99_ms,
            "errors": row.errors,
        })
    };
    json!({
        "date": machine.date,
        "commit": machine.commit,
        "machine": { "cpu": machine.cpu, "cores": machine.cores, "kernel": machine.kernel },
        "versions": versions,
        "seconds": results.seconds,
        "cases": results.rows.iter().map(case).collect::<Vec<_>>(),
        "idle_connection": results.idle.iter().map(idle).collect::<Vec<_>>(),
        "overload": results.overload.iter().map(overload).collect::<Vec<_>>(),
        "reloads_of_sites": results.sites.iter().map(sites).collect::<Vec<_>>(),
        "changes": results.changes.iter().map(changes).collect::<Vec<_>>(),
    })
}

fn case(row: &Row) -> Value {
    let round = |sample: &Sample| {
        json!({
            "requests": sample.requests,
            "user_us": sample.user_us,
            "system_us": sample.system_us,
            "requests_per_second": sample.per_second,
            "p50_us": sample.p50_us,
            "p99_us": sample.p99_us,
            "allocations": sample.allocations,
            "bytes": sample.bytes,
            "errors": sample.errors,
        })
    };
    json!({
        "case": row.case.name,
        "about": row.case.about,
        "proxy": row.proxy,
        "cpu_us": row.median(Sample::cpu_us),
        "data_syscalls": row.syscalls,
        "rounds": row.samples.iter().map(round).collect::<Vec<_>>(),
    })
}
