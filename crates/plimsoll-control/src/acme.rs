//! Certificates for sites with `tls auto`: asked for before they are needed, and kept. What is kept is a
//! file like any other that rules read, so whoever serves clients sees only that it has changed.

mod account;
mod certificate;
mod challenge;
mod dns;
mod dns_update;
mod http;
mod name_servers;
mod order;
mod schedule;
mod storage;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use instant_acme::Account;
use plimsoll_config::model::{Acme, Config, Issuer, KeyPair, Url};
use plimsoll_net::clock;
use plimsoll_proxy::acme::Challenges;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::fetch::Fetcher;
use crate::launch::Running;
use crate::watches::Watches;
use account::Us;
use certificate::Kept;
use challenge::Answers;
use dns_update::Updaters;
use http::Client;
use order::Failed;
use schedule::{Span, Way};
use storage::Storage;

/// How often is looked whether something has changed that nobody told: the clock, or what another
/// process keeps.
const LOOK: Duration = Duration::from_secs(60 * 60);

/// How often an issuer is asked at least when it wants a certificate to be renewed.
const WINDOW: Duration = Duration::from_secs(6 * 60 * 60);

/// How many certificates are asked for at a time.
const AT_ONCE: usize = 4;

/// How much is told of a problem.
const PROBLEM_CHARS_MAX: usize = 600;

/// How orders went.
#[derive(Debug, Default)]
pub struct Orders {
    /// Those that brought a certificate.
    pub issued: AtomicU64,
    /// Those that did not.
    pub failed: AtomicU64,
    /// Those at directories for trials, however they went.
    pub trials: AtomicU64,
}

/// The certificates that a configuration has asked for, each once.
pub fn asked(config: &Config) -> Vec<&KeyPair> {
    let sites = config.sites.iter().flat_map(|site| &site.tls);
    let all = sites.chain(config.tcp.iter().flat_map(|service| &service.tls));
    let mut asked: Vec<&KeyPair> = all.filter(|pair| !pair.names.is_empty()).collect();
    asked.sort_unstable();
    asked.dedup();
    asked
}

/// A certificate, and how it is asked for.
pub(crate) type Asked = (KeyPair, String);

/// Begins to look after all certificates that the configuration asks for, and nobody looks after yet.
pub(crate) fn change(watches: &mut Watches<Asked>, running: &Running) {
    let config = &running.generation.config;
    let Some(acme) = config.acme.clone().map(Arc::new) else {
        return watches.change(&[], []);
    };
    let how = format!("{acme:?} {:?}", config.resolver);
    let pairs = asked(config).into_iter();
    let wanted: Vec<Asked> = pairs.map(|pair| (pair.clone(), how.clone())).collect();
    let missing = watches.missing(&wanted).into_iter().cloned();
    let missing: Vec<Asked> = missing.collect();
    let mut new = Vec::new();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let fetcher = Fetcher::new(&config.resolver);
    for key in missing {
        let pair = &key.0;
        let watch = Watch {
            pair: pair.clone(),
            acme: Arc::clone(&acme),
            storage: Storage::new(&acme.storage),
            fetcher: fetcher.clone(),
            challenges: Arc::clone(&running.generation.challenges),
            orders: Arc::clone(&running.orders),
            turns: Arc::clone(&turns),
            failures: 0,
            random: getrandom::u64().unwrap_or_default(),
            window: None,
        };
        let mut task = JoinSet::new();
        task.spawn(watch.run());
        new.push((key, task));
    }
    watches.change(&wanted, new);
}

/// Who looks after one certificate.
struct Watch {
    pair: KeyPair,
    acme: Arc<Acme>,
    storage: Storage,
    fetcher: Fetcher,
    challenges: Arc<Challenges>,
    orders: Arc<Orders>,
    turns: Arc<Semaphore>,
    /// How many attempts in a row have failed.
    failures: u32,
    /// Drawn once for each certificate, so that its time does not change at each look.
    random: u64,
    window: Option<Window>,
}

/// What an issuer has said of when a certificate is to be renewed.
struct Window {
    /// Of which.
    id: (Vec<u8>, Vec<u8>),
    span: Option<Span>,
    /// When to ask again, in seconds since 1970.
    again: u64,
}

/// Why an attempt has failed, and how long the issuers want to be left alone.
#[derive(Default)]
struct Failures {
    problems: Vec<String>,
    wished: Option<Duration>,
}

