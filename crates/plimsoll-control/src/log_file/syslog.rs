//! Lines for a syslog daemon, from the thread of a log: it may wait for the daemon, and loses lines while that is not there.

use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use plimsoll_config::model::{self, SyslogForm, SyslogPlace};
use plimsoll_net::clock;
use plimsoll_observe::access_log::Dates;
use plimsoll_observe::syslog::{Form, Header};
use rustix::net::{RecvFlags, recv};

/// How long a daemon may take to be connected to, and to take a line.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long lines are held for a daemon that is away; after that they are lost until it is back.
const HOLD: Duration = Duration::from_secs(5);

/// How soon it is tried again at first, and at last.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Lines of so many bytes go to a connection together.
const TOGETHER: usize = 32 * 1024;

/// A syslog daemon.
pub(super) struct Syslog {
    place: SyslogPlace,
    header: Header,
    dates: Dates,
    line: Option<Line>,
    outage: Option<Outage>,
}

/// The daemon is away.
struct Outage {
    since: Instant,
    again: Instant,
    pause: Duration,
}

/// A way to it.
enum Line {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// Lines that go together.
#[derive(Default)]
struct Messages {
    bytes: Vec<u8>,
    /// Where each one ends.
    ends: Vec<usize>,
}

impl Syslog {
    /// One that may be away.
    pub(super) fn new(config: &model::Syslog) -> Self {
        let name = rustix::system::uname();
        let form = match (config.form, &config.to) {
            (SyslogForm::Rfc5424, _) => Form::Rfc5424,
            (SyslogForm::Rfc3164, SyslogPlace::Unix(_)) => Form::Local,
            (SyslogForm::Rfc3164, _) => Form::Rfc3164,
        };
        Self {
            place: config.to.clone(),
            header: Header {
                form,
                priority: config.priority(),
                host: name.nodename().to_string_lossy().into_owned(),
                tag: config.tag.clone(),
                process: std::process::id(),
            },
            dates: Dates::default(),
            line: None,
            outage: None,
        }
    }

    /// Sends lines; returns how many are lost.
    pub(super) fn write(&mut self, lines: &[u8]) -> u64 {
        let (mut messages, mut lost) = (Messages::default(), 0);
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            self.add(line, &mut messages);
            if messages.bytes.len() >= TOGETHER {
                lost += self.send(&mut messages);
            }
        }
        lost + self.send(&mut messages)
    }

    fn add(&mut self, line: &[u8], messages: &mut Messages) {
        let mut message = Vec::with_capacity(line.len() + 128);
        let now = clock::unix_time();
        self.header.write(now, &mut self.dates, line, &mut message);
        if matches!(self.place, SyslogPlace::Tcp(_)) {
            // RFC 6587 §3.4.1
            messages
                .bytes
                .extend_from_slice(format!("{} ", message.len()).as_bytes());
        }
        messages.bytes.extend_from_slice(&message);
        messages.ends.push(messages.bytes.len());
    }

    /// Sends what is there, holding it for a while when the daemon is away; returns how many lines are lost.
    fn send(&mut self, messages: &mut Messages) -> u64 {
        let mut lost = 0;
        while !messages.ends.is_empty() {
            if !self.is_there() {
                lost += messages.ends.len() as u64;
                break;
            }
            let sent = match &mut self.line {
                Some(line) => line.send(messages),
                None => continue,
            };
            match sent {
                Ok(too_long) => {
                    lost += too_long;
                    self.end_outage();
                    break;
                }
                Err(error) => self.begin_outage(&error),
            }
        }
        *messages = Messages::default();
        lost
    }

    /// Connects, if that has to be done; false when the daemon has been away for too long.
    fn is_there(&mut self) -> bool {
        if self.line.as_ref().is_some_and(Line::has_ended) {
            self.line = None;
        }
        loop {
            if self.line.is_some() {
                return true;
            }
            if let Some(outage) = &self.outage {
                let now = clock::now();
                let left = outage.again.saturating_duration_since(now);
                let is_held = now.duration_since(outage.since) + left < HOLD;
                match left.is_zero() {
                    true => {}
                    false if is_held => std::thread::sleep(left),
                    false => return false,
                }
            }
            match Line::open(&self.place) {
                Ok(line) => self.line = Some(line),
                Err(error) => {
                    self.begin_outage(&error);
                    let since = self.outage.as_ref().map(|outage| outage.since);
                    if since.is_some_and(|since| clock::now().duration_since(since) >= HOLD) {
                        return false;
                    }
                }
            }
        }
    }

