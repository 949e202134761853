//! What sessions of TLS share over all workers and generations: keys of tickets, and how many there
//! were.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::{ArcSwapOption, Guard};
use plimsoll_net::clock;
use rustls::server::ProducesTickets;
use rustls::{HandshakeKind, KeyLog, NoKeyLog, ProtocolVersion, ServerConnection};

use super::tickets::{self, Binding, Key, Keys, LIFETIME};

/// What one process has, and hands from one generation to the next.
#[derive(Debug, Default)]
pub struct Sessions {
    /// Keys of our own; nothing before the first ticket.
    keys: ArcSwapOption<Keys>,
    /// Where secrets of sessions go, for who looks into what was recorded of them.
    key_log: Option<Arc<dyn KeyLog>>,
    /// How many handshakes came to their end: of TLS 1.2 and 1.3, whole ones and others.
    handshakes: [AtomicU64; 4],
}

/// The labels of what is counted, in its order.
const KINDS: [(&str, bool); 4] = [("1.2", false), ("1.2", true), ("1.3", false), ("1.3", true)];

impl Sessions {
    /// Those whose secrets go there.
    pub fn with_key_log(key_log: Option<Arc<dyn KeyLog>>) -> Self {
        Self {
            key_log,
            ..Self::default()
        }
    }

    /// Where secrets of sessions go.
    pub(crate) fn key_log(&self) -> Arc<dyn KeyLog> {
        let known = self.key_log.as_ref().map(Arc::clone);
        known.unwrap_or_else(|| Arc::new(NoKeyLog))
    }

    /// How many handshakes there were, with the version and whether a session went on.
    pub fn handshakes(&self) -> impl Iterator<Item = (&'static str, bool, u64)> {
        let counts = KINDS.iter().zip(&self.handshakes);
        counts.map(|(&(version, resumed), count)| (version, resumed, count.load(Relaxed)))
    }

    /// Counts a handshake that has come to its end.
    pub(crate) fn count(&self, connection: &ServerConnection) {
        let is_new = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let at = 2 * usize::from(is_new) + usize::from(is_resumed);
        if let Some(count) = self.handshakes.get(at) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// The keys that hold now; nothing where there is no randomness.
    fn keys(&self, now: u64) -> Option<Guard<Option<Arc<Keys>>>> {
        let known = self.keys.load();
        if known.as_ref().is_some_and(|keys| !keys.is_due(now)) {
            return Some(known);
        }
        let random = random()?;
        let next = match &*known {
            Some(keys) => keys.turned(now, &random)?,
            None => Keys::new(now, &random)?,
        };
        // Of several that do this at once, one succeeds.
        self.keys.compare_and_swap(&known, Some(Arc::new(next)));
        Some(self.keys.load())
    }
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(bytes)
}

/// Where keys of tickets come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// There are no tickets.
    Off,
    Own(Arc<Sessions>),
    /// Files: the first makes tickets.
    Files(Vec<Arc<ArcSwapOption<Key>>>),
}

/// Makes and reads the tickets of one connection.
pub(crate) struct Ticketer {
    source: Source,
    binding: Binding,
    /// When its session began, once that is known.
    began: AtomicU64,
}

impl Ticketer {
    pub(crate) fn new(source: Source, binding: Binding) -> Self {
        Self {
            source,
            binding,
            began: AtomicU64::new(u64::MAX),
        }
    }

    /// When the session began: now, unless a ticket said so.
    fn began(&self, now: u64) -> u64 {
        match self.began.load(Relaxed) {
            u64::MAX => now,
            began => began,
        }
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticketer")
    }
}

fn now() -> u64 {
    clock::unix_time().as_secs()
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        !matches!(self.source, Source::Off)
    }

    fn lifetime(&self) -> u32 {
        let now = now();
        let left = LIFETIME.saturating_sub(now.saturating_sub(self.began(now)));
        u32::try_from(left.max(1)).unwrap_or(u32::MAX) // 0 would mean that it is up to the client
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let now = now();
        let (nonce, began) = (random()?, self.began(now));
        match &self.source {
            Source::Off => None,
            Source::Own(sessions) => {
                let keys = sessions.keys(now)?;
                let key = keys.as_ref()?.all().next()?;
                key.seal(&self.binding, nonce, began, plain)
            }
            Source::Files(files) => {
                let key = files.first()?.load();
                key.as_ref()?.seal(&self.binding, nonce, began, plain)
            }
        }
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let now = now();
        let (began, plain) = match &self.source {
            Source::Off => None,
            Source::Own(sessions) => {
                let keys = sessions.keys(now)?;
                tickets::open(keys.as_ref()?.all(), &self.binding, now, cipher)
            }
            Source::Files(files) => {
                let files: Vec<_> = files.iter().map(|file| file.load()).collect();
                let keys = files.iter().filter_map(|key| key.as_deref());
                tickets::open(keys, &self.binding, now, cipher)
            }
        }?;
        self.began.store(began, Relaxed);
        Some(plain)
    }
}
