//! What a row of checks says of a server, and when the next one is due.

use crate::hash::mix;
use crate::standing::Health;
use std::time::Duration;

/// How checks are counted and paced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckRule {
    /// Failed checks in a row that take a server down.
    pub fall: u32,
    /// Passed checks in a row that bring it up.
    pub rise: u32,
    /// Whether it is up before the first check.
    pub initially_up: bool,
    /// Time between two checks of a server whose state is settled.
    pub every: Duration,
    /// The same while its state is changing: it is known sooner.
    pub fast: Duration,
    /// The same while it is down: a server that is away for long is asked less.
    pub down: Duration,
}

/// What checks have said so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    health: Health,
    /// Checks in a row that contradict the health.
    streak: u32,
    is_first: bool,
}

/// How far a pause may be from its length, in percent: targets of one file spread out.
const JITTER: u64 = 10;

impl Checked {
    /// Before the first check.
    #[must_use]
    pub fn new(rule: &CheckRule) -> Self {
        Self {
            health: if rule.initially_up {
                Health::Up
            } else {
                Health::Unreachable
            },
            streak: 0,
            is_first: true,
        }
    }

    /// After other checks have found this.
    #[must_use]
    pub fn after(health: Health) -> Self {
        Self {
            health,
            streak: 0,
            is_first: false,
        }
    }

    /// What holds now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// Takes the outcome of a check: what the server would be if only this one counted. Returns
    /// the new health when it changed.
    ///
    /// The first check decides alone: at the start nobody knows better.
    pub fn note(&mut self, found: Health, rule: &CheckRule) -> Option<Health> {
        let is_first = std::mem::take(&mut self.is_first);
        let agrees = (found == Health::Up) == (self.health == Health::Up);
        if agrees {
            self.streak = 0;
            // How a server is down may change at any check.
            let changed = found != self.health;
            self.health = found;
            return changed.then_some(found);
        }
        self.streak += 1;
        let needed = if found == Health::Up {
            rule.rise
        } else {
            rule.fall
        };
        if self.streak < needed && !(is_first && found == Health::Up) {
            return None;
        }
        self.streak = 0;
        self.health = found;
        Some(found)
    }

    /// How long to wait before the next check. `random` is uniform over all 64-bit values.
    #[must_use]
    pub fn pause(&self, rule: &CheckRule, random: u64) -> Duration {
        let length = match (self.streak, self.health) {
            (1.., _) => rule.fast,
            (0, Health::Up) => rule.every,
            (0, _) => rule.down,
        };
        jittered(length, random)
    }

    /// When the first check is due: targets of one file do not begin together.
    #[must_use]
    pub fn first_pause(rule: &CheckRule, random: u64) -> Duration {
        let within = rule.every.min(Duration::from_secs(1));
        fraction(within, mix(random) % 1000)
    }
}

fn jittered(length: Duration, random: u64) -> Duration {
    let span = fraction(length, JITTER * 2 * 10);
    length - span / 2 + fraction(span, random % 1000)
}

/// `thousandths` of `length`.
fn fraction(length: Duration, thousandths: u64) -> Duration {
    let micros = length.as_micros() * u128::from(thousandths) / 1000;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Health::{Unfit, Unreachable, Up};

    const RULE: CheckRule = CheckRule {
        fall: 3,
        rise: 2,
        initially_up: true,
        every: Duration::from_secs(2),
        fast: Duration::from_secs(1),
        down: Duration::from_secs(10),
    };

    fn changes(checked: &mut Checked, found: &[Health]) -> Vec<Option<Health>> {
        found
            .iter()
            .map(|&found| checked.note(found, &RULE))
            .collect()
    }

    #[test]
    fn it_takes_a_row_to_fall_and_a_row_to_rise() {
        let mut checked = Checked::new(&RULE);
        let found = [Up, Unfit, Unfit, Up, Unfit, Unfit, Unfit];
        let expected = [None, None, None, None, None, None, Some(Unfit)];
        assert_eq!(changes(&mut checked, &found), expected);
        let found = [Unreachable, Up, Unfit, Up, Up];
        let expected = [Some(Unreachable), None, Some(Unfit), None, Some(Up)];
        assert_eq!(changes(&mut checked, &found), expected);
    }

    #[test]
    fn the_first_check_brings_a_server_up_that_began_down() {
        let rule = CheckRule {
            initially_up: false,
            ..RULE
        };
        let mut checked = Checked::new(&rule);
        assert_eq!(checked.health(), Unreachable);
        assert_eq!(checked.note(Up, &rule), Some(Up));
    }

    #[test]
    fn pauses_are_short_while_changing_long_when_down_and_jittered() {
        let mut checked = Checked::new(&RULE);
        let around = |checked: &Checked, seconds: f64| {
            for random in [0, 1, 500, 999, u64::MAX] {
                let pause = checked.pause(&RULE, random).as_secs_f64();
                assert!((seconds * 0.9..=seconds * 1.1).contains(&pause), "{pause}");
            }
        };
        around(&checked, 2.0);
        checked.note(Unfit, &RULE);
        around(&checked, 1.0);
        checked.note(Unfit, &RULE);
        checked.note(Unfit, &RULE);
        around(&checked, 10.0);
        assert!(Checked::first_pause(&RULE, 7) < Duration::from_secs(1));
    }
}
