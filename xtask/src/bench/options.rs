//! The options of `bench`.

use super::case::{CASES, Case};
use super::contender::Contender;
use super::{changes, idle, overload, sites};
use anyhow::{Context, Result, bail};

/// What to run, and how long.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    quick: bool,
    count_allocations: bool,
    case: Option<String>,
    rounds: Option<usize>,
    only: Vec<String>,
}

pub(crate) fn usage() -> String {
    let names = |items: &mut dyn Iterator<Item = (&str, &str)>| {
        items
            .map(|(name, about)| format!("  {name:<18}{about}\n"))
            .collect::<String>()
    };
    let cases = names(&mut all_cases());
    let proxies = names(&mut Contender::ALL.iter().map(|c| (c.name(), c.about())));
    format!(
        "usage: cargo xtask bench [--quick] [--case NAME] [--rounds N] [--only PROXY,...]\n\
         \x20                        [--count-allocations]\n\n\
         --quick              one round of 2 seconds instead of 3 of 5: to see that it works\n\
         --only               proxies by name or by the start of it, as `nginx`\n\
         --count-allocations  build Plimsoll with the feature `count-allocations`\n\n\
         cases:\n{cases}\nproxies:\n{proxies}",
    )
}

/// The names of all cases, and what they are.
fn all_cases() -> impl Iterator<Item = (&'static str, &'static str)> {
    let idle = idle::Kind::ALL.map(|kind| (kind.name(), kind.about()));
    let others = [
        (overload::NAME, overload::ABOUT),
        (changes::NAME, changes::ABOUT),
        (sites::NAME, sites::ABOUT),
    ];
    let special = idle.into_iter().chain(others);
    CASES
        .iter()
        .map(|case| (case.name, case.about))
        .chain(special)
}

impl Options {
    /// Reads the words after `bench`; none when help is asked for.
    pub(crate) fn parse(words: &[&str]) -> Result<Option<Self>> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("`{word}` needs a value"))
            };
            match word {
                "--help" | "-h" => return Ok(None),
                "--quick" => options.quick = true,
                "--count-allocations" => options.count_allocations = true,
                "--rounds" => options.rounds = Some(value()?.parse().context("--rounds")?),
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--case" => options.case = Some((*value()?).to_owned()),
                _ => bail!("unknown option `{word}`\n\n{}", usage()),
            }
        }
        let known = |name: &String| all_cases().any(|(known, _)| known == name);
        match &options.case {
            Some(name) if !known(name) => bail!("unknown case `{name}`\n\n{}", usage()),
            _ => Ok(Some(options)),
        }
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// At 100 ticks a second, 5 seconds of a busy core are known to 0.2 %.
    pub(crate) fn seconds(&self) -> u32 {
        if self.quick { 2 } else { 5 }
    }

    pub(crate) fn wants(&self, case: &str) -> bool {
        self.case.as_ref().is_none_or(|name| name == case)
    }

    pub(crate) fn cases(&self) -> impl Iterator<Item = &'static Case> {
        CASES.iter().filter(|case| self.wants(case.name))
    }

    /// Returns the selected proxies; Plimsoll only if it is there.
    pub(crate) fn contenders(&self, with_plimsoll: bool) -> Vec<Contender> {
        let selected = |contender: &Contender| {
            let name = contender.name();
            self.only.is_empty()
                || self
                    .only
                    .iter()
                    .any(|start| name.starts_with(start.as_str()))
        };
        let there = |contender: &Contender| with_plimsoll || !contender.is_plimsoll();
        Contender::ALL
            .into_iter()
            .filter(selected)
            .filter(there)
            .collect()
    }

    pub(crate) fn build_plimsoll(&self) -> &'static str {
        if self.count_allocations {
            "cargo build --profile dist -p plimsoll --features count-allocations"
        } else {
            "cargo build --profile dist -p plimsoll"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>> {
        Options::parse(&line.split_ascii_whitespace().collect::<Vec<_>>())
    }

    #[test]
    fn reads_options() {
        let options = parse("--quick --only nginx,haproxy-tcp,plimsoll-t --case post-64k")
            .unwrap()
            .unwrap();
        assert_eq!((options.rounds(), options.seconds()), (1, 2));
        assert_eq!(
            options.cases().map(|case| case.name).collect::<Vec<_>>(),
            ["post-64k"]
        );
        let names: Vec<_> = options.contenders(true).iter().map(|c| c.name()).collect();
        assert_eq!(
            names,
            [
                "plimsoll-tcp",
                "nginx-http",
                "nginx-tcp",
                "haproxy-tcp",
                "nginx-udp"
            ]
        );
        assert_eq!(parse("--rounds 7").unwrap().unwrap().rounds(), 7);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for line in ["--fast", "--case none", "--rounds", "--rounds many"] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert_eq!(parse("--help").unwrap(), None);
    }

    #[test]
    fn plimsoll_takes_part_when_it_is_there() {
        let options = Options::default();
        assert_eq!(
            options.contenders(true).len(),
            options.contenders(false).len() + 3
        );
    }
}
