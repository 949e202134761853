//! The table of fields that the two ends of a connection build up (RFC 7541 §2.3.2).

use std::collections::VecDeque;

use super::TABLE_BYTES;
use super::static_table::FIELDS;

/// What an entry costs beside its bytes (RFC 7541 §4.1).
const ENTRY_BYTES: usize = 32;

/// Entries, the newest first, behind those that everybody knows.
#[derive(Debug)]
pub(super) struct Table {
    /// The bytes of all entries, the oldest first, behind those that were evicted.
    bytes: Vec<u8>,
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
    /// How many entries were ever added.
    added: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: usize,
    name: usize,
    value: usize,
}

impl Entry {
    fn size(self) -> usize {
        self.name + self.value + ENTRY_BYTES
    }
}

impl Default for Table {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            entries: VecDeque::new(),
            size: 0,
            size_max: TABLE_BYTES,
            added: 0,
        }
    }
}

impl Table {
    /// The field with this number.
    pub(super) fn field(&self, number: usize) -> Option<(&[u8], &[u8])> {
        match FIELDS.get(number.checked_sub(1)?) {
            Some(field) => Some(*field),
            None => self.bytes_of(*self.entries.get(number - 1 - FIELDS.len())?),
        }
    }

    fn bytes_of(&self, entry: Entry) -> Option<(&[u8], &[u8])> {
        let bytes = self.bytes.get(entry.start..)?;
        bytes
            .get(..entry.name + entry.value)?
            .split_at_checked(entry.name)
    }

    /// Adds a field, for which others have to go; one that is larger than all the table leaves it empty.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) {
        let entry = Entry {
            start: self.bytes.len(),
            name: name.len(),
            value: value.len(),
        };
        self.shrink(self.size_max.saturating_sub(entry.size()));
        if entry.size() > self.size_max {
            return;
        }
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push_front(entry);
        self.size += entry.size();
        self.added = self.added.wrapping_add(1);
        if self.bytes.len() > 2 * TABLE_BYTES.max(self.size_max) {
            self.compact();
        }
    }

    /// How many entries were ever added: what the next one will be called.
    pub(super) fn added(&self) -> u32 {
        self.added
    }

    /// The number of the entry that was added as the `nth`, if it is still there.
    pub(super) fn number(&self, nth: u32) -> Option<usize> {
        let age = usize::try_from(self.added.wrapping_sub(nth).wrapping_sub(1)).ok()?;
        (age < self.entries.len()).then_some(FIELDS.len() + 1 + age)
    }

    /// Changes how much it may hold.
    pub(super) fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.shrink(size_max);
    }

    pub(super) fn size_max(&self) -> usize {
        self.size_max
    }

    /// Evicts the oldest entries until the rest is no larger than `size`.
    fn shrink(&mut self, size: usize) {
        while self.size > size
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.size();
        }
        if self.entries.is_empty() {
            self.bytes.clear();
        }
    }

    /// Forgets the bytes of what was evicted.
    fn compact(&mut self) {
        let gone = self.entries.back().map_or(0, |oldest| oldest.start);
        self.bytes.drain(..gone);
        for entry in &mut self.entries {
            entry.start -= gone;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(table: &Table) -> Vec<&str> {
        let names = (62..).map_while(|number| table.field(number));
        names
            .map(|(name, _)| str::from_utf8(name).unwrap())
            .collect()
    }

    #[test]
    fn the_oldest_go_first() {
        let mut table = Table::default();
        table.resize(3 * 34);
        for name in ["a", "b", "c", "d"] {
            table.add(name.as_bytes(), b"x");
        }
        assert_eq!(names(&table), ["d", "c", "b"]);
        assert_eq!(table.field(62), Some((&b"d"[..], &b"x"[..])));
        assert_eq!((table.field(0), table.field(65)), (None, None));
        assert_eq!(table.field(1), Some((&b":authority"[..], &b""[..])));
        table.resize(2 * 34 + 33);
        assert_eq!(names(&table), ["d", "c"]);
        table.add(&[b'l'; 70], b"");
        assert_eq!(names(&table), [""; 0], "it was larger than the table");
    }

    #[test]
    fn an_entry_has_another_number_each_time() {
        let mut table = Table::default();
        let nth = table.added();
        assert_eq!(table.number(nth), None);
        table.add(b"a", b"1");
        assert_eq!(table.number(nth), Some(62));
        table.add(b"b", b"2");
        assert_eq!(
            (table.number(nth), table.number(nth + 1)),
            (Some(63), Some(62))
        );
        table.resize(34);
        assert_eq!((table.number(nth), table.number(nth + 1)), (None, Some(62)));
    }

    #[test]
    fn what_was_evicted_costs_nothing() {
        let mut table = Table::default();
        for at in 0..10_000 {
            table.add(b"name", at.to_string().as_bytes());
        }
        assert!(
            table.bytes.capacity() <= 4 * TABLE_BYTES,
            "{}",
            table.bytes.capacity()
        );
        assert_eq!(table.field(62), Some((&b"name"[..], &b"9999"[..])));
        assert_eq!(table.field(63), Some((&b"name"[..], &b"9998"[..])));
    }
}
