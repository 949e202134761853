//! The one way a configuration is laid out: four blanks a level, one blank between words. Lines,
//! comments and the choice of quotes stay the user's.

use crate::diagnostic::Diagnostic;
use crate::problems::Problems;
use crate::source::Sources;
use crate::syntax;
use crate::token::{Kind, Token, tokens};

const INDENT: &str = "    ";

/// Lays `text` out.
///
/// # Errors
/// The text is not well formed; nothing was changed. The sources are what the problems point into.
pub fn format_text(name: &str, text: &str) -> Result<String, (Vec<Diagnostic>, Sources)> {
    let mut sources = Sources::default();
    let file = sources.add(name, text.to_owned());
    let mut problems = Problems::default();
    let tokens = tokens(file, text, &mut problems);
    syntax::statements(&tokens, &mut problems);
    if problems.has_errors() {
        return Err((problems.finish(), sources));
    }
    Ok(lay_out(text, &tokens))
}

fn lay_out(text: &str, tokens: &[Token]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut depth: usize = 0;
    let mut blank_lines = 0;
    for line in tokens.split(|token| token.kind == Kind::Newline) {
        let mut words = line.iter().filter(|token| token.kind != Kind::Semicolon);
        let Some(first) = words.clone().next() else {
            blank_lines += 1;
            continue;
        };
        // One empty line is a paragraph; more say no more. None opens a file or a block.
        if blank_lines > 0 && !out.is_empty() && !out.ends_with("{\n") && first.kind != Kind::Close
        {
            out.push('\n');
        }
        blank_lines = 0;
        let closing = words
            .by_ref()
            .take_while(|token| token.kind == Kind::Close)
            .count();
        out.push_str(&INDENT.repeat(depth.saturating_sub(closing)));
        write_line(text, line, &mut out);
        out.push('\n');
        for token in line {
            match token.kind {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
    out
}

fn write_line(text: &str, line: &[Token], out: &mut String) {
    // A `;` at the end of a line separates nothing.
    let last = line
        .iter()
        .rposition(|token| token.kind != Kind::Semicolon)
        .map_or(0, |at| at + 1);
    let mut is_first = true;
    let start = line
        .iter()
        .take_while(|token| token.kind == Kind::Semicolon)
        .count();
    for token in line.get(start..last).unwrap_or_default() {
        if !std::mem::take(&mut is_first) {
            out.push(' ');
        }
        let range = token.span.start as usize..token.span.end as usize;
        out.push_str(text.get(range).unwrap_or_default().trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layout() {
        let text = "\n\n# top\nsite  a {\n\n\n  listen   :80;\n\troute /x { proxy p;  } # note\n\n\n}\npool p { server \"a b\" ; }\n\n";
        let laid_out = "# top\nsite a {\n    listen :80\n    route /x { proxy p ; } # note\n}\npool p { server \"a b\" ; }\n";
        assert_eq!(format_text("t", text).ok().as_deref(), Some(laid_out));
    }

    #[test]
    fn a_block_closes_at_its_own_depth_behind_semicolons() {
        let laid_out = "a {\n    b {\n} ; }\n";
        assert_eq!(
            format_text("t", "a {\nb {\n;};}").ok().as_deref(),
            Some(laid_out)
        );
    }

    #[test]
    fn every_byte_order_mark_at_the_start_goes() {
        let text = "\u{feff}\u{feff}a b\n";
        assert_eq!(format_text("t", text).ok().as_deref(), Some("a b\n"));
    }

    #[test]
    fn what_is_not_well_formed_is_left_alone() {
        assert!(format_text("t", "site a {").is_err());
    }

    proptest! {
        #[test]
        fn layout_is_a_fixed_point_and_keeps_the_words(parts in proptest::collection::vec(
            proptest::sample::select(vec!["a", " ", "\n", "{", "}", ";", "# c\n", "\"q \"", "`r\n`", "x=\"y\"", "\t", "\r\n"]), 0..30)) {
            let text = parts.concat();
            if let Ok(once) = format_text("t", &text) {
                prop_assert_eq!(format_text("t", &once).ok(), Some(once.clone()));
                let words = |text: &str| tokens(0, text, &mut Problems::default()).into_iter()
                    .filter(|t| !matches!(t.kind, Kind::Newline | Kind::Semicolon)).map(|t| t.kind).collect::<Vec<_>>();
                prop_assert_eq!(words(&once), words(&text));
            }
        }
    }
}
