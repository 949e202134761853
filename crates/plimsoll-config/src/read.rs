//! From files to a draft: includes, substitutions, snippets, and each statement to its row.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::codes;
use crate::diagnostic::{Diagnostic, Label, point};
use crate::directive::{self, Context, Directive, ELSEWHERE, NOT_YET};
use crate::directives::key_set::KeySets;
use crate::directives::named_match::Matches;
use crate::draft::{Draft, Scope};
use crate::problems::Problems;
use crate::source::{LoadError, Loader, Sources, Span};
use crate::suggest::nearest;
use crate::syntax::{self, Stmt, Word};
use crate::{template, token};

/// Files that include files.
const INCLUDE_DEPTH_MAX: usize = 16;
/// All files together.
const FILES_MAX: usize = 1000;
/// What substitutions may put in their places: a file may be named more than once.
const SUBSTITUTION_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Snippets that use snippets.
const SNIPPET_DEPTH_MAX: usize = 32;
/// What snippets may put in their places, in bytes: snippets that use snippets multiply.
const EXPANSION_BYTES_MAX: usize = 16 * 1024 * 1024;

struct Snippet {
    /// Shared: it is read once for each `use`, and a copy each time would cost their product.
    stmts: Rc<[Stmt]>,
    span: Span,
    is_used: bool,
}

