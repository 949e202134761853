//! The answer of a server, on its way down to the client.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use plimsoll_http::chunked::Decoded;
use plimsoll_http::framing::{Framing, Length, Reuse};
use plimsoll_http::h1::encode;
use plimsoll_http::h1::parse::{self, Attempts, BadHead, Parsed};
use plimsoll_http::head::{ResponseHead, Version};
use plimsoll_http::reason::Reason;
use plimsoll_http::upgrade::Upgrade;
use plimsoll_net::buffer::Buffer;
use plimsoll_net::deadline::Timer;
use plimsoll_net::socket::Socket;
use plimsoll_net::stream::{self, Then};
use plimsoll_net::{clock, tls};

use crate::coder::Lent;
use crate::door::Door;
use crate::edits::Edits;
use crate::http::attempt::Terms;
use crate::http::backlog::Delivery;
use crate::http::compress::{self, Change};
use crate::http::dress::Dress;
use crate::http::exchange::{Ending, Facts};
use crate::http::failure::{Failure, Sent, is_turned_away};
use crate::http::flow::{Coding, Copies, Fault, Flow, Sink, Writer, encode_piece, ended};
use crate::http::internal::{Elsewhere, Redirects};
use crate::http::mirror::Digest;
use crate::http::pace::Toll;
use crate::http::shared::Cached;
use crate::http::store::Filling;
use crate::http::upload::{Progress, Upload, client_failure};
use crate::plane::Plane;
use crate::seen::Seen;

/// Interim answers to one request.
const INTERIM_MAX: u32 = 32;

/// How long a server may think before its client is watched: most answers come before, and
/// watching a client that makes one request and leaves costs as much as a part of it.
pub(crate) const WATCH_AFTER: Duration = Duration::from_millis(100);

/// How far the wait for an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// It has not begun.
    NotYet,
    /// Only the server is watched; this is its deadline.
    Until(Instant),
    /// The client is watched too.
    Client,
}

/// Whether the server's connection may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Yes,
    No,
}

/// The answer, on its way down.
pub(crate) struct Answer<'a, 'x> {
    pub(crate) plane: &'a Plane,
    pub(crate) door: &'a Door,
    pub(crate) client: &'a Socket,
    pub(crate) server: &'a Socket,
    pub(crate) timer: &'a Timer,
    pub(crate) response: &'a mut ResponseHead,
    pub(crate) out: &'a mut Vec<u8>,
    /// What sees all of it, where that is wanted.
    pub(crate) digest: Option<&'a RefCell<Digest>>,
    /// What it is to caches.
    pub(crate) cached: &'a mut Cached<'x>,
    /// Lines that rules add to its head.
    pub(crate) added: &'a mut Vec<u8>,
    /// Lines that go with whatever answer.
    pub(crate) fields: &'a [u8],
    /// Where servers sent the request.
    pub(crate) redirects: &'a mut Redirects,
    /// What brings it to the client, where it waits for that.
    pub(crate) delivery: &'a mut Option<Delivery<'x>>,
    /// The request as rules see it.
    pub(crate) seen: Seen<'a>,
    pub(crate) facts: &'a mut Facts<'x>,
    pub(crate) patience: Duration,
    pub(crate) terms: &'a Terms<'a>,
    /// Whether the client's connection may go on, as far as the request is concerned.
    pub(crate) persists: bool,
    /// When the request was sent, as far as it had come.
    pub(crate) sent: Instant,
    /// What limits the speed of its body.
    pub(crate) toll: Toll<'a>,
    /// The protocol that the client asks for instead of HTTP.
    pub(crate) upgrade: Option<Upgrade>,
    /// Counts what the client sends.
    pub(crate) uploaded: &'a Cell<u64>,
}

/// The body of an answer whose head has been read.
pub(super) struct Body<'b> {
    pub(super) framing: &'b mut Framing,
    /// Head and body, as far as they are here.
    pub(super) buffer: &'b mut Buffer,
    /// What of the body came with the head.
    pub(super) first: Decoded,
    /// How the client finds its end.
    coding: Coding<'b>,
    /// What compresses it.
    coder: Option<&'b RefCell<Lent>>,
}

impl Body<'_> {
    /// What of the body came with the head, as the client gets it.
    fn first_piece(&self, head: &ResponseHead) -> Result<Cow<'_, [u8]>, Fault> {
        let data = piece(self.buffer, head, &self.first);
        let Some(coder) = self.coder else {
            return Ok(Cow::Borrowed(data));
        };
        let data = coder.borrow_mut().encode(data, self.framing.is_complete());
        data.map(Cow::Owned).map_err(|_| Fault::Coder)
    }
}

