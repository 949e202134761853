//! Text to words. Nothing is lost: between the spans of the tokens there are only blanks.

use crate::codes;
use crate::diagnostic::{Diagnostic, point};
use crate::problems::Problems;
use crate::source::{Span, offset};

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A word, without its quotes and escapes. Substitutions stand in it as they were written.
    Word {
        text: String,
        /// Whether `${` in it is just text: in backquotes, or where a dollar is written as `\u{24}`.
        raw: bool,
    },
    /// `{`
    Open,
    /// `}`
    Close,
    /// `;`
    Semicolon,
    /// The end of a line.
    Newline,
    /// `#` and what follows.
    Comment,
}

/// A token and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

/// Splits `text`, the file number `file`, into tokens; goes on after an error.
pub(crate) fn tokens(file: u32, text: &str, problems: &mut Problems) -> Vec<Token> {
    let mut lexer = Lexer {
        file,
        text,
        at: text.len() - text.trim_start_matches('\u{feff}').len(),
        end: 0,
        has_escaped_dollar: false,
        problems,
    };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next() {
        tokens.push(token);
    }
    tokens
}

/// Longest `{…}` of an escape; without a bound each would search the rest of the line for its end.
const ESCAPE_BYTES_MAX: usize = 10;

struct Lexer<'a> {
    file: u32,
    text: &'a str,
    at: usize,
    /// The next `}` or end of line, once it was looked for: each `${` asks, and one answer serves
    /// all that stand before it.
    end: usize,
    /// Whether a dollar of the word was escaped: what begins with it is text.
    has_escaped_dollar: bool,
    problems: &'a mut Problems,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<Token> {
        // Every blank that Unicode knows: one that was no blank and no word would never be passed.
        while let Some(blank) = self.peek().filter(|&c| c.is_whitespace() && c != '\n') {
            self.at += blank.len_utf8();
        }
        let start = self.at;
        let kind = match self.peek()? {
            '\n' => self.single(Kind::Newline),
            ';' => self.single(Kind::Semicolon),
            '{' => self.single(Kind::Open),
            '}' => self.single(Kind::Close),
            '#' => {
                self.at += self.rest().find('\n').unwrap_or_else(|| self.rest().len());
                Kind::Comment
            }
            _ => self.word(),
        };
        Some(Token {
            kind,
            span: self.span(start),
        })
    }

    fn single(&mut self, kind: Kind) -> Kind {
        self.at += 1;
        kind
    }

    /// `bare`, `"quoted"`, `` `raw` ``, or `bare="quoted"`.
    fn word(&mut self) -> Kind {
        let mut text = String::new();
        self.has_escaped_dollar = false;
        let raw = self.peek() == Some('`');
        match self.peek() {
            Some('"') => self.quoted(&mut text),
            Some('`') => self.raw(&mut text),
            _ => {
                self.bare(&mut text);
                let raw = self.has_escaped_dollar;
                return Kind::Word { text, raw };
            }
        }
        if self
            .peek()
            .is_some_and(|c| !c.is_whitespace() && !"{};".contains(c))
        {
            let message = "a quoted word is followed by more text without a blank";
            let problem = Diagnostic::new(&codes::QUOTE, point(self.file, self.at), message);
            self.problems
                .push(problem.help("put the whole word in quotes"));
            self.bare(&mut text);
        }
        let raw = raw || self.has_escaped_dollar;
        Kind::Word { text, raw }
    }

    fn bare(&mut self, text: &mut String) {
        let mut open = 0; // braces of the word, reported once
        while let Some(c) = self.peek() {
            if self.rest().starts_with("${") {
                self.substitution(text);
                continue;
            }
            match c {
                '"' if text.ends_with('=') => return self.quoted(text),
                '}' if open > 0 => {
                    open -= 1;
                    text.push(c);
                    self.at += 1;
                }
                '{' | '}' if !text.is_empty() && self.is_glued(c) => {
                    let problem = Diagnostic::new(
                        &codes::BRACE,
                        self.span_of(1),
                        format!("`{c}` inside a word"),
                    );
                    let help = "a brace that belongs to the word needs quotes; one that opens a block needs a blank";
                    self.problems
                        .push(problem.help(format!("{help} before it")));
                    if c == '{' && !self.is_inside() {
                        return; // surely a block: it is read as one
                    }
                    open += usize::from(c == '{');
                    text.push(c);
                    self.at += 1;
                }
                '"' => {
                    let problem =
                        Diagnostic::new(&codes::QUOTE, self.span_of(1), "a quote inside a word");
                    self.problems
                        .push(problem.help("put the whole word in quotes, and write \\\" inside"));
                    text.push(c);
                    self.at += 1;
                }
                c if c.is_whitespace() || "{};".contains(c) => return,
                c if c.is_control() => {
                    let message = format!("control character U+{:04X}", u32::from(c));
                    self.problems.push(Diagnostic::new(
                        &codes::NOT_TEXT,
                        self.span_of(c.len_utf8()),
                        message,
                    ));
                    self.at += c.len_utf8();
                }
                c => {
                    text.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
    }

    /// Takes `${…}` as it stands: what it means is found out when the whole word is known.
    fn substitution(&mut self, text: &mut String) {
        if self.end <= self.at {
            let near = self.rest().find(['}', '\n']);
            self.end = near.map_or(self.text.len(), |near| self.at + near);
        }
        match self
            .text
            .get(self.at..=self.end)
            .filter(|text| text.ends_with('}'))
        {
            Some(whole) => {
                text.push_str(whole);
                self.at = self.end + 1;
            }
            None => {
                let message = "a substitution has no `}`";
                let problem = Diagnostic::new(&codes::SUBSTITUTION, self.span_of(2), message);
                let help = "write `${NAME}`, `${NAME:-default}` or `${file:PATH}`";
                self.problems.push(problem.help(help));
                text.push('$');
                self.at += 2;
            }
        }
    }

    /// Tells a brace in the middle of a word (`/a{2}`) from a block that was written without a
    /// blank before it and stands at the end of its line (`site x{`, `}` after a word).
    fn is_glued(&self, brace: char) -> bool {
        brace == '{' || self.is_inside()
    }

    /// Tells whether the word goes on behind the next character.
    fn is_inside(&self) -> bool {
        let after = self.rest().chars().nth(1);
        after.is_some_and(|c| !c.is_whitespace() && !"};".contains(c))
    }

    fn quoted(&mut self, text: &mut String) {
        let start = self.at;
        self.at += 1;
        loop {
            let Some(c) = self.peek().filter(|&c| c != '\n') else {
                let problem =
                    Diagnostic::new(&codes::STRING, self.span(start), "a string has no end");
                self.problems
                    .push(problem.help("close it with `\"` on the same line"));
                return;
            };
            self.at += c.len_utf8();
            match c {
                '"' => return,
                '\\' => self.escape(text),
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self, text: &mut String) {
        let start = self.at - 1;
        let escaped = self.peek();
        self.at += escaped.map_or(0, char::len_utf8);
        match escaped {
            Some('"') => text.push('"'),
            Some('\\') => text.push('\\'),
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let mut near = self.rest().bytes().take(ESCAPE_BYTES_MAX);
                let end = near.position(|b| b == b'}').unwrap_or_default();
                let digits = self
                    .rest()
                    .get(..end)
                    .and_then(|digits| digits.strip_prefix('{'))
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
                let value = digits
                    .and_then(|digits| u32::from_str_radix(digits, 16).ok())
                    .and_then(char::from_u32);
                match value {
                    Some(c) => {
                        self.has_escaped_dollar |= c == '$';
                        text.push(c);
                        self.at += end + 1;
                    }
                    None => self.bad_escape(start),
                }
            }
            _ => self.bad_escape(start),
        }
    }

    fn bad_escape(&mut self, start: usize) {
        let span = self.span(start);
        let problem = Diagnostic::new(&codes::ESCAPE, span, "unknown escape in a string");
        self.problems
            .push(problem.help("known are \\\" \\\\ \\n \\t \\u{…}; or use `raw quotes`"));
    }

    fn raw(&mut self, text: &mut String) {
        let start = self.at;
        self.at += 1;
        match self.rest().find('`') {
            Some(end) => {
                text.push_str(self.rest().get(..end).unwrap_or_default());
                self.at += end + 1;
            }
            None => {
                let problem =
                    Diagnostic::new(&codes::STRING, self.span_of(1), "a raw string has no end");
                self.problems
                    .push(problem.help("close it with a second backquote"));
                self.at = start + 1 + self.rest().find('\n').unwrap_or_else(|| self.rest().len());
            }
        }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn span(&self, start: usize) -> Span {
        Span {
            file: self.file,
            start: offset(start),
            end: offset(self.at),
        }
    }

    fn span_of(&self, bytes: usize) -> Span {
        Span {
            file: self.file,
            start: offset(self.at),
            end: offset(self.at + bytes),
        }
    }
}
