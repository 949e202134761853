//! Client and server leave HTTP, when they agree on it.

use plimsoll_http::framing::Length;
use plimsoll_http::reason::Reason;
use plimsoll_net::buffer::Buffer;

use crate::http::answer::Answer;
use crate::http::exchange::Ending;
use crate::http::failure::{Failure, Sent};
use crate::tunnel::{Tunnel, Way};

impl Answer<'_, '_> {
    /// Lets client and server speak another protocol; returns when they are done.
    pub(super) async fn tunnel(&mut self, buffer: &mut Buffer) -> Ending {
        self.encode(buffer.filled(), Length::Empty, true, None);
        self.facts.status = 101;
        buffer.take(self.response.len);
        let mut switched = std::mem::take(self.out);
        switched.extend_from_slice(buffer.filled());
        let said = self.seen.bytes.get(self.seen.head.len..);
        self.facts.session.becomes_tunnel();
        let tunnel = Tunnel {
            session: self.facts.session,
            client: self.client,
            server: self.server,
            timer: self.timer,
            idle: self
                .facts
                .site
                .map_or(self.patience, |site| site.timeouts.tunnel),
            until: None,
            cut: None, // who asked the server looks
            leaves: &|| false,
            buffers: &self.plane.worker.buffers,
            pipes: &self.plane.worker.pipes,
        };
        let up = Way {
            early: said.unwrap_or_default(),
            moved: self.uploaded,
            metric: None,
        };
        let down = Way {
            early: &switched,
            moved: self.facts.response_bytes,
            metric: None,
        };
        let end = tunnel.run(up, down).await;
        let head = switched.len() - buffer.filled().len();
        let moved = self.facts.response_bytes.get();
        self.facts
            .response_bytes
            .set(moved.saturating_sub(head as u64));
        if let Some((reason, detail)) = end.reason() {
            self.facts.blame(reason, detail);
        }
        Ending::Close
    }

    /// Checks that the server switches to the protocol that the client asks for.
    pub(super) fn check_switch(&self, bytes: &[u8]) -> Result<(), Failure> {
        let failed = |detail| Failure::upstream(Reason::HttpUpgradeFailed, detail, Sent::Answered);
        let upgrade = self.upgrade;
        let upgrade = upgrade.ok_or_else(|| failed("the server switched protocols unasked"))?;
        let checked = upgrade.check(self.seen.bytes, self.response, bytes);
        checked.map_err(failed)
    }

    /// Checks an answer that switches nothing: to a client of HTTP/2 that asks for another protocol any
    /// success would say that it is spoken (RFC 8441 §5).
    pub(super) fn check_no_switch(&self) -> Result<(), Failure> {
        let is_success = (200..300).contains(&self.response.status);
        match is_success && self.upgrade.is_some() && self.client.is_stream() {
            true => Err(Failure::upstream(
                Reason::HttpUpgradeFailed,
                "the server did not switch protocols",
                Sent::Answered,
            )),
            false => Ok(()),
        }
    }
}
