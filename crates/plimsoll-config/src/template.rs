//! Words with variables: `https://${request.host}${request.uri}`.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::model::{Piece, Stage, Template, VARIABLES, Variable};
use crate::read::Reader;
use crate::suggest::nearest;
use crate::syntax::Word;

/// Tells whether `name`, of `${name}`, is a variable and not something of the environment.
pub(crate) fn is_variable(name: &str) -> bool {
    let name = name.split(":-").next().unwrap_or_default();
    name.contains('.') && !name.starts_with("file:")
}

/// Tells whether a word holds variables.
pub(crate) fn has_variables(text: &str) -> bool {
    pieces(text).any(|piece| matches!(piece, Part::Variable(_)))
}

impl Reader<'_> {
    /// A text whose variables are known at `stage`.
    pub(crate) fn template(&mut self, word: &Word, stage: Stage) -> Template {
        let mut out = Template {
            text: word.text.as_str().into(),
            pieces: Vec::new(),
        };
        let mut text = String::new();
        for part in pieces(&word.text) {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Variable(name) => {
                    let Some(variable) = self.variable(name, word, stage) else {
                        continue;
                    };
                    if !text.is_empty() {
                        out.pieces
                            .push(Piece::Text(std::mem::take(&mut text).into()));
                    }
                    out.pieces.push(Piece::Variable(variable));
                }
            }
        }
        if !text.is_empty() {
            out.pieces.push(Piece::Text(text.into()));
        }
        out
    }

    /// A text that becomes the value of a field, or a part of one line.
    pub(crate) fn field_template(&mut self, word: &Word, stage: Stage) -> Template {
        if word.text.chars().any(|c| c.is_control() && c != '\t') {
            let message = "the value of a field is one line";
            let problem = Diagnostic::new(&codes::VALUE, word.span, message);
            self.problem(problem.help("leave line ends and control characters out"));
        }
        self.template(word, stage)
    }

    fn variable(&mut self, name: &str, word: &Word, stage: Stage) -> Option<Variable> {
        let found = VARIABLES
            .iter()
            .find_map(|row| match row.name.ends_with('.') {
                true => name.strip_prefix(row.name).map(|rest| (row, rest)),
                false => (name == row.name).then_some((row, "")),
            });
        let problem = match found {
            Some((row, rest)) if row.name.ends_with('.') && !is_name(row.name, rest) => {
                let message = format!("`${{{name}}}` does not say which");
                let problem = Diagnostic::new(&codes::RUN_TIME_VARIABLE, word.span, message);
                problem.help(format!("it is {}", row.doc))
            }
            Some((row, _)) if row.stage > stage => {
                let message = format!("`${{{name}}}` is not known yet when this is done");
                let problem = Diagnostic::new(&codes::RUN_TIME_VARIABLE, word.span, message);
                problem.help(match row.stage {
                    Stage::Response => "what the answer is can be said in `response-header` alone",
                    _ => "it is known in `request-header` and `response-header`",
                })
            }
            Some((row, rest)) => {
                let variable = (row.make)(rest);
                self.fingerprints |= variable == Variable::Fingerprint;
                return Some(variable);
            }
            None => {
                let message = format!("there is no variable `${{{name}}}`");
                let problem = Diagnostic::new(&codes::RUN_TIME_VARIABLE, word.span, message);
                let names = VARIABLES.iter().map(|row| row.name);
                match nearest(name, names.clone()) {
                    Some(near) => problem.label(format!("did you mean `${{{near}}}`?")),
                    None => {
                        problem.note(format!("known: {}", names.collect::<Vec<_>>().join(", ")))
                    }
                }
            }
        };
        self.problem(problem);
        None
    }
}

/// Tells whether `rest` may follow the name of a variable.
fn is_name(row: &str, rest: &str) -> bool {
    match row {
        "match." => rest.parse().is_ok_and(|group: u8| group < u8::MAX),
        _ => !rest.is_empty() && !rest.contains(|c: char| c.is_whitespace() || c.is_control()),
    }
}

enum Part<'a> {
    Text(&'a str),
    Variable(&'a str),
}

/// Takes a text apart. `$${` is a `${` that is text, and so is one whose name has no dot.
fn pieces(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = rest.find("${").unwrap_or(rest.len());
        let end = rest.get(at..)?.find('}').map(|end| at + end);
        let name = end.and_then(|end| rest.get(at + 2..end));
        let is_escaped = rest.get(..at)?.ends_with('$');
        let (part, length) = match (name, end) {
            (Some(name), Some(end)) if is_variable(name) && is_escaped && at == 1 => {
                (Part::Text(rest.get(1..=end)?), end + 1)
            }
            (Some(name), Some(_)) if is_variable(name) && is_escaped => {
                (Part::Text(rest.get(..at - 1)?), at - 1)
            }
            (Some(name), Some(end)) if is_variable(name) && at == 0 => {
                (Part::Variable(name), end + 1)
            }
            (Some(name), Some(_)) if is_variable(name) => (Part::Text(rest.get(..at)?), at),
            // What is no variable is text, and what stands behind it is looked at.
            _ => {
                let length = (at + 2).min(rest.len());
                (Part::Text(rest.get(..length)?), length)
            }
        };
        rest = rest.get(length..)?;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_apart(text: &str) -> String {
        let show = |part: Part<'_>| match part {
            Part::Text(text) => text.to_owned(),
            Part::Variable(name) => format!("<{name}>"),
        };
        pieces(text).map(show).collect()
    }

    #[test]
    fn variables_have_a_dot_and_can_be_escaped() {
        for (text, parts) in [
            ("", ""),
            ("plain", "plain"),
            ("${client.ip}", "<client.ip>"),
            ("a${client.ip}b${request.id}", "a<client.ip>b<request.id>"),
            ("$${client.ip}", "${client.ip}"),
            ("a$${client.ip}${client.ip}", "a${client.ip}<client.ip>"),
            ("${HOME} ${client.ip}", "${HOME} <client.ip>"),
            ("${open ${client.ip", "${open ${client.ip"),
            ("$ ${ } $$", "$ ${ } $$"),
            ("${file:a.txt}", "${file:a.txt}"),
            ("${X:-a.b}", "${X:-a.b}"),
        ] {
            assert_eq!(taken_apart(text), parts, "{text}");
        }
    }
}
