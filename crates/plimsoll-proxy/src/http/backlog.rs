//! An answer that comes faster than its client takes it: what has come waits here, in memory and then
//! on disk, so that its server need not wait.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use plimsoll_cache::body::{Body, Reserved};
use plimsoll_config::model::{Buffer, Way};
use plimsoll_net::buffer::BUFFER_BYTES;
use plimsoll_net::clock;
use plimsoll_net::socket::Socket;
use plimsoll_net::stream::Then;
use tokio::sync::Notify;

use crate::http::answer;
use crate::http::exchange::{Ending, Exchange, Facts};
use crate::http::flow::{Fault, Writer};
use crate::http::pace::{Pace, Toll};
use crate::http::store::Filling;
use crate::http::stored::{self, Sent};
use crate::plane::Plane;
use crate::spool::SpoolFile;

/// Bytes of a message that wait for the client, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// The first of them.
    memory: RefCell<VecDeque<Vec<u8>>>,
    in_memory: Cell<usize>,
    memory_max: usize,
    /// Those behind, from `read` on.
    disk: Option<SpoolFile>,
    read: Cell<u64>,
    has_ended: Cell<bool>,
    /// Bytes that were written to the client.
    written: Cell<u64>,
    /// Told when something has come, or nothing will any more.
    came: Notify,
    /// Told when something has left.
    left: Notify,
}

impl Backlog {
    fn new(memory_max: usize, disk: Option<SpoolFile>) -> Self {
        Self {
            memory: RefCell::default(),
            in_memory: Cell::new(0),
            memory_max,
            disk,
            read: Cell::new(0),
            has_ended: Cell::new(false),
            written: Cell::new(0),
            came: Notify::new(),
            left: Notify::new(),
        }
    }

    /// Takes a piece; waits where there is no room for it. One at a time.
    pub(crate) async fn push(&self, mut piece: Vec<u8>) {
        loop {
            if self.fits_into_memory(piece.len()) {
                return self.remember(piece);
            }
            if let Some(disk) = &self.disk {
                match disk.append(piece).await {
                    Ok(()) => return self.came.notify_one(),
                    Err(back) => piece = back,
                }
            }
            self.left.notified().await;
        }
    }

    /// Small pieces become one: each for itself would take more than it has.
    fn remember(&self, piece: Vec<u8>) {
        self.in_memory.set(self.in_memory.get() + piece.len());
        let mut memory = self.memory.borrow_mut();
        match memory.back_mut() {
            Some(last) if last.len() + piece.len() <= BUFFER_BYTES => last.extend(piece),
            _ => memory.push_back(piece),
        }
        self.came.notify_one();
    }

    /// What is in memory comes before what is on disk, so nothing goes there that came later.
    fn fits_into_memory(&self, bytes: usize) -> bool {
        let on_disk = self.disk.as_ref().map_or(0, SpoolFile::len);
        let in_memory = self.in_memory.get();
        self.read.get() == on_disk && (in_memory == 0 || in_memory + bytes <= self.memory_max)
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        self.has_ended.set(true);
        self.came.notify_one();
    }

    /// Waits for the next piece; nothing is the end.
    async fn next(&self) -> Result<Option<Vec<u8>>, Fault> {
        loop {
            let first = self.memory.borrow_mut().pop_front();
            if first.is_some() {
                return Ok(first);
            }
            if let Some(disk) = &self.disk {
                let piece = disk.read(self.read.get()).await.map_err(|_| Fault::Spool)?;
                if !piece.is_empty() {
                    self.read.set(self.read.get() + piece.len() as u64);
                    self.in_memory.set(self.in_memory.get() + piece.len());
                    return Ok(Some(piece));
                }
            }
            if self.has_ended.get() {
                return Ok(None);
            }
            self.came.notified().await;
        }
    }

    /// Counts `bytes` as written to the client.
    fn leave(&self, bytes: usize) {
        self.written.set(self.written.get() + bytes as u64);
        self.in_memory
            .set(self.in_memory.get().saturating_sub(bytes));
        self.left.notify_one();
    }
}

type Bringing<'a> = Pin<Box<dyn Future<Output = Result<(), Fault>> + 'a>>;

