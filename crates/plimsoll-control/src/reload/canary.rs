//! A reload that takes a part of the connections first, and goes back by itself when it does worse there.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_balance::canary::{self, Seen, Share, Verdict};
use plimsoll_config::model::Config;
use plimsoll_net::clock;
use plimsoll_observe::histogram::BOUNDS_US;
use plimsoll_observe::outcomes::Tally;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{Refused, Reloaded, Reloader, Trial, explained, refused};
use crate::difference;
use crate::engine::canary::Tried;

/// How often it is looked at how it goes.
const TICK: Duration = Duration::from_millis(500);

/// The longest time that it may take: names of new servers are looked up once until then.
const SECONDS_MAX: u64 = 60 * 60;

/// What answers within this time is never slow, in microseconds.
const SWIFT_US: u64 = 5_000;

/// How much of what comes another configuration gets, and for how long, before it gets all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// In percent of the connections, 1 to 99.
    pub percent: u8,
    /// For how many seconds.
    #[serde(default = "Canary::usual")]
    pub seconds: u64,
}

impl Canary {
    /// For how many seconds, when nobody says otherwise.
    pub const fn usual() -> u64 {
        60
    }

    fn share(self) -> Result<Share, Refused> {
        let share = Share::new(self.percent);
        let share = share.filter(|_| (1..=SECONDS_MAX).contains(&self.seconds));
        let why = format!("a canary takes 1% to 99% for 1 to {SECONDS_MAX} seconds");
        share.ok_or_else(|| refused(&why))
    }
}

/// What became of a configuration that had a part of the connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decided {
    /// Whether it has all of them now, or none any more.
    pub takes_all: bool,
    /// Why.
    pub why: String,
    /// How it went there.
    pub new: Outcome,
    /// How it went in the same time under the configuration from before.
    pub before: Outcome,
}

/// What came of connections.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// New ones.
    pub connections: u64,
    /// Requests, and connections that were relayed.
    pub requests: u64,
    /// Of these, those that a server failed, or that there was none for.
    pub failed: u64,
    /// How long half of them took at most, in seconds; nothing when there were none.
    pub p50: Option<f64>,
    /// How long 99 of 100 took at most.
    pub p99: Option<f64>,
}

impl From<&Tally> for Outcome {
    fn from(tally: &Tally) -> Self {
        Self {
            connections: tally.connections,
            requests: seen(tally).exchanges(),
            failed: tally.failed,
            p50: tally.durations.quantile(0.5),
            p99: tally.durations.quantile(0.99),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            connections,
            requests,
            failed,
            ..
        } = self;
        write!(
            f,
            "{connections} connections, {requests} requests, {failed} failed"
        )?;
        if let (Some(half), Some(most)) = (self.p50, self.p99) {
            let (half, most) = (half * 1e3, most * 1e3);
            write!(f, ", p50 {half:.1} ms, p99 {most:.1} ms")?;
        }
        Ok(())
    }
}

/// Who waits for the decision, and what is told then.
#[derive(Debug)]
pub(super) struct Waiting {
    done: oneshot::Sender<Result<Reloaded, Refused>>,
    reloaded: Reloaded,
}

/// Why it is decided.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    Judged(Verdict),
    Confirmed,
    TakenBack,
}

impl Why {
    fn takes_all(self) -> bool {
        matches!(
            self,
            Self::Confirmed | Self::Judged(Verdict::Fit | Verdict::Unknown)
        )
    }
}

impl Reloader {
    /// Serves a part of what comes as the file says now, for a while, and then all of it, unless it does worse.
    ///
    /// # Errors
    /// Why it is not begun; then nothing has changed.
    pub(super) async fn reload_part(self: &Arc<Self>, canary: Canary) -> Result<Reloaded, Refused> {
        let decided = {
            let mut trial = self.trial.lock().await;
            let before = Arc::clone(&self.engine.now().generation.config);
            let begun = match &*trial {
                Some(_) => Err(refused(super::ON_TRIAL)),
                None => self.begin(&before, canary).await,
            };
            if let Err(why) = &begun {
                self.note(&Err(why.clone()));
            }
            let reloaded = begun?;
            let (done, decided) = oneshot::channel();
            let number = reloaded.generation;
            *trial = Some(Trial {
                number,
                before,
                undo: None,
                part: Some(Waiting { done, reloaded }),
            });
            tokio::spawn(Arc::clone(self).watch(number));
            decided
        };
        let ended = |_| Err(refused("the process is about to end"));
        decided.await.unwrap_or_else(ended)
    }

