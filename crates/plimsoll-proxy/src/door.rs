//! What clients come to, over generations: doors, and the addresses that lead to them.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use plimsoll_balance::canary::Share;
use plimsoll_net::accept;
use plimsoll_observe::metrics::ListenerMetrics;

use crate::generation::Listener;
use crate::handing::Heir;
use crate::plane::Plane;
use crate::station::Station;

/// A listener of one worker, over generations. Who has come in by it takes the current plane when an exchange
/// begins; when no newer plane has it, whoever is inside is served by the last one that had.
#[derive(Debug)]
pub(crate) struct Door {
    /// What tells it from others.
    id: u64,
    lead: RefCell<Lead>,
    /// The door beside it that a part of those take who come, and how many have come since it is there.
    beside: RefCell<Option<(Rc<Self>, Share)>>,
    came: Cell<u64>,
    is_closing: Cell<bool>,
    station: Rc<Station>,
}

/// Where a door leads to.
#[derive(Debug)]
enum Lead {
    /// The last plane that has it, and its number there.
    To(Rc<Plane>, usize),
    /// Where the door beside it leads.
    As(Rc<Door>),
}

impl Door {
    fn new(plane: &Rc<Plane>, listener: &Listener, number: usize) -> Rc<Self> {
        Rc::new(Self {
            id: listener.door,
            lead: RefCell::new(Lead::To(Rc::clone(plane), number)),
            beside: RefCell::default(),
            came: Cell::new(0),
            is_closing: Cell::new(false),
            station: Rc::clone(&plane.station),
        })
    }

    fn lead_to(&self, plane: &Rc<Plane>, number: usize) {
        self.lead.replace(Lead::To(Rc::clone(plane), number));
        self.is_closing.set(false);
    }

    /// The door for one who comes now: this one, or the one beside it.
    pub(crate) fn draw(self: Rc<Self>) -> Rc<Self> {
        let beside = self.beside.borrow();
        let Some((door, share)) = &*beside else {
            drop(beside);
            return self;
        };
        let count = self.came.get().wrapping_add(1);
        self.came.set(count);
        match share.takes(count) {
            true => Rc::clone(door),
            false => Rc::clone(&self),
        }
    }

    /// Has whoever took the door beside it go on with this one.
    fn close_beside(self: &Rc<Self>) {
        if let Some((door, _)) = self.beside.take() {
            door.lead.replace(Lead::As(Rc::clone(self)));
        }
    }

    /// What tells it from others.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The plane for what begins now, and the number of the listener there.
    pub(crate) fn view(&self) -> (Rc<Plane>, usize) {
        match &*self.lead.borrow() {
            Lead::To(plane, number) => (Rc::clone(plane), *number),
            Lead::As(door) => door.view(),
        }
    }

    /// The plane for what begins now.
    pub(crate) fn plane(&self) -> Rc<Plane> {
        self.view().0
    }

    /// Tells whether connections end with their exchanges.
    pub(crate) fn keeps_nobody(&self) -> bool {
        self.is_closing() || self.station.keeps_nobody()
    }

    /// Tells whether connections end that wait for their next exchange.
    pub(crate) fn closes_idle(&self) -> bool {
        self.is_closing() || self.station.closes_idle()
    }

    fn is_closing(&self) -> bool {
        match &*self.lead.borrow() {
            Lead::To(..) => self.is_closing.get(),
            Lead::As(door) => door.is_closing(),
        }
    }

    /// Tells whether another process could go on with connections.
    pub(crate) fn has_heir(&self) -> bool {
        self.station.heir.borrow().is_some()
    }

    /// Where connections are offered to another process.
    pub(crate) fn heir(&self) -> Option<Heir> {
        self.station.heir.borrow().clone()
    }

    /// Looks at the listener as it is now.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Plane, &Listener) -> T) -> Option<T> {
        let (plane, number) = self.view();
        Some(look(&plane, plane.generation.listeners.get(number)?))
    }

    /// What is counted for it.
    pub(crate) fn metrics(&self) -> Option<Arc<ListenerMetrics>> {
        let (plane, number) = self.view();
        plane.metrics.listeners.get(number).map(Arc::clone)
    }
}

/// The doors of one worker.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    open: RefCell<Vec<Rc<Door>>>,
    /// Those that somebody is still inside of.
    closing: RefCell<Vec<Weak<Door>>>,
}

