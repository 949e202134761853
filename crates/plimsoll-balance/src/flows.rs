//! Which server each client's datagrams go to, for as long as they come: a table of bounded size.
//!
//! Nobody says that a flow of datagrams is over. So it ends when it has not been used for a while, and
//! since that while is the same for all flows of a table, two lines in the order of their last use are
//! all the timers that there are. When the table is full, the flow that is longest without use makes
//! room, and those that were never [confirmed](Flows::confirm) go first: whoever invents the addresses
//! of a million clients gets no answers, and drives out none of those who do.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

/// The name of a flow. It names no other one, even when the flow has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowId {
    index: u32,
    /// How many flows had the place before.
    turn: u32,
}

impl FlowId {
    /// As one number.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        u64::from(self.turn) << 32 | u64::from(self.index)
    }

    /// From that number; from another one, it names no flow, or any.
    #[must_use]
    pub fn from_u64(number: u64) -> Self {
        let low = |number: u64| u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default();
        Self {
            index: low(number),
            turn: low(number >> 32),
        }
    }
}

/// No place.
const NONE: u32 = u32::MAX;

/// Whether a flow is known to be wanted by both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    New,
    Confirmed,
}

/// A line of flows by their last use.
#[derive(Clone, Copy, Debug)]
struct Line {
    oldest: u32,
    newest: u32,
}

const EMPTY: Line = Line {
    oldest: NONE,
    newest: NONE,
};

#[derive(Debug)]
struct Place<K, V> {
    /// Nothing while the place is free.
    flow: Option<(K, V)>,
    turn: u32,
    rank: Rank,
    used: Duration,
    older: u32,
    newer: u32,
}

/// The flows of one worker and service. It takes memory as it grows and keeps it.
#[derive(Debug)]
pub struct Flows<K, V> {
    /// Places by their keys, which stand there.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    places: Vec<Place<K, V>>,
    free: Vec<u32>,
    lines: [Line; 2],
    most: usize,
}

