//! What is asked of every proxy.

/// A kind of load.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) connections: u32,
    pub(crate) path: &'static str,
    /// Bytes of the request's body; a request with one is a POST.
    pub(crate) body: u32,
    /// Whether each connection carries one request only.
    pub(crate) one_shot: bool,
    pub(crate) speaks: Speaks,
    /// The content coding that clients ask for.
    pub(crate) coding: Option<Coding>,
}

/// What clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    /// The same, for files of the proxy.
    Files,
    /// The same, for what the proxy has stored.
    Stored,
    Http1Tls,
    /// 16 requests at once on a connection.
    Http2,
    Http2Tls,
    /// One connection after the other, each with a handshake.
    Handshakes {
        is_resumed: bool,
    },
    /// Datagrams of 100 bytes, which are sent back.
    Datagrams,
}

/// What the proxy makes shorter answers of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Zstd,
}

impl Coding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

impl Case {
    /// Tells whether a proxy that carries this can be asked.
    pub(crate) fn is_for(&self, carried: Carried) -> bool {
        let has_all = matches!(carried, Carried::All | Carried::AllButZstd);
        match (self.speaks, self.coding) {
            (_, Some(Coding::Zstd)) => carried == Carried::All,
            (_, Some(Coding::Gzip)) | (Speaks::Files, None) => has_all,
            (Speaks::Http1, None) => !matches!(carried, Carried::Datagrams | Carried::Stored),
            (Speaks::Datagrams, None) => carried == Carried::Datagrams,
            (Speaks::Stored, None) => has_all || carried == Carried::Stored,
            _ => has_all || carried == Carried::Requests,
        }
    }
}

/// What a proxy carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    Requests,
    /// It can answer them with files and what it has stored too, and code its answers.
    All,
    /// The same, in older codings.
    AllButZstd,
    /// It is asked for what it has stored only.
    Stored,
    /// Bytes of connections; it knows nothing of HTTP and TLS.
    Bytes,
    Datagrams,
}

const KEEP_ALIVE: Case = Case {
    name: "keep-alive-1k",
    about: "64 connections, 1 KiB responses",
    connections: 64,
    path: "/1k",
    body: 0,
    one_shot: false,
    speaks: Speaks::Http1,
    coding: None,
};

const FILES: Case = Case {
    name: "file-1k",
    about: "64 connections, a file of 1 KiB; NGINX keeps it open",
    path: "/files/1k",
    speaks: Speaks::Files,
    ..KEEP_ALIVE
};

const CACHE: Case = Case {
    name: "cache-1k",
    about: "64 connections, an answer of 1 KiB that is stored; NGINX keeps its file open",
    path: "/cached/1k",
    speaks: Speaks::Stored,
    ..KEEP_ALIVE
};

const CODED: Case = Case {
    name: "gzip-64k",
    about: "16 connections, a page of 64 KiB that is compressed for each",
    connections: 16,
    path: "/text/64k",
    coding: Some(Coding::Gzip),
    ..KEEP_ALIVE
};

const MULTIPLEXED: Case = Case {
    name: "h2-1k",
    about: "HTTP/2, 8 connections of 16 streams, 1 KiB responses",
    connections: 8,
    speaks: Speaks::Http2,
    ..KEEP_ALIVE
};

const HANDSHAKES: Case = Case {
    name: "handshake-full",
    about: "TLS 1.2, one connection after the other, each with a full handshake",
    connections: 1,
    one_shot: true,
    speaks: Speaks::Handshakes { is_resumed: false },
    ..KEEP_ALIVE
};

const DATAGRAMS: Case = Case {
    name: "udp-100",
    about: "64 flows with one datagram of 100 bytes under way each, and as many back",
    body: 100,
    speaks: Speaks::Datagrams,
    ..KEEP_ALIVE
};

pub(crate) const CASES: &[Case] = &[
    KEEP_ALIVE,
    Case {
        name: "fields-1k",
        about: "64 connections, 1 KiB responses; Plimsoll changes ten fields",
        path: "/1k?fields",
        ..KEEP_ALIVE
    },
    Case {
        name: "one-shot-1k",
        about: "one request per connection, 1 KiB responses",
        one_shot: true,
        ..KEEP_ALIVE
    },
    Case {
        name: "post-64k",
        about: "64 KiB request bodies, 2 byte responses",
        path: "/sink",
        body: 64 << 10,
        ..KEEP_ALIVE
    },
    Case {
        name: "response-1m",
        about: "1 MiB responses",
        path: "/1m",
        ..KEEP_ALIVE
    },
    Case {
        name: "connections-1000",
        about: "1,000 connections, 1 KiB responses",
        connections: 1000,
        ..KEEP_ALIVE
    },
    Case {
        name: "chunked-1k",
        about: "1 KiB responses in one chunk",
        path: "/chunked1k",
        ..KEEP_ALIVE
    },
    Case {
        name: "chunked-256k",
        about: "256 KiB responses in 16 chunks",
        path: "/chunked256k",
        ..KEEP_ALIVE
    },
    MULTIPLEXED,
    Case {
        name: "h2-tls-1k",
        about: "the same over TLS",
        speaks: Speaks::Http2Tls,
        ..MULTIPLEXED
    },
    Case {
        name: "tls-1m",
        about: "1 MiB responses over TLS, HTTP/1.1",
        path: "/1m",
        speaks: Speaks::Http1Tls,
        ..KEEP_ALIVE
    },
    FILES,
    Case {
        name: "file-1m",
        about: "64 connections, a file of 1 MiB",
        path: "/files/1m",
        ..FILES
    },
    CACHE,
    Case {
        name: "cache-1m",
        about: "64 connections, an answer of 1 MiB that is stored",
        path: "/cached/1m",
        ..CACHE
    },
    CODED,
    Case {
        name: "zstd-64k",
        about: "the same in zstd",
        coding: Some(Coding::Zstd),
        ..CODED
    },
    DATAGRAMS,
    Case {
        name: "udp-one-shot-100",
        about: "the same; each answer ends a flow, and the next question begins one",
        one_shot: true,
        ..DATAGRAMS
    },
    HANDSHAKES,
    Case {
        name: "handshake-resumed",
        about: "the same, sessions taken up",
        speaks: Speaks::Handshakes { is_resumed: true },
        ..HANDSHAKES
    },
];
