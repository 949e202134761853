//! `tidy`: the rules of this repository that no other tool knows. It is also a test.

mod functions;
mod layers;
mod source;
mod text;

use crate::command::{read, root};
use anyhow::{Result, bail};
use functions::Function;
use std::cmp::Reverse;
use std::fs;

/// How many of the longest files and functions are shown, so that growth is seen.
const SHOWN: usize = 5;

pub(crate) fn run() -> Result<()> {
    let report = examine()?;
    report.print_longest();
    if !report.problems.is_empty() {
        bail!("tidy:\n  {}", report.problems.join("\n  "));
    }
    println!("tidy ok");
    Ok(())
}

/// What was found in the whole repository.
#[derive(Default)]
struct Report {
    problems: Vec<String>,
    /// Rust files with their lines.
    files: Vec<(usize, String)>,
    functions: Vec<Function>,
}

fn examine() -> Result<Report> {
    let mut report = Report::default();
    report.problems.extend(layers::examine(&read(
        "cargo metadata --format-version 1 --no-deps",
    )?)?);
    for path in read("git ls-files")?.lines() {
        // A file that is no text, or that was just deleted, breaks no rule of text.
        let Ok(content) = fs::read_to_string(root().join(path)) else {
            continue;
        };
        report.problems.extend(text::examine(path, &content));
        if path.ends_with(".rs") {
            report.problems.extend(source::examine(path, &content));
            report
                .files
                .push((content.lines().count(), path.to_owned()));
            report.functions.extend(functions::find(path, &content));
        }
    }
    Ok(report)
}

impl Report {
    fn print_longest(&self) {
        let mut files = self.files.clone();
        files.sort_by_key(|&(lines, _)| Reverse(lines));
        println!("longest files:");
        for (lines, path) in files.iter().take(SHOWN) {
            println!("  {lines:5}  {path}");
        }
        let mut functions: Vec<_> = self.functions.iter().collect();
        functions.sort_by_key(|function| Reverse(function.lines));
        println!("longest functions:");
        for Function {
            lines,
            path,
            line,
            name,
        } in functions.into_iter().take(SHOWN)
        {
            println!("  {lines:5}  {name} ({path}:{line})");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        let report = super::examine().unwrap();
        assert!(report.problems.is_empty(), "{:#?}", report.problems);
        assert!(!report.files.is_empty() && !report.functions.is_empty());
    }
}
