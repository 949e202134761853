//! Buffers: a fixed piece of memory with a filled part, lent by a pool and given back.
//!
//! A buffer has memory from when there is something to read until what was read has been taken.
//! Connections that wait hold none, and an exchange that waits for its answer holds its request:
//! 1,000 exchanges hold at most 1,000 × 3 × 32 KiB.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Size of every buffer: the largest head fits.
pub const BUFFER_BYTES: usize = 32 * 1024;

/// Buffers that a worker keeps for the next exchange.
const KEPT_MAX: usize = 512;

/// Lends buffers, most recently used first, so that the next exchange finds warm memory.
#[derive(Debug, Default)]
pub struct BufferPool {
    free: RefCell<Vec<Box<[u8]>>>,
    made: Cell<usize>,
}

impl BufferPool {
    /// Lends an empty buffer.
    pub fn lend(self: &Rc<Self>) -> Buffer {
        Buffer {
            bytes: Box::default(),
            start: 0,
            end: 0,
            home: Rc::clone(self),
        }
    }

    fn take(&self) -> Box<[u8]> {
        let kept = self.free.borrow_mut().pop();
        kept.unwrap_or_else(|| {
            self.made.set(self.made.get() + 1);
            vec![0; BUFFER_BYTES].into_boxed_slice()
        })
    }

    fn give_back(&self, bytes: Box<[u8]>) {
        let mut free = self.free.borrow_mut();
        if !bytes.is_empty() && free.len() < KEPT_MAX {
            free.push(bytes);
        }
    }

    /// How many times memory for a buffer was made since this was asked the last time.
    pub fn count_made(&self) -> usize {
        self.made.take()
    }

    /// Gives back the memory that is not lent.
    pub fn forget_free(&self) {
        self.free.take();
    }
}

/// Memory with a filled part; goes home to its pool when dropped.
#[derive(Debug)]
pub struct Buffer {
    /// Empty when it has no memory.
    bytes: Box<[u8]>,
    // invariant: start <= end <= bytes.len()
    start: usize,
    end: usize,
    home: Rc<BufferPool>,
}

impl Buffer {
    /// The filled part.
    pub fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// The filled part, to be changed in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// The room behind the filled part.
    pub fn room(&mut self) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = self.home.take();
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Counts `bytes` of the room as filled.
    pub fn add(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.bytes.len());
    }

    /// Takes `bytes` off the start of the filled part.
    pub fn take(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Moves the filled part to the front, so that all free memory is room.
    pub fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Forgets the filled part.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Gives the memory back if nothing is filled: for a wait.
    pub fn rest(&mut self) {
        if self.is_empty() {
            self.home.give_back(std::mem::take(&mut self.bytes));
        }
    }

    /// Tells whether nothing is filled.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filled_part_moves_and_memory_is_used_again() {
        let pool = Rc::new(BufferPool::default());
        let mut buffer = pool.lend();
        buffer.room()[..4].copy_from_slice(b"abcd");
        buffer.add(4);
        buffer.take(1);
        assert_eq!(buffer.filled(), b"bcd");
        buffer.compact();
        assert_eq!(buffer.filled(), b"bcd");
        assert_eq!(buffer.room().len(), BUFFER_BYTES - 3);
        buffer.take(9);
        assert!(buffer.is_empty());
        assert_eq!(buffer.room().len(), BUFFER_BYTES);
        let memory = buffer.bytes.as_ptr();
        drop(buffer);
        assert_eq!(pool.lend().room().as_ptr(), memory);
    }

    #[test]
    fn a_buffer_that_waits_with_nothing_has_no_memory() {
        let pool = Rc::new(BufferPool::default());
        let (mut first, mut second) = (pool.lend(), pool.lend());
        assert_eq!(pool.count_made(), 0);
        let memory = first.room().as_ptr();
        first.rest();
        assert_eq!(second.room().as_ptr(), memory);
        second.add(1);
        second.rest();
        assert_eq!(second.filled(), [0], "it is not empty");
        assert_ne!(first.room().as_ptr(), memory);
        assert_eq!(pool.count_made(), 2);
    }
}
