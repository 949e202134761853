//! `match`: conditions that have a name.

use std::collections::BTreeMap;

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::condition::condition;
use crate::draft::Scope;
use crate::model::{Asked, Condition, NamedMatch};
use crate::read::Reader;
use crate::source::Span;
use crate::suggest::nearest;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "match",
    within: &[Context::Root],
    usage: "match NAME [not:]CONDITION...",
    default: "none",
    doc: "Gives conditions a name: `is:NAME` holds when all of them hold. Written again with the same name, it is an \
          alternative: one of the lines must hold. So `and` is one line, `or` is several, and `not:is:NAME` is neither of them. \
          Conditions are those of `route`, `method=` among them, but not those that ask for a body; a match may refer to others.",
    words: (2, 32),
    variables: false,
    block: None,
    set: named_match,
}];

/// Lines of one match.
const ALTERNATIVES_MAX: usize = 1000;

/// All matches, by the order in which they are named first.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    numbers: BTreeMap<String, usize>,
    all: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    named: NamedMatch,
    /// Where it is referred to first.
    used: Option<Span>,
    written: Option<Span>,
}

impl Matches {
    fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.all.len();
        self.numbers.insert(name.to_owned(), number);
        self.all.push(Known {
            named: NamedMatch {
                name: name.into(),
                alternatives: Vec::new(),
            },
            used: None,
            written: None,
        });
        number
    }

    /// The number of the match that a condition refers to.
    pub(crate) fn refer(&mut self, name: Value<'_>) -> usize {
        let number = self.number(name.text);
        if let Some(known) = self.all.get_mut(number) {
            known.used.get_or_insert(name.span);
        }
        number
    }

    /// Tells whether `from` leads to `to` over conditions that refer to matches.
    fn leads(&self, from: usize, to: usize, seen: &mut Vec<usize>) -> bool {
        if seen.contains(&from) {
            return false;
        }
        seen.push(from);
        let Some(known) = self.all.get(from) else {
            return false;
        };
        let conditions = known.named.alternatives.iter().flatten();
        conditions
            .into_iter()
            .any(|condition| match condition.asked {
                Asked::Is(next) => next == to || self.leads(next, to, seen),
                _ => false,
            })
    }
}

fn named_match(reader: &mut Reader<'_>, stmt: &Stmt, _: Scope<'_>) {
    let Some((name, words)) = stmt.words.split_first() else {
        return;
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.text.chars().all(is_name) {
        let message = format!("`{}` is not a name for a match", name.text);
        let problem = Diagnostic::new(&codes::VALUE, name.span, message);
        return reader.problem(problem.help("a name has letters, digits, `-`, `_` and `.`"));
    }
    let conditions: Vec<Condition> = words
        .iter()
        .filter_map(|word| condition(reader, word))
        .collect();
    if let Some((_, word)) = conditions
        .iter()
        .zip(words)
        .find(|(condition, _)| matches!(condition.asked, Asked::Body(..)))
    {
        let message = "a match cannot ask for a body";
        let problem = Diagnostic::new(&codes::VALUE, word.span, message);
        return reader
            .problem(problem.help("write it in the route, which says how much of a body is read"));
    }
    let number = reader.matches.number(&name.text);
    let Some(known) = reader.matches.all.get_mut(number) else {
        return;
    };
    known.written.get_or_insert(stmt.span);
    if known.named.alternatives.len() < ALTERNATIVES_MAX {
        return known.named.alternatives.push(conditions);
    }
    let message = format!("a match has at most {ALTERNATIVES_MAX} lines");
    reader.problem(Diagnostic::new(&codes::RANGE, stmt.span, message));
}

/// The matches, once all is read; says which are missing, not used, or refer to themselves.
pub(crate) fn finish(reader: &mut Reader<'_>) -> Vec<NamedMatch> {
    let matches = std::mem::take(&mut reader.matches);
    for (number, known) in matches.all.iter().enumerate() {
        let name = &known.named.name;
        match (known.used, known.written) {
            (Some(used), None) => {
                let message = format!("match `{name}` does not exist");
                let mut problem = Diagnostic::new(&codes::MATCH_UNKNOWN, used, message);
                let written = matches.all.iter().filter(|known| known.written.is_some());
                if let Some(near) = nearest(name, written.map(|known| &*known.named.name)) {
                    problem = problem.label(format!("did you mean `{near}`?"));
                }
                reader.problem(problem.help(format!(
                    "write it at the top level: `match {name} CONDITION...`"
                )));
            }
            (_, Some(written)) if matches.leads(number, number, &mut Vec::new()) => {
                let message = format!("match `{name}` refers to itself");
                reader.problem(Diagnostic::new(&codes::MATCH_CYCLE, written, message));
            }
            _ => {}
        }
    }
    for known in &matches.all {
        // With an error elsewhere, what refers to it may have been lost.
        if let (None, Some(written)) = (known.used, known.written)
            && !reader.is_broken()
        {
            let name = &known.named.name;
            let message = format!("match `{name}` is not used");
            let problem = Diagnostic::new(&codes::MATCH_UNUSED, written, message);
            reader.problem(problem.help(format!("refer to it with `is:{name}`, or remove it")));
        }
    }
    matches.all.into_iter().map(|known| known.named).collect()
}
