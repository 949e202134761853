//! A name server that says what it is told to say, rightly or wrongly.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What it says of every name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    /// These addresses, good for so many seconds.
    At(Vec<Ipv4Addr>, u32),
    /// There is no such name.
    NoSuchName,
    /// Something is broken.
    Failure,
    /// The name is there, and leads nowhere.
    Nowhere,
    /// Nothing at all.
    Silence,
}

/// The name server; stops when it is dropped.
pub struct NameServer {
    address: SocketAddr,
    say: Arc<Mutex<Say>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Starts on a port of the system's choice.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn start(say: Say) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let address = socket.local_addr().expect("a bound socket has an address");
        let patience = Some(Duration::from_millis(20));
        socket.set_read_timeout(patience).expect("it is not zero");
        let (say, stopped) = (Arc::new(Mutex::new(say)), Arc::new(AtomicBool::new(false)));
        let (said, stop) = (Arc::clone(&say), Arc::clone(&stopped));
        let thread = thread::spawn(move || {
            while !stop.load(SeqCst) {
                let say = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let _ = answer_one(&socket, &say); // or nobody asked
            }
        });
        Self {
            address,
            say,
            stopped,
            thread: Some(thread),
        }
    }

    /// Returns where it is asked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says something else from now on.
    pub fn say(&self, say: Say) {
        *self.say.lock().unwrap_or_else(PoisonError::into_inner) = say;
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer_one(socket: &UdpSocket, say: &Say) -> io::Result<()> {
    let mut packet = [0; 512];
    let (length, client) = socket.recv_from(&mut packet)?;
    let question = packet.get(..length).and_then(question);
    if let Some(answer) = question.and_then(|question| answer(question, say)) {
        socket.send_to(&answer, client)?;
    }
    Ok(())
}

/// The head and the question of a packet, RFC 1035 §4.1.
fn question(packet: &[u8]) -> Option<&[u8]> {
    let mut at = 12;
    loop {
        match *packet.get(at)? {
            0 => return packet.get(..at + 5),
            label => at += 1 + usize::from(label),
        }
    }
}

const A: u16 = 1;

fn answer(question: &[u8], say: &Say) -> Option<Vec<u8>> {
    let (code, addresses, seconds): (u8, &[Ipv4Addr], u32) = match say {
        Say::At(addresses, seconds) => (0, addresses, *seconds),
        Say::NoSuchName => (3, &[], 0),
        Say::Failure => (2, &[], 0),
        Say::Nowhere => (0, &[], 0),
        Say::Silence => return None,
    };
    let kind = question.get(question.len() - 4..question.len() - 2)?;
    let addresses = match kind == A.to_be_bytes() {
        true => addresses,
        false => &[],
    };
    let mut out = question.get(..2)?.to_vec();
    let counts = [1, u16::try_from(addresses.len()).ok()?, 0, 0];
    out.extend([0x81, 0x80 | code]);
    out.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
    out.extend(question.get(12..)?);
    for address in addresses {
        out.extend([0xc0, 12]); // the name of the question
        out.extend([A, 1].iter().flat_map(|number| number.to_be_bytes()));
        out.extend(seconds.to_be_bytes());
        out.extend([0, 4]);
        out.extend(address.octets());
    }
    Some(out)
}