impl<'a, 'x> Answer<'a, 'x> {
    /// Waits for the answer and passes it on.
    pub(crate) async fn pass_on(
        mut self,
        upload: &mut Upload<'_>,
    ) -> Result<(Ending, Keep), Failure> {
        let sent = self.sent;
        let mut buffer = self.plane.worker.buffers.lend();
        let progress = upload.progress;
        let head = upload
            .alongside(self.final_head(&mut buffer, progress, sent))
            .await;
        head.map_err(|fault| client_failure(&fault))??;
        self.facts.first_byte = Some(clock::now().duration_since(sent));
        if self.response.status == 101 {
            // Boxed, as what nearly no request needs.
            return Ok((Box::pin(self.tunnel(&mut buffer)).await, Keep::No));
        }
        self.check_no_switch()?;
        if let Some(object) = self.confirmed(buffer.filled()) {
            let keep = self.leave(&mut buffer, progress.get());
            return Ok((self.give(&object, progress.get()), keep));
        }
        if let Some(sent) = self.withheld(buffer.filled()) {
            return Err(Failure {
                status: self.response.status,
                keep: self.leave(&mut buffer, progress.get()),
                ..Failure::upstream(Reason::HttpResponseStatus, "", sent)
            });
        }
        if let Some(bond) = self.terms.bond.filter(|bond| bond.sticky.learns()) {
            let now = self.plane.since_start(sent);
            let bytes = buffer.filled();
            bond.sticky.learn(self.response, bytes, bond.server, now);
        }
        self.note_success();
        let (mut framing, first) = self.framing(&mut buffer)?;
        // No coding makes an answer one that ends with its connection.
        let (length, _) = self.client_length(framing.length());
        let persists = self.persists
            && !self.door.keeps_nobody()
            && progress.get() == Progress::Sent
            && length != Length::UntilClose;
        let shared = self.store(buffer.filled(), framing.length(), persists);
        let change = match shared {
            Some(_) => None,
            None => self.change(buffer.filled(), framing.length()),
        };
        let coder = change.as_ref().and_then(|change| change.coder.as_ref());
        let length = coder.map_or_else(|| framing.length(), |_| Length::Chunked);
        let (length, coding) = self.client_length(length);
        if shared.is_none() {
            self.encode(buffer.filled(), length, persists, change.as_ref());
            self.facts.status = self.response.status;
            self.facts.response_bytes.set(first.data as u64);
        }
        self.copy(&buffer, &first);
        let body = Body {
            framing: &mut framing,
            buffer: &mut buffer,
            first,
            coding,
            coder,
        };
        let outcome = match (shared, self.delivery.take()) {
            (None, None) => self.stream(body, upload, persists).await,
            // Boxed: a future as large as this is moved with each request, and nearly none needs it.
            (None, Some(delivery)) => Box::pin(self.hold(body, upload, delivery)).await,
            (Some(delivery), _) => Box::pin(self.fill(body, upload, delivery)).await,
        };
        let ending = self.judge(outcome, persists);
        self.complete(ending);
        // Bytes behind the end belong to no answer (RFC 9112 §6.3).
        let keep = framing.reuse() == Reuse::Keep && buffer.is_empty();
        Ok((ending, if keep { Keep::Yes } else { Keep::No }))
    }

    /// Decides whether the answer is compressed.
    fn change(&self, bytes: &[u8], length: Length) -> Option<Change> {
        compress::change(
            (self.facts, &self.plane.coders),
            &self.seen,
            (self.response, bytes),
            length,
        )
    }

    /// Tells those who get a copy that they have all of it, if they do.
    fn complete(&mut self, ending: Ending) {
        if let (Some(filling), Ending::Keep | Ending::Close) = (&mut self.cached.filling, ending) {
            filling.complete();
        }
        if let (Some(digest), Ending::Keep | Ending::Close) = (self.digest, ending) {
            digest.borrow_mut().complete();
        }
    }