/// Reads one configuration.
pub(crate) struct Reader<'a> {
    pub(crate) loader: &'a dyn Loader,
    pub(crate) sources: Sources,
    problems: Problems,
    snippets: BTreeMap<String, Snippet>,
    /// The `use` statements that led to what is being read.
    uses: Vec<(String, Span)>,
    /// The files that led to the one being read.
    files: Vec<String>,
    /// Where a country is asked for first.
    pub(crate) geo_asked: Option<Span>,
    /// Where something asks for the spool first.
    pub(crate) spool_asked: Option<Span>,
    /// The matches that were written or referred to.
    /// Whether anything asks how clients begin TLS.
    pub(crate) fingerprints: bool,
    pub(crate) matches: Matches,
    /// The key sets that are fetched.
    pub(crate) key_sets: KeySets,
    /// Bytes that snippets have put in their places.
    expanded: usize,
    /// Bytes that substitutions have put in their places.
    substituted: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(loader: &'a dyn Loader) -> Self {
        Self {
            loader,
            sources: Sources::default(),
            problems: Problems::default(),
            snippets: BTreeMap::new(),
            uses: Vec::new(),
            files: Vec::new(),
            geo_asked: None,
            spool_asked: None,
            fingerprints: false,
            matches: Matches::default(),
            key_sets: KeySets::default(),
            expanded: 0,
            substituted: 0,
        }
    }

    /// Notes a problem, with the `use` that led to it.
    pub(crate) fn problem(&mut self, mut problem: Diagnostic) {
        if let Some((name, span)) = self.uses.last() {
            problem.related.push(Label {
                span: *span,
                text: format!("`{name}` is used here"),
            });
        }
        self.problems.push(problem);
    }

    /// Notes an error that takes a search to explain: it is made only if there is room for it.
    pub(crate) fn error(&mut self, explain: impl FnOnce(&Self) -> Diagnostic) {
        if self.problems.are_full() {
            return self.problems.count_error();
        }
        let problem = explain(self);
        self.problem(problem);
    }

    /// Tells whether an error has been found.
    pub(crate) fn is_broken(&self) -> bool {
        self.problems.has_errors()
    }

    /// All problems, with a line for those that were not kept.
    pub(crate) fn finish(self) -> (Vec<Diagnostic>, Sources) {
        (self.problems.finish(), self.sources)
    }

    /// Reads the file `path` and all that it includes.
    pub(crate) fn read_file(&mut self, path: &str) -> Draft {
        let stmts = match self.loader.read(path) {
            Ok(bytes) => self.parse(path, bytes),
            Err(error) => {
                let file = self.sources.add(path, String::new());
                let problem = unreadable(&codes::UNREADABLE, point(file, 0), path, &error);
                self.problem(match error {
                    LoadError::TooLarge => problem,
                    LoadError::Failed(_) => problem.help("`-c FILE` names another file"),
                });
                Vec::new()
            }
        };
        self.interpret(path, stmts)
    }

    /// Reads `text` as if it were a file called `name`.
    pub(crate) fn read_text(&mut self, name: &str, text: &str) -> Draft {
        let stmts = self.parse(name, text.as_bytes().to_vec());
        self.interpret(name, stmts)
    }

    fn interpret(&mut self, path: &str, stmts: Vec<Stmt>) -> Draft {
        self.files.push(path.to_owned());
        let mut rest = Vec::new();
        self.gather(stmts, &mut rest);
        let mut draft = Draft::default();
        self.apply(&rest, Context::Root, &mut Scope::Root(&mut draft));
        for (name, snippet) in std::mem::take(&mut self.snippets) {
            // With an error elsewhere, the use may have been lost.
            if !snippet.is_used && !self.is_broken() {
                let message = format!("snippet `{name}` is not used");
                self.problem(Diagnostic::new(
                    &codes::SNIPPET_UNUSED,
                    snippet.span,
                    message,
                ));
            }
        }
        draft
    }

    fn parse(&mut self, name: &str, bytes: Vec<u8>) -> Vec<Stmt> {
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let text =
                    String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default())
                        .into_owned();
                let file = self.sources.add(name, text);
                let problem = Diagnostic::new(
                    &codes::NOT_TEXT,
                    point(file, valid),
                    "the file is not UTF-8 text",
                );
                self.problem(problem.help("check the path, or save the file as UTF-8"));
                return Vec::new();
            }
        };
        if let Some(nul) = text.find('\0') {
            let file = self
                .sources
                .add(name, text.get(..nul).unwrap_or_default().to_owned());
            let problem = Diagnostic::new(
                &codes::NOT_TEXT,
                point(file, nul),
                "the file holds a NUL byte",
            );
            self.problem(problem.help("this is not a configuration: check the path"));
            return Vec::new();
        }
        let file = self.sources.add(name, String::new());
        let tokens = token::tokens(file, &text, &mut self.problems);
        let mut stmts = syntax::statements(&tokens, &mut self.problems);
        self.sources.replace(file, text);
        self.substitute_all(&mut stmts);
        stmts
    }

    /// Takes snippets and includes out of the top level; what is left is in the order of reading.
    fn gather(&mut self, stmts: Vec<Stmt>, rest: &mut Vec<Stmt>) {
        for stmt in stmts {
            match stmt.name.text.as_str() {
                "snippet" => self.keep_snippet(stmt),
                "include" => self.include(&stmt, rest),
                _ => rest.push(stmt),
            }
        }
    }

    fn keep_snippet(&mut self, stmt: Stmt) {
        let span = stmt.span;
        let [name] = stmt.words.as_slice() else {
            return self.usage(&stmt, "snippet NAME { … }");
        };
        let name = name.text.clone();
        let Some(stmts) = stmt.block else {
            let problem = Diagnostic::new(&codes::BLOCK, span, "`snippet` needs a block");
            return self.problem(problem.help("write it `snippet NAME { … }`"));
        };
        if let Some(first) = self.snippets.get(&name) {
            let problem = Diagnostic::new(
                &codes::SNIPPET_TWICE,
                span,
                format!("snippet `{name}` is written twice"),
            );
            let problem = problem.related(first.span, "first here");
            return self.problem(problem.help("rename one of them"));
        }
        self.snippets.insert(
            name,
            Snippet {
                stmts: stmts.into(),
                span,
                is_used: false,
            },
        );
    }

    fn include(&mut self, stmt: &Stmt, rest: &mut Vec<Stmt>) {
        let [pattern] = stmt.words.as_slice() else {
            return self.usage(stmt, "include FILE");
        };
        let folder = self
            .files
            .last()
            .and_then(|file| file.rsplit_once('/'))
            .map(|(folder, _)| folder);
        let pattern = match folder {
            Some(folder) if !pattern.text.starts_with('/') => format!("{folder}/{}", pattern.text),
            _ => pattern.text.clone(),
        };
        let is_pattern = pattern.contains(['*', '?', '[']);
        let paths = if is_pattern {
            self.loader.glob(&pattern)
        } else {
            Ok(vec![pattern.clone()])
        };
        let paths = match paths {
            Ok(paths) => paths,
            Err(error) => {
                return self.problem(unreadable(
                    &codes::INCLUDE_MISSING,
                    stmt.span,
                    &pattern,
                    &error,
                ));
            }
        };
        for path in paths {
            if self.files.contains(&path) {
                let chain = self.files.join("` includes `");
                let problem = Diagnostic::new(
                    &codes::INCLUDE_CYCLE,
                    stmt.span,
                    format!("`{path}` includes itself"),
                );
                self.problem(problem.note(format!("`{chain}` includes `{path}`")));
                continue;
            }
            if self.files.len() > INCLUDE_DEPTH_MAX || self.sources.len() >= FILES_MAX {
                let message =
                    format!("more than {INCLUDE_DEPTH_MAX} includes deep, or {FILES_MAX} files");
                return self.problem(Diagnostic::new(&codes::INCLUDE_LIMIT, stmt.span, message));
            }
            match self.loader.read(&path) {
                Ok(bytes) => {
                    let stmts = self.parse(&path, bytes);
                    self.files.push(path);
                    self.gather(stmts, rest);
                    self.files.pop();
                }
                Err(error) => self.problem(unreadable(
                    &codes::INCLUDE_MISSING,
                    stmt.span,
                    &path,
                    &error,
                )),
            }
        }
    }

    /// Reads the statements of a block into `scope`.
    pub(crate) fn apply(&mut self, stmts: &[Stmt], context: Context, scope: &mut Scope<'_>) {
        for stmt in stmts {
            if !self.expand(stmt) {
                return;
            }
            if stmt.name.text == "use" {
                self.use_snippet(stmt, context, scope);
                continue;
            }
            match directive::find(&stmt.name.text, context) {
                Some(row) if self.fits(stmt, row) => {
                    (row.set)(self, stmt, scope.again());
                    scope.note_steps(stmt.span);
                }
                Some(_) => {}
                None => self.error(|_| unknown(&stmt.name, context)),
            }
        }
    }

    /// Counts a statement that a snippet put in its place; tells whether there is room for it.
    fn expand(&mut self, stmt: &Stmt) -> bool {
        // What a statement costs beside its text.
        const STATEMENT_BYTES: usize = 16;
        if self.uses.is_empty() {
            return true;
        }
        if self.expanded > EXPANSION_BYTES_MAX {
            return false; // said once
        }
        let words = std::iter::once(&stmt.name).chain(&stmt.words);
        self.expanded += words.fold(STATEMENT_BYTES, |sum, word| sum + word.text.len() + 1);
        if self.expanded > EXPANSION_BYTES_MAX {
            let message = "snippets expand to more than 16 MiB";
            self.problem(Diagnostic::new(&codes::SNIPPET_CYCLE, stmt.span, message));
        }
        self.expanded <= EXPANSION_BYTES_MAX
    }

    fn use_snippet(&mut self, stmt: &Stmt, context: Context, scope: &mut Scope<'_>) {
        let [name] = stmt.words.as_slice() else {
            return self.usage(stmt, "use NAME");
        };
        if self.uses.iter().any(|(used, _)| *used == name.text) {
            let message = format!("snippet `{}` uses itself", name.text);
            return self.problem(Diagnostic::new(&codes::SNIPPET_CYCLE, stmt.span, message));
        }
        let Some(snippet) = self.snippets.get_mut(&name.text) else {
            return self.error(|reader| reader.unknown_snippet(name));
        };
        snippet.is_used = true;
        let stmts = Rc::clone(&snippet.stmts);
        if self.uses.len() >= SNIPPET_DEPTH_MAX {
            let message = format!("snippets use snippets more than {SNIPPET_DEPTH_MAX} deep");
            return self.problem(Diagnostic::new(&codes::SNIPPET_CYCLE, stmt.span, message));
        }
        self.uses.push((name.text.clone(), stmt.span));
        self.apply(&stmts, context, scope);
        self.uses.pop();
    }

    fn unknown_snippet(&self, name: &Word) -> Diagnostic {
        let message = format!("snippet `{}` does not exist", name.text);
        let mut problem = Diagnostic::new(&codes::SNIPPET_UNKNOWN, name.span, message);
        if let Some(near) = nearest(&name.text, self.snippets.keys().map(String::as_str)) {
            problem = problem.label(format!("did you mean `{near}`?"));
        }
        problem.help("a snippet is written `snippet NAME { … }` at the top level")
    }

    /// Checks how many words a statement has, and whether it has the block it needs.
    fn fits(&mut self, stmt: &Stmt, row: &Directive) -> bool {
        let (least, most) = row.words;
        if stmt.words.len() < least || stmt.words.len() > most {
            self.usage(stmt, row.usage);
            return false;
        }
        if !row.variables && !self.are_fixed(stmt) {
            return false;
        }
        match (&stmt.block, row.block) {
            (Some(_), None) => {
                let problem = Diagnostic::new(
                    &codes::BLOCK,
                    stmt.span,
                    format!("`{}` takes no block", stmt.name.text),
                );
                self.problem(problem.help(format!("write it `{}`", row.usage)));
                false
            }
            (None, Some(_)) => {
                let problem = Diagnostic::new(
                    &codes::BLOCK,
                    stmt.span,
                    format!("`{}` needs a block", stmt.name.text),
                );
                self.problem(problem.help(format!("write it `{}`", row.usage)));
                false
            }
            _ => true,
        }
    }

    /// Checks that no word holds a variable that is filled in for each request.
    fn are_fixed(&mut self, stmt: &Stmt) -> bool {
        let has_variables = |word: &&Word| !word.raw && template::has_variables(&word.text);
        let Some(word) = stmt.words.iter().find(has_variables) else {
            return true;
        };
        let message = format!(
            "`{}` takes no variables of requests: it is read once",
            stmt.name.text
        );
        let problem = Diagnostic::new(&codes::RUN_TIME_VARIABLE, word.span, message);
        self.problem(problem.help("put the word in backquotes if the text is meant"));
        false
    }

    pub(crate) fn usage(&mut self, stmt: &Stmt, usage: &str) {
        let message = format!("`{}` has the wrong number of words", stmt.name.text);
        self.problem(
            Diagnostic::new(&codes::ARGUMENTS, stmt.span, message)
                .help(format!("write it `{usage}`")),
        );
    }

    fn substitute_all(&mut self, stmts: &mut [Stmt]) {
        for stmt in stmts {
            for word in std::iter::once(&mut stmt.name).chain(&mut stmt.words) {
                if !word.raw && word.text.contains("${") {
                    self.substitute(word);
                }
            }
            if let Some(block) = &mut stmt.block {
                self.substitute_all(block);
            }
        }
    }

    /// Replaces `${NAME}`, `${NAME:-text}` and `${file:PATH}`. What is put in is not looked at again.
    fn substitute(&mut self, word: &mut Word) {
        let mut out = String::new();
        let mut rest = word.text.as_str();
        while self.substituted <= SUBSTITUTION_BYTES_MAX
            && let Some((before, after)) = rest.split_once("${")
        {
            out.push_str(before);
            let Some((inner, after)) = after.split_once('}') else {
                self.problem(Diagnostic::new(
                    &codes::SUBSTITUTION,
                    word.span,
                    "a substitution has no `}`",
                ));
                break;
            };
            if template::is_variable(inner) {
                out.push_str("${");
                out.push_str(inner);
                out.push('}');
                rest = after;
                continue;
            }
            match self.value(inner, word.span) {
                Ok(value) => self.put_in(&value, word.span, &mut out),
                Err(problem) => self.problem(problem),
            }
            rest = after;
        }
        out.push_str(rest);
        word.text = out;
    }

    /// Appends what takes the place of a substitution, unless it is too much.
    fn put_in(&mut self, value: &str, span: Span, out: &mut String) {
        self.substituted += value.len();
        if self.substituted <= SUBSTITUTION_BYTES_MAX {
            return out.push_str(value);
        }
        let message = "substitutions put in more than 16 MiB";
        let problem = Diagnostic::new(&codes::TOO_LARGE, span, message);
        self.problem(problem.help("check which file is named in `${file:PATH}`, and how often"));
    }

    #[expect(
        clippy::result_large_err,
        reason = "a problem is made once for a mistake, not in a loop"
    )]
    fn value(&self, inner: &str, span: Span) -> Result<String, Diagnostic> {
        if let Some(path) = inner.strip_prefix("file:") {
            let bytes = self
                .loader
                .read(path)
                .map_err(|error| unreadable(&codes::FILE, span, path, &error))?;
            let text = String::from_utf8(bytes);
            let text = text.map_err(|_| {
                Diagnostic::new(&codes::FILE, span, format!("`{path}` is not UTF-8 text"))
            })?;
            return Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned());
        }
        let (name, default) = inner
            .split_once(":-")
            .map_or((inner, None), |(name, text)| (name, Some(text)));
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let problem = Diagnostic::new(
                &codes::SUBSTITUTION,
                span,
                format!("`${{{inner}}}` is not a substitution"),
            );
            return Err(problem.help("write `${NAME}`, `${NAME:-default}` or `${file:PATH}`"));
        }
        let value = self
            .loader
            .env(name)
            .filter(|value| !value.is_empty() || default.is_none());
        value.or_else(|| default.map(str::to_owned)).ok_or_else(|| {
            let problem = Diagnostic::new(
                &codes::VARIABLE,
                span,
                format!("the variable `{name}` is not set"),
            );
            problem.help(format!("set it, or give a default: `${{{name}:-text}}`"))
        })
    }
}

