//! What issuers say of certificates, to be shown beside them: asked of the responder that a certificate
//! names, and again when half of the time of the answer is over. What is answered is not trusted before
//! it is found to be the issuer's; where no answer comes, the last one counts for as long as it may.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::model::{Resolver, Url};
use plimsoll_net::clock;
use plimsoll_proxy::generation::Generation;
use plimsoll_proxy::tls::responder::{NoQuestion, Question};
use plimsoll_proxy::tls::staple::Refused;
use plimsoll_proxy::tls::stapled::Stapled;
use rustls::sign::CertifiedKey;
use tokio::sync::Semaphore;

use crate::fetch::{self, Fetcher};
use crate::watches::{Begun, First, Key, Watches, key};

/// How often it is looked whether it is time to ask, or whether the certificate is another one.
const TICK: Duration = Duration::from_secs(1);

/// How long an answer is kept at least before the next one is asked for.
const PAUSE_MIN: Duration = Duration::from_secs(60);

/// How long to wait after the first attempt that failed, and at most after others.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60 * 60));

/// How many responders are asked at once: a start with many certificates is no flood for their issuer.
const ASKED_MAX: usize = 8;

/// When to ask, since 1970: answers count by the calendar.
#[derive(Debug, Default)]
struct Schedule {
    next: Duration,
    /// How many attempts in a row have failed.
    failures: u32,
}

impl Schedule {
    fn is_due(&self, now: Duration) -> bool {
        self.next <= now
    }

    /// Notes that an answer came that is in force until then, or that none did.
    fn note(&mut self, until: Option<u64>, now: Duration, random: u64) {
        let pause = match until {
            Some(until) => {
                self.failures = 0;
                let left = Duration::from_secs(until).saturating_sub(now);
                fetch::sooner((left / 2).max(PAUSE_MIN), 10, random)
            }
            None => {
                self.failures = self.failures.saturating_add(1);
                fetch::pause(self.failures, RETRY, random)
            }
        };
        self.next = now + pause;
    }
}

/// The certificates of a generation that somebody is asked about, each of which has a task.
pub(crate) fn wanted(generation: &Generation) -> Vec<Key> {
    asked_about(generation).map(key).collect()
}

fn asked_about(generation: &Generation) -> impl Iterator<Item = &Arc<Stapled>> {
    let all = generation.stapled.iter();
    all.filter(|stapled| stapled.is_asked_for())
}

/// Begins to ask about the certificates of a generation that `known` says nothing of; who does that ends with
/// what is returned. Waits for the first answers that clients insist on, but not for long.
pub(crate) async fn start(
    generation: &Generation,
    known: &Watches<Key>,
    settings: &Resolver,
) -> Begun<Key> {
    let mut fetcher = None;
    let turns = Arc::new(Semaphore::new(ASKED_MAX));
    let watch = |stapled: &Arc<Stapled>, first| {
        let fetcher = fetcher.get_or_insert_with(|| Fetcher::new(settings));
        let watch = Watch {
            stapled: Arc::clone(stapled),
            fetcher: fetcher.clone(),
            turns: Arc::clone(&turns),
            pair: None,
            question: None,
            schedule: Schedule::default(),
            told: None,
        };
        watch.run(stapled.is_insisted_on().then_some(first))
    };
    known.start(asked_about(generation), watch).await
}

/// Who asks about one certificate.
struct Watch {
    stapled: Arc<Stapled>,
    fetcher: Fetcher,
    turns: Arc<Semaphore>,
    /// The certificate as it was at the last look, and what is to be asked about it.
    pair: Option<Arc<CertifiedKey>>,
    question: Option<Question>,
    schedule: Schedule,
    /// What people were told is wrong, and whether an earlier answer counted then.
    told: Option<(String, bool)>,
}

/// What is known of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Revoked,
    Unknown,
}

impl Watch {
    /// Runs for ever; lets go of `first` when the first attempt is over.
    async fn run(mut self, first: Option<First>) {
        let stapled = &*Arc::clone(&self.stapled);
        self.tick(stapled).await;
        drop(first);
        loop {
            tokio::time::sleep(TICK).await;
            self.tick(stapled).await;
        }
    }

    async fn tick(&mut self, stapled: &Stapled) {
        self.look(stapled);
        if self.schedule.is_due(clock::unix_time())
            && let Some(question) = self.question.take()
        {
            self.ask(stapled, &question).await;
            self.question = Some(question);
        }
    }

