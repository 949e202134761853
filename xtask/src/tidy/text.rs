//! Rules for any text file.

/// The start of a path on one person's machine. Written in two parts, so that this file does not
/// hold them.
const MACHINE_PATHS: [&str; 4] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/Us", "ers/"),
];

pub(super) fn examine(path: &str, content: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(content.lines()) {
        for word in MACHINE_PATHS.iter().filter(|word| starts_path(line, word)) {
            problems.push(format!(
                "{path}:{number}: `{word}` is a path on one machine"
            ));
        }
    }
    if path.ends_with(".md") && titles(content) > 1 {
        problems.push(format!("{path}: {} titles, one is enough", titles(content)));
    }
    problems
}

/// Tells whether `word` starts an absolute path, and is no part of a longer one.
fn starts_path(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        before.is_none_or(|c| !c.is_alphanumeric() && !"._-*}>".contains(c))
    })
}

/// Counts titles of the first level, outside of code blocks.
fn titles(content: &str) -> usize {
    let mut in_code = false;
    let mut count = 0;
    for line in content.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code && line.starts_with("# ") {
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_one_title() {
        assert!(examine("a.md", "# One\n\n```sh\n# comment\n```\n\n## Two\n").is_empty());
        assert_eq!(
            examine("a.md", "# One\n# Two\n"),
            ["a.md: 2 titles, one is enough"]
        );
        assert!(examine("a.conf", "# One\n# Two\n").is_empty());
    }

    #[test]
    fn paths_of_one_machine_are_named_by_their_line() {
        let path = MACHINE_PATHS[0];
        let found = examine("a.rs", &format!("fn a()\nlet x = \"{path}me\";\n"));
        assert_eq!(
            found,
            [format!("a.rs:2: `{path}` is a path on one machine")]
        );
        assert!(examine("a.rs", &format!("GET {{prefix}}{path}\nsite{path}x")).is_empty());
    }
}
