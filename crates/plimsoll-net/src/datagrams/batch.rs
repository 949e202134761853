//! Many datagrams with one system call.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::name::{Control, Name};

/// How many datagrams one call moves.
pub const SLOTS: usize = 32;

/// How long a datagram can be: what its length field can say.
const BYTES_MAX: usize = 65_535;

/// From one slot to the next. Not a multiple of 4 KiB: the beginnings of all slots, which are all that most
/// datagrams need, would share a few lines of the cache.
const STRIDE: usize = 65_536 + 192;

/// A datagram that has come, or is to go.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    /// The other end.
    pub peer: SocketAddr,
    /// Our end, where the socket has all addresses of the machine.
    pub local: Option<IpAddr>,
    len: usize,
}

/// Room for [`SLOTS`] datagrams, made once. Of 2 MiB of addresses it takes as much memory as the longest
/// datagrams have needed so far.
pub struct Batch {
    memory: Vec<u8>,
    datagrams: Vec<Datagram>,
    names: Vec<Name>,
    controls: Vec<Control>,
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Batch").field(&self.datagrams).finish()
    }
}

impl Default for Batch {
    fn default() -> Self {
        let part = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: it is numbers and pointers, for which zeros are values.
        #[expect(unsafe_code, reason = "some systems have fields in it without a name")]
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        Self {
            memory: vec![0; SLOTS * STRIDE],
            datagrams: Vec::with_capacity(SLOTS),
            names: vec![Name::default(); SLOTS],
            controls: vec![Control::default(); SLOTS],
            parts: vec![part; SLOTS],
            headers: vec![header; SLOTS],
        }
    }
}

/// What headers say of a datagram beside where its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// There is room for both ends.
    Room,
    /// Both ends, as they are written there.
    Ends,
    /// Nothing: the socket is connected.
    Nothing,
}

