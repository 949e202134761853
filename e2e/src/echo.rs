//! Servers that send back what comes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;

/// What a client says that would speak WebSocket (RFC 6455 §1.3).
pub const WEBSOCKET: &[u8] =
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// What a server says that agrees.
pub const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Starts one that, after a head if there is something to answer it with, sends back every byte. It runs until the test ends.
///
/// # Panics
/// If there is no port.
#[must_use]
pub fn connections(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !answer.is_empty() && !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut byte) {
                        Ok(1) => head.extend(byte),
                        _ => return,
                    }
                }
                stream.write_all(answer).ok();
                if let Ok(mut from) = stream.try_clone() {
                    std::io::copy(&mut from, &mut stream).ok();
                }
            });
        }
    });
    address
}

/// Starts one for datagrams of up to 64 bytes. It runs until the test ends.
///
/// # Panics
/// If there is no port.
#[must_use]
pub fn datagrams() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("there is a port");
    let address = socket.local_addr().expect("it is bound");
    thread::spawn(move || {
        let mut room = [0; 64];
        while let Ok((count, from)) = socket.recv_from(&mut room) {
            let received = room.get(..count).unwrap_or_default();
            socket.send_to(received, from).ok();
        }
    });
    address
}