    async fn begin(&self, before: &Config, canary: Canary) -> Result<Reloaded, Refused> {
        let share = canary.share()?;
        let time = Duration::from_secs(canary.seconds);
        let (config, warnings) = self.read().await?;
        let tried = self.engine.try_part(&config, share, time).await;
        let generation = tried.map_err(explained)?.running.generation.number;
        let Canary { percent, seconds } = canary;
        tracing::info!(
            generation,
            percent,
            seconds,
            "a part of the connections is served under another configuration"
        );
        Ok(Reloaded {
            generation,
            differences: difference::between(before, &config),
            warnings,
            canary: None,
        })
    }

    /// Looks how it goes under generation `number`, until it is decided.
    async fn watch(self: Arc<Self>, number: u64) {
        loop {
            tokio::time::sleep(TICK).await;
            let mut trial = self.trial.lock().await;
            let (Some(_), Some(tried)) = (
                trial.as_ref().filter(|trial| trial.number == number),
                self.engine.tried(),
            ) else {
                return;
            };
            let Some(why) = self.judge(&tried, clock::now()) else {
                continue;
            };
            if let Some(Trial {
                part: Some(part), ..
            }) = trial.take()
            {
                let _told = self.decide(part, why).await; // by the log
            }
            return;
        }
    }

    /// Judges what is tried; nothing when that has time.
    fn judge(&self, tried: &Tried, now: Instant) -> Option<Why> {
        let (before, new) = tried.outcomes(&self.engine.now());
        let verdict = canary::judge(seen(&before), seen(&new), &BOUNDS_US, SWIFT_US);
        let is_urgent = matches!(verdict, Verdict::Fails | Verdict::Slow(_));
        (is_urgent || tried.until <= now).then_some(Why::Judged(verdict))
    }

    /// Serves all under what is tried, or nothing any more, and tells those who wait for that.
    pub(super) async fn decide(&self, part: Waiting, why: Why) -> Result<Reloaded, Refused> {
        let Waiting { done, reloaded } = part;
        let outcome = match self.carry_out(why).await {
            Ok(decided) => {
                self.tell(reloaded.generation, &decided);
                Ok(Reloaded {
                    generation: self.engine.now().generation.number,
                    canary: Some(decided),
                    ..reloaded
                })
            }
            Err(why) => {
                self.note(&Err(why.clone()));
                Err(why)
            }
        };
        let _ = done.send(outcome.clone()); // whoever waited may have gone
        outcome
    }

    async fn carry_out(&self, why: Why) -> Result<Decided, Refused> {
        let tried = self.engine.tried();
        let tried = tried.ok_or_else(|| refused(super::NO_TRIAL))?;
        let (before, new) = tried.outcomes(&self.engine.now());
        let takes_all = why.takes_all();
        if takes_all {
            if let Err(refusal) = self.engine.take_all().await {
                self.engine.take_back().await;
                return Err(explained(refusal));
            }
        } else {
            self.engine.take_back().await;
        }
        Ok(Decided {
            takes_all,
            why: explain(why, &before, &new),
            new: Outcome::from(&new),
            before: Outcome::from(&before),
        })
    }

    fn tell(&self, generation: u64, decided: &Decided) {
        self.count(decided.takes_all);
        let Decided {
            why, new, before, ..
        } = decided;
        match decided.takes_all {
            true => tracing::info!(
                generation, why, %new, %before,
                "all connections are served under the other configuration"
            ),
            false => tracing::error!(
                generation, why, %new, %before,
                "no connection is served under the other configuration any more"
            ),
        }
    }
}

fn seen(tally: &Tally) -> Seen<'_> {
    Seen {
        connections: tally.connections,
        failed: tally.failed,
        by_duration: tally.durations.all(),
    }
}

fn explain(why: Why, before: &Tally, new: &Tally) -> String {
    let (all, all_before) = (seen(new).exchanges(), seen(before).exchanges());
    match why {
        Why::Confirmed => "it was confirmed".to_owned(),
        Why::TakenBack => "it was taken back".to_owned(),
        Why::Judged(Verdict::Fit) => "it does no worse".to_owned(),
        Why::Judged(Verdict::Unknown) => "too few requests came to judge it".to_owned(),
        Why::Judged(Verdict::Silent) => format!(
            "{} clients connected, and nothing came of it",
            new.connections
        ),
        Why::Judged(Verdict::Fails) => format!(
            "more requests fail: {} of {all}, and in the same time {} of {all_before} under the configuration before",
            new.failed, before.failed
        ),
        Why::Judged(Verdict::Slow(bound)) => {
            let bounds = BOUNDS_US.get(bound).zip(BOUNDS_US.get(bound + 1));
            let (early, late) = bounds.map_or((0, 0), |(early, late)| (early / 1000, late / 1000));
            let (slow, slow_before) = (
                seen(new).longer_than(bound + 1),
                seen(before).longer_than(bound),
            );
            format!(
                "requests take longer: {slow} of {all} more than {late} ms, and in the same time {slow_before} of {all_before} \
                 more than {early} ms under the configuration before"
            )
        }
    }
}