impl Doors {
    /// Has all doors lead to `plane` that it has, and closes the others; tells whether there are such.
    pub(crate) fn lead_to(&self, plane: &Rc<Plane>) -> bool {
        let listeners = plane.generation.listeners.iter().enumerate();
        let next = listeners.map(|(number, listener)| match self.find(listener.door) {
            Some(door) => {
                door.lead_to(plane, number);
                door
            }
            None => Door::new(plane, listener, number),
        });
        let before = self.open.replace(next.collect());
        let mut closing = self.closing.borrow_mut();
        closing.retain(|door| door.strong_count() > 0);
        let open = self.open.borrow();
        let is_gone = |door: &&Rc<Door>| !open.iter().any(|other| Rc::ptr_eq(other, door));
        let count = closing.len();
        for door in before.iter().filter(is_gone) {
            door.is_closing.set(true);
            closing.push(Rc::downgrade(door));
        }
        closing.len() > count
    }

    /// Has a part of those who come go in by doors that lead to `plane`, which has the same ones.
    pub(crate) fn open_beside(&self, plane: &Rc<Plane>, share: Share) {
        for (number, listener) in plane.generation.listeners.iter().enumerate() {
            if let Some(door) = self.find(listener.door) {
                let beside = Door::new(plane, listener, number);
                door.beside.replace(Some((beside, share)));
            }
        }
    }

    /// Has all go in by one door of each again, those who took the other one among them.
    pub(crate) fn close_beside(&self) {
        self.open.borrow().iter().for_each(Door::close_beside);
    }

    /// The door with this id.
    pub(crate) fn find(&self, id: u64) -> Option<Rc<Door>> {
        let open = self.open.borrow();
        let known = open.iter().find(|door| door.id == id).map(Rc::clone);
        known.or_else(|| {
            let closing = self.closing.borrow();
            let mut closing = closing.iter().filter_map(Weak::upgrade);
            closing.find(|door| door.id == id)
        })
    }
}

/// An address that is listened on, over generations.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) address: SocketAddr,
    pub(crate) listener: accept::Listener,
    /// Which of the address's sockets it is. Each is served by one worker, which may be another one later.
    slot: usize,
    door: RefCell<Rc<Door>>,
    is_closing: Cell<bool>,
    is_released: Cell<bool>,
}

impl Post {
    pub(crate) fn new(
        (address, slot): (SocketAddr, usize),
        listener: accept::Listener,
        door: Rc<Door>,
    ) -> Self {
        Self {
            address,
            listener,
            slot,
            door: RefCell::new(door),
            is_closing: Cell::new(false),
            is_released: Cell::new(false),
        }
    }

    /// Tells whether worker `index` of so many serves this socket.
    pub(crate) fn belongs_to(&self, index: usize, workers: usize) -> bool {
        self.slot % workers.max(1) == index
    }

    /// Leaves the socket, with all who wait there, to another worker.
    pub(crate) fn release(&self) {
        self.is_released.set(true);
    }

    pub(crate) fn is_released(&self) -> bool {
        self.is_released.get()
    }

    /// Where whoever comes now goes in.
    pub(crate) fn door(&self) -> Rc<Door> {
        Rc::clone(&self.door.borrow())
    }

    /// Leads there from now on.
    pub(crate) fn lead_to(&self, door: Rc<Door>) {
        if let Some(terms) = door.with(|_, at| at.terms()) {
            self.listener.set_terms(&terms);
        }
        self.door.replace(door);
    }

    /// Accepts nothing more, but who is connected already.
    pub(crate) fn close(&self) {
        self.is_closing.set(true);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }
}

/// An address that datagrams come to, over generations.
#[derive(Debug)]
pub(crate) struct Pier {
    pub(crate) address: SocketAddr,
    /// The last plane that has it, and its number there.
    view: RefCell<(Rc<Plane>, usize)>,
    is_closing: Cell<bool>,
}

impl Pier {
    pub(crate) fn new(address: SocketAddr, plane: &Rc<Plane>, number: usize) -> Self {
        Self {
            address,
            view: RefCell::new((Rc::clone(plane), number)),
            is_closing: Cell::new(false),
        }
    }

    /// The plane for flows that begin now, and the number of the port there.
    pub(crate) fn view(&self) -> (Rc<Plane>, usize) {
        self.view.borrow().clone()
    }

    /// Has flows begin on another plane, where it has another number; without one, none begin any more.
    pub(crate) fn lead_to(&self, plane: &Rc<Plane>, number: Option<usize>) {
        if let Some(number) = number {
            self.view.replace((Rc::clone(plane), number));
        }
        self.is_closing.set(number.is_none());
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }
}
