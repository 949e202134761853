//! One request and its answer on one HTTP/1 connection to a server.
//!
//! The request's body may still be on its way up while the answer comes down: a server may answer
//! early, and a client may send and receive at once.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use plimsoll_http::chunked::size_line;
use plimsoll_http::framing::{Framing, Length, Reuse};
use plimsoll_http::h1::encode::{self, Forward, Reply};
use plimsoll_http::h1::parse::{self, Attempts, BadHead, Parsed};
use plimsoll_http::head::{RequestHead, ResponseHead, Version};
use plimsoll_http::reason::Reason;
use plimsoll_http::request;
use plimsoll_net::buffer::Buffer;
use plimsoll_net::deadline::Timer;
use plimsoll_net::stream::Then;
use plimsoll_net::{clock, stream};
use tokio::net::TcpStream;

use crate::generation::{Pool, Server};
use crate::http::attempt::{Failure, Sent, Upstream};
use crate::http::exchange::{Ending, Exchange, Facts};
use crate::http::flow::{Coding, Fault, Flow, Writer, chunk_tail};
use crate::plane::Plane;

/// Pieces up to this size are copied behind their head and leave with it in one plain write.
const COPY_BYTES_MAX: usize = 16 * 1024;

/// Interim answers to one request.
const INTERIM_MAX: u32 = 32;

/// Whether the server's connection may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Yes,
    No,
}

/// Sends the request on `upstream` and passes the answer on.
///
/// # Errors
/// Nothing of the final answer was passed on: the caller may try again, or answer itself.
pub(crate) async fn converse(
    exchange: &mut Exchange<'_>,
    pool: &Pool,
    server: &Server,
    upstream: &Upstream,
) -> Result<(Ending, Keep), Failure> {
    send(exchange, pool, server, upstream).await?;
    let Exchange {
        plane,
        client,
        timer,
        scratch,
        behind,
        framing,
        first,
        facts,
        ..
    } = exchange;
    let Some(request) = framing.as_mut() else {
        return Err(Failure::downstream(Reason::ProxyInternalError, ""));
    };
    let site = facts.site;
    let patience = site.map_or(pool.timeouts.response, |site| site.timeouts.body);
    let uploaded = Cell::new(first.data as u64);
    let persists = request.peer_allows() == Reuse::Keep;
    let mut rest = (!request.is_complete()).then(|| plane.worker.buffers.lend());
    let progress = Cell::new(match rest {
        Some(_) => Progress::UnderWay,
        None => Progress::Sent,
    });
    let outcome = {
        let coding = coding(request.length());
        let flow = rest.as_mut().map(|buffer| Flow {
            source: client,
            sink: &upstream.stream,
            framing: request,
            buffer,
            coding,
            timer,
            patience,
            moved: &uploaded,
            limit: site.and_then(|site| site.limits.body),
            min_rate: site.map_or(0, |site| site.limits.min_rate),
            pipes: &plane.worker.pipes,
        });
        let mut flow = pin!(flow.map(Flow::run));
        let flow = flow
            .as_mut()
            .as_pin_mut()
            .map(|flow| flow as Pin<&mut dyn Future<Output = _>>);
        let answer = Answer {
            plane,
            client,
            server: &upstream.stream,
            timer,
            head: &scratch.head,
            response: &mut scratch.response,
            out: &mut scratch.response_out,
            facts,
            patience,
            response_timeout: pool.timeouts.response,
            persists,
        };
        answer
            .pass_on(&mut Upload {
                flow,
                progress: &progress,
            })
            .await
    };
    facts.request_bytes.set(uploaded.get());
    let (ending, keep) = outcome?;
    *behind = rest;
    match request.is_complete() {
        true => Ok((ending, keep)),
        false if ending == Ending::Keep || ending == Ending::Close => {
            Ok((Ending::Linger, Keep::No))
        }
        false => Ok((ending, Keep::No)),
    }
}

