//! What the two ends tell each other of themselves (RFC 9113 §6.5).

use super::frame::Reason;
use super::window;

/// The settings that we know.
mod setting {
    pub(super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(super) const ENABLE_PUSH: u16 = 2;
    pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(super) const MAX_FRAME_SIZE: u16 = 5;
    pub(super) const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub(super) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// What a peer has said of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// The window of a new stream.
    pub(super) window: u32,
    /// Streams that we may have open at once.
    pub(super) streams: u32,
    /// Whether it takes an extended CONNECT (RFC 8441 §3).
    pub(super) takes_websocket: bool,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            window: window::INITIAL,
            streams: u32::MAX,
            takes_websocket: false,
        }
    }
}

impl Peer {
    /// Takes a frame of them; a size of the table has to be heard whenever it is said, and is told to `resize`.
    pub(super) fn take(
        &mut self,
        payload: &[u8],
        mut resize: impl FnMut(u32),
    ) -> Result<(), Reason> {
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        for [a, b, c, d, e, f] in settings {
            let value = u32::from_be_bytes([*c, *d, *e, *f]);
            match (u16::from_be_bytes([*a, *b]), value) {
                (setting::HEADER_TABLE_SIZE, size) => resize(size),
                (setting::INITIAL_WINDOW_SIZE, 0x8000_0000..) => {
                    return Err(Reason::FLOW_CONTROL_ERROR);
                }
                (setting::INITIAL_WINDOW_SIZE, size) => self.window = size,
                (setting::MAX_CONCURRENT_STREAMS, most) => self.streams = most,
                (setting::ENABLE_CONNECT_PROTOCOL, 1) => self.takes_websocket = true,
                (setting::ENABLE_PUSH | setting::ENABLE_CONNECT_PROTOCOL, 2..)
                | (setting::MAX_FRAME_SIZE, ..0x4000 | 0x100_0000..) => {
                    return Err(Reason::PROTOCOL_ERROR);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a connection allows its peer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams that a client may have open at once.
    pub streams: u32,
    /// The largest head, as HTTP/2 counts (RFC 9113 §6.5.2).
    pub head: u32,
    /// What may come on one stream before it is read.
    pub stream_window: u32,
    /// What may come on all streams together before it is read.
    pub connection_window: u32,
    /// Streams that break rules, before the connection ends.
    pub errors: u32,
}

impl Limits {
    /// What a client is told.
    pub(super) fn for_clients(&self) -> Vec<u8> {
        payload(&[
            (setting::MAX_CONCURRENT_STREAMS, self.streams),
            (setting::INITIAL_WINDOW_SIZE, self.stream_window),
            (setting::MAX_HEADER_LIST_SIZE, self.head),
            (setting::ENABLE_CONNECT_PROTOCOL, 1),
        ])
    }

    /// What a server is told.
    pub(super) fn for_servers(&self) -> Vec<u8> {
        payload(&[
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, self.stream_window),
            (setting::MAX_HEADER_LIST_SIZE, self.head),
        ])
    }
}

fn payload(settings: &[(u16, u32)]) -> Vec<u8> {
    let bytes = settings.iter().flat_map(|(setting, value)| {
        let ([a, b], [c, d, e, f]) = (setting.to_be_bytes(), value.to_be_bytes());
        [a, b, c, d, e, f]
    });
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(settings: &[(u16, u32)]) -> Result<(Peer, Vec<u32>), Reason> {
        let (mut peer, mut sizes) = (Peer::default(), Vec::new());
        peer.take(&payload(settings), |size| sizes.push(size))?;
        Ok((peer, sizes))
    }

    #[test]
    fn what_is_said_is_heard() {
        let (peer, sizes) = taken(&[
            (1, 0),
            (1, 100),
            (3, 7),
            (4, 9),
            (5, 16_384),
            (8, 1),
            (99, 99),
        ])
        .unwrap();
        assert_eq!(
            (peer.streams, peer.window, peer.takes_websocket),
            (7, 9, true)
        );
        assert_eq!(sizes, [0, 100]);
        assert_eq!(
            Peer::default().take(&[0; 5], |_| ()),
            Err(Reason::FRAME_SIZE_ERROR)
        );
    }

    #[test]
    fn what_may_not_be_said_ends_the_connection() {
        for (setting, value, reason) in [
            (2, 2, Reason::PROTOCOL_ERROR),
            (8, 2, Reason::PROTOCOL_ERROR),
            (4, 1 << 31, Reason::FLOW_CONTROL_ERROR),
            (5, 16_383, Reason::PROTOCOL_ERROR),
            (5, 1 << 24, Reason::PROTOCOL_ERROR),
        ] {
            assert_eq!(
                taken(&[(setting, value)]).unwrap_err(),
                reason,
                "{setting} {value}"
            );
        }
    }
}
