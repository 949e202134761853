//! Files of one entry a line, with `#` comments: what is wrong is said with its line.

use std::fmt;

/// Bad lines that are told.
const TOLD_MAX: usize = 5;

/// Why a file is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFile {
    /// What is wrong, with line numbers; the first few.
    pub problems: Vec<String>,
    /// How many lines are bad.
    pub count: usize,
}

impl BadFile {
    /// One problem that no line has.
    pub(crate) fn whole(problem: impl Into<String>) -> Self {
        Self {
            problems: vec![problem.into()],
            count: 1,
        }
    }
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("; "))?;
        match self.count.saturating_sub(self.problems.len()) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Reads every line that is neither blank nor a comment; `read` says what is wrong with one.
///
/// # Errors
/// The lines that are wrong.
pub(crate) fn read<T>(
    text: &[u8],
    mut read: impl FnMut(&str) -> Result<T, String>,
) -> Result<Vec<T>, BadFile> {
    let mut out = Vec::new();
    let mut bad = BadFile {
        problems: Vec::new(),
        count: 0,
    };
    for (at, line) in text.split(|b| *b == b'\n').enumerate() {
        let line = match std::str::from_utf8(line) {
            Ok(line) => line.trim(),
            Err(_) => "\u{fffd}",
        };
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        match read(line) {
            Ok(entry) => out.push(entry),
            Err(problem) => {
                bad.count += 1;
                if bad.problems.len() < TOLD_MAX {
                    bad.problems.push(format!("line {}: {problem}", at + 1));
                }
            }
        }
    }
    match bad.count {
        0 => Ok(out),
        _ => Err(bad),
    }
}

/// A word of a file, short enough to be shown.
pub(crate) fn shown(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    let plain: String = short
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    match plain.len() < text.len() {
        true => format!("`{plain}...`"),
        false => format!("`{plain}`"),
    }
}
