//! `buffer`, `response-buffer`, `spool`: bodies that wait here, so that servers need not.

use crate::directive::{Context, Directive};
use crate::draft::{RouteDraft, Scope};
use crate::model::{Buffer, Spool};
use crate::read::Reader;
use crate::source::Span;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "buffer",
        within: &[Context::Route],
        usage: "buffer SIZE [disk=SIZE]",
        default: "off; 64KiB in routes that ask for a body",
        doc: "Reads the body of a request before a server is asked, SIZE of it at most: a slow client then keeps no server busy, and a \
              request that is idempotent can be sent again with its body. A longer body goes on as it comes, or, with `disk`, is written to \
              the `spool` until it has that many bytes more. In routes that ask for a body (`body:`), SIZE is also how much is looked at: \
              what is longer, or has a content coding, is not taken by the route, whether a condition is turned round or not. The memory is \
              taken for each request, 1MiB at most.",
        words: (1, 2),
        variables: false,
        block: None,
        set: request,
    },
    Directive {
        name: "response-buffer",
        within: &[Context::Route],
        usage: "response-buffer SIZE [disk=SIZE]",
        default: "off",
        doc: "Reads the answer of a server as fast as it comes, while the client takes it as fast as it can: up to SIZE of it waits in \
              memory and, with `disk`, that many bytes more in the `spool`. A server that has sent all of it is free for the next request, \
              however slow the client. Nothing is held back: what has come goes on at once. Where both are full, the server waits as it \
              would without. The memory is taken for each request, 1MiB at most.",
        words: (1, 2),
        variables: false,
        block: None,
        set: response,
    },
    Directive {
        name: "spool",
        within: &[Context::Root],
        usage: "spool DIRECTORY [max=SIZE]",
        default: "none; max=1GiB",
        doc: "Where bodies wait for which `buffer` or `response-buffer` has no memory left (`disk=`), and how much space they may take \
              together. The directory is made if it is missing. The files in it have no names: they are gone when Plimsoll is, however it \
              ends. Where a disk is full or cannot be written to, bodies go on as if there was no `disk`; one that was written and cannot be \
              read is cut off. `plimsoll_spool_errors_total` counts both.",
        words: (1, 2),
        variables: false,
        block: None,
        set: spool,
    },
];

/// The most memory for one body.
const MEMORY_MAX: u64 = 1 << 20;

/// The most space on disk, for one body or for all: 1 PiB.
const DISK_MAX: u64 = 1 << 50;

/// What all bodies may take on disk, where nothing else is said.
const SPOOL_DEFAULT: u64 = 1 << 30;

fn request(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    buffer(reader, stmt, scope, |route| &mut route.buffer);
}

fn response(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    buffer(reader, stmt, scope, |route| &mut route.response_buffer);
}

fn buffer(
    reader: &mut Reader<'_>,
    stmt: &Stmt,
    scope: Scope<'_>,
    place: impl FnOnce(&mut RouteDraft) -> &mut Option<(Buffer, Span)>,
) {
    let (Scope::Route(route), Some((size, options))) = (scope, stmt.words.split_first()) else {
        return;
    };
    let memory = reader.size_within(size.into(), 1, MEMORY_MAX);
    let Some(memory) = memory.and_then(|size| u32::try_from(size).ok()) else {
        return;
    };
    let mut disk = 0;
    reader.options(options, &["disk"], |reader, _, value| {
        disk = reader.size_within(value, 1, DISK_MAX).unwrap_or(1);
    });
    if disk > 0 {
        reader.spool_asked.get_or_insert(stmt.span);
    }
    reader.once(stmt, place(route), Buffer { memory, disk });
}

fn spool(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Root(draft), Some((directory, options))) = (scope, stmt.words.split_first()) else {
        return;
    };
    let mut spool = Spool {
        directory: directory.text.as_str().into(),
        max: SPOOL_DEFAULT,
    };
    reader.options(options, &["max"], |reader, _, value| {
        let max = reader.size_within(value, 1 << 20, DISK_MAX);
        spool.max = max.unwrap_or(SPOOL_DEFAULT);
    });
    reader.once(stmt, &mut draft.spool, spool);
}
