//! `max-requests`: how many requests may be under way.

use std::num::NonZeroU32;

use crate::directive::{Context, Directive};
use crate::draft::Scope;
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "max-requests",
    within: &[Context::Root, Context::Site, Context::Pool],
    usage: "max-requests N",
    default: "no limit",
    doc: "How many requests may be under way at once, counted exactly over all workers: of the whole process, of a site, or of a \
          pool beside what its servers say. What comes on top is refused with 503 and `Retry-After`; at a pool it waits in \
          the `queue`, if there is one.",
    words: (1, 1),
    variables: false,
    block: None,
    set: max_requests,
}];

fn max_requests(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Some(word) = stmt.words.first() else {
        return;
    };
    let most = reader.number(word.into(), 1, 100_000_000);
    let Some(most) = most.and_then(NonZeroU32::new) else {
        return;
    };
    let place = match scope {
        Scope::Root(root) => &mut root.max_requests,
        Scope::Site(site) => &mut site.max_requests,
        Scope::Pool(pool) => &mut pool.max_requests,
        Scope::Defaults(_) | Scope::Route(_) | Scope::Tcp(_) | Scope::Udp(_) | Scope::Cache(_) => {
            return;
        }
    };
    reader.once(stmt, place, most);
}
