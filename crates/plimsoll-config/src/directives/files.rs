//! `files`: answers that are files.

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::route::act;
use crate::draft::{ActionDraft, Scope};
use crate::model::{Files, PathPattern, TryFile};
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "files",
    within: &[Context::Route],
    usage: "files DIRECTORY [index=NAME,...|off] [try=.SUFFIX|/PATH,...] [listing] [precompressed] [immutable=PATH,...] [hidden]",
    default: "none: a route has exactly one action; index=index.html",
    doc: "Answers GET and HEAD with files below DIRECTORY. The whole path of the request names the file: `route /static/* { files ./public }` finds `/static/a.css` at \
          `./public/static/a.css`; with `strip-prefix /static` before it, at `./public/a.css`. A path that ends in a slash is a directory, for which the first file of \
          `index` that is there is sent, or with `listing` a page that lists it; without the slash, the client is sent to the path with it. Where there is no file, each word of `try` is tried \
          in turn: `.html` behind the path, or another file, such as `/index.html` for a page that does its own routing. With `precompressed`, a file \
          beside it whose name ends in `.br`, `.zst` or `.gz` is sent to clients that accept that coding. Paths that `immutable` takes never change what they hold: browsers keep them for a year and do not ask again. \
          Ranges and conditions (`If-None-Match` and the like) are understood. A symbolic link may lead anywhere below DIRECTORY and nowhere else; names \
          that begin with a dot are not there unless `hidden` says so, but for `/.well-known`. DIRECTORY may itself be a symbolic link that is changed at any time: within a second, \
          files come from where it leads.",
    words: (1, 7),
    variables: false,
    block: None,
    set: files,
}];

/// How many names an option may list.
const NAMES_MAX: usize = 16;

fn files(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Some((directory, options)) = stmt.words.split_first() else {
        return;
    };
    let mut files = Files {
        directory: directory.text.as_str().into(),
        index: vec!["index.html".into()],
        tries: Vec::new(),
        immutable: Vec::new(),
        lists: false,
        is_precompressed: false,
        shows_hidden: false,
    };
    let known = [
        "index",
        "try",
        "listing",
        "precompressed",
        "immutable",
        "hidden",
    ];
    reader.options(options, &known, |reader, name, value| match name {
        "index" => files.index = index(reader, value),
        "try" => files.tries = names(reader, value, tried),
        "immutable" => files.immutable = names(reader, value, immutable),
        flag => {
            if !value.text.is_empty() {
                let message = format!("`{flag}` takes no value");
                reader.problem(Diagnostic::new(&codes::VALUE, value.span, message));
            }
            match flag {
                "listing" => files.lists = true,
                "precompressed" => files.is_precompressed = true,
                _ => files.shows_hidden = true,
            }
        }
    });
    act(reader, stmt, scope, ActionDraft::Files(files));
}

/// The values of a list.
fn names<T>(
    reader: &mut Reader<'_>,
    value: Value<'_>,
    one: fn(&mut Reader<'_>, Value<'_>) -> Option<T>,
) -> Vec<T> {
    let texts: Vec<&str> = value.text.split(',').collect();
    if texts.len() > NAMES_MAX {
        let message = format!("there are more than {NAMES_MAX} names");
        reader.problem(Diagnostic::new(&codes::RANGE, value.span, message));
    }
    let span = value.span;
    let texts = texts.into_iter().take(NAMES_MAX);
    texts
        .filter_map(|text| one(reader, Value { text, span }))
        .collect()
}

fn index(reader: &mut Reader<'_>, value: Value<'_>) -> Vec<Box<str>> {
    match value.text {
        "off" => Vec::new(),
        _ => names(reader, value, |reader, value| {
            let is_name = !matches!(value.text, "" | "." | "..") && !value.text.contains('/');
            if !is_name {
                let message = format!("`{}` is not the name of a file", value.text);
                reader.problem(Diagnostic::new(&codes::VALUE, value.span, message));
            }
            is_name.then(|| value.text.into())
        }),
    }
}

fn tried(reader: &mut Reader<'_>, value: Value<'_>) -> Option<TryFile> {
    match value.text {
        text if text.starts_with('/') => match reader.path(value)? {
            PathPattern::Exact(path) => return Some(TryFile::Path(path)),
            _ => {
                let message = format!("`{text}` is not one file");
                reader.problem(Diagnostic::new(&codes::PATH, value.span, message));
            }
        },
        text if text.len() > 1 && text.starts_with('.') && !text.contains('/') => {
            return Some(TryFile::Suffix(text.into()));
        }
        text => {
            let message = format!("`{text}` is nothing to try");
            let problem = Diagnostic::new(&codes::VALUE, value.span, message);
            let help = "write what follows the path, `.html`, or another file, `/index.html`";
            reader.problem(problem.help(help));
        }
    }
    None
}

fn immutable(reader: &mut Reader<'_>, value: Value<'_>) -> Option<PathPattern> {
    reader.path(value)
}
