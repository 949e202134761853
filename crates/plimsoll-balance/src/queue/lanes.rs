//! Who waits, in order of arrival for each priority: linked lists in one vector, so that anyone
//! can leave from the middle without a search, and memory is used again.

use std::time::Duration;

/// The place of a node in the vector.
pub(super) type Place = u32;

/// Names one that waits. It stays unique after that one has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    place: Place,
    number: u64,
}

#[derive(Debug)]
pub(super) struct Lanes<T> {
    nodes: Vec<Node<T>>,
    /// The first of the nodes without an item, which are chained by `newer`.
    free: Option<Place>,
    /// From the highest priority down, one for each priority that was ever used.
    lanes: Vec<Lane>,
    len: usize,
    /// How many ever came.
    arrivals: u64,
}

#[derive(Debug)]
struct Node<T> {
    item: Option<T>,
    number: u64,
    arrived: Duration,
    priority: u8,
    older: Option<Place>,
    newer: Option<Place>,
}

/// Those of one priority.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub(super) priority: u8,
    pub(super) oldest: Option<Place>,
    pub(super) newest: Option<Place>,
    len: usize,
}

impl<T> Lanes<T> {
    pub(super) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free: None,
            lanes: Vec::new(),
            len: 0,
            arrivals: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns how many have this priority or a higher one.
    pub(super) fn len_from(&self, priority: u8) -> usize {
        let lanes = self.lanes.iter();
        let above = lanes.take_while(|lane| lane.priority >= priority);
        above.map(|lane| lane.len).sum()
    }

    /// Returns the lane of the highest priority in which someone waits.
    pub(super) fn highest(&self) -> Option<Lane> {
        let mut waiting = self.lanes.iter().copied();
        waiting.find(|lane| lane.oldest.is_some())
    }

    /// Returns the lane of the lowest priority in which someone waits.
    pub(super) fn lowest(&self) -> Option<Lane> {
        let mut waiting = self.lanes.iter().copied();
        waiting.rfind(|lane| lane.oldest.is_some())
    }

    /// Returns the lane of the one who came first of all.
    pub(super) fn eldest(&self) -> Option<Lane> {
        let number = |lane: &Lane| Some(self.node(lane.oldest)?.number);
        let waiting = self.lanes.iter().copied();
        waiting
            .filter_map(|lane| Some((number(&lane)?, lane)))
            .min_by_key(|&(number, _)| number)
            .map(|(_, lane)| lane)
    }

    pub(super) fn arrived(&self, place: Option<Place>) -> Option<Duration> {
        self.node(place).map(|node| node.arrived)
    }

    /// Adds `item` behind the others of its priority. There is room for 2^32 - 1.
    pub(super) fn push(&mut self, item: T, priority: u8, now: Duration) -> Ticket {
        self.open(priority);
        let number = self.arrivals;
        let node = Node {
            item: Some(item),
            number,
            arrived: now,
            priority,
            older: None,
            newer: None,
        };
        let place = self.place(node);
        let before = self.lane_mut(priority).and_then(|lane| lane.newest);
        self.join(priority, before, Some(place));
        self.join(priority, Some(place), None);
        self.arrivals += 1;
        self.len += 1;
        if let Some(lane) = self.lane_mut(priority) {
            lane.len += 1;
        }
        Ticket { place, number }
    }

    /// Removes the one at `place`, and tells when it came.
    pub(super) fn take(&mut self, place: Option<Place>) -> Option<(T, Duration)> {
        let free = self.free;
        let node = self.node_mut(place)?;
        let item = node.item.take()?;
        let (arrived, priority) = (node.arrived, node.priority);
        let (older, newer) = (node.older, std::mem::replace(&mut node.newer, free));
        self.free = place;
        self.join(priority, older, newer);
        self.len -= 1;
        if let Some(lane) = self.lane_mut(priority) {
            lane.len -= 1;
        }
        Some((item, arrived))
    }

    /// Returns the place of `ticket`, if it still waits.
    pub(super) fn find(&self, ticket: Ticket) -> Option<Place> {
        let node = self.node(Some(ticket.place))?;
        let waits = node.item.is_some() && node.number == ticket.number;
        waits.then_some(ticket.place)
    }

    /// Stores `node` where there is room.
    fn place(&mut self, node: Node<T>) -> Place {
        let (free, end) = (self.free, self.nodes.len());
        if let Some(place) = free
            && let Some(vacant) = self.node_mut(free)
        {
            let next = std::mem::replace(vacant, node).newer;
            self.free = next;
            return place;
        }
        self.nodes.push(node);
        Place::try_from(end).unwrap_or(Place::MAX)
    }

    /// Makes neighbours of `older` and `newer`; nobody stands for the end of the lane.
    fn join(&mut self, priority: u8, older: Option<Place>, newer: Option<Place>) {
        match self.node_mut(older) {
            Some(node) => node.newer = newer,
            None => {
                if let Some(lane) = self.lane_mut(priority) {
                    lane.oldest = newer;
                }
            }
        }
        match self.node_mut(newer) {
            Some(node) => node.older = older,
            None => {
                if let Some(lane) = self.lane_mut(priority) {
                    lane.newest = older;
                }
            }
        }
    }

    /// Sees to it that `priority` has a lane.
    fn open(&mut self, priority: u8) {
        if let Err(index) = self.index_of(priority) {
            let lane = Lane {
                priority,
                oldest: None,
                newest: None,
                len: 0,
            };
            self.lanes.insert(index, lane);
        }
    }

    fn lane_mut(&mut self, priority: u8) -> Option<&mut Lane> {
        let index = self.index_of(priority).ok()?;
        self.lanes.get_mut(index)
    }

    fn index_of(&self, priority: u8) -> Result<usize, usize> {
        let order = |lane: &Lane| priority.cmp(&lane.priority);
        self.lanes.binary_search_by(order)
    }

    fn node(&self, place: Option<Place>) -> Option<&Node<T>> {
        self.nodes.get(place? as usize)
    }

    fn node_mut(&mut self, place: Option<Place>) -> Option<&mut Node<T>> {
        self.nodes.get_mut(place? as usize)
    }
}
