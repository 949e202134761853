//! Tickets, with which clients come back without a whole handshake (RFC 5077, RFC 8446 §4.6.1).
//!
//! A ticket is bound to what the session was begun under: the site, and which certificates its clients
//! show. Under anything else its key is another one, so it cannot be read, and the client makes a
//! whole handshake. A ticket also says when its session began, and one that carries the session on
//! says the same: a session ends, however often it goes on.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};

/// How long after the handshake that began it a session may go on, in seconds.
pub(crate) const LIFETIME: u64 = 12 * 60 * 60;

/// How long one key makes tickets, in seconds. Together with the two before it, it reads all that live.
pub(crate) const TURN: u64 = 6 * 60 * 60;

const NAME_LEN: usize = 16;
const NONCE_LEN: usize = 12;
const BEGAN_LEN: usize = 8;

/// What a ticket is bound to.
pub(crate) type Binding = [u8; 32];

/// A secret that keys of tickets come from.
pub(crate) struct Key {
    secret: Prk,
    /// Tells in a ticket which key it is under.
    name: [u8; NAME_LEN],
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub(crate) fn new(random: &[u8]) -> Option<Self> {
        let secret = Salt::new(HKDF_SHA256, b"plimsoll tickets 1").extract(random);
        let mut name = [0; NAME_LEN];
        let okm = secret.expand(&[b"name"], Length(NAME_LEN)).ok()?;
        okm.fill(&mut name).ok()?;
        Some(Self { secret, name })
    }

    /// Reads a key from a file.
    ///
    /// # Errors
    /// Why it cannot be used, for people.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        if !matches!(bytes.len(), 48 | 80) {
            let length = bytes.len();
            return Err(format!(
                "it holds {length} bytes, and a key for tickets has 48 or 80"
            ));
        }
        let first = bytes.first();
        if bytes.iter().all(|byte| Some(byte) == first) {
            return Err("all its bytes are the same: make it with `openssl rand 80`".to_owned());
        }
        Self::new(bytes).ok_or_else(|| "no key can be made of it".to_owned())
    }

    fn cipher(&self, binding: &Binding) -> Option<LessSafeKey> {
        let info: [&[u8]; 2] = [b"ticket", binding];
        let okm = self.secret.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(okm)))
    }

    /// Makes the ticket of a session that began at `began`.
    pub(crate) fn seal(
        &self,
        binding: &Binding,
        nonce: [u8; NONCE_LEN],
        began: u64,
        session: &[u8],
    ) -> Option<Vec<u8>> {
        let cipher = self.cipher(binding)?;
        let mut sealed = began.to_be_bytes().to_vec();
        sealed.extend_from_slice(session);
        let sealed_with = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from(self.name);
        cipher
            .seal_in_place_append_tag(sealed_with, aad, &mut sealed)
            .ok()?;
        let mut ticket = Vec::with_capacity(NAME_LEN + NONCE_LEN + sealed.len());
        ticket.extend_from_slice(&self.name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }
}

/// Length of what is derived.
struct Length(usize);

impl aws_lc_rs::hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Reads a ticket: when its session began, and the session. Nothing when it is under no key of these,
/// bound to something else, or of a session that has ended.
pub(crate) fn open<'a>(
    mut keys: impl Iterator<Item = &'a Key>,
    binding: &Binding,
    now: u64,
    ticket: &[u8],
) -> Option<(u64, Vec<u8>)> {
    let (name, rest) = ticket.split_first_chunk::<NAME_LEN>()?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
    let key = keys.find(|key| key.name == *name)?;
    let mut sealed = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let cipher = key.cipher(binding)?;
    let opened = cipher
        .open_in_place(nonce, Aad::from(*name), &mut sealed)
        .ok()?;
    let (began, session) = opened.split_first_chunk::<BEGAN_LEN>()?;
    let began = u64::from_be_bytes(*began);
    // Nodes that share keys need not agree on the second.
    let age = now.saturating_sub(began);
    (age < LIFETIME).then(|| (began, session.to_vec()))
}

/// Keys of our own: the one that makes tickets first, then those that did before.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    keys: Vec<Arc<Key>>,
    /// When the first came.
    since: u64,
}

impl Keys {
    /// Those that a process begins with.
    pub(crate) fn new(now: u64, random: &[u8; 32]) -> Option<Self> {
        let key = Arc::new(Key::new(random)?);
        let (keys, since) = (vec![key], now);
        Some(Self { keys, since })
    }

