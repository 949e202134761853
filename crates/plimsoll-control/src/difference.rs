//! What one configuration has that another one has not, by the names of things.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use plimsoll_config::model::Config;
use plimsoll_config::to_text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "DifferenceKind")]
pub enum Change {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// It is another one under the same name.
    Changed,
}

/// Something that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// What happened to it.
    pub change: Change,
    /// What it is: `listener`, `site`, `pool`, `server` and so on.
    pub kind: String,
    /// Its name; that of a server behind that of its pool.
    pub name: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.change {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Changed => '~',
        };
        match self.name.as_str() {
            "" => write!(f, "{sign} {}", self.kind),
            name => write!(f, "{sign} {} {name}", self.kind),
        }
    }
}

/// The differences between two configurations; none when they say the same, wherever it stands.
pub fn between(old: &Config, new: &Config) -> Vec<Difference> {
    let mut all = Vec::new();
    compare(&listeners(old), &listeners(new), &mut all);
    compare(&blocks(&to_text(old)), &blocks(&to_text(new)), &mut all);
    all
}

/// Things by what they are and their names: what is said of each, of all with one name in their order.
type Named = BTreeMap<(String, String), Vec<String>>;

fn compare(old: &Named, new: &Named, all: &mut Vec<Difference>) {
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for key in names {
        let change = match (old.get(key), new.get(key)) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (old, new) if old != new => Change::Changed,
            _ => continue,
        };
        let (kind, name) = key.clone();
        all.push(Difference { change, kind, name });
    }
}

fn listeners(config: &Config) -> Named {
    let sites = config.sites.iter().flat_map(|site| &site.listen);
    let services = config.tcp.iter().flat_map(|service| &service.listen);
    let addresses = sites.chain(services).map(ToString::to_string);
    let ports = config.udp.iter().flat_map(|service| &service.listen);
    let addresses = addresses.chain(ports.map(|address| format!("{address}/udp")));
    let named = addresses.map(|address| (("listener".to_owned(), address), Vec::new()));
    named.collect()
}

/// The blocks of a configuration that is written out: a site with its names, a pool and each of its servers, and
/// so on. What stands in none is a setting.
fn blocks(text: &str) -> Named {
    let mut named = Named::new();
    let mut say = |kind: &str, name: &str, what: &str| {
        let said = named.entry((kind.to_owned(), name.to_owned())).or_default();
        said.push(what.to_owned());
    };
    let (mut kind, mut name) = (String::new(), String::new());
    for line in text.lines() {
        let line_of = line.trim();
        let (first, rest) = line_of.split_once(' ').unwrap_or((line_of, ""));
        let is_nested = line.starts_with([' ', '}']);
        match (is_nested, rest.strip_suffix('{')) {
            (false, Some(of)) => {
                (kind, name) = (first.to_owned(), of.trim().to_owned());
                say(&kind, &name, "");
            }
            (false, None) if !line.is_empty() => say("setting", first, rest),
            (true, _) if kind == "pool" && first == "server" => {
                let server = rest.split(' ').next().unwrap_or_default();
                say("server", &format!("{name}/{server}"), rest);
            }
            (true, _) => say(&kind, &name, line),
            (false, None) => {}
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Files;

    fn config(text: &str) -> Config {
        let loaded = plimsoll_config::load_text("test", text, &Files);
        loaded.config.expect("it is sound")
    }

    #[test]
    fn what_is_different_is_told_by_name_and_what_only_moved_is_not() {
        let old = config(
            "site a.example { listen 127.0.0.1:80; route { proxy app } }\n\
             site b.example { listen 127.0.0.1:80; route { respond 200 } }\n\
             pool app { server 127.0.0.1:1; server 127.0.0.1:2 }",
        );
        let new = config(
            "pool other { server 127.0.0.1:1 }\n\
             pool app { balance random; server 127.0.0.1:2 weight=2; server 127.0.0.1:3 }\n\n\
             site a.example { listen 127.0.0.1:80; route { proxy app } }\n\
             site c.example { listen 127.0.0.1:81; route /x { proxy other } }",
        );
        let all: Vec<String> = between(&old, &new)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            all,
            [
                "+ listener 127.0.0.1:81",
                "~ pool app",
                "+ pool other",
                "- server app/127.0.0.1:1",
                "~ server app/127.0.0.1:2",
                "+ server app/127.0.0.1:3",
                "+ server other/127.0.0.1:1",
                "- site b.example",
                "+ site c.example",
            ]
        );
        assert_eq!(between(&old, &old), []);
    }
}