impl<K: Copy + Eq + Hash, V> Flows<K, V> {
    /// An empty table that holds at most `most` flows, and at least one.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            places: Vec::new(),
            free: Vec::new(),
            lines: [EMPTY; 2],
            most: most.clamp(1, NONE as usize),
        }
    }

    /// How many flows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Tells whether one has to go before another comes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() >= self.most
    }

    /// The flow with this key.
    #[must_use]
    pub fn find(&self, key: &K) -> Option<FlowId> {
        let hash = self.hasher.hash_one(key);
        let found = self.index.find(hash, |index| self.key(*index) == Some(key));
        self.id(*found?)
    }

    /// What is known of a flow, if it has not ended.
    pub fn get_mut(&mut self, id: FlowId) -> Option<(&K, &mut V)> {
        let place = self.places.get_mut(id.index as usize)?;
        let (key, value) = place.flow.as_mut().filter(|_| place.turn == id.turn)?;
        Some((key, value))
    }

    /// Adds a flow that is used now. Gives it back when the table is full, or has the key already.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn insert(&mut self, key: K, value: V, now: Duration) -> Result<FlowId, V> {
        if self.is_full() || self.find(&key).is_some() {
            return Err(value);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place {
                flow: None,
                turn: 0,
                rank: Rank::New,
                used: now,
                older: NONE,
                newer: NONE,
            });
            u32::try_from(self.places.len() - 1).unwrap_or(NONE)
        });
        let Some(place) = self.places.get_mut(index as usize) else {
            return Err(value);
        };
        place.flow = Some((key, value));
        place.rank = Rank::New;
        let turn = place.turn;
        let (places, hasher) = (&self.places, &self.hasher);
        let hash = |index: &u32| {
            let place = places.get(*index as usize);
            let flow = place.and_then(|place| place.flow.as_ref());
            flow.map_or(0, |(key, _)| hasher.hash_one(key))
        };
        self.index.insert_unique(hash(&index), index, hash);
        self.append(index, now);
        Ok(FlowId { index, turn })
    }

    /// Notes that a flow is used now.
    pub fn touch(&mut self, id: FlowId, now: Duration) {
        if self.get_mut(id).is_some() {
            self.take_out(id.index);
            self.append(id.index, now);
        }
    }

    /// Notes that both ends of a flow want it, and that it is used now: it no longer goes before those
    /// that are older.
    pub fn confirm(&mut self, id: FlowId, now: Duration) {
        if self.get_mut(id).is_some() {
            self.take_out(id.index);
            if let Some(place) = self.places.get_mut(id.index as usize) {
                place.rank = Rank::Confirmed;
            }
            self.append(id.index, now);
        }
    }

    /// Takes a flow out.
    pub fn remove(&mut self, id: FlowId) -> Option<(K, V)> {
        self.get_mut(id)?;
        self.take_out(id.index);
        let place = self.places.get_mut(id.index as usize)?;
        place.turn = place.turn.wrapping_add(1);
        let (key, value) = place.flow.take()?;
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.index.find_entry(hash, |index| *index == id.index) {
            entry.remove();
        }
        self.free.push(id.index);
        Some((key, value))
    }

    /// The flow that goes first when room is needed.
    #[must_use]
    pub fn expendable(&self) -> Option<FlowId> {
        let mut oldest = self.lines.iter().map(|line| line.oldest);
        self.id(oldest.find(|oldest| *oldest != NONE)?)
    }

    /// The flow that was not used for the longest time, and when it was.
    #[must_use]
    pub fn oldest(&self) -> Option<(FlowId, Duration)> {
        let oldest = self.lines.iter().map(|line| line.oldest);
        let used = |index| Some((index, self.place(index)?.used));
        let (index, used) = oldest.filter_map(used).min_by_key(|(_, used)| *used)?;
        Some((self.id(index)?, used))
    }

    /// What tells each flow from the others.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        let flows = self.places.iter().filter_map(|place| place.flow.as_ref());
        flows.map(|(key, _)| key)
    }

    fn key(&self, index: u32) -> Option<&K> {
        let (key, _) = self.place(index)?.flow.as_ref()?;
        Some(key)
    }

    fn place(&self, index: u32) -> Option<&Place<K, V>> {
        self.places.get(index as usize)
    }

    fn id(&self, index: u32) -> Option<FlowId> {
        let turn = self.place(index)?.turn;
        Some(FlowId { index, turn })
    }

    /// Puts a place at the new end of its line.
    fn append(&mut self, index: u32, now: Duration) {
        let Some(place) = self.places.get_mut(index as usize) else {
            return;
        };
        let Some(line) = self.lines.get_mut(place.rank as usize) else {
            return;
        };
        let before = std::mem::replace(&mut line.newest, index);
        if before == NONE {
            line.oldest = index;
        }
        place.used = now;
        place.older = before;
        place.newer = NONE;
        if let Some(before) = self.places.get_mut(before as usize) {
            before.newer = index;
        }
    }

    /// Takes a place out of its line.
    fn take_out(&mut self, index: u32) {
        let Some(place) = self.places.get(index as usize) else {
            return;
        };
        let (older, newer, rank) = (place.older, place.newer, place.rank);
        match self.places.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self
                .lines
                .iter_mut()
                .skip(rank as usize)
                .take(1)
                .for_each(|line| line.oldest = newer),
        }
        match self.places.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self
                .lines
                .iter_mut()
                .skip(rank as usize)
                .take(1)
                .for_each(|line| line.newest = older),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn those_that_nobody_answers_go_first_and_the_least_used_of_them() {
        let mut flows = Flows::new(3);
        let ids: Vec<_> = (0..3)
            .map(|key| flows.insert(key, (), at(key)).unwrap())
            .collect();
        flows.confirm(ids[0], at(10));
        flows.touch(ids[1], at(11));
        assert_eq!(flows.insert(3, (), at(12)), Err(()));
        assert_eq!(flows.expendable(), Some(ids[2]));
        flows.remove(ids[2]);
        assert_eq!(flows.expendable(), Some(ids[1]));
        flows.remove(ids[1]);
        assert_eq!(flows.expendable(), Some(ids[0]));
        assert_eq!(flows.oldest(), Some((ids[0], at(10))));
    }

    #[test]
    fn a_name_outlives_its_flow_and_names_no_other() {
        let mut flows = Flows::new(1);
        let first = flows.insert('a', 1, at(0)).unwrap();
        assert_eq!(FlowId::from_u64(first.to_u64()), first);
        assert_eq!(flows.remove(first), Some(('a', 1)));
        let second = flows.insert('b', 2, at(1)).unwrap();
        assert!(flows.get_mut(first).is_none() && flows.remove(first).is_none());
        assert_eq!(FlowId::from_u64(second.to_u64()), second);
        assert_eq!(flows.get_mut(second), Some((&'b', &mut 2)));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Insert(u8),
        Touch(u8),
        Confirm(u8),
        Remove(u8),
        Expend,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0..16_u8).prop_map(Act::Insert),
            (0..16_u8).prop_map(Act::Touch),
            (0..16_u8).prop_map(Act::Confirm),
            (0..16_u8).prop_map(Act::Remove),
            Just(Act::Expend),
        ]
    }

    /// A table that is a list: key, whether it is confirmed, last use.
    type Plain = Vec<(u8, bool, Duration)>;

    fn carry_out(act: &Act, now: Duration, flows: &mut Flows<u8, u8>, plain: &mut Plain) {
        let mut on = |key: &u8, what: fn(&mut Flows<u8, u8>, FlowId, Duration)| {
            if let Some(id) = flows.find(key) {
                what(flows, id, now);
            }
        };
        match act {
            Act::Insert(key) => {
                let fits = plain.len() < 8 && plain.iter().all(|(known, ..)| known != key);
                assert_eq!(flows.insert(*key, *key, now).is_ok(), fits);
                if fits {
                    plain.push((*key, false, now));
                }
            }
            Act::Touch(key) => {
                on(key, Flows::touch);
                let known = plain.iter_mut().find(|(known, ..)| known == key);
                known.into_iter().for_each(|(.., used)| *used = now);
            }
            Act::Confirm(key) => {
                on(key, Flows::confirm);
                let known = plain.iter_mut().find(|(known, ..)| known == key);
                known
                    .into_iter()
                    .for_each(|known| *known = (*key, true, now));
            }
            Act::Remove(key) => {
                on(key, |flows, id, _| {
                    flows.remove(id);
                });
                plain.retain(|(known, ..)| known != key);
            }
            Act::Expend => {
                let first = plain
                    .iter()
                    .min_by_key(|(_, is_sure, used)| (*is_sure, *used));
                let first = first.map(|(key, ..)| *key);
                let expendable = flows.expendable();
                let removed = expendable.and_then(|id| flows.remove(id));
                assert_eq!(removed.map(|(key, _)| key), first);
                plain.retain(|(known, ..)| Some(*known) != first);
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_a_list_in_order_of_use(acts in prop::collection::vec(act(), 0..200)) {
            let (mut flows, mut plain) = (Flows::new(8), Plain::new());
            for (act, ms) in acts.iter().zip(0..) {
                carry_out(act, at(ms), &mut flows, &mut plain);
                prop_assert_eq!(flows.len(), plain.len());
                prop_assert!(flows.places.len() <= 8);
                let oldest = plain.iter().min_by_key(|(.., used)| *used);
                let is = flows.oldest().map(|(id, used)| (*flows.get_mut(id).unwrap().0, used));
                prop_assert_eq!(is, oldest.map(|(key, _, used)| (*key, *used)));
                for (key, ..) in &plain {
                    let id = flows.find(key);
                    prop_assert_eq!(id.and_then(|id| flows.get_mut(id)), Some((key, &mut key.clone())));
                }
            }
        }
    }
}
