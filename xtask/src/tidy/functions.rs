//! How long functions are. It reads formatted code: a function ends at the brace that stands as
//! far from the margin as its first line.

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) lines: usize,
    pub(super) path: String,
    pub(super) line: usize,
    pub(super) name: String,
}

pub(super) fn find(path: &str, content: &str) -> Vec<Function> {
    let lines: Vec<&str> = content.lines().collect();
    let starts = lines
        .iter()
        .enumerate()
        .filter_map(|(at, line)| Some((at, name(line)?)));
    starts
        .filter_map(|(at, name)| {
            let rest = lines.get(at..)?;
            let lines = length(rest)?;
            Some(Function {
                lines,
                path: path.to_owned(),
                line: at + 1,
                name: name.to_owned(),
            })
        })
        .collect()
}

/// Returns the name if a function starts on this line.
fn name(line: &str) -> Option<&str> {
    const BEFORE: [&str; 6] = ["pub", "const", "async", "unsafe", "extern", "default"];
    let (before, after) = line.split_once("fn ")?;
    let qualifies =
        |word: &str| BEFORE.contains(&word) || word.starts_with("pub(") || word.ends_with(')');
    if !before.split_ascii_whitespace().all(qualifies) {
        return None;
    }
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    after.get(..end).filter(|name| !name.is_empty())
}

/// Returns the lines of the function that starts on the first of `lines`; none without a body.
fn length(lines: &[&str]) -> Option<usize> {
    let first = lines.first()?;
    let margin = first.len() - first.trim_start().len();
    for (count, line) in (1..).zip(lines) {
        let at_margin = line.len() - line.trim_start().len() == margin;
        match line.trim() {
            "}" if at_margin => return Some(count),
            text if count == 1 && text.ends_with('}') => return Some(1),
            text if text.ends_with(';') && (at_margin || count == 1) => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_functions_and_skips_declarations() {
        let content = "\
fn short() {}
trait T {
    fn declared(&self);
    fn wrapped(
        &self,
    ) -> u8;
}
impl T for A {
    pub(super) async fn long(
        &self,
    ) -> u8 {
        if self.fn_pointer {
            1
        }
    }
}
// a fn in a comment {
const fn last<T>() {
}
";
        let found: Vec<_> = find("a.rs", content)
            .into_iter()
            .map(|f| (f.name, f.line, f.lines))
            .collect();
        let expected = [("short", 1, 1), ("long", 9, 7), ("last", 18, 2)];
        assert_eq!(
            found,
            expected.map(|(name, line, lines)| (name.to_owned(), line, lines))
        );
    }
}