impl Watch {
    async fn run(mut self) {
        if self.kept().is_none() {
            let names = self.names();
            tracing::warn!(
                names,
                "there is no certificate yet; until there is one, clients are refused"
            );
        }
        loop {
            let kept = self.kept();
            self.ask_for_window(kept.as_ref()).await;
            let left = self.due(kept.as_ref()).saturating_sub(now());
            if left > 0 {
                tokio::time::sleep(LOOK.min(Duration::from_secs(left))).await;
                continue;
            }
            let turns = Arc::clone(&self.turns);
            // Nobody closes them.
            let Ok(turn) = turns.acquire().await else {
                return;
            };
            let attempt = self.attempt().await;
            drop(turn);
            let pause = self.note(attempt);
            tokio::time::sleep(pause).await;
        }
    }

    fn names(&self) -> String {
        self.pair.names.join(" ")
    }

    /// What is kept, if it can be used.
    fn kept(&self) -> Option<Kept> {
        let path = Path::new(&*self.pair.certificate);
        let read = storage::read(path).and_then(|text| text.map(|t| Kept::read(&t)).transpose());
        let since = storage::since(path);
        let read = read.map(|kept| kept.map(|kept| kept.since(since)));
        read.unwrap_or_else(|problem| {
            tracing::warn!(path = %path.display(), problem, "a certificate that is kept cannot be used");
            None
        })
    }

    /// When the next certificate is to be asked for, in seconds since 1970.
    fn due(&self, kept: Option<&Kept>) -> u64 {
        let covered = kept.filter(|kept| schedule::covers(&kept.names, &self.pair.names));
        covered.map_or(0, |kept| {
            let window = self.window.as_ref();
            let window = window.filter(|window| Some(&window.id) == kept.id.as_ref());
            let wished = window.and_then(|window| window.span);
            schedule::renewal(kept.holds, wished, self.random)
        })
    }

    /// Asks the issuer of what is kept when it wants that to be renewed (RFC 9773), if it is time to ask.
    async fn ask_for_window(&mut self, kept: Option<&Kept>) {
        let Some((kept, id)) = kept.and_then(|kept| Some((kept, kept.id.clone()?))) else {
            return;
        };
        let known = self.window.as_ref().filter(|window| window.id == id);
        if known.is_some_and(|window| now() < window.again) {
            return;
        }
        let span = known.and_then(|window| window.span);
        let asked = self.window_of(kept, &id).await;
        let (span, after) = match asked {
            Ok((span, after)) => (Some(span), after),
            Err(problem) => {
                tracing::debug!(problem, "the issuer does not say when to renew");
                (span, WINDOW)
            }
        };
        let after = after.clamp(LOOK, WINDOW * 4);
        self.window = Some(Window {
            id,
            span,
            again: now() + after.as_secs(),
        });
    }

    async fn window_of(
        &self,
        kept: &Kept,
        id: &(Vec<u8>, Vec<u8>),
    ) -> Result<(Span, Duration), String> {
        let mut issuers = self.acme.issuers.iter();
        let from = kept.issuer.as_deref().unwrap_or_default();
        let issuer = issuers.find(|issuer| *issuer.directory.text == *from);
        let issuer = issuer.ok_or("it is from an issuer that is not asked any more")?;
        let client = Client::new(&self.fetcher, issuer.ca.as_deref());
        let account = self.us(issuer).account(&self.storage, &client).await?;
        let asked = account.renewal_info(&order::identifier(id)).await;
        let (info, after) = asked.map_err(account::explain)?;
        let seconds = |seconds: i64| u64::try_from(seconds).unwrap_or_default();
        let window = info.suggested_window;
        let span = Span {
            from: seconds(window.start.unix_timestamp()),
            until: seconds(window.end.unix_timestamp()),
        };
        Ok((span, after))
    }

    fn us<'a>(&'a self, issuer: &'a Issuer) -> Us<'a> {
        Us {
            directory: &issuer.directory,
            email: self.acme.email.as_deref(),
            elsewhere: issuer.account.as_ref(),
        }
    }

    /// Notes how an attempt has ended; returns how long to wait at least before the next.
    fn note(&mut self, attempt: Result<(), Failures>) -> Duration {
        let Err(failures) = attempt else {
            self.failures = 0;
            return self.acme.retry;
        };
        self.failures = self.failures.saturating_add(1);
        let random = getrandom::u64().unwrap_or_default();
        let pause = schedule::pause(self.acme.retry, self.failures, failures.wished, random);
        let problem = failures.problems.join("; ");
        tracing::error!(
            names = self.names(),
            problem,
            again_in = ?pause,
            "there is no new certificate"
        );
        pause
    }

