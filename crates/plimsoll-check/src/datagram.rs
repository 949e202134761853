//! One datagram to a server, and what it sends back.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use memchr::memmem;
use tokio::net::UdpSocket;

use crate::Failure;

/// What is sent, and what has to be in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpProbe {
    /// What is sent.
    pub send: Vec<u8>,
    /// What has to be in the answer; empty means that any will do.
    pub expect: Vec<u8>,
}

/// Sends what a probe says.
pub(crate) async fn ask(
    probe: &UdpProbe,
    first_words: &[u8],
    address: SocketAddr,
) -> Result<(), Failure> {
    let socket = open(first_words, &probe.send, address).await?;
    let answer = receive(&socket).await?;
    match memmem::find(&answer, &probe.expect) {
        Some(_) => Ok(()),
        None => Err(Failure::Answer("it answers something else".to_owned())),
    }
}

/// Asks a name server for the address of `name`, which has to exist; whether it has one does not matter.
pub(crate) async fn dns(
    name: &str,
    first_words: &[u8],
    address: SocketAddr,
) -> Result<(), Failure> {
    let id = RandomState::new().hash_one(name).to_le_bytes();
    let question = question([id[0], id[1]], name);
    let socket = open(first_words, &question, address).await?;
    loop {
        let answer = receive(&socket).await?;
        // Whatever is no answer to this question, which may be late, is not looked at.
        if let Some(code) = code(&question, &answer) {
            return match code {
                0 => Ok(()),
                code => Err(Failure::Answer(format!("it answers with {}", word(code)))),
            };
        }
    }
}

/// Sends one datagram to a server, from a socket of its own.
async fn open(first_words: &[u8], bytes: &[u8], to: SocketAddr) -> Result<UdpSocket, Failure> {
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let sent = async {
        let socket = UdpSocket::bind(from).await?;
        socket.connect(to).await?;
        socket.send(&[first_words, bytes].concat()).await?;
        Ok(socket)
    };
    sent.await.map_err(Failure::Unreachable)
}

/// The next datagram. A server that says by ICMP that nobody listens there is not to be reached.
async fn receive(socket: &UdpSocket) -> Result<Vec<u8>, Failure> {
    let mut room = vec![0; 65_535];
    let received = socket.recv(&mut room).await;
    let len = received.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Unreachable(error),
        _ => Failure::Io(error),
    })?;
    room.truncate(len);
    Ok(room)
}

/// A question for the address of `name`, with recursion desired (RFC 1035 §4.1).
fn question(id: [u8; 2], name: &str) -> Vec<u8> {
    let mut out = id.to_vec();
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = label.as_bytes().iter().take(63);
        out.push(u8::try_from(label.len()).unwrap_or_default());
        out.extend(label);
    }
    out.extend([0, 0, 1, 0, 1]);
    out
}

/// The code that `answer` answers `question` with; nothing when it is no answer to it.
fn code(question: &[u8], answer: &[u8]) -> Option<u8> {
    let (flags, code) = (answer.get(2)?, answer.get(3)? & 0x0f);
    let is_answer = flags & 0x80 != 0 && answer.get(..2) == question.get(..2);
    let is_same = answer.get(12..question.len()) == question.get(12..);
    // Who refuses or fails need not repeat the question.
    let is_bare = answer.get(4..6) == Some(&[0, 0]) && code != 0;
    (is_answer && (is_same || is_bare)).then_some(code)
}

/// What a code is called (RFC 1035 §4.1.1).
fn word(code: u8) -> String {
    match code {
        1 => "FORMERR".into(),
        2 => "SERVFAIL".into(),
        3 => "NXDOMAIN".into(),
        4 => "NOTIMP".into(),
        5 => "REFUSED".into(),
        code => format!("code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_what_is_none() {
        let asked = question([7, 8], "a.example.com.");
        assert_eq!(&asked[12..], b"\x01a\x07example\x03com\0\0\x01\0\x01");
        let answer = |id: u8, flags: u8, code: u8, questions: u8, rest: &[u8]| {
            [
                &[7, id, flags, code, 0, questions, 0, 0, 0, 0, 0, 0][..],
                rest,
            ]
            .concat()
        };
        let same = &asked[12..];
        assert_eq!(code(&asked, &answer(8, 0x81, 0x80, 1, same)), Some(0));
        assert_eq!(code(&asked, &answer(8, 0x81, 0x83, 1, same)), Some(3));
        assert_eq!(code(&asked, &answer(8, 0x81, 0x05, 0, b"")), Some(5));
        for other in [
            answer(9, 0x81, 0x80, 1, same),
            answer(8, 0x01, 0x00, 1, same),
            answer(8, 0x81, 0x80, 1, b"\x01b\x07example\x03com\0\0\x01\0\x01"),
            answer(8, 0x81, 0x80, 0, b""),
            b"\x07\x08".to_vec(),
        ] {
            assert_eq!(code(&asked, &other), None, "{other:?}");
        }
    }
}
