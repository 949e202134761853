//! `overload`: what is refused when Plimsoll itself runs out of memory or time.

use crate::directive::{Context, Directive};
use crate::draft::Scope;
use crate::model::Overload;
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "overload",
    within: &[Context::Root],
    usage: "overload [memory=SIZE] [lag=DURATION]|off",
    default: "memory is the limit of the control group, if there is one; lag=500ms",
    doc: "When Plimsoll refuses requests because it has too little memory or time itself, with 503 and `Retry-After`. From 85 % \
          of `memory` on, connections end with their answers and requests of low `priority` are refused, the more the less is \
          left; from 90 % on also normal ones; from 95 % on high ones, too, and no connection is accepted. When a worker comes to \
          its work later than `lag`, the share of refused requests grows in the same order until it does not.",
    words: (1, 2),
    variables: false,
    block: None,
    set: overload,
}];

fn overload(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Root(draft) = scope else { return };
    if let [word] = stmt.words.as_slice()
        && word.text == "off"
    {
        return reader.once(stmt, &mut draft.overload, None);
    }
    let mut overload = Overload::default();
    reader.options(
        &stmt.words,
        &["memory", "lag"],
        |reader, name, value| match name {
            "memory" => overload.memory = reader.size_within(value, 16 << 20, 1 << 50),
            _ => overload.lag = reader.duration(value).unwrap_or(overload.lag),
        },
    );
    reader.once(stmt, &mut draft.overload, Some(overload));
}
