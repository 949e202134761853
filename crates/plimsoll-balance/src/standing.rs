//! Whether a server may receive new requests, and everyone who has a say in that.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Whether a server may receive new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Ready,
    /// It was ejected for a while, and may have one request at a time until it has served one.
    Trial,
    /// It finishes what it has, and serves clients that belong to it.
    Drain,
    /// It finishes what it has.
    Maintenance,
    /// It failed too many requests and rests.
    Ejected,
    /// It answers checks, but not as it should.
    Unfit,
    /// It does not answer checks.
    Unreachable,
}

impl Standing {
    /// The word for logs, metrics and pages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Trial => "trial",
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
            Self::Ejected => "ejected",
            Self::Unfit => "unfit",
            Self::Unreachable => "unreachable",
        }
    }
}

/// What an operator wants of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// It serves.
    #[default]
    Serve,
    /// It takes no new clients, and serves those that belong to it.
    Drain,
    /// It takes nothing new.
    Maintain,
}

/// What active checks say of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It works, or nobody checks it.
    #[default]
    Up,
    /// It answers, but not as it should. Perhaps it is the check that is wrong.
    Unfit,
    /// It does not answer.
    Unreachable,
}

/// Reasons to take no new requests. Several may hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bars(u8);

impl Bars {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const DRAIN: Self = Self(1);
    pub(crate) const MAINTENANCE: Self = Self(2);
    pub(crate) const UNFIT: Self = Self(4);
    pub(crate) const UNREACHABLE: Self = Self(8);
    pub(crate) const EJECTED: Self = Self(16);
    /// Bars nothing but a second request at once.
    pub(crate) const TRIAL: Self = Self(32);

    /// What checks say.
    pub(crate) const CHECKED: Self = Self(Self::UNFIT.0 | Self::UNREACHABLE.0);
    /// What keeps requests away.
    pub(crate) const ALL: Self = Self(31);
    /// What keeps them away when too few servers are left: what may be a false alarm does not.
    pub(crate) const CERTAIN: Self =
        Self(Self::DRAIN.0 | Self::MAINTENANCE.0 | Self::UNREACHABLE.0);
    /// What keeps away even a client that belongs to the server.
    pub(crate) const STICKY: Self = Self(Self::ALL.0 & !Self::DRAIN.0);

    #[inline]
    pub(crate) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The bars of one server, set by the operator, by checks and by outlier detection.
#[derive(Debug, Default)]
pub(crate) struct Gate(AtomicU8);

impl Gate {
    #[inline]
    pub(crate) fn bars(&self) -> Bars {
        Bars(self.0.load(Relaxed))
    }

    /// Replaces those of `mask` by `bars`; returns all that held before.
    pub(crate) fn replace(&self, mask: Bars, bars: Bars) -> Bars {
        let new = |old: u8| Some(old & !mask.0 | bars.0);
        // The function always has a new value.
        Bars(
            self.0
                .fetch_update(Relaxed, Relaxed, new)
                .unwrap_or_else(|old| old),
        )
    }

    pub(crate) fn set_wish(&self, wish: Wish) {
        let bars = match wish {
            Wish::Serve => Bars::NONE,
            Wish::Drain => Bars::DRAIN,
            Wish::Maintain => Bars::MAINTENANCE,
        };
        self.replace(Bars::DRAIN.or(Bars::MAINTENANCE), bars);
    }

    pub(crate) fn set_health(&self, health: Health) {
        let bars = match health {
            Health::Up => Bars::NONE,
            Health::Unfit => Bars::UNFIT,
            Health::Unreachable => Bars::UNREACHABLE,
        };
        self.replace(Bars::CHECKED, bars);
    }

    /// What checks say.
    pub(crate) fn health(&self) -> Health {
        let bars = self.bars();
        if bars.meets(Bars::UNREACHABLE) {
            Health::Unreachable
        } else if bars.meets(Bars::UNFIT) {
            Health::Unfit
        } else {
            Health::Up
        }
    }

    /// The strongest reason, for people.
    pub(crate) fn standing(&self) -> Standing {
        let bars = self.bars();
        [
            (Bars::MAINTENANCE, Standing::Maintenance),
            (Bars::UNREACHABLE, Standing::Unreachable),
            (Bars::UNFIT, Standing::Unfit),
            (Bars::EJECTED, Standing::Ejected),
            (Bars::DRAIN, Standing::Drain),
            (Bars::TRIAL, Standing::Trial),
        ]
        .into_iter()
        .find(|(bar, _)| bars.meets(*bar))
        .map_or(Standing::Ready, |(_, standing)| standing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_say_of_its_own() {
        let gate = Gate::default();
        gate.set_health(Health::Unfit);
        gate.set_wish(Wish::Drain);
        assert_eq!(gate.standing(), Standing::Unfit);
        gate.set_health(Health::Up);
        assert_eq!(gate.standing(), Standing::Drain);
        gate.set_wish(Wish::Serve);
        assert_eq!(gate.standing(), Standing::Ready);
        gate.set_wish(Wish::Maintain);
        assert!(gate.bars().meets(Bars::STICKY) && gate.bars().meets(Bars::CERTAIN));
    }
}