    /// Asks each issuer until one of them has certified the names.
    async fn attempt(&mut self) -> Result<(), Failures> {
        let of_ours = |problem: String| Failures {
            problems: vec![problem],
            wished: None,
        };
        self.storage.prepare().map_err(of_ours)?;
        let path = Path::new(&*self.pair.certificate);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let _lock = self.storage.lock(&name).await.map_err(of_ours)?;
        // Another process may have been faster.
        let kept = self.kept();
        if self.due(kept.as_ref()) > now() {
            tracing::info!(names = self.names(), "another process has the certificate");
            return Ok(());
        }
        let mut failures = Failures::default();
        let acme = Arc::clone(&self.acme);
        for issuer in &acme.issuers {
            match self.ask(issuer, kept.as_ref(), &mut failures.wished).await {
                Ok(text) => {
                    storage::write(path, &text).map_err(of_ours)?;
                    self.random = getrandom::u64().unwrap_or_default();
                    self.orders.issued.fetch_add(1, Relaxed);
                    let issuer = &*issuer.directory.text;
                    tracing::info!(names = self.names(), issuer, "there is a new certificate");
                    return Ok(());
                }
                Err(problem) => {
                    self.orders.failed.fetch_add(1, Relaxed);
                    let issuer = &*issuer.directory.text;
                    tracing::warn!(names = self.names(), issuer, problem, "an order has failed");
                    failures.problems.push(format!("{issuer}: {problem}"));
                }
            }
        }
        Err(failures)
    }

    /// Asks one issuer; returns what is to be kept.
    async fn ask(
        &self,
        issuer: &Issuer,
        kept: Option<&Kept>,
        wished: &mut Option<Duration>,
    ) -> Result<String, String> {
        if let (Way::AfterTrial, Some(staging)) = (
            schedule::way(self.failures, issuer.staging.is_some()),
            &issuer.staging,
        ) {
            self.orders.trials.fetch_add(1, Relaxed);
            let trial = Issuer {
                directory: staging.clone(),
                staging: None,
                account: None,
                ..issuer.clone()
            };
            let tried = self.order(&trial, None, wished).await;
            tried.map_err(|problem| format!("in a trial: {problem}"))?;
        }
        let from = |kept: &&Kept| kept.issuer.as_deref() == Some(&issuer.directory.text);
        let before = kept.filter(from).and_then(|kept| kept.id.as_ref());
        // Whoever says when to renew also wants to know what is renewed.
        let window = self.window.as_ref().filter(|window| window.span.is_some());
        let before = before.filter(|id| window.is_some_and(|window| window.id == **id));
        self.order(issuer, before, wished).await
    }

    async fn order(
        &self,
        issuer: &Issuer,
        before: Option<&(Vec<u8>, Vec<u8>)>,
        wished: &mut Option<Duration>,
    ) -> Result<String, String> {
        let client = Client::new(&self.fetcher, issuer.ca.as_deref());
        let ordered = self.order_with(issuer, before, &client).await;
        *wished = (*wished).max(client.wished());
        let text = ordered.map_err(bounded)?;
        let got = Kept::read(&text)?;
        match schedule::covers(&got.names, &self.pair.names) {
            true if got.holds.until > now() => Ok(text),
            true => Err("the certificate has expired already".to_owned()),
            false => Err("the certificate is not for all names".to_owned()),
        }
    }

    async fn order_with(
        &self,
        issuer: &Issuer,
        before: Option<&(Vec<u8>, Vec<u8>)>,
        client: &Client,
    ) -> Result<String, String> {
        let us = self.us(issuer);
        let mut account = us.account(&self.storage, client).await?;
        let mut ordered = self.certify(&account, before).await;
        if let Err(Failed::NoAccount) = ordered {
            tracing::warn!(
                issuer = &*issuer.directory.text,
                "our account is not known any more"
            );
            us.leave(&self.storage);
            account = us.account(&self.storage, client).await?;
            ordered = self.certify(&account, before).await;
        }
        if let Err(Failed::Replaced) = ordered {
            ordered = self.certify(&account, None).await;
        }
        ordered.map_err(|failed| failed.to_string()).map(|made| {
            let Url { text, .. } = &issuer.directory;
            certificate::text(text, &made.key, &made.chain)
        })
    }

    async fn certify(
        &self,
        account: &Account,
        before: Option<&(Vec<u8>, Vec<u8>)>,
    ) -> Result<order::Certified, Failed> {
        let updaters = Updaters::new(&self.acme.dns_updates)?;
        let fetcher = self.fetcher.clone();
        let mut answers = Answers::new(self.acme.challenge, &self.challenges, updaters, fetcher);
        order::certify(account, &self.pair.names, before, &mut answers).await
    }
}

/// What an issuer says may be long.
fn bounded(problem: String) -> String {
    problem.chars().take(PROBLEM_CHARS_MAX).collect()
}

/// Seconds since 1970.
fn now() -> u64 {
    clock::unix_time().as_secs()
}