/// What waits for a client, on its way down.
pub(crate) struct Delivery<'a> {
    pub(crate) backlog: Rc<Backlog>,
    /// Nothing once it has ended.
    way: Option<Bringing<'a>>,
    /// Bytes before the body.
    head: u64,
    /// Whether what it is fed by goes on when its client has gone.
    is_shared: bool,
    /// Why its client did not get all, where that ended nothing.
    failed: Option<Fault>,
    /// What may wait in it counts as room of a cache, where that is why it waits.
    room: Option<Reserved>,
}

impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("backlog", &self.backlog)
            .finish_non_exhaustive()
    }
}

impl<'a> Delivery<'a> {
    /// One that has nothing to do yet, where answers are to wait.
    pub(crate) fn prepare(exchange: &Exchange<'a>) -> Option<Self> {
        let buffer = exchange.facts.route?.response_buffer;
        let patience = exchange.facts.site?.timeouts.body;
        (buffer.memory > 0).then(|| {
            let (plane, client) = (exchange.plane, exchange.client);
            Self::new(plane, client, buffer, &exchange.paces, patience)
        })
    }

    /// One for an answer that is stored when it turns out not to be too long: as much as may be stored waits, so
    /// that a slow client holds up nobody who waits for that, and whatever else its route lets wait. Nothing where
    /// there is no room for it.
    pub(crate) fn of_copied(
        filling: &Filling<'a>,
        buffer: Buffer,
        patience: Duration,
    ) -> Option<Self> {
        let room = filling.room_for_copy()?;
        let buffer = Buffer {
            memory: buffer.memory.max(u32::try_from(room.bytes()).ok()?),
            ..buffer
        };
        let (plane, client) = (filling.plane, filling.client);
        let mut delivery = Self::new(plane, client, buffer, &filling.paces, patience);
        delivery.room = Some(room);
        Some(delivery)
    }

