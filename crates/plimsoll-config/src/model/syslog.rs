//! Where a syslog daemon is, and what lines to it begin with.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kinds of programs that lines are of, by their numbers (RFC 5424 §6.2.1).
pub const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// How grave lines are, by their numbers.
pub const SEVERITIES: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

/// The most letters of a tag (RFC 5424 §6.2.5).
pub const TAG_MAX: usize = 48;

/// A syslog daemon, and what lines to it begin with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syslog {
    /// Where it is.
    pub to: SyslogPlace,
    /// The number of the kind of program. Default `local0`.
    pub facility: u8,
    /// How grave its lines are. Default `info`.
    pub severity: u8,
    /// The name of the program. Default `plimsoll`.
    pub tag: String,
    /// How lines begin. Default 5424 over a network, and 3164 on the own machine.
    pub form: SyslogForm,
}

/// Where a syslog daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyslogPlace {
    /// On this machine, at a socket for datagrams.
    Unix(PathBuf),
    /// One datagram a line (RFC 5426).
    Udp(SocketAddr),
    /// A connection, on which lines say first how long they are (RFC 6587 §3.4.1).
    Tcp(SocketAddr),
}

/// How a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyslogForm {
    /// As RFC 5424 has it.
    Rfc5424,
    /// As it was before (RFC 3164).
    Rfc3164,
}

/// The socket that programs of a machine usually find.
const USUAL: &str = "/dev/log";

impl Syslog {
    /// The usual lines for a daemon.
    pub fn to(place: SyslogPlace) -> Self {
        let form = match place {
            SyslogPlace::Unix(_) => SyslogForm::Rfc3164,
            SyslogPlace::Udp(_) | SyslogPlace::Tcp(_) => SyslogForm::Rfc5424,
        };
        Self {
            to: place,
            facility: 16,
            severity: 6,
            tag: "plimsoll".to_owned(),
            form,
        }
    }

    /// Facility and severity in one number (RFC 5424 §6.2.1).
    pub fn priority(&self) -> u8 {
        self.facility * 8 + self.severity
    }
}

/// A place is written in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace;

impl FromStr for SyslogPlace {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let address = |text: &str| text.parse().map_err(|_| NoPlace);
        match text.split_once(':') {
            None if text == "syslog" => Ok(Self::Unix(USUAL.into())),
            Some(("syslog", place)) => match place.split_once(':') {
                Some(("udp", text)) => address(text).map(Self::Udp),
                Some(("tcp", text)) => address(text).map(Self::Tcp),
                _ if place.starts_with('/') => Ok(Self::Unix(place.into())),
                _ => Err(NoPlace),
            },
            _ => Err(NoPlace),
        }
    }
}

impl fmt::Display for SyslogPlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) if *path == *USUAL => out.write_str("syslog"),
            Self::Unix(path) => write!(out, "syslog:{}", path.display()),
            Self::Udp(address) => write!(out, "syslog:udp:{address}"),
            Self::Tcp(address) => write!(out, "syslog:tcp:{address}"),
        }
    }
}

impl SyslogForm {
    /// Its RFC.
    pub fn number(self) -> &'static str {
        match self {
            Self::Rfc5424 => "5424",
            Self::Rfc3164 => "3164",
        }
    }
}