fn unreadable(code: &'static codes::Code, span: Span, path: &str, error: &LoadError) -> Diagnostic {
    match error {
        LoadError::TooLarge => {
            let problem = Diagnostic::new(
                &codes::TOO_LARGE,
                span,
                format!("`{path}` is larger than 16 MiB"),
            );
            problem.help("check the path: a configuration is rarely larger than a few hundred KiB")
        }
        LoadError::Failed(why) => {
            Diagnostic::new(code, span, format!("cannot read `{path}`: {why}"))
        }
    }
}

fn unknown(word: &Word, context: Context) -> Diagnostic {
    let (name, span) = (&word.text, word.span);
    let elsewhere: Vec<&str> = directive::rows()
        .filter(|row| row.name == name)
        .flat_map(|row| row.within)
        .map(|c| c.name())
        .collect();
    if !elsewhere.is_empty() {
        let message = format!("`{name}` does not belong in {}", context.name());
        let problem = Diagnostic::new(&codes::MISPLACED, span, message);
        return problem.help(format!("it stands in {}", elsewhere.join(" or ")));
    }
    if matches!(name.as_str(), "snippet" | "include") {
        let problem = Diagnostic::new(
            &codes::MISPLACED,
            span,
            format!("`{name}` stands at the top level only"),
        );
        return problem.help("move it out of the block");
    }
    if NOT_YET.contains(&name.as_str()) {
        let problem = Diagnostic::new(
            &codes::NOT_YET,
            span,
            format!("`{name}` is not in this version"),
        );
        return problem.help("remove it: what is not done must not look as if it were");
    }
    let mut elsewhere = ELSEWHERE.iter();
    if let Some((_, help)) = elsewhere.find(|(word, _)| word == name) {
        let message = format!("unknown directive `{name}`");
        return Diagnostic::new(&codes::UNKNOWN, span, message).help(*help);
    }
    let here = || {
        directive::rows()
            .filter(|row| row.within.contains(&context))
            .map(|row| row.name)
    };
    let mut problem = Diagnostic::new(&codes::UNKNOWN, span, format!("unknown directive `{name}`"));
    if let Some(near) = nearest(name, here().chain(["use", "snippet", "include"])) {
        problem = problem.label(format!("did you mean `{near}`?"));
    }
    let known: Vec<&str> = here().collect();
    problem.note(format!("known in {}: {}", context.name(), known.join(", ")))
}
