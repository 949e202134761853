//! Who may come in by address: `allow`, `deny`, `maintenance`.

use std::time::Duration;

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::condition::network;
use crate::draft::Scope;
use crate::model::{Access, Maintenance, Step, Whom};
use crate::read::Reader;
use crate::syntax::{Stmt, Word};

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "allow",
        within: &[Context::Site, Context::Route],
        usage: "allow all|NETWORK|@FILE|country=CC,...  ...",
        default: "everybody may come in",
        doc: "Lets clients in that one of the words fits: `all`, an address or network, a network in FILE, or a country (two letters, \
              with `geo`). Of the `allow` and `deny` lines of a block, the first that fits a client decides, and whom none fits \
              comes in: end with `deny all` to let in nobody else. Those of the site and those of the route must both let a client in. FILE has one \
              address or network a line, `#` begins a comment; it is read again when it changes, and what cannot be read changes nothing.",
        words: (1, 1000),
        variables: false,
        block: None,
        set: allow,
    },
    Directive {
        name: "deny",
        within: &[Context::Site, Context::Route],
        usage: "deny all|NETWORK|@FILE|country=CC,...  ...",
        default: "everybody may come in",
        doc: "Refuses clients that one of the words fits, with 403. See `allow`.",
        words: (1, 1000),
        variables: false,
        block: None,
        set: deny,
    },
    Directive {
        name: "maintenance",
        within: &[Context::Site, Context::Route],
        usage: "maintenance [file=PATH] [except=NETWORK,...] [retry-after=DURATION]",
        default: "off; retry-after=5m",
        doc: "Answers with 503 and `Retry-After`, but for clients in `except`. With `file` it is on while the file is there, which is \
              looked at every second: `touch` switches it on, `rm` off.",
        words: (0, 3),
        variables: false,
        block: None,
        set: maintenance,
    },
];

fn allow(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    access(reader, stmt, scope, true);
}

fn deny(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    access(reader, stmt, scope, false);
}

fn access(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>, allows: bool) {
    let mut all = Vec::new();
    for word in &stmt.words {
        all.extend(whom(reader, word));
    }
    if let Some(steps) = scope.steps() {
        steps.push(Step::Access(Access { allows, whom: all }));
    }
}

fn whom(reader: &mut Reader<'_>, word: &Word) -> Vec<Whom> {
    if word.text == "all" {
        return vec![Whom::All];
    }
    if let Some(file) = word.text.strip_prefix('@').filter(|file| !file.is_empty()) {
        return vec![Whom::File(file.into())];
    }
    let Some(countries) = word.text.strip_prefix("country=") else {
        let network = network(reader, word.into());
        return network.into_iter().map(Whom::Network).collect();
    };
    let mut out = Vec::new();
    for country in countries.split(',') {
        let is_code = country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase());
        if is_code {
            reader.geo_asked.get_or_insert(word.span);
            out.push(Whom::Country(country.into()));
            continue;
        }
        let message = format!("`{country}` is not the code of a country");
        let problem = Diagnostic::new(&codes::VALUE, word.span, message);
        reader.problem(problem.help("write two capital letters, like `DE` or `JP`"));
    }
    out
}

fn maintenance(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let mut maintenance = Maintenance {
        file: None,
        except: Vec::new(),
        retry_after: Duration::from_secs(300),
    };
    let known = ["file", "except", "retry-after"];
    reader.options(&stmt.words, &known, |reader, name, value| match name {
        "file" => maintenance.file = Some(value.text.into()),
        "except" => {
            for text in value.text.split(',') {
                let part = crate::arguments::Value { text, ..value };
                maintenance.except.extend(network(reader, part));
            }
        }
        _ => maintenance.retry_after = reader.duration(value).unwrap_or(maintenance.retry_after),
    });
    if let Some(steps) = scope.steps() {
        steps.push(Step::Maintenance(maintenance));
    }
}
