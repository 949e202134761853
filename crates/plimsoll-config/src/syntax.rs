//! Words to statements: `name word word { … }`.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::problems::Problems;
use crate::source::Span;
use crate::token::{Kind, Token};

/// Blocks in blocks in blocks: deeper than this is a mistake or an attack.
const DEPTH_MAX: usize = 64;

/// A word of a statement.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) span: Span,
    pub(crate) raw: bool,
}

/// A statement.
#[derive(Clone, Debug)]
pub(crate) struct Stmt {
    /// Its first word.
    pub(crate) name: Word,
    /// The other words.
    pub(crate) words: Vec<Word>,
    pub(crate) block: Option<Vec<Self>>,
    /// From the name to the last word.
    pub(crate) span: Span,
}

/// Groups tokens into statements; goes on after an error.
pub(crate) fn statements(tokens: &[Token], problems: &mut Problems) -> Vec<Stmt> {
    let mut parser = Parser {
        tokens,
        at: 0,
        problems,
    };
    let stmts = parser.block(0, None);
    debug_assert!(parser.at >= tokens.len(), "every token is read");
    stmts
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    problems: &'a mut Problems,
}

impl Parser<'_> {
    /// Reads statements up to the `}` that closes the block that `open` opened, or to the end.
    fn block(&mut self, depth: usize, open: Option<Span>) -> Vec<Stmt> {
        let mut stmts = Vec::new();
        while let Some(token) = self.tokens.get(self.at) {
            self.at += 1;
            match &token.kind {
                Kind::Newline | Kind::Semicolon | Kind::Comment => {}
                Kind::Close if open.is_some() => return stmts,
                Kind::Close => {
                    let problem = Diagnostic::new(&codes::CLOSE, token.span, "`}` closes nothing");
                    self.problems.push(
                        problem.help("remove it, or look for a block that was closed too early"),
                    );
                }
                Kind::Open => {
                    let problem =
                        Diagnostic::new(&codes::NAMELESS, token.span, "a block without a name");
                    self.problems.push(
                        problem.help("write what the block is before its `{`, on the same line"),
                    );
                    self.nested(depth, token.span);
                }
                Kind::Word { text, raw } => {
                    let name = Word {
                        text: text.clone(),
                        span: token.span,
                        raw: *raw,
                    };
                    stmts.push(self.statement(name, depth));
                }
            }
        }
        if let Some(open) = open {
            let problem = Diagnostic::new(&codes::UNCLOSED, open, "this block is not closed");
            self.problems.push(problem.help("add a `}` where it ends"));
        }
        stmts
    }

    fn statement(&mut self, name: Word, depth: usize) -> Stmt {
        let mut stmt = Stmt {
            span: name.span,
            name,
            words: Vec::new(),
            block: None,
        };
        while let Some(token) = self.tokens.get(self.at) {
            match &token.kind {
                Kind::Word { text, raw } => {
                    stmt.words.push(Word {
                        text: text.clone(),
                        span: token.span,
                        raw: *raw,
                    });
                    stmt.span = stmt.span.to(token.span);
                    self.at += 1;
                }
                Kind::Open => {
                    self.at += 1;
                    stmt.block = Some(self.nested(depth, token.span));
                    break;
                }
                _ => break,
            }
        }
        stmt
    }

    fn nested(&mut self, depth: usize, open: Span) -> Vec<Stmt> {
        if depth < DEPTH_MAX {
            return self.block(depth + 1, Some(open));
        }
        let message = format!("blocks are nested more than {DEPTH_MAX} deep");
        self.problems
            .push(Diagnostic::new(&codes::DEPTH, open, message));
        self.skip_block();
        Vec::new()
    }

    /// Passes over a block without going into it.
    fn skip_block(&mut self) {
        let mut open = 1;
        while let Some(token) = self.tokens.get(self.at) {
            self.at += 1;
            match token.kind {
                Kind::Open => open += 1,
                Kind::Close => open -= 1,
                _ => {}
            }
            if open == 0 {
                return;
            }
        }
    }
}