impl Batch {
    /// What is in it, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Datagram, &[u8])> {
        let slots = self.memory.chunks_exact(STRIDE);
        let filled = self.datagrams.iter().zip(slots);
        filled.map(|(datagram, slot)| (datagram, slot.get(..datagram.len).unwrap_or_default()))
    }

    /// The bytes of the last `count` datagrams.
    pub fn last(&self, count: usize) -> impl Iterator<Item = &[u8]> {
        let before = self.datagrams.len().saturating_sub(count);
        self.iter().skip(before).map(|(_, bytes)| bytes)
    }

    /// How many bytes the last `count` datagrams have.
    pub fn bytes_of_last(&self, count: usize) -> u64 {
        let last = self.datagrams.iter().rev().take(count);
        last.map(|datagram| datagram.len as u64).sum()
    }

    /// Forgets what is in it.
    pub fn clear(&mut self) {
        self.datagrams.clear();
    }

    /// Tells whether no further datagram fits in.
    pub fn is_full(&self) -> bool {
        self.datagrams.len() == SLOTS
    }

    /// Fills it anew with what has come to a socket that many send to; returns how many came. Those whose
    /// sender has no address to answer to are there no more.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> Result<usize, Errno> {
        self.datagrams.clear();
        self.prepare(0, SLOTS, Beside::Room);
        let received = self.call_receive(socket, 0, SLOTS)?;
        let ends = self.headers.iter().zip(&self.names).zip(&self.controls);
        let unknown = SocketAddr::from(([0; 4], 0));
        let datagrams = ends
            .take(received)
            .map(|((header, name), control)| Datagram {
                peer: name.read().unwrap_or(unknown),
                local: control.read(header.msg_hdr.msg_controllen),
                len: (header.msg_len as usize).min(BYTES_MAX),
            });
        self.datagrams.extend(datagrams);
        Ok(received)
    }

    /// Adds up to `most` that have come to a connected socket, as far as there is room, to go to these ends.
    pub(super) fn append(
        &mut self,
        socket: BorrowedFd<'_>,
        most: usize,
        (peer, local): (SocketAddr, Option<IpAddr>),
    ) -> Result<usize, Errno> {
        let from = self.datagrams.len();
        let until = SLOTS.min(from + most);
        if until == from + 1 {
            return self.append_one(socket, (peer, local));
        }
        self.prepare(from, until, Beside::Nothing);
        let received = self.call_receive(socket, from, until)?;
        let headers = self.headers.iter().skip(from).take(received);
        self.datagrams.extend(headers.map(|header| Datagram {
            peer,
            local,
            len: (header.msg_len as usize).min(BYTES_MAX),
        }));
        Ok(received)
    }

    /// Adds one, which takes less than adding many.
    fn append_one(
        &mut self,
        socket: BorrowedFd<'_>,
        (peer, local): (SocketAddr, Option<IpAddr>),
    ) -> Result<usize, Errno> {
        let slot = self.datagrams.len() * STRIDE;
        let slot = self.memory.get_mut(slot..slot + BYTES_MAX);
        let (len, _) = recv(socket, slot.unwrap_or_default(), RecvFlags::DONTWAIT)?;
        self.datagrams.push(Datagram { peer, local, len });
        Ok(1)
    }

    /// Sends what is in it and empties it; returns how many went, and how many bytes they have.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>) -> (usize, u64) {
        let count = self.datagrams.len();
        self.prepare(0, count, Beside::Ends);
        let (mut at, mut sent, mut bytes) = (0, 0, 0);
        while at < count {
            match self.call_send(socket, at, count) {
                Ok(went) => {
                    let gone = self.datagrams.iter().skip(at).take(went);
                    bytes += gone.map(|datagram| datagram.len as u64).sum::<u64>();
                    sent += went;
                    at += went.max(1);
                }
                Err(Errno::INTR) => {}
                // There is no room for it now, or no way to its client: so it is lost, as on any link.
                Err(_) => at += 1,
            }
        }
        self.datagrams.clear();
        (sent, bytes)
    }

    /// Has the headers from `from` on, before `until`, say where datagrams are, or may be put.
    fn prepare(&mut self, from: usize, until: usize, beside: Beside) {
        let slots = self.memory.chunks_exact_mut(STRIDE);
        let ends = self.names.iter_mut().zip(&mut self.controls);
        let rows = self.headers.iter_mut().zip(&mut self.parts);
        let rows = rows.zip(slots).zip(ends).enumerate();
        for (at, (((header, part), slot), (name, control))) in rows.take(until).skip(from) {
            let datagram = self.datagrams.get(at);
            part.iov_base = slot.as_mut_ptr().cast();
            part.iov_len = datagram.map_or(BYTES_MAX, |datagram| datagram.len);
            let header = &mut header.msg_hdr;
            header.msg_iov = ptr::from_mut(part);
            header.msg_iovlen = 1;
            header.msg_flags = 0;
            let (name_len, control_len) = match (beside, datagram) {
                (Beside::Room, _) => (size_of::<Name>(), size_of::<Control>()),
                (Beside::Ends, Some(datagram)) => {
                    let local = datagram.local.map_or(0, |local| control.write(local));
                    (name.write(&datagram.peer) as usize, local)
                }
                _ => (0, 0),
            };
            header.msg_name = match name_len {
                0 => ptr::null_mut(),
                _ => ptr::from_mut(name).cast(),
            };
            header.msg_namelen = u32::try_from(name_len).unwrap_or_default();
            header.msg_control = match control_len {
                0 => ptr::null_mut(),
                _ => ptr::from_mut(control).cast(),
            };
            header.msg_controllen = control_len;
        }
    }

    /// Receives into the slots from `from` on, before `until`, which have been prepared.
    fn call_receive(
        &mut self,
        socket: BorrowedFd<'_>,
        from: usize,
        until: usize,
    ) -> Result<usize, Errno> {
        let headers = self.headers.get_mut(from..until).unwrap_or_default();
        let count = u32::try_from(headers.len()).unwrap_or_default();
        // SAFETY: each header points to memory of `self` of the lengths that it gives, which nobody else
        // has while this runs.
        #[expect(unsafe_code, reason = "no safe wrapper receives many at once")]
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| last_error())
    }

    /// Sends the datagrams from `from` on, before `until`, which have been prepared.
    fn call_send(
        &mut self,
        socket: BorrowedFd<'_>,
        from: usize,
        until: usize,
    ) -> Result<usize, Errno> {
        let headers = self.headers.get_mut(from..until).unwrap_or_default();
        let count = u32::try_from(headers.len()).unwrap_or_default();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: each header points to memory of `self` of the lengths that it gives, which nobody else
        // has while this runs; the kernel writes nothing but the headers.
        #[expect(unsafe_code, reason = "the safe wrapper wants new headers")]
        let sent =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags) };
        usize::try_from(sent).map_err(|_| last_error())
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