/// Writes the head, and what came of the body with it.
async fn send(
    exchange: &mut Exchange<'_>,
    pool: &Pool,
    server: &Server,
    upstream: &Upstream,
) -> Result<(), Failure> {
    let bytes = exchange.inbound.filled();
    let scratch = &mut *exchange.scratch;
    let Some(framing) = &exchange.framing else {
        return Err(Failure::downstream(Reason::ProxyInternalError, ""));
    };
    let host = exchange.authority.of(bytes);
    let forward = Forward {
        // Only HTTP/1.0 comes without a host, and HTTP/1.1 must not go without one.
        host: if host.is_empty() {
            server.name.as_bytes()
        } else {
            host
        },
        client: &exchange.peer_text,
        scheme: "http",
        request_id: &exchange.facts.id,
        length: framing.length(),
        max_forwards: request::max_forwards(&scratch.head, bytes)
            .map(|hops| hops.saturating_sub(1)),
    };
    let out = &mut scratch.request_out;
    out.clear();
    let aliases = encode::request(&scratch.head, bytes, &scratch.target, &forward, out);
    exchange.facts.aliases_dropped = aliases;
    let data = bytes
        .get(scratch.head.len..scratch.head.len + exchange.first.data)
        .unwrap_or_default();
    let writer = Writer {
        sink: &upstream.stream,
        timer: exchange.timer,
        patience: pool.timeouts.response,
        then: Then::Open,
    };
    let written = write_with_head(writer, out, data, framing, coding(framing.length())).await;
    written.map_err(|fault| match fault {
        Fault::SinkLate => Failure::upstream(Reason::ConnectionWriteTimeout, "", Sent::Unanswered),
        Fault::SinkGone { written: 0 } => {
            Failure::upstream(Reason::ConnectionTerminated, "", Sent::Nothing)
        }
        _ => Failure::upstream(Reason::ConnectionTerminated, "", Sent::Unanswered),
    })
}

/// Writes a head and the first piece of its body, in one call.
async fn write_with_head(
    writer: Writer<'_>,
    out: &mut Vec<u8>,
    data: &[u8],
    framing: &Framing,
    coding: Coding,
) -> Result<(), Fault> {
    let mut line = [0; 18];
    let mut room = Vec::new();
    let tail = match coding {
        Coding::Plain => &[],
        Coding::Chunked => {
            if !data.is_empty() {
                out.extend_from_slice(size_line(data.len(), &mut line));
            }
            chunk_tail(data, framing, &mut room)
        }
    };
    if data.len() <= COPY_BYTES_MAX {
        out.extend_from_slice(data);
        out.extend_from_slice(tail);
        writer.write(&mut [IoSlice::new(out)]).await
    } else {
        writer
            .write(&mut [IoSlice::new(out), IoSlice::new(data), IoSlice::new(tail)])
            .await
    }
}

/// How a body of this length is told to the next hop.
fn coding(length: Length) -> Coding {
    if length == Length::Chunked {
        Coding::Chunked
    } else {
        Coding::Plain
    }
}

/// The rest of a request's body, on its way up.
struct Upload<'a> {
    flow: Option<Pin<&'a mut dyn Future<Output = Result<(), Fault>>>>,
    progress: &'a Cell<Progress>,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    UnderWay,
    Sent,
    /// The server reads no further, and perhaps has answered; the client has more to send.
    Abandoned,
}

