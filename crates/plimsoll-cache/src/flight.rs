//! One fetch for each thing that is missing: whoever comes first fetches, and the others wait for it.

use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hashbrown::{DefaultHashBuilder, HashMap};
use tokio::sync::Notify;

use crate::object::Object;

const SHARDS: usize = 16;

/// What is being fetched. There are no more than requests under way.
#[derive(Debug, Default)]
pub struct Flights {
    hasher: DefaultHashBuilder,
    shards: [Mutex<Shard>; SHARDS],
}

type Shard = HashMap<Box<[u8]>, Arc<Flight>>;

/// A fetch, as those see it who wait.
#[derive(Debug, Default)]
pub struct Flight {
    landed: OnceLock<Landing>,
    /// Whether what it fetches has been purged, or changed, since it began.
    is_outdated: AtomicBool,
    told: Notify,
}

/// What came of a fetch.
#[derive(Clone, Debug)]
pub enum Landing {
    /// An answer for whoever it is for; its body may still be coming.
    Stored(Arc<Object>),
    /// The same, from disk: no server was asked.
    Loaded(Arc<Object>),
    /// An answer for nobody else.
    Unstorable,
    /// None.
    Failed,
}

/// Who fetches.
#[derive(Debug)]
pub enum Turn {
    /// The one who asked.
    Mine(Ticket),
    /// Somebody who does already.
    Theirs(Arc<Flight>),
}

/// The right to fetch, and the duty to say what came of it: dropped without a word, it failed.
#[derive(Debug)]
pub struct Ticket {
    flights: Arc<Flights>,
    key: Box<[u8]>,
    flight: Arc<Flight>,
}

impl Flights {
    /// Takes part in fetching what `key` names.
    pub fn join(self: &Arc<Self>, key: &[u8]) -> Turn {
        let mut shard = self.shard(key);
        // What comes too late is for those alone who wait for it already.
        let current = shard
            .get(key)
            .filter(|flight| !flight.is_outdated.load(Relaxed));
        if let Some(flight) = current {
            return Turn::Theirs(Arc::clone(flight));
        }
        let flight = Arc::<Flight>::default();
        shard.insert(key.into(), Arc::clone(&flight));
        Turn::Mine(Ticket {
            flights: Arc::clone(self),
            key: key.into(),
            flight,
        })
    }

    /// Takes note that fetches with keys that `is` fits fetch what has been purged, or changed, since they began.
    pub fn outdate(&self, is: impl Fn(&[u8]) -> bool) {
        for shard in &self.shards {
            for (_, flight) in locked(shard).iter().filter(|(key, _)| is(key)) {
                flight.is_outdated.store(true, Relaxed);
            }
        }
    }

    /// How many fetches there are.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard).len()).sum()
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        let number = usize::try_from(self.hasher.hash_one(key) >> 60).unwrap_or(0);
        // invariant: four bits number sixteen shards
        #[expect(clippy::indexing_slicing, reason = "see the invariant")]
        locked(&self.shards[number % SHARDS])
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flight {
    /// Waits for what comes of it. The caller bounds the wait.
    pub async fn landing(&self) -> Landing {
        loop {
            let mut told = pin!(self.told.notified());
            told.as_mut().enable();
            match self.landed.get() {
                Some(landing) => return landing.clone(),
                None => told.await,
            }
        }
    }

    fn land(&self, landing: Landing) {
        // The first word counts.
        let _ = self.landed.set(landing);
        self.told.notify_waiters();
    }
}

impl Ticket {
    /// Tells whether what is fetched has been purged, or changed, since the fetch began.
    pub fn is_outdated(&self) -> bool {
        self.flight.is_outdated.load(Relaxed)
    }

    /// Tells those who wait what came of it; those who come until the end of the fetch hear it too.
    pub fn tell(&self, landing: Landing) {
        self.flight.land(landing);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut shard = self.flights.shard(&self.key);
        let mine = shard
            .get(&self.key)
            .filter(|flight| Arc::ptr_eq(flight, &self.flight));
        if mine.is_some() {
            shard.remove(&self.key);
        }
        drop(shard);
        self.flight.land(Landing::Failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(flight: &Flight) -> Landing {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(flight.landing())
    }

    #[test]
    fn one_fetches_and_the_others_hear_of_it() {
        let flights = Arc::<Flights>::default();
        let Turn::Mine(ticket) = flights.join(b"a") else {
            panic!("nobody fetches it");
        };
        assert!(matches!(flights.join(b"b"), Turn::Mine(_)));
        let waiting: Vec<_> = (0..8)
            .map(|_| match flights.join(b"a") {
                Turn::Theirs(flight) => std::thread::spawn(move || wait(&flight)),
                Turn::Mine(_) => panic!("it is fetched already"),
            })
            .collect();
        ticket.tell(Landing::Unstorable);
        for thread in waiting {
            assert!(matches!(thread.join().unwrap(), Landing::Unstorable));
        }
        drop(ticket);
        assert_eq!(flights.count(), 0);
        assert!(matches!(flights.join(b"a"), Turn::Mine(_)));
    }

    #[test]
    fn fetches_hear_that_they_come_too_late() {
        let flights = Arc::<Flights>::default();
        let (Turn::Mine(a), Turn::Mine(b)) = (flights.join(b"a/1"), flights.join(b"b")) else {
            panic!("nobody fetches them");
        };
        flights.outdate(|key| key.starts_with(b"a/"));
        assert!(a.is_outdated() && !b.is_outdated());
        let Turn::Mine(again) = flights.join(b"a/1") else {
            panic!("what comes too late is waited for");
        };
        drop(a);
        assert!(!again.is_outdated() && matches!(flights.join(b"a/1"), Turn::Theirs(_)));
    }

    #[test]
    fn whoever_gives_up_releases_those_who_wait() {
        let flights = Arc::<Flights>::default();
        let Turn::Mine(ticket) = flights.join(b"a") else {
            panic!("nobody fetches it");
        };
        let Turn::Theirs(flight) = flights.join(b"a") else {
            panic!("it is fetched already");
        };
        drop(ticket);
        assert!(matches!(wait(&flight), Landing::Failed));
    }
}
