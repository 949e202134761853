//! The reference manual of the language, made from the table.

use std::fmt::Write;

use crate::directive::{Context, Directive, NOT_YET, rows};
use crate::model::{VARIABLES, VariableRow};

const CONTEXTS: &[(Context, &str)] = &[
    (Context::Root, "Top level"),
    (Context::Defaults, "In `defaults`"),
    (Context::Site, "In `site`"),
    (Context::Route, "In `route`"),
    (Context::Tcp, "In `tcp`"),
    (Context::Udp, "In `udp`"),
    (Context::Pool, "In `pool`"),
    (Context::Cache, "In `cache`"),
];

/// The manual in Markdown.
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration reference\n\nThis page is made from the table that the program reads configurations with.\n\n\
         In any block: `use NAME` puts the statements of a snippet in its place. At the top level: `snippet NAME { ... }` \
         writes one, and `include FILE` reads other files, `*` in the name takes several. `${NAME}`, `${NAME:-default}` \
         and `${file:PATH}` are replaced in every word that is not in backquotes.\n",
    );
    for (context, title) in CONTEXTS {
        let _ = write!(out, "\n## {title}\n");
        for row in rows().filter(|row| row.within.contains(context)) {
            match row.within.first() {
                Some(first) if first != context && row.within.len() > 1 => {
                    see(row, *first, &mut out)
                }
                _ => describe(row, &mut out),
            }
        }
    }
    variables(&mut out);
    let mut later = NOT_YET.to_vec();
    later.sort_unstable();
    let _ = write!(
        out,
        "\n## Not in this version\n\nThese words belong to the language and are refused until they work: `{}`.\n",
        later.join("`, `")
    );
    out
}

fn variables(out: &mut String) {
    out.push_str(
        "\n## Variables\n\nWhere a directive says that a text may hold variables, these are filled in for each request. \
         They speak of the request as it came. `$${` is a `${` that is text.\n\n| variable | is |\n|---|---|\n",
    );
    for VariableRow { name, doc, .. } in VARIABLES {
        let what = match *name {
            "match." => "N",
            name if name.ends_with('.') => "NAME",
            _ => "",
        };
        let _ = writeln!(out, "| `${{{name}{what}}}` | {doc} |");
    }
}

fn describe(row: &Directive, out: &mut String) {
    let doc = row.doc.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = write!(
        out,
        "\n### `{}`\n\n```text\n{}\n```\n\nDefault: {}.\n\n{doc}\n",
        row.name, row.usage, row.default
    );
}

fn see(row: &Directive, context: Context, out: &mut String) {
    let _ = write!(out, "\n### `{}`\n\nAs in {}.\n", row.name, context.name());
}
