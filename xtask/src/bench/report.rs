//! The results: a table for people, a file for the history.

use super::Results;
use super::idle::Idle;
use super::machine::Machine;
use super::measure::{Row, Sample};
use super::overload::Overload;
use crate::command::root;
use anyhow::Result;
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
    Ok(text)
}

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
    json!({
        "date": machine.date,
        "commit": machine.commit,
        "machine": { "cpu": machine.cpu, "cores": machine.cores, "kernel": machine.kernel },
        "versions": versions,
        "seconds": results.seconds,
        "cases": results.rows.iter().map(case).collect::<Vec<_>>(),
        "idle_connection": results.idle.iter().map(idle).collect::<Vec<_>>(),
        "overload": results.overload.iter().map(overload).collect::<Vec<_>>(),
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
