//! What caches have, for people who ask.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_cache::cache::Listed;
use plimsoll_http::caching::State;
use plimsoll_http::coding::Coding;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::caching::{BadOrder, Keeping, What};

/// How many answers are shown where nothing else is said, and at most.
const SHOWN: usize = 100;
const SHOWN_MAX: usize = 1000;

/// What is asked for. One of URL, prefix and tag, which is not empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "StockQuery")]
pub struct Query {
    /// Of this cache; nothing means of all.
    pub cache: Option<String>,
    /// What is stored for this URL, in all its forms.
    pub url: Option<String>,
    /// What is stored for URLs that begin like this.
    pub prefix: Option<String>,
    /// What its server has given this word.
    pub tag: Option<String>,
    /// How many answers at most, up to 1000; nothing means 100.
    pub limit: Option<usize>,
}

/// What there is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Stock {
    /// Answers.
    pub answers: Vec<Stored>,
    /// Whether there are more than were asked for.
    pub is_more: bool,
}

/// A stored answer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Stored {
    /// The cache that has it.
    pub cache: String,
    /// Its URL.
    pub url: String,
    /// The fields of requests that it is for, with what they say: `accept-language: de`.
    pub varies: Vec<String>,
    /// Its status.
    pub status: u16,
    /// Bytes of its body.
    pub bytes: u64,
    /// How old it is, in seconds.
    pub age: u32,
    /// For how many seconds it is fresh; below zero when it is not.
    pub ttl: i64,
    /// What it is good for: `fresh`, `while-revalidate`, `if-error` or `stale`.
    pub state: String,
    /// The words that it can be purged by.
    pub tags: Vec<String>,
    /// Where it is: `memory`, `disk` or `memory, disk`.
    pub tier: String,
    /// The content codings that were made of it.
    pub codings: Vec<String>,
    /// How often it was found in memory.
    pub hits: u64,
}

impl Query {
    /// Looks in `all`, `now`. This reads what is on disk alone, and blocks.
    ///
    /// # Errors
    /// What is wrong with the question.
    pub fn ask(&self, all: &[Arc<Keeping>], now: Duration) -> Result<Stock, BadOrder> {
        let what = What {
            cache: self.cache.as_deref(),
            url: self.url.as_deref(),
            prefix: self.prefix.as_deref(),
            tag: self.tag.as_deref(),
        };
        let most = self.limit.unwrap_or(SHOWN).min(SHOWN_MAX);
        let mut stock = Stock::default();
        for of in what.choose(all)? {
            let left = most - stock.answers.len();
            let cache = &of.keeping.cache;
            let (listed, is_more) = cache.list(&of.selector(), left, now);
            stock.is_more |= is_more;
            let name = &cache.name;
            let stored = listed.iter().map(|listed| Stored::of(name, listed, now));
            stock.answers.extend(stored);
        }
        stock.answers.sort_by(|a, b| a.url.cmp(&b.url));
        Ok(stock)
    }
}

impl Stored {
    fn of(cache: &str, listed: &Listed, now: Duration) -> Self {
        let object = &listed.object;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let url = listed.key.split(|byte| *byte == 0).next();
        let names = object.selection.names().iter();
        let varies = names.zip(object.selection.values());
        let tiers = [("memory", listed.is_in_memory), ("disk", listed.is_on_disk)];
        let tiers = tiers.iter().filter(|(_, is_there)| *is_there);
        let tiers: Vec<_> = tiers.map(|(tier, _)| *tier).collect();
        let made = |coding: &Coding| object.body.codings.whole(*coding).is_some();
        let codings = Coding::ALL.into_iter().filter(made);
        Self {
            cache: cache.to_owned(),
            url: text(url.unwrap_or_default()),
            varies: varies
                .map(|(name, value)| {
                    // Values are lists, each member behind a comma.
                    let value = value.strip_prefix(b",").unwrap_or(value);
                    format!("{}: {}", text(name), text(value))
                })
                .collect(),
            status: object.head().0.status,
            bytes: listed.length,
            age: object.age(now),
            ttl: object.left(now),
            state: word(object.state(now)).to_owned(),
            tags: object.tags.iter().map(|tag| text(tag)).collect(),
            tier: tiers.join(", "),
            codings: codings.map(|coding| coding.token().to_owned()).collect(),
            hits: object.hits(),
        }
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Fresh => "fresh",
        State::WhileRevalidating => "while-revalidate",
        State::IfError => "if-error",
        State::Stale => "stale",
    }
}
