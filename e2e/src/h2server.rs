//! An HTTP/2 server that does, frame by frame, what a test says.

use crate::frame::Frame;
use crate::h2raw::{End, Event, Log, Message, Peer};
use crate::hpack::Field;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// The server. It stops when it is dropped, closing its connections.
pub struct H2Server {
    address: SocketAddr,
    log: Log,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    stopped: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl H2Server {
    /// Starts a server that says `settings` and then does `script` on each connection, which is told
    /// its number.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start(
        settings: &[(u16, u32)],
        script: impl Fn(&mut Peer, usize) + Send + Sync + 'static,
    ) -> Self {
        let hello = Frame::settings(settings);
        Self::start_raw(move |peer, number| {
            peer.send(&hello).ok(); // reading tells
            script(peer, number);
        })
    }

    /// Starts one that says nothing but what `script` does.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start_raw(script: impl Fn(&mut Peer, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let (log, streams, stopped) = (Log::default(), Arc::default(), Arc::default());
        let acceptor = thread::spawn({
            let (log, script) = (Arc::clone(&log), Arc::new(script));
            let (streams, stopped) = (Arc::clone(&streams), Arc::clone(&stopped));
            move || accept(&listener, &log, &streams, &stopped, &script)
        });
        Self {
            address,
            log,
            streams,
            stopped,
            acceptor: Some(acceptor),
        }
    }

    /// Starts one that answers each request with what `answer` makes of it, once it is complete.
    #[must_use]
    pub fn answering(answer: impl Fn(&Message) -> (u16, Vec<u8>) + Send + Sync + 'static) -> Self {
        Self::start(&[], move |peer, _| {
            while let Some(stream) = peer.next_request() {
                if peer.end_for_ever(stream) == End::Complete {
                    let request = peer.messages.get(&stream).cloned().unwrap_or_default();
                    let (status, body) = answer(&request);
                    peer.respond(stream, status, &body);
                }
            }
        })
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns all that came so far, with the number of the connection.
    #[must_use]
    pub fn events(&self) -> Vec<(usize, Event)> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns the heads of the requests so far, with the number of the connection.
    #[must_use]
    pub fn heads(&self) -> Vec<(usize, Vec<Field>)> {
        let head = |(number, event)| match event {
            Event::Head(_, head) => Some((number, head)),
            _ => None,
        };
        self.events().into_iter().filter_map(head).collect()
    }

    /// Returns how many connections there were.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.streams().len()
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for H2Server {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        TcpStream::connect(self.address).ok(); // wakes the listener, which then sees the flag
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().ok(); // it closes the listener, so the address is free again
        }
        for stream in &*self.streams() {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

fn accept<S: Fn(&mut Peer, usize) + Send + Sync + 'static>(
    listener: &TcpListener,
    log: &Log,
    streams: &Mutex<Vec<TcpStream>>,
    stopped: &AtomicBool,
    script: &Arc<S>,
) {
    for stream in listener.incoming().flatten() {
        if stopped.load(SeqCst) {
            return;
        }
        let Ok(copy) = stream.try_clone() else {
            continue;
        };
        let number = {
            let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.push(copy);
            streams.len() - 1
        };
        let (log, script) = (Arc::clone(log), Arc::clone(script));
        thread::spawn(move || {
            let Some(mut peer) = Peer::server(stream, number, &log) else {
                return;
            };
            script(&mut peer, number);
            peer.hang_up();
        });
    }
}

impl Peer {
    /// Waits for the head of a request that was not returned before; nothing when there will be none.
    pub fn next_request(&mut self) -> Option<u32> {
        loop {
            let new = self.messages.iter().find_map(|(stream, message)| {
                let is_new = !message.blocks.is_empty() && !self.returned.contains(stream);
                is_new.then_some(*stream)
            });
            if let Some(stream) = new {
                self.returned.insert(stream);
                return Some(stream);
            }
            if !self.step(None) {
                return None;
            }
        }
    }

    /// Waits until a stream has ended, however long that takes.
    pub fn end_for_ever(&mut self, stream: u32) -> End {
        loop {
            if let Some(end) = self.messages.get(&stream).and_then(|message| message.end) {
                return end;
            }
            if !self.step(None) {
                return End::Closed(crate::wire::Close::Fin);
            }
        }
    }

    /// Reads on until the other end closes.
    pub fn hold(&mut self) {
        while self.step(None) {}
    }
}

/// The streams that [`Peer::next_request`] has returned.
pub(crate) type Returned = BTreeSet<u32>;