impl Upload<'_> {
    /// Runs `main` while the upload goes on; ends early when the client fails.
    async fn alongside<T>(&mut self, main: impl Future<Output = T>) -> Result<T, Fault> {
        let mut main = pin!(main);
        poll_fn(|context| {
            if let Some(fault) = self.poll(context) {
                return Poll::Ready(Err(fault));
            }
            main.as_mut().poll(context).map(Ok)
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Option<Fault> {
        let Poll::Ready(done) = self.flow.as_mut()?.as_mut().poll(context) else {
            return None;
        };
        self.flow = None;
        match done {
            Ok(()) => self.progress.set(Progress::Sent),
            Err(Fault::SinkGone { .. } | Fault::SinkLate) => self.progress.set(Progress::Abandoned),
            Err(fault) => return Some(fault),
        }
        None
    }
}

/// The answer, on its way down.
struct Answer<'a, 'x> {
    plane: &'a Plane,
    client: &'a TcpStream,
    server: &'a TcpStream,
    timer: &'a Timer,
    head: &'a RequestHead,
    response: &'a mut ResponseHead,
    out: &'a mut Vec<u8>,
    facts: &'a mut Facts<'x>,
    patience: Duration,
    response_timeout: Duration,
    /// Whether the client's connection may go on, as far as the request is concerned.
    persists: bool,
}

impl Answer<'_, '_> {
    async fn pass_on(mut self, upload: &mut Upload<'_>) -> Result<(Ending, Keep), Failure> {
        let sent = clock::now();
        let mut buffer = self.plane.worker.buffers.lend();
        let progress = upload.progress;
        upload
            .alongside(self.final_head(&mut buffer, progress, sent))
            .await
            .map_err(|f| client_failure(&f))??;
        self.facts.first_byte = Some(clock::now().duration_since(sent));
        let bad = |detail| Failure::upstream(Reason::HttpProtocolError, detail, Sent::Answered);
        let framing = Framing::of_response(self.response, buffer.filled(), self.head.method);
        let mut framing = framing.map_err(|_| bad("ambiguous length"))?;
        let body = buffer
            .filled_mut()
            .get_mut(self.response.len..)
            .unwrap_or_default();
        let first = framing
            .decode(body)
            .map_err(|_| bad("malformed chunked body"))?;

        let (length, coding) = self.client_length(framing.length());
        let persists = self.persists
            && !self.plane.draining.get()
            && progress.get() == Progress::Sent
            && length != Length::UntilClose;
        let date = self.plane.http_date(self.facts.at);
        let connection = match (persists, self.head.version) {
            (false, _) => Some("close"),
            (true, Version::Http10) => Some("keep-alive"),
            (true, Version::Http11) => None,
        };
        self.out.clear();
        encode::response(
            self.response,
            buffer.filled(),
            &Reply {
                length,
                connection,
                date: &date,
            },
            self.out,
        );
        self.facts.status = self.response.status;
        self.facts.response_bytes.set(first.data as u64);
        let data = buffer
            .filled()
            .get(self.response.len..self.response.len + first.data)
            .unwrap_or_default();
        let writer = Writer {
            sink: self.client,
            timer: self.timer,
            patience: self.patience,
            then: if !persists && framing.is_complete() {
                Then::End
            } else {
                Then::Open
            },
        };
        let written = upload
            .alongside(write_with_head(writer, self.out, data, &framing, coding))
            .await;
        let mut ending = self.judge(written, persists);
        buffer.take(self.response.len + first.consumed);
        if !framing.is_complete() && matches!(ending, Ending::Keep | Ending::Close) {
            let moved = Cell::new(first.data as u64);
            let flow = Flow {
                source: self.server,
                sink: self.client,
                framing: &mut framing,
                buffer: &mut buffer,
                coding,
                timer: self.timer,
                patience: self.patience,
                moved: &moved,
                limit: None,
                min_rate: 0,
                pipes: &self.plane.worker.pipes,
            };
            let flowed = upload.alongside(flow.run()).await;
            self.facts.response_bytes.set(moved.get());
            ending = self.judge(flowed, persists);
        }
        // Bytes behind the end belong to no answer (RFC 9112 §6.3).
        let keep = framing.reuse() == Reuse::Keep && buffer.is_empty();
        Ok((ending, if keep { Keep::Yes } else { Keep::No }))
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
                101 => {
                    let detail = "the server switched protocols unasked";
                    return Err(Failure::upstream(
                        Reason::HttpUpgradeFailed,
                        detail,
                        Sent::Answered,
                    ));
                }
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
            if self.head.version == Version::Http11 {
                self.out.clear();
                encode::interim(self.response, buffer.filled(), self.out);
                let writer = Writer {
                    sink: self.client,
                    timer: self.timer,
                    patience: self.patience,
                    then: Then::Open,
                };
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
        let mut is_watched = true;
        let mut is_timed = false;
        let uploads = progress.get() == Progress::UnderWay;
        loop {
            if !buffer.is_empty() && attempts.worthwhile(buffer.filled()) {
                match parse::response(buffer.filled(), self.response).map_err(bad_head)? {
                    Parsed::Complete => return Ok(()),
                    Parsed::Partial => {}
                }
            }
            buffer.compact();
            let read = poll_fn(|context| {
                if let Poll::Ready(read) = stream::poll_read(self.server, context, buffer) {
                    return Poll::Ready(Ok(read));
                }
                if progress.get() == Progress::UnderWay {
                    return Poll::Pending; // the client's time, watched by the upload
                }
                if is_watched && let Poll::Ready(signal) = stream::poll_signal(self.client, context)
                {
                    if signal == stream::Signal::Broken {
                        return Poll::Ready(Err(Failure::downstream(Reason::ClientAborted, "")));
                    }
                    is_watched = false;
                }
                if !std::mem::replace(&mut is_timed, true) {
                    // The server's time begins when the request has been sent.
                    let from = if uploads { clock::now() } else { sent };
                    self.timer.set(from + self.response_timeout);
                }
                let late = Failure::upstream(Reason::HttpResponseTimeout, "", Sent::Unanswered);
                self.timer.poll(context).map(|_| Err(late))
            });
            match read.await? {
                Ok(1..) => {}
                Ok(0) | Err(_) => {
                    let nothing = buffer.is_empty() && !is_answered;
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
    fn client_length(&self, length: Length) -> (Length, Coding) {
        match (length, self.head.version) {
            (Length::Empty | Length::Exactly(_), _) => (length, Coding::Plain),
            (Length::Chunked | Length::UntilClose, Version::Http11) => {
                (Length::Chunked, Coding::Chunked)
            }
            (Length::Chunked | Length::UntilClose, Version::Http10) => {
                (Length::UntilClose, Coding::Plain)
            }
        }
    }

    /// What a piece of the answer that was passed on, or was not, means for the client.
    fn judge(&mut self, outcome: Result<Result<(), Fault>, Fault>, persists: bool) -> Ending {
        let (fault, is_download) = match outcome {
            Ok(Ok(())) if persists => return Ending::Keep,
            Ok(Ok(())) => return Ending::Close,
            Ok(Err(fault)) => (fault, true),
            Err(fault) => (fault, false),
        };
        let (reason, detail) = match (&fault, is_download) {
            (Fault::SinkGone { .. }, true) => (Reason::ClientAborted, ""),
            (Fault::SinkLate, true) => (Reason::ClientStalled, ""),
            (Fault::SourceGone, true) => (
                Reason::HttpResponseIncomplete,
                "the response body ended early",
            ),
            (Fault::SourceLate, true) => {
                (Reason::ConnectionReadTimeout, "the response body stopped")
            }
            (_, true) => (Reason::HttpProtocolError, "malformed chunked body"),
            (fault, false) => {
                let failure = client_failure(fault);
                (failure.reason, failure.detail)
            }
        };
        self.facts.blame(reason, detail);
        if reason == Reason::ClientAborted {
            Ending::Close
        } else {
            Ending::Reset
        }
    }
}

/// What a request body that did not arrive means.
fn client_failure(fault: &Fault) -> Failure {
    match fault {
        Fault::SourceMalformed => {
            Failure::downstream(Reason::HttpRequestError, "malformed chunked body")
        }
        Fault::SourceLate => Failure::downstream(Reason::ClientTimeout, "the request body stopped"),
        Fault::SourceSlow => {
            Failure::downstream(Reason::ClientTimeout, "the request body is too slow")
        }
        Fault::TooLarge => Failure {
            status: 413,
            ..Failure::downstream(Reason::HttpRequestError, "request body too large")
        },
        Fault::SourceGone | Fault::SinkGone { .. } | Fault::SinkLate => {
            Failure::downstream(Reason::ClientAborted, "")
        }
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
