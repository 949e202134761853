//! Answers of servers that are compressed on their way.

use std::cell::RefCell;
use std::rc::Rc;

use plimsoll_config::model;
use plimsoll_http::coding::{Coding, Liked};
use plimsoll_http::compress::{Choice, Pair, Policy, UNTRUE};
use plimsoll_http::framing::Length;
use plimsoll_http::head::ResponseHead;
use plimsoll_http::method::Method;

use crate::coder::{Coder, Coders, Lent};
use crate::http::exchange::Facts;
use crate::seen::Seen;

/// What is compressed, and how much effort that is worth.
#[derive(Debug)]
pub(crate) struct Compress {
    policy: Policy,
    levels: Vec<(Coding, u8)>,
}

impl Compress {
    pub(crate) fn new(compress: &model::Compress) -> Self {
        let all = [
            (Coding::Brotli, compress.brotli),
            (Coding::Zstd, compress.zstd),
            (Coding::Gzip, compress.gzip),
        ];
        let levels = all
            .iter()
            .filter_map(|(coding, level)| Some((*coding, (*level)?)));
        let levels: Vec<_> = levels.collect();
        let policy = Policy {
            codings: levels.iter().map(|(coding, _)| *coding).collect(),
            types: compress.types.clone(),
            min: compress.min,
            secrets: compress.secrets,
        };
        Self { policy, levels }
    }

    /// The coding of a file of this type and size, for a client that likes these; nothing says that it is
    /// sent as it is, to everybody if the outer one is nothing.
    pub(crate) fn of_file(&self, media: &[u8], size: u64, liked: Liked) -> Option<Option<Coding>> {
        let may = size >= self.policy.min && self.policy.takes(media);
        may.then(|| liked.best(|coding| self.policy.codings.contains(&coding)))
    }

    /// How an answer is sent.
    pub(crate) fn choose(&self, pair: &Pair<'_>) -> Choice {
        self.policy.choose(pair)
    }

    /// What compresses, on whichever thread.
    pub(crate) fn coder(&self, coding: Coding) -> Option<Coder> {
        Coder::new(coding, self.level(coding)?).ok()
    }

    /// What compresses, one of those that a worker has at hand.
    pub(crate) fn lend(&self, coding: Coding, coders: &Rc<Coders>) -> Option<Lent> {
        coders.lend(coding, self.level(coding)?).ok()
    }

    fn level(&self, coding: Coding) -> Option<u8> {
        let found = self.levels.iter().find(|(known, _)| *known == coding);
        found.map(|(_, level)| *level)
    }
}

/// What becomes of an answer that may be compressed.
#[derive(Debug)]
pub(crate) struct Change {
    /// Lines that are added to its head.
    pub(crate) lines: Vec<u8>,
    /// Lines whose names its own fields give way to.
    pub(crate) over: Vec<u8>,
    /// What compresses its body.
    pub(crate) coder: Option<RefCell<Lent>>,
}

/// Decides whether an answer with a body of this length is compressed; nothing where nobody gets it so.
pub(crate) fn change(
    (facts, coders): (&Facts<'_>, &Rc<Coders>),
    seen: &Seen<'_>,
    (response, bytes): (&ResponseHead, &[u8]),
    length: Length,
) -> Option<Change> {
    let compress = facts.route?.compress.as_ref()?;
    let is_head = seen.head.method == Method::Head;
    let mut choice = compress.choose(&Pair {
        request: (seen.head, seen.bytes),
        response: (response, bytes),
        length,
        is_head,
    });
    let mut coder = None;
    if let Choice::Coded(coding) = choice
        && !is_head
    {
        coder = compress.lend(coding, coders);
        if coder.is_none() {
            choice = Choice::Plain; // there is no memory for it
        }
    }
    let mut lines = Vec::new();
    choice.write_lines(response, bytes, &mut lines);
    Change::with(choice, lines, coder)
}

impl Change {
    /// That of a stored answer, which is in its coding already; or of the word that its client has it.
    pub(crate) fn of_stored(
        choice: Choice,
        (response, bytes): (&ResponseHead, &[u8]),
        is_304: bool,
    ) -> Option<Self> {
        let mut lines = Vec::new();
        match is_304 {
            true => choice.write_lines_of_304(response, bytes, &mut lines),
            false => choice.write_lines(response, bytes, &mut lines),
        }
        Self::with(choice, lines, None)
    }

    fn with(choice: Choice, lines: Vec<u8>, coder: Option<Lent>) -> Option<Self> {
        let mut over = lines.clone();
        match choice {
            Choice::Never => return None,
            Choice::Plain => {}
            Choice::Coded(_) => over.extend_from_slice(UNTRUE),
        }
        Some(Self {
            lines,
            over,
            coder: coder.map(RefCell::new),
        })
    }
}