    /// Finds out what is to be asked, if the certificate is another one than before.
    fn look(&mut self, stapled: &Stapled) {
        let pair = stapled.pair();
        if self.pair.as_ref().map(Arc::as_ptr) == pair.as_ref().map(Arc::as_ptr) {
            return;
        }
        self.schedule = Schedule::default();
        self.told = None;
        self.question = None;
        match pair.as_ref().map(|pair| Question::about(&pair.cert)) {
            Some(Ok(question)) => self.question = Some(question),
            Some(Err(why @ NoQuestion::NoIssuer)) => {
                self.complain(stapled, why.to_string(), Standing::Unknown);
            }
            Some(Err(NoQuestion::NoResponder)) | None => {}
        }
        self.pair = pair;
    }

    async fn ask(&mut self, stapled: &Stapled, question: &Question) {
        let answered = self.fetch(question).await;
        let now = clock::unix_time();
        let judged = answered.map(|der| stapled.take(question, der, now.as_secs()));
        let until = judged.as_ref().ok().and_then(|taken| taken.ok());
        let random = getrandom::u64().unwrap_or_default();
        self.schedule.note(until, now, random);
        stapled.material.note(until.is_some());
        match judged {
            Ok(Ok(_)) => {
                if self.told.take().is_some() {
                    let certificate = &*stapled.material.path;
                    tracing::info!(certificate, "a responder answers again");
                }
            }
            Ok(Err(refused)) => {
                let standing = match refused {
                    Refused::Revoked => Standing::Revoked,
                    _ => Standing::Unknown,
                };
                self.complain(stapled, refused.to_string(), standing);
            }
            Err(problem) => self.complain(stapled, fetch::bounded(problem), Standing::Unknown),
        }
    }

    async fn fetch(&self, question: &Question) -> Result<Vec<u8>, String> {
        let url = Url::new(&question.url);
        let url = url.ok_or_else(|| format!("it names `{}`, which is not asked", question.url))?;
        let _turn = self
            .turns
            .acquire()
            .await
            .map_err(|error| error.to_string())?;
        let request = question.request.clone();
        let answered = self.fetcher.post(&url, "application/ocsp-request", request);
        let answered = answered.await;
        answered.map_err(|why| format!("cannot ask `{}`: {why}", url.text))
    }

    /// Says once what is wrong, and once more when the last answer does not count any more.
    fn complain(&mut self, stapled: &Stapled, problem: String, standing: Standing) {
        let has_staple = stapled.has_staple(clock::unix_time().as_secs());
        let told = Some((problem, has_staple));
        if self.told == told {
            return;
        }
        let problem = told.as_ref().map(|(problem, _)| problem);
        let certificate = &*stapled.material.path;
        if has_staple {
            let then = "what the issuer said last is shown for as long as it may be";
            tracing::warn!(certificate, problem, "{then}");
        } else if standing == Standing::Revoked || stapled.is_insisted_on() {
            let then = "a certificate is shown without what its issuer says; clients may refuse it";
            tracing::error!(certificate, problem, "{then}");
        } else {
            let then = "a certificate is shown without what its issuer says";
            tracing::warn!(certificate, problem, "{then}");
        }
        self.told = told;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_answer_is_asked_for_at_half_of_the_time_and_ever_more_rarely_when_none_comes() {
        let mut schedule = Schedule::default();
        let now = Duration::from_secs(1_000_000);
        assert!(schedule.is_due(now));
        let mut pause = |until: Option<u64>, random| {
            schedule.note(until.map(|left| now.as_secs() + left), now, random);
            assert!(!schedule.is_due(schedule.next - Duration::from_nanos(1)));
            assert!(schedule.is_due(schedule.next));
            (schedule.next - now).as_secs()
        };
        assert_eq!(pause(Some(7000), 0), 3500);
        assert_eq!(pause(Some(7000), 1000), 3150);
        // One whose time is nearly over is not asked for without end.
        assert_eq!(pause(Some(1), 0), 60);
        let pauses: Vec<u64> = (0..14).map(|_| pause(None, 0)).collect();
        let due = [
            1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600,
        ];
        assert_eq!(pauses, due);
        assert_eq!(pause(Some(7000), 0), 3500);
        assert_eq!(pause(None, 0), 1);
    }
}
