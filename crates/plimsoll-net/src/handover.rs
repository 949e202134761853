//! Open descriptors on their way to another process, over a Unix socket (`SCM_RIGHTS`, unix(7)).

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// How many go at once; the kernel takes 253.
const AT_ONCE: usize = 64;

/// The longest text, in bytes.
const TEXT_MAX: usize = 16 * 1024 * 1024;

/// The most descriptors.
const DESCRIPTORS_MAX: usize = 65_536;

/// Sends a text, and descriptors that it speaks of.
///
/// # Errors
/// As those of sockets; of kind `InvalidInput` when it is too much.
pub fn send(line: &mut UnixStream, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if text.len() > TEXT_MAX || descriptors.len() > DESCRIPTORS_MAX {
        return Err(ErrorKind::InvalidInput.into());
    }
    let lengths = [text.len(), descriptors.len()]
        .map(|length| u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
    line.write_all(lengths.as_flattened())?;
    line.write_all(text)?;
    for some in descriptors.chunks(AT_ONCE) {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(some)) {
            return Err(ErrorKind::InvalidInput.into());
        }
        // They need a byte to go with.
        sendmsg(
            &*line,
            &[IoSlice::new(&[0])],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
    }
    Ok(())
}

/// Receives what [`send`] has sent.
///
/// # Errors
/// As those of sockets; of kind `InvalidData` when it is something else, or too much.
pub fn receive(line: &mut UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let [length, count] = [
        read_length(line, TEXT_MAX)?,
        read_length(line, DESCRIPTORS_MAX)?,
    ];
    let mut text = vec![0; length];
    line.read_exact(&mut text)?;
    let mut descriptors = Vec::with_capacity(count);
    while descriptors.len() < count {
        let before = descriptors.len();
        receive_some(line, &mut descriptors)?;
        if descriptors.len() == before {
            return Err(ErrorKind::InvalidData.into());
        }
    }
    match descriptors.len() == count {
        true => Ok((text, descriptors)),
        false => Err(ErrorKind::InvalidData.into()),
    }
}

fn read_length(line: &mut UnixStream, max: usize) -> io::Result<usize> {
    let mut length = [0; 8];
    line.read_exact(&mut length)?;
    let length = usize::try_from(u64::from_be_bytes(length)).ok();
    length
        .filter(|length| *length <= max)
        .ok_or_else(|| ErrorKind::InvalidData.into())
}

fn receive_some(line: &UnixStream, descriptors: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let room = &mut [IoSliceMut::new(&mut byte)];
    let received = recvmsg(line, room, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Seek;
    use std::os::fd::AsFd;

    #[test]
    fn as_many_arrive_as_were_sent_and_lead_to_the_same_files() {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let all: Vec<_> = (0..AT_ONCE * 2 + 3).map(|_| file.as_fd()).collect();
        send(&mut one, b"text", &all).unwrap();
        let (text, received) = receive(&mut other).unwrap();
        assert_eq!((&*text, received.len()), (&b"text"[..], all.len()));
        (&file).write_all(b"through another").unwrap();
        let mut same = File::from(received.into_iter().next_back().unwrap());
        let mut content = String::new();
        same.rewind().unwrap();
        same.read_to_string(&mut content).unwrap();
        assert_eq!(content, "through another");
    }

    #[test]
    fn what_is_no_handover_is_refused() {
        for said in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 15], &[]] {
            let (mut one, mut other) = UnixStream::pair().unwrap();
            one.write_all(said).unwrap();
            drop(one);
            assert!(receive(&mut other).is_err(), "{said:?}");
        }
    }

    #[test]
    fn descriptors_that_were_promised_have_to_come() {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let lengths = [0_u64, 2].map(u64::to_be_bytes);
        one.write_all(lengths.as_flattened()).unwrap();
        one.write_all(&[0; 8]).unwrap();
        drop(one);
        let error = receive(&mut other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
}