    /// Tells whether the first has made tickets for long enough.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        now.saturating_sub(self.since) >= TURN
    }

    /// The keys with a new one in front; those that made no ticket that still lives are gone.
    pub(crate) fn turned(&self, now: u64, random: &[u8; 32]) -> Option<Self> {
        let mut next = Self::new(now, random)?;
        let kept = match now.saturating_sub(self.since) {
            pause if pause >= TURN + LIFETIME => 0,
            _ => 2,
        };
        next.keys
            .extend(self.keys.iter().take(kept).map(Arc::clone));
        Some(next)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().map(Arc::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: Binding = [7; 32];

    fn ticket(key: &Key, began: u64) -> Vec<u8> {
        key.seal(&SITE, [1; NONCE_LEN], began, b"session").unwrap()
    }

    #[test]
    fn a_ticket_is_read_under_its_key_and_what_it_is_bound_to_alone() {
        let (key, other) = (Key::new(&[1; 32]).unwrap(), Key::new(&[2; 32]).unwrap());
        let sealed = ticket(&key, 100);
        assert!(!sealed.windows(7).any(|part| part == b"session"));
        let read = |keys: &[&Key], binding, ticket: &[u8]| {
            open(keys.iter().copied(), binding, 100, ticket)
        };
        let whole = Some((100, b"session".to_vec()));
        assert_eq!(read(&[&key], &SITE, &sealed), whole);
        assert_eq!(read(&[&other, &key], &SITE, &sealed), whole);
        assert_eq!(read(&[&other], &SITE, &sealed), None);
        assert_eq!(read(&[&key], &[8; 32], &sealed), None);
        // Nothing of it can be changed or left out, its name and when it began included.
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(read(&[&key], &SITE, &changed), None, "{at}");
            assert_eq!(read(&[&key], &SITE, &sealed[..at]), None, "{at}");
        }
    }

    #[test]
    fn keys_that_anybody_could_guess_read_nothing() {
        let key = Key::new(&[9; 32]).unwrap();
        let sealed = ticket(&key, 0);
        for length in [0, 16, 32, 48, 80] {
            let zeros = Key::new(&vec![0; length]).unwrap();
            assert_eq!(open([&zeros].into_iter(), &SITE, 0, &sealed), None);
        }
        for (bytes, is_good) in [
            (vec![0; 48], false),
            (vec![255; 80], false),
            ((0..48).collect(), true),
            ((0..80).collect(), true),
            ((0..64).collect(), false),
            (Vec::new(), false),
        ] {
            let length = bytes.len();
            assert_eq!(Key::read(&bytes).is_ok(), is_good, "{length}");
        }
    }

    #[test]
    fn a_session_ends_however_often_it_went_on() {
        let key = Key::new(&[1; 32]).unwrap();
        for (began, now, lives) in [
            (0, 0, true),
            (0, LIFETIME - 1, true),
            (0, LIFETIME, false),
            (0, u64::MAX, false),
            // The clock of the node that made it goes ahead.
            (60, 0, true),
        ] {
            let opened = open([&key].into_iter(), &SITE, now, &ticket(&key, began));
            assert_eq!(opened.is_some(), lives, "{began} {now}");
        }
    }

    #[test]
    fn keys_change_and_what_lives_stays_readable() {
        let mut keys = Keys::new(0, &[0; 32]).unwrap();
        let mut tickets: Vec<(u64, Vec<u8>)> = Vec::new();
        let hours = |hours: u64| hours * 60 * 60;
        for hour in 0..72 {
            let now = hours(hour);
            assert_eq!(keys.is_due(now), hour > 0 && hour % 6 == 0, "{hour}");
            if keys.is_due(now) {
                let random = [u8::try_from(hour).unwrap(); 32];
                keys = keys.turned(now, &random).unwrap();
                assert!(keys.all().count() <= 3);
            }
            tickets.push((now, ticket(keys.all().next().unwrap(), now)));
            for (began, ticket) in &tickets {
                let opened = open(keys.all(), &SITE, now, ticket);
                assert_eq!(opened.is_some(), now - began < LIFETIME, "{began} {now}");
            }
        }
        // After a long rest nothing old is kept.
        let late = keys.turned(hours(1000), &[200; 32]).unwrap();
        assert_eq!(late.all().count(), 1);
    }
}