    /// Tells whether, and why, the client does not get this answer.
    fn withheld(&mut self, bytes: &[u8]) -> Option<Sent> {
        let status = self.response.status;
        if self
            .cached
            .filling
            .as_ref()
            .is_some_and(|filling| filling.replaces(status))
        {
            return Some(Sent::Hidden);
        }
        if (self.terms.is_passed_over)(status) {
            return Some(Sent::PassedOver);
        }
        let site = self.facts.site?;
        if site.routes.has_internal() {
            self.redirects.next = Elsewhere::of(self.response, bytes);
            if self.redirects.next.is_some() {
                return Some(Sent::Elsewhere);
            }
        }
        (site.hide.errors && status >= 500).then_some(Sent::Hidden)
    }

    /// Leaves an answer that the client does not get; tells whether its connection may be kept, as
    /// it may when all of the request is there and all of the answer here.
    fn leave(&self, buffer: &mut Buffer, progress: Progress) -> Keep {
        let Ok((framing, first)) = self.framing(buffer) else {
            return Keep::No;
        };
        buffer.take(self.response.len + first.consumed);
        match framing.reuse() {
            Reuse::Keep if buffer.is_empty() && progress == Progress::Sent => Keep::Yes,
            _ => Keep::No,
        }
    }

    fn writer(&self, then: Then) -> Writer<'a> {
        Writer {
            sink: self.client,
            timer: self.timer,
            patience: self.patience,
            then,
        }
    }

    /// The framing of the answer, and what of its body came with the head.
    fn framing(&self, buffer: &mut Buffer) -> Result<(Framing, Decoded), Failure> {
        let bad = |detail| Failure::upstream(Reason::HttpProtocolError, detail, Sent::Answered);
        let framing = Framing::of_response(self.response, buffer.filled(), self.seen.head.method);
        let mut framing = framing.map_err(|_| bad("ambiguous length"))?;
        let body = buffer
            .filled_mut()
            .get_mut(self.response.len..)
            .unwrap_or_default();
        let first = framing
            .decode(body)
            .map_err(|_| bad("malformed chunked body"))?;
        Ok((framing, first))
    }

    /// Writes the head for the client.
    pub(super) fn encode(
        &mut self,
        bytes: &[u8],
        length: Length,
        persists: bool,
        change: Option<&Change>,
    ) {
        let dress = Dress {
            plane: self.plane,
            seen: self.seen,
            facts: self.facts,
            fields: self.fields,
            carried: &self.redirects.carried,
            mark: self.terms.bond.and_then(|bond| bond.mark),
            upgrade: self.upgrade,
            status: None,
            persists,
            change,
        };
        dress.write((self.response, bytes), length, (self.added, self.out));
    }

    /// Passes head and body on as they come. The outer fault is one of the upload.
    async fn stream(
        &mut self,
        body: Body<'_>,
        upload: &mut Upload<'_>,
        persists: bool,
    ) -> Result<Result<(), Fault>, Fault> {
        let is_last = !persists && body.framing.is_complete();
        let writer = self.writer(if is_last { Then::End } else { Then::Open });
        let (toll, out) = (self.toll, &mut *self.out);
        let first = match body.first_piece(self.response) {
            Ok(first) => first,
            Err(fault) => return Ok(Err(fault)),
        };
        self.facts.response_bytes.set(first.len() as u64);
        let first = async {
            toll.pay(first.len()).await;
            let end = ended(body.framing);
            writer.write_message(out, &first, end, body.coding).await
        };
        let written = upload.alongside(first).await?;
        body.buffer.take(self.response.len + body.first.consumed);
        if written.is_err() || body.framing.is_complete() {
            return Ok(written);
        }
        let flow = self.rest(body, Sink::Socket(self.client), self.toll);
        upload.alongside(flow.run()).await
    }

    /// Has head and body wait for the client, and returns when the server is done with them. What waits
    /// is brought to the client later. The outer fault is one of the upload.
    async fn hold(
        &mut self,
        body: Body<'_>,
        upload: &mut Upload<'_>,
        mut delivery: Delivery<'x>,
    ) -> Result<Result<(), Fault>, Fault> {
        let mut message = self.out.clone();
        let first = match body.first_piece(self.response) {
            Ok(first) => first,
            Err(fault) => return Ok(Err(fault)),
        };
        encode_piece(&mut message, &first, ended(body.framing), body.coding);
        drop(first);
        body.buffer.take(self.response.len + body.first.consumed);
        delivery.begin(self.out.len(), message).await;
        let backlog = Rc::clone(&delivery.backlog);
        let free = Toll {
            paces: &[],
            ..self.toll
        };
        let flow =
            (!body.framing.is_complete()).then(|| self.rest(body, Sink::Backlog(&backlog), free));
        let filling = async {
            if let Some(flow) = flow {
                flow.run().await?;
            }
            backlog.end();
            Ok(())
        };
        let mut outcome = upload.alongside(delivery.alongside(filling)).await;
        // As long as the server still reads, it is not done.
        if matches!(outcome, Ok(Ok(()))) && upload.progress.get() == Progress::UnderWay {
            outcome = upload.alongside(delivery.finish()).await;
        }
        match outcome {
            Ok(Ok(())) => *self.delivery = Some(delivery),
            _ => delivery.count(self.facts),
        }
        outcome
    }

    /// Shows what has come of the answer to those who get a copy.
    fn copy(&self, buffer: &Buffer, first: &Decoded) {
        if let Some(digest) = self.digest {
            let took = clock::now().duration_since(self.sent);
            let mut digest = digest.borrow_mut();
            digest.head(self.response, buffer.filled(), took);
        }
        self.copies().push(piece(buffer, self.response, first));
    }

    /// Who gets a copy of the body.
    fn copies(&self) -> Copies<'_> {
        Copies {
            digest: self.digest,
            stored: self.cached.filling.as_ref().and_then(Filling::body),
        }
    }

    /// The rest of the body, on its way.
    pub(super) fn rest<'f>(&'f self, body: Body<'f>, sink: Sink<'f>, toll: Toll<'f>) -> Flow<'f> {
        Flow {
            source: self.server,
            sink,
            framing: body.framing,
            buffer: body.buffer,
            coding: body.coding,
            timer: self.timer,
            patience: self.patience,
            moved: self.facts.response_bytes,
            limit: None,
            min_rate: 0,
            pipes: &self.plane.worker.pipes,
            toll,
            copies: self.copies(),
            coder: body.coder,
        }
    }

    /// Reads heads until a final one is there; passes interim ones on.
    async fn final_head(
        &mut self,
        buffer: &mut Buffer,
        progress: &Cell<Progress>,
        sent: Instant,
    ) -> Result<(), Failure> {
        let mut interim = 0;
        loop {
            self.read_head(buffer, progress, sent, interim > 0).await?;
            match self.response.status {
                101 => return self.check_switch(buffer.filled()),
                100..=199 => {}
                _ => return Ok(()),
            }
            interim += 1;
            if interim > INTERIM_MAX {
                return Err(Failure::upstream(
                    Reason::HttpProtocolError,
                    "too many interim answers",
                    Sent::Answered,
                ));
            }
            if self.seen.head.version != Version::Http10 {
                self.out.clear();
                encode::interim(self.response, buffer.filled(), self.out);
                let writer = self.writer(Then::Open);
                let written = writer.write(&mut [IoSlice::new(self.out)]).await;
                written.map_err(|_| Failure::downstream(Reason::ClientAborted, ""))?;
            }
            buffer.take(self.response.len);
        }
    }

    async fn read_head(
        &mut self,
        buffer: &mut Buffer,
        progress: &Cell<Progress>,
        sent: Instant,
        is_answered: bool,
    ) -> Result<(), Failure> {
        let mut attempts = Attempts::default();
        let mut watch = Watch::NotYet;
        let mut left = pin!(self.client.broken());
        let uploads = progress.get() == Progress::UnderWay;
        let most = self.toll.piece();
        loop {
            if !buffer.is_empty() && attempts.worthwhile(buffer.filled()) {
                match parse::response(buffer.filled(), self.response).map_err(bad_head)? {
                    Parsed::Complete => return Ok(()),
                    Parsed::Partial => {}
                }
            }
            buffer.compact();
            let read = poll_fn(|context| {
                let read = stream::poll_read_some(self.server, context, buffer, most);
                if let Poll::Ready(read) = read {
                    return Poll::Ready(Ok(read));
                }
                if progress.get() == Progress::UnderWay {
                    return Poll::Pending; // the client's time, watched by the upload
                }
                if watch == Watch::NotYet {
                    // The server's time begins when the request has been sent.
                    let from = if uploads { clock::now() } else { sent };
                    let deadline = self.terms.deadline(from);
                    self.timer.set(deadline.min(from + WATCH_AFTER));
                    watch = Watch::Until(deadline);
                }
                if let Watch::Until(deadline) = watch {
                    ready!(self.timer.poll(context));
                    self.timer.set(deadline);
                    watch = Watch::Client;
                }
                if left.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Err(Failure::downstream(Reason::ClientAborted, "")));
                }
                self.timer.poll(context).map(|_| Err(self.terms.late()))
            });
            match read.await? {
                Ok(1..) => {}
                Err(error) if stream::is_untouched(&error) => {
                    let reason = Reason::ConnectionTerminated;
                    return Err(Failure::upstream(reason, "", Sent::Untouched));
                }
                ended => {
                    let nothing = buffer.is_empty() && !is_answered;
                    if let Some(fault) = ended.as_ref().err().and_then(tls::fault) {
                        let sent = match nothing {
                            true if is_turned_away(fault) => Sent::Nothing,
                            true => Sent::Unanswered,
                            false => Sent::Answered,
                        };
                        return Err(Failure::tls(fault, sent));
                    }
                    let (sent, detail) = match nothing {
                        true => (Sent::Unanswered, ""),
                        false => (Sent::Answered, "in the middle of the response head"),
                    };
                    return Err(Failure::upstream(
                        Reason::ConnectionTerminated,
                        detail,
                        sent,
                    ));
                }
            }
        }
    }

    /// How the client finds the end of the answer.
    fn client_length(&self, length: Length) -> (Length, Coding<'a>) {
        match (length, self.seen.head.version) {
            (Length::Empty | Length::Exactly(_), _) => (length, Coding::Plain),
            (Length::Chunked | Length::UntilClose, Version::Http11 | Version::Http2) => {
                let edits = self.facts.response_edits().and_then(Edits::fields);
                (Length::Chunked, Coding::Chunked(edits))
            }
            (Length::Chunked | Length::UntilClose, Version::Http10) => {
                (Length::UntilClose, Coding::Plain)
            }
        }
    }

    /// What a piece of the answer that was passed on, or was not, means for the client.
    fn judge(&mut self, outcome: Result<Result<(), Fault>, Fault>, persists: bool) -> Ending {
        match outcome {
            Ok(Ok(())) if persists => Ending::Keep,
            Ok(Ok(())) => Ending::Close,
            Ok(Err(fault)) => cut(self.facts, &fault),
            Err(fault) => {
                let failure = client_failure(&fault);
                end_early(self.facts, failure.reason, failure.detail)
            }
        }
    }
}

