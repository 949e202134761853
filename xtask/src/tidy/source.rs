//! Rules for a Rust file.

/// A longer file holds more than one subject.
const LINES_MAX: usize = 1000;

/// Macros that mark unfinished work. Written in two parts, so that this file does not hold them.
const UNFINISHED: [&str; 3] = [
    concat!("to", "do!("),
    concat!("db", "g!("),
    concat!("unimpl", "emented!("),
];

pub(super) fn examine(path: &str, content: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = content.lines().count();
    if lines > LINES_MAX {
        problems.push(format!("{path}: {lines} lines are more than {LINES_MAX}"));
    }
    for (number, line) in (1..).zip(content.lines()) {
        for word in UNFINISHED.iter().filter(|word| line.contains(*word)) {
            problems.push(format!("{path}:{number}: `{word}…)`"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_unfinished_work_by_its_line() {
        let content = format!("fn a() {{\n    {}\"later\");\n}}\n", UNFINISHED[0]);
        assert_eq!(
            examine("a.rs", &content),
            [format!("a.rs:2: `{}…)`", UNFINISHED[0])]
        );
        assert!(examine("a.rs", "/// What is to do.\nfn a() {}\n").is_empty());
    }

    #[test]
    fn a_file_has_an_end() {
        assert!(examine("a.rs", &"\n".repeat(LINES_MAX)).is_empty());
        assert_eq!(examine("a.rs", &"\n".repeat(LINES_MAX + 1)).len(), 1);
    }
}
