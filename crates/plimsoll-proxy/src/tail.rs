//! Access log lines for whoever listens now. While nobody does, nothing is written for it.

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use plimsoll_observe::access_log::{Dates, Record};
use plimsoll_observe::format::Format;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Lines that may wait for a listener; further ones are lost to it.
const LINES: usize = 1024;

/// Which lines are wanted: those of which all of this is true.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "LogQuery")]
pub struct Query {
    /// Of this site or service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// With this status, such as `404`, or one of this class, such as `5xx`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// That took so many seconds or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slower: Option<f64>,
    /// How they are written: `json`, `combined` or `haproxy`; nothing means `json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// What is wrong with a question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    /// There is no such status.
    #[error("`{0}` is neither a status, such as `404`, nor a class of them, such as `5xx`")]
    Status(String),
    /// There is no such time.
    #[error("`slower` is a number of seconds")]
    Slower,
    /// There is no such format.
    #[error("`{0}` is no format: `json`, `combined` or `haproxy`")]
    Format(String),
}

/// Somebody who listens, as workers see him.
#[derive(Debug)]
pub struct Tail {
    filter: Filter,
    format: Format,
    lines: mpsc::Sender<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

/// What somebody hears.
#[derive(Debug)]
pub struct Heard {
    /// Lines, each with its end.
    pub lines: mpsc::Receiver<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

impl Heard {
    /// How many lines were lost since it was asked last.
    pub fn lost(&self) -> u64 {
        self.lost.swap(0, Relaxed)
    }
}

impl Query {
    /// Both ends of what it asks for.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(self) -> Result<(Tail, Heard), BadQuery> {
        let format = format(self.format.as_deref().unwrap_or("json"))?;
        let status = self
            .status
            .map(|text| statuses(&text).ok_or(BadQuery::Status(text)));
        let slower = Duration::try_from_secs_f64(self.slower.unwrap_or_default());
        let (send, lines) = mpsc::channel(LINES);
        let lost = Arc::<AtomicU64>::default();
        let tail = Tail {
            filter: Filter {
                site: self.site,
                status: status.transpose()?,
                slower: slower.map_err(|_| BadQuery::Slower)?,
            },
            format,
            lines: send,
            lost: Arc::clone(&lost),
        };
        Ok((tail, Heard { lines, lost }))
    }
}

fn format(text: &str) -> Result<Format, BadQuery> {
    match text {
        "json" => Ok(Format::Json),
        "combined" => Ok(Format::Combined),
        "haproxy" => Ok(Format::Haproxy),
        other => Err(BadQuery::Format(other.to_owned())),
    }
}

fn statuses(text: &str) -> Option<RangeInclusive<u16>> {
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
        return Some(class * 100..=class * 100 + 99);
    }
    let status = text
        .parse()
        .ok()
        .filter(|status| (100..=599).contains(status))?;
    Some(status..=status)
}

#[derive(Debug)]
struct Filter {
    site: Option<String>,
    status: Option<RangeInclusive<u16>>,
    slower: Duration,
}

impl Filter {
    fn takes(&self, record: &Record<'_>) -> bool {
        let has = |statuses: &RangeInclusive<u16>| {
            record
                .status
                .is_some_and(|status| statuses.contains(&status))
        };
        self.site.as_ref().is_none_or(|site| site == record.site)
            && self.status.as_ref().is_none_or(has)
            && record.total >= self.slower
    }
}

impl Tail {
    fn offer(&self, record: &Record<'_>, dates: &mut Dates) {
        if !self.filter.takes(record) {
            return;
        }
        let Ok(place) = self.lines.try_reserve() else {
            self.lost.fetch_add(1, Relaxed);
            return;
        };
        let mut line = Vec::new();
        self.format.write(record, dates, &mut line);
        place.send(line);
    }
}

/// Those who listen to one worker.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    all: RefCell<Vec<Arc<Tail>>>,
    is_heard: Cell<bool>,
}

impl Tails {
    /// Tells whether anybody listens.
    pub(crate) fn are_heard(&self) -> bool {
        self.is_heard.get()
    }

    pub(crate) fn add(&self, tail: Arc<Tail>) {
        self.all.borrow_mut().push(tail);
        self.is_heard.set(true);
    }

    /// Offers a line to all who listen.
    pub(crate) fn offer(&self, record: &Record<'_>, dates: &mut Dates) {
        for tail in self.all.borrow().iter() {
            tail.offer(record, dates);
        }
    }

    /// Forgets those who have left.
    pub(crate) fn tend(&self) {
        if self.is_heard.get() {
            let mut all = self.all.borrow_mut();
            all.retain(|tail| !tail.lines.is_closed());
            self.is_heard.set(!all.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(site: &str, status: Option<u16>, millis: u64) -> Record<'_> {
        Record {
            site,
            status,
            total: Duration::from_millis(millis),
            ..Record::default()
        }
    }

    #[test]
    fn lines_are_taken_of_which_all_is_true() {
        let query = |site: Option<&str>, status: Option<&str>, slower| Query {
            site: site.map(str::to_owned),
            status: status.map(str::to_owned),
            slower,
            format: None,
        };
        for (query, expected) in [
            (query(None, None, None), [true; 4]),
            (query(Some("a"), None, None), [true, true, false, true]),
            (query(None, Some("5xx"), None), [false, true, false, false]),
            (query(None, Some("200"), None), [true, false, true, false]),
            (query(None, None, Some(0.2)), [false, true, true, true]),
            (query(Some("a"), Some("2xx"), Some(0.2)), [false; 4]),
        ] {
            let (tail, _heard) = query.clone().open().unwrap();
            let records = [
                record("a", Some(200), 199),
                record("a", Some(503), 200),
                record("b", Some(200), 300),
                record("a", None, 400),
            ];
            let taken = records.map(|record| tail.filter.takes(&record));
            assert_eq!(taken, expected, "{query:?}");
        }
    }

    #[test]
    fn what_nobody_can_mean_is_refused() {
        for text in [
            "", "xx", "6xx", "0xx", "99", "600", "2x", "-1", "2xxx", "70000",
        ] {
            assert_eq!(statuses(text), None, "{text}");
        }
        for slower in [-1.0, f64::NAN, f64::INFINITY] {
            let query = Query {
                slower: Some(slower),
                ..Query::default()
            };
            assert_eq!(query.open().err(), Some(BadQuery::Slower));
        }
    }

    #[test]
    fn a_slow_listener_loses_lines_and_is_told_how_many() {
        let (tail, mut heard) = Query::default().open().unwrap();
        let tails = Tails::default();
        assert!(!tails.are_heard());
        tails.add(Arc::new(tail));
        for _ in 0..LINES + 3 {
            tails.offer(&record("a", Some(200), 1), &mut Dates::default());
        }
        assert_eq!((heard.lost(), heard.lost()), (3, 0));
        let line = heard.lines.try_recv().unwrap();
        assert!(line.starts_with(b"{") && line.ends_with(b"}\n"));
        tails.tend();
        assert!(tails.are_heard());
        drop(heard);
        tails.tend();
        assert!(!tails.are_heard());
    }
}