/// What of the body came with the head.
fn piece<'b>(buffer: &'b Buffer, head: &ResponseHead, first: &Decoded) -> &'b [u8] {
    let body = buffer.filled().get(head.len..);
    body.and_then(|body| body.get(..first.data))
        .unwrap_or_default()
}

/// Notes why an answer does not reach its client whole; tells what that means for the client.
pub(crate) fn cut(facts: &mut Facts<'_>, fault: &Fault) -> Ending {
    let (reason, detail) = match fault {
        Fault::SinkGone { .. } => (Reason::ClientAborted, ""),
        Fault::SinkLate => (Reason::ClientStalled, ""),
        Fault::SourceGone => (
            Reason::HttpResponseIncomplete,
            "the response body ended early",
        ),
        Fault::SourceLate => (Reason::ConnectionReadTimeout, "the response body stopped"),
        Fault::Spool => (Reason::ProxyInternalError, "the spool cannot be read"),
        Fault::Coder => (
            Reason::ProxyInternalError,
            "the answer cannot be compressed",
        ),
        Fault::SourceMalformed | Fault::SourceSlow | Fault::TooLarge => {
            (Reason::HttpProtocolError, "malformed chunked body")
        }
    };
    end_early(facts, reason, detail)
}

fn end_early(facts: &mut Facts<'_>, reason: Reason, detail: &'static str) -> Ending {
    facts.blame(reason, detail);
    match reason {
        Reason::ClientAborted => Ending::Close,
        _ => Ending::Reset,
    }
}

fn bad_head(fault: BadHead) -> Failure {
    let (reason, detail) = match fault {
        BadHead::TooLarge | BadHead::TooManyFields => (Reason::HttpResponseHeaderSectionSize, ""),
        BadHead::LineEnd => (Reason::HttpProtocolError, "line ends without CR LF"),
        BadHead::Field => (Reason::HttpProtocolError, "malformed field line"),
        BadHead::Status => (Reason::HttpProtocolError, "status code out of range"),
        BadHead::StartLine | BadHead::Version | BadHead::UriTooLong => {
            (Reason::HttpProtocolError, "malformed status line")
        }
    };
    Failure::upstream(reason, detail, Sent::Answered)
}