    fn begin_outage(&mut self, error: &io::Error) {
        self.line = None;
        let now = clock::now();
        if self.outage.is_none() {
            tracing::error!(%error, to = %self.place, "syslog is not there");
        }
        let before = self.outage.take();
        let pause = before.as_ref().map_or(PAUSE_MIN, |outage| outage.pause);
        self.outage = Some(Outage {
            since: before.map_or(now, |outage| outage.since),
            again: now + pause,
            pause: (pause * 2).min(PAUSE_MAX),
        });
    }

    fn end_outage(&mut self) {
        if self.outage.take().is_some() {
            tracing::info!(to = %self.place, "syslog is there again");
        }
    }
}

impl Line {
    fn open(place: &SyslogPlace) -> io::Result<Self> {
        Ok(match place {
            SyslogPlace::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(Some(PATIENCE))?;
                Self::Unix(socket)
            }
            SyslogPlace::Udp(address) => {
                let any: SocketAddr = match address {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                Self::Udp(socket)
            }
            SyslogPlace::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
        })
    }

    /// Tells whether the daemon has closed it: what is written then is lost without a word.
    fn has_ended(&self) -> bool {
        let Self::Tcp(stream) = self else {
            return false;
        };
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match recv(stream, &mut byte, flags) {
            Ok((_, count)) => count == 0,
            Err(error) => error != rustix::io::Errno::WOULDBLOCK,
        }
    }

    /// Sends all of it; returns how many were too long. What was sent before an error is taken out.
    fn send(&mut self, messages: &mut Messages) -> io::Result<u64> {
        let (mut sent, mut too_long) = (0, 0);
        let outcome = match self {
            Self::Tcp(stream) => write_all(stream, &messages.bytes, &mut sent),
            Self::Unix(socket) => each(messages, &mut sent, &mut too_long, |bytes| {
                socket.send(bytes)
            }),
            // What the machine says of the datagram before is no matter of this one.
            Self::Udp(socket) => each(messages, &mut sent, &mut too_long, |bytes| {
                socket.send(bytes).or_else(|_| socket.send(bytes))
            }),
        };
        if outcome.is_err() {
            messages.take(sent);
        }
        outcome.map(|()| too_long)
    }
}

impl Messages {
    /// Takes out those of which all bytes are among the first `sent`.
    fn take(&mut self, sent: usize) {
        let whole = self.ends.iter().filter(|end| **end <= sent).count();
        let start = self.ends.get(whole.wrapping_sub(1)).copied();
        let start = start.unwrap_or_default();
        self.bytes.drain(..start);
        self.ends.drain(..whole);
        self.ends.iter_mut().for_each(|end| *end -= start);
    }
}

fn write_all(stream: &mut TcpStream, bytes: &[u8], sent: &mut usize) -> io::Result<()> {
    while let Some(rest) = bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
        match stream.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => *sent += written,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn each(
    messages: &Messages,
    sent: &mut usize,
    too_long: &mut u64,
    mut send: impl FnMut(&[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    for end in &messages.ends {
        let message = messages.bytes.get(*sent..*end).unwrap_or_default();
        match send(message) {
            Ok(_) => {}
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) =>
            {
                *too_long += 1;
            }
            Err(error) => return Err(error),
        }
        *sent = *end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_whole_is_not_sent_again() {
        for (sent, left) in [
            (0, "aabbbc"),
            (1, "aabbbc"),
            (2, "bbbc"),
            (4, "bbbc"),
            (5, "c"),
            (6, ""),
        ] {
            let mut messages = Messages {
                bytes: b"aabbbc".to_vec(),
                ends: vec![2, 5, 6],
            };
            messages.take(sent);
            assert_eq!(messages.bytes, left.as_bytes(), "{sent}");
            assert_eq!(
                messages.ends.last().copied().unwrap_or_default(),
                left.len()
            );
        }
    }
}
