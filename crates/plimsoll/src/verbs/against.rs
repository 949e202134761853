//! `plimsoll check --against LOG --was FILE`: which recorded requests would end in another way.
//!
//! Each request of an access log is explained by both configurations. Routes and sites are compared by
//! what stands there and not by their lines, so that a statement that has only moved changes nothing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context;
use plimsoll_config::model::{Asked, Condition, Config, NamedMatch, Part};
use plimsoll_control::explain::{Outcome, Question, Rules, Trace};
use serde::Deserialize;

use super::trace::host;

/// Kinds of changes that are shown.
const SHOWN_MAX: usize = 1000;

/// The most bytes of a line that are looked at.
const LINE_BYTES_MAX: usize = 1 << 20;

/// What of a line of a JSON access log says what was asked for.
#[derive(Debug, Deserialize)]
struct Record {
    #[serde(default)]
    client: Option<IpAddr>,
    #[serde(default)]
    method: String,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    path: String,
    query: Option<String>,
    #[serde(default)]
    ua: String,
    #[serde(default)]
    referer: String,
    #[serde(default)]
    ts: String,
}

/// A request that ends in another way, and how often it was made.
#[derive(Debug)]
struct Change {
    first_line: usize,
    count: usize,
    was: String,
    is: String,
    unsure: Vec<String>,
}

/// What comes out of a comparison.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) requests: usize,
    pub(crate) changed: usize,
    skipped: usize,
    /// By request: method, URI and client.
    changes: BTreeMap<String, Change>,
}

/// A configuration, and its rules.
struct Side<'a> {
    config: &'a Config,
    rules: Rules,
}

impl<'a> Side<'a> {
    fn new(config: &'a Config) -> Self {
        let rules = Rules::new(config);
        // A file that cannot be used is what a plain `plimsoll check` is for.
        let _ = rules.load();
        Self { config, rules }
    }
}

/// Replays the requests of `log` through both configurations.
pub(crate) fn compare(was: &Config, is: &Config, log: &str) -> anyhow::Result<Comparison> {
    let (was, is) = (Side::new(was), Side::new(is));
    let file = File::open(log).with_context(|| format!("cannot read `{log}`"))?;
    let mut out = Comparison::default();
    for (number, line) in BufReader::new(file).split(b'\n').enumerate() {
        let line = line.with_context(|| format!("cannot read `{log}`"))?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let record: Option<Record> = match line.len() {
            ..=LINE_BYTES_MAX => serde_json::from_slice(&line).ok(),
            _ => None,
        };
        // What never became a request has no method or no path.
        match record.filter(|record| !record.method.is_empty() && !record.path.is_empty()) {
            Some(record) => out.note(&was, &is, &record, number + 1),
            None => out.skipped += 1,
        }
    }
    Ok(out)
}

impl Comparison {
    fn note(&mut self, was: &Side<'_>, is: &Side<'_>, record: &Record, line: usize) {
        self.requests += 1;
        let question = record.question();
        let (before, after) = (was.rules.explain(&question), is.rules.explain(&question));
        if decisions(&before) == decisions(&after) {
            return;
        }
        self.changed += 1;
        let name = format!(
            "{} {} from {}",
            record.method,
            record.uri(),
            question.client.ip()
        );
        let change = self.changes.entry(name).or_insert_with(|| {
            let mut unsure = unknown_conditions(was.config, &before);
            unsure.extend(unknown_conditions(is.config, &after));
            unsure.sort_unstable();
            unsure.dedup();
            Change {
                first_line: line,
                count: 0,
                was: ending(&before),
                is: ending(&after),
                unsure,
            }
        });
        change.count += 1;
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let mut changes: Vec<_> = self.changes.iter().collect();
        changes.sort_by_key(|(_, change)| change.first_line);
        for (request, change) in changes.iter().take(SHOWN_MAX) {
            let times = match change.count {
                1 => String::new(),
                count => format!(", {count} times"),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{request} (line {}{times})", change.first_line);
            let _ = writeln!(out, "    was: {}\n    is:  {}", change.was, change.is);
            for text in &change.unsure {
                let _ = writeln!(
                    out,
                    "    not sure: a log does not hold what `{text}` asks for"
                );
            }
        }
        if changes.len() > SHOWN_MAX {
            let _ = writeln!(out, "... and {} more", changes.len() - SHOWN_MAX);
        }
        let Self {
            requests,
            changed,
            skipped,
            ..
        } = self;
        let _ = write!(out, "{changed} of {requests} requests end in another way");
        if *skipped > 0 {
            let _ = write!(out, "; {skipped} lines hold no request");
        }
        out.push('\n');
        out
    }
}

impl Record {
    fn uri(&self) -> String {
        let query = self.query.as_ref().map(|query| format!("?{query}"));
        format!(
            "{}://{}{}{}",
            self.scheme,
            self.host,
            self.path,
            query.unwrap_or_default()
        )
    }

