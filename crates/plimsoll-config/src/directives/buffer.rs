//! `buffer`: bodies of requests that wait in memory.

use crate::directive::{Context, Directive};
use crate::draft::Scope;
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "buffer",
    within: &[Context::Route],
    usage: "buffer SIZE",
    default: "off; 64KiB in routes that ask for a body",
    doc: "Reads the body of a request before a server is asked, SIZE of it at most: a slow client then keeps no server busy, and a \
          request that is idempotent can be sent again with its body. A longer body goes on as it comes. In routes that ask for a body \
          (`body:`), SIZE is also how much is looked at: what is longer, or has a content coding, is not taken by the route, whether a \
          condition is turned round or not. The body waits in memory: SIZE for each request, 1MiB at most.",
    words: (1, 1),
    variables: false,
    block: None,
    set: buffer,
}];

fn buffer(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Route(route), Some(word)) = (scope, stmt.words.first()) else {
        return;
    };
    let size = reader.size_within(word.into(), 1, 1 << 20);
    if let Some(size) = size.and_then(|size| u32::try_from(size).ok()) {
        reader.once(stmt, &mut route.buffer, size);
    }
}
