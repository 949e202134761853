//! What a pool does about servers that fail: ejects them, tries them again, brings them back slowly.

use crate::outlier::{self, Fault, OutlierRule};
use crate::pool::{Pool, ServerIndex};
use crate::server::{Outcome, Server};
use crate::standing::{Bars, Health, Standing};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What a pool does about servers that are not as they should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// When a server is ejected.
    pub outlier: Option<OutlierRule>,
    /// How long a server that comes back takes to its full share.
    pub slow_start: Option<Duration>,
    /// When the share of servers that are well falls below this many percent, those that only
    /// failed their checks or were ejected are used as well. 0: when no server is well.
    pub fail_open: Option<u8>,
}

/// A change in the standing of a server, to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which server.
    pub server: ServerIndex,
    /// What happened.
    pub event: Event,
}

/// What happened to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It rests, for this long.
    Ejected(Fault, Duration),
    /// It should rest, but too many do already.
    Spared(Fault),
    /// Its rest is over, and it is tried with one request.
    OnTrial,
    /// It served the request it was tried with.
    Readmitted,
}

impl Pool {
    /// Notes how a request ended.
    pub(crate) fn learn(
        &self,
        index: ServerIndex,
        server: &Server,
        outcome: Outcome,
        now: Duration,
    ) -> Option<Change> {
        let rule = self.rules.outlier.as_ref()?;
        let fault = server.state().record.note(outcome, rule);
        let event = match outcome {
            Outcome::Cancelled => return None,
            _ if server.bars().meets(Bars::TRIAL) => self.end_trial(server, outcome, rule, now),
            _ => self.eject(server, fault?, rule, now),
        };
        event.map(|event| Change {
            server: index,
            event,
        })
    }

    fn end_trial(
        &self,
        server: &Server,
        outcome: Outcome,
        rule: &OutlierRule,
        now: Duration,
    ) -> Option<Event> {
        let is_well = outcome == Outcome::Served;
        if is_well {
            server.ramp().begin(self.rules.slow_start, now); // before anyone is let in
        }
        let before = server.gate().replace(Bars::TRIAL, Bars::NONE);
        if !before.meets(Bars::TRIAL) {
            return None; // ended by another worker
        }
        if is_well {
            return Some(Event::Readmitted);
        }
        self.eject(server, Fault::Trial, rule, now)
    }

    /// Has a server rest, unless too many do.
    fn eject(
        &self,
        server: &Server,
        fault: Fault,
        rule: &OutlierRule,
        now: Duration,
    ) -> Option<Event> {
        if server.bars().meets(Bars::EJECTED) {
            return None;
        }
        let most = rule.ejected_max(self.servers().len());
        let below = |count: u32| (count < most).then_some(count + 1);
        if self.ejected.fetch_update(Relaxed, Relaxed, below).is_err() {
            return Some(Event::Spared(fault));
        }
        if server
            .gate()
            .replace(Bars::EJECTED, Bars::EJECTED)
            .meets(Bars::EJECTED)
        {
            self.ejected.fetch_sub(1, Relaxed);
            return None; // another worker was first
        }
        let rest = server.state().record.begin_rest(rule, now);
        Some(Event::Ejected(fault, rest))
    }

    /// Sets what checks say of the server at `index`; returns the standing it has now.
    pub fn set_health(
        &self,
        index: ServerIndex,
        health: Health,
        now: Duration,
    ) -> Option<Standing> {
        let server = self.server(index)?;
        if health == Health::Up && server.bars().meets(Bars::CHECKED) {
            server.ramp().begin(self.rules.slow_start, now); // before anyone is let in
        }
        server.gate().set_health(health);
        self.judge_despair();
        Some(server.standing())
    }

    /// Sets what the server at `index` says it can take, in percent of its weight.
    pub fn set_advice(&self, index: ServerIndex, percent: u8, now: Duration) {
        if let Some(server) = self.server(index) {
            server.ramp().advise(percent, self.rules.slow_start, now);
        }
    }

    /// Sets how much of its weight the operator lets the server at `index` have, in percent.
    pub fn set_portion(&self, index: ServerIndex, percent: u8, now: Duration) {
        if let Some(server) = self.server(index) {
            server.ramp().apportion(percent, self.rules.slow_start, now);
        }
    }

    /// Has time pass. Called a few times a second, by one thread; returns what that changed.
    pub fn tick(&self, now: Duration) -> Vec<Change> {
        let mut changes = Vec::new();
        for (index, server) in (0..).map(ServerIndex).zip(self.servers()) {
            server.ramp().advance(self.rules.slow_start, now);
            if server.bars().meets(Bars::EJECTED) && server.state().record.is_rested(now) {
                server.gate().replace(Bars::EJECTED, Bars::TRIAL);
                self.note_rested();
                changes.push(Change {
                    server: index,
                    event: Event::OnTrial,
                });
            }
        }
        if let Some(rule) = &self.rules.outlier {
            self.judge_intervals(rule, now, &mut changes);
        }
        self.judge_despair();
        changes
    }

    /// Counts one less that rests. It may have been sent to rest by the pool that this one succeeds, which
    /// counted it for itself.
    fn note_rested(&self) {
        let less = |count: u32| count.checked_sub(1);
        let _none = self.ejected.fetch_update(Relaxed, Relaxed, less);
    }

    fn judge_intervals(&self, rule: &OutlierRule, now: Duration, changes: &mut Vec<Change>) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let ends = self.interval_ends.load(Relaxed);
        if millis(now) < ends {
            return;
        }
        self.interval_ends
            .store(millis(now + rule.interval), Relaxed);
        if ends == 0 {
            return; // the first interval begins
        }
        let end = |server: &Server| {
            let is_resting = server.bars().meets(Bars::EJECTED.or(Bars::TRIAL));
            server.state().record.end_interval(is_resting)
        };
        let intervals: Vec<_> = self.servers().iter().map(end).collect();
        for (at, fault) in outlier::judge(rule, &intervals) {
            let index = ServerIndex(u32::try_from(at).unwrap_or(u32::MAX));
            let event = self
                .server(index)
                .and_then(|server| self.eject(server, fault, rule, now));
            changes.extend(event.map(|event| Change {
                server: index,
                event,
            }));
        }
    }

    fn judge_despair(&self) {
        let Some(percent @ 1..) = self.rules.fail_open else {
            return;
        };
        let well = self
            .servers()
            .iter()
            .filter(|server| !server.bars().meets(Bars::ALL))
            .count();
        let is_desperate = well * 100 < self.servers().len() * usize::from(percent);
        self.is_desperate.store(is_desperate, Relaxed);
    }
}