    fn question(&self) -> Question {
        let query = self.query.as_ref().map(|query| format!("?{query}"));
        let mut head = format!(
            "{} {}{} HTTP/1.1\r\nHost: {}\r\n",
            self.method,
            self.path,
            query.unwrap_or_default(),
            self.host
        );
        for (name, value) in [("User-Agent", &self.ua), ("Referer", &self.referer)] {
            if !value.is_empty() && !value.contains(char::is_control) {
                let _ = write!(head, "{name}: {value}\r\n");
            }
        }
        head.push_str("\r\n");
        let port = self
            .host
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok());
        let client = self.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let default = if self.scheme == "https" { 443 } else { 80 };
        Question {
            head: head.into_bytes(),
            body: Vec::new(),
            client: SocketAddr::new(client, 50_000),
            port: port.unwrap_or(default),
            scheme: self.scheme.clone(),
            name: host(&self.host).into(),
            offers: Vec::new(),
            unix: unix(&self.ts).unwrap_or_default(),
        }
    }
}

/// Seconds since 1970 of `2026-11-27T14:40:00.123Z`.
fn unix(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    // H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
    let year = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day.checked_sub(1)?;
    let of_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + day_of_year;
    let days = (year / 400 * 146_097 + of_era).checked_sub(719_468)?;
    Some(days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?)
}

/// What counts when two endings are compared.
fn decisions(
    trace: &Trace,
) -> (
    Option<&str>,
    Option<&str>,
    Vec<&str>,
    Option<&str>,
    &Outcome,
) {
    let route = trace.routes.iter().find(|line| line.is_taken);
    (
        trace.site.as_ref().map(|line| line.text.as_str()),
        route.map(|line| line.text.as_str()),
        trace.steps.iter().map(|line| line.text.as_str()).collect(),
        trace.sent.as_deref(),
        &trace.outcome,
    )
}

/// One line for how a request ends.
fn ending(trace: &Trace) -> String {
    let mut out = match &trace.outcome {
        Outcome::Answered(status, text) => match text.lines().next() {
            Some(text) => format!("{status} {text}"),
            None => status.to_string(),
        },
        Outcome::Pool(name) | Outcome::Relayed(name) | Outcome::Flow(name) => {
            format!("pool {name}")
        }
        Outcome::Shares(shares) => {
            let share = |(share, name): &(u32, String)| format!("{share} {name}");
            format!(
                "split {}",
                shares.iter().map(share).collect::<Vec<_>>().join(" / ")
            )
        }
        Outcome::Files(directory) => format!("a file below {directory}"),
        Outcome::Redirected(status, to) => format!("{status} to {to}"),
        Outcome::Refused(why) => format!("closed: {why}"),
    };
    if let Some(sent) = trace.sent.as_ref().filter(|sent| **sent != trace.target) {
        let _ = write!(out, ", as {sent}");
    }
    let decided = trace.steps.iter().find(|line| line.is_taken);
    let decided = decided.or_else(|| trace.routes.iter().find(|line| line.is_taken));
    match (decided, &trace.site) {
        (Some(line), _) => {
            let _ = write!(out, ", by {} at {}", line.text, line.place);
        }
        (None, Some(site)) => {
            let _ = write!(out, ", by {} at {}", site.text, site.place);
        }
        (None, None) => {}
    }
    out
}

/// The conditions that were asked, and cannot be answered from a log.
fn unknown_conditions(config: &Config, trace: &Trace) -> Vec<String> {
    let Some(site) = trace.site.as_ref().and_then(|line| {
        let mut sites = config.sites.iter();
        sites.find(|site| format!("{}:{}", site.place.file, site.place.line) == line.place)
    }) else {
        return Vec::new();
    };
    let asked = site.routes.iter().zip(&trace.routes);
    let asked = asked.filter(|(_, line)| line.is_taken || line.verdict.ends_with("does not hold"));
    let conditions = asked.flat_map(|(route, _)| &route.conditions);
    conditions
        .filter(|condition| !is_in_log(condition, &config.matches))
        .map(|condition| condition.text.to_string())
        .collect()
}

/// Tells whether a log holds what a condition asks for.
fn is_in_log(condition: &Condition, matches: &[NamedMatch]) -> bool {
    match &condition.asked {
        Asked::Part(Part::Header(name), _) => {
            let known = ["host", "user-agent", "referer"];
            known.iter().any(|known| name.eq_ignore_ascii_case(known))
        }
        Asked::Part(Part::Cookie(_), _) | Asked::Body(..) | Asked::Port(_) | Asked::Grpc(_) => {
            false
        }
        Asked::Is(number) => {
            let named = matches.get(*number);
            let all = named
                .into_iter()
                .flat_map(|named| named.alternatives.iter().flatten());
            all.into_iter()
                .all(|condition| is_in_log(condition, matches))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_log_lines_are_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:00.000Z", Some(0)),
            ("2026-11-27T14:40:01.500Z", Some(1_795_790_401)),
            ("2024-02-29T23:59:59.000Z", Some(1_709_251_199)),
            ("", None),
            ("yesterday", None),
        ] {
            assert_eq!(unix(text), expected, "{text}");
        }
    }
}