    fn new(
        plane: &'a Plane,
        client: &'a Socket,
        buffer: Buffer,
        paces: &[Pace<'a>],
        patience: Duration,
    ) -> Self {
        let spool = plane.generation.spool.as_ref();
        let disk = spool
            .filter(|_| buffer.disk > 0)
            .map(|spool| SpoolFile::new(spool, buffer.disk));
        let backlog = Rc::new(Backlog::new(buffer.memory as usize, disk));
        let from = Rc::clone(&backlog);
        let way = serve(
            (plane, client, paces.to_vec()),
            patience,
            async move |writer, toll| bring(&from, writer, toll).await,
        );
        Self::of(backlog, Box::pin(way), false)
    }

    fn of(backlog: Rc<Backlog>, way: Bringing<'a>, is_shared: bool) -> Self {
        Self {
            backlog,
            way: Some(way),
            head: 0,
            is_shared,
            failed: None,
            room: None,
        }
    }

    /// One that brings what is sent of what is stored, as far as it comes, to the client of `filling`.
    pub(crate) fn of_stored(
        filling: &Filling<'a>,
        mut head: Vec<u8>,
        (body, sent): (Arc<Body>, Sent),
        patience: Duration,
    ) -> Self {
        let backlog = Rc::new(Backlog::new(0, None));
        let counter = Rc::clone(&backlog);
        let client = (filling.plane, filling.client, filling.paces.clone());
        let way = serve(client, patience, async move |writer, toll| {
            stored::bring(&mut head, (&body, sent), (writer, toll), &counter.written).await
        });
        Self::of(backlog, Box::pin(way), true)
    }

    /// Takes the first piece: the head, whose length is `head`, and what came with it.
    pub(crate) async fn begin(&mut self, head: usize, piece: Vec<u8>) {
        self.head = head as u64;
        self.backlog.push(piece).await;
    }

    /// Runs `main` while the client is served; ends early when it fails.
    pub(crate) async fn alongside(
        &mut self,
        main: impl Future<Output = Result<(), Fault>>,
    ) -> Result<(), Fault> {
        let mut main = pin!(main);
        poll_fn(|context| {
            if let Poll::Ready(done) = main.as_mut().poll(context) {
                return Poll::Ready(done);
            }
            if let Some(way) = &mut self.way
                && let Poll::Ready(done) = way.as_mut().poll(context)
            {
                self.way = None;
                match done {
                    Err(fault) if self.is_shared => self.failed = Some(fault),
                    Err(fault) => return Poll::Ready(Err(fault)),
                    Ok(()) => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Serves the client to the end.
    pub(crate) async fn finish(&mut self) -> Result<(), Fault> {
        match (self.way.take(), self.failed.take()) {
            (Some(way), _) => way.await,
            (None, Some(fault)) => Err(fault),
            (None, None) => Ok(()),
        }
    }

    /// Counts what of the body reached the client that did not get all of it.
    pub(crate) fn count(&self, facts: &Facts<'_>) {
        let body = self.backlog.written.get().saturating_sub(self.head);
        facts
            .response_bytes
            .set(body.min(facts.response_bytes.get()));
    }
}

/// Has `bring` write to a client at its pace.
async fn serve(
    (plane, client, paces): (&Plane, &Socket, Vec<Pace<'_>>),
    patience: Duration,
    bring: impl AsyncFnOnce(Writer<'_>, Toll<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let timer = plane.worker.deadlines.timer();
    let writer = Writer {
        sink: client,
        timer: &timer,
        patience,
        then: Then::Open,
    };
    let toll = Toll {
        plane,
        paces: &paces,
        way: Way::Down,
    };
    bring(writer, toll).await
}

/// Writes what comes until all has.
async fn bring(backlog: &Backlog, writer: Writer<'_>, toll: Toll<'_>) -> Result<(), Fault> {
    while let Some(piece) = backlog.next().await? {
        for part in piece.chunks(toll.piece()) {
            toll.pay(part.len()).await;
            writer.write(&mut [IoSlice::new(part)]).await?;
            backlog.leave(part.len());
        }
    }
    Ok(())
}

/// Serves the client to the end whose server is done, if it has not all yet.
pub(crate) async fn deliver(exchange: &mut Exchange<'_>, ending: Ending) -> Ending {
    let Some(mut delivery) = exchange.delivery.take() else {
        return ending;
    };
    let outcome = delivery.finish().await;
    exchange.facts.ended = Some(clock::now());
    let Err(fault) = outcome else {
        if delivery.is_shared {
            delivery.count(&exchange.facts);
        }
        return ending;
    };
    delivery.count(&exchange.facts);
    answer::cut(&mut exchange.facts, &fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Spool;
    use plimsoll_config::model;
    use proptest::prelude::*;
    use tokio::task::yield_now;

    /// Pushes `pieces`, one as often as the other end is looked at `eager` times.
    async fn fill(backlog: &Backlog, pieces: &[usize], eager: usize) -> Vec<u8> {
        let mut all = Vec::new();
        for (number, &length) in pieces.iter().enumerate() {
            let byte = |at: usize| u8::try_from((number * 7 + at) % 256).unwrap();
            let piece: Vec<u8> = (0..length).map(byte).collect();
            all.extend_from_slice(&piece);
            backlog.push(piece).await;
            for _ in 0..eager {
                yield_now().await;
            }
        }
        backlog.end();
        all
    }

    /// Takes all that comes, looks away in between, and notes how much was in memory at most.
    async fn take(backlog: &Backlog, lazy: usize) -> (Vec<u8>, usize) {
        let (mut all, mut most) = (Vec::new(), 0);
        while let Some(piece) = backlog.next().await.unwrap() {
            for _ in 0..lazy {
                yield_now().await;
                most = most.max(backlog.in_memory.get());
            }
            backlog.leave(piece.len());
            all.extend(piece);
        }
        (all, most)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the sizes, the room and the pace of the two ends: what goes in comes out in its
        /// order, and memory holds no more than it may, but for one piece.
        #[test]
        fn nothing_is_lost_or_out_of_turn(
            pieces in proptest::collection::vec(1_usize..3000, 0..60),
            memory in 1_usize..8000,
            disk in prop_oneof![Just(0), 1_u64..100_000],
            spool_max in 1_u64..100_000,
            (eager, lazy) in (0_usize..3, 0_usize..3),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let spool = Arc::new(Spool::new(&model::Spool {
                directory: directory.path().display().to_string().into(),
                max: spool_max,
            }));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let file = (disk > 0).then(|| SpoolFile::new(&spool, disk));
                let backlog = Backlog::new(memory, file);
                let (pushed, (taken, most)) =
                    tokio::join!(fill(&backlog, &pieces, eager), take(&backlog, lazy));
                prop_assert!(pushed == taken);
                prop_assert_eq!(backlog.in_memory.get(), 0);
                // A piece that comes from the disk is in memory too.
                let bound = memory + if disk > 0 { BUFFER_BYTES * 2 } else { 3000 };
                prop_assert!(most <= bound, "{} of {}", most, bound);
                Ok(())
            })?;
            prop_assert_eq!(spool.used(), 0);
        }
    }
}
