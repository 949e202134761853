//! The problems of one configuration, so many of them as a person reads. The rest is counted.

use crate::codes;
use crate::diagnostic::{Diagnostic, Severity};

/// Problems that are kept.
const KEPT_MAX: usize = 100;

/// Collects problems in bounded memory. No warning takes the place of an error.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    kept: Vec<Diagnostic>,
    /// How many of the kept ones are warnings.
    warnings: usize,
    unseen_errors: usize,
    unseen_warnings: usize,
}

impl Problems {
    pub(crate) fn push(&mut self, problem: Diagnostic) {
        let is_warning = problem.severity() == Severity::Warning;
        if self.kept.len() >= KEPT_MAX {
            if is_warning {
                self.unseen_warnings += 1;
                return;
            }
            if self.are_full() {
                return self.count_error();
            }
            self.drop_warning();
        }
        self.warnings += usize::from(is_warning);
        self.kept.push(problem);
    }

    /// Tells whether a further error would only be counted.
    pub(crate) fn are_full(&self) -> bool {
        self.kept.len() - self.warnings >= KEPT_MAX
    }

    /// Counts an error that is not worth making any more.
    pub(crate) fn count_error(&mut self) {
        debug_assert!(self.are_full(), "an error is lost");
        self.unseen_errors += 1;
    }

    /// Tells whether there is an error among them.
    pub(crate) fn has_errors(&self) -> bool {
        self.kept.len() > self.warnings
    }

    /// All that were kept, in the order of their places, and a line for those that were not.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.kept
            .sort_by_key(|problem| (problem.primary.span.file, problem.primary.span.start));
        let unseen = self.unseen_errors + self.unseen_warnings;
        if unseen > 0 {
            // Warnings that are not shown are no reason to refuse the configuration.
            let (code, what) = match self.unseen_errors {
                0 => (&codes::TOO_MANY_WARNINGS, "warnings"),
                _ => (&codes::TOO_MANY, "problems"),
            };
            let last = self.kept.last();
            let at = last.map(|last| last.primary.span).unwrap_or_default();
            let message = format!("{unseen} more {what} are not shown");
            self.kept.push(Diagnostic::new(code, at, message));
        }
        self.kept
    }

    /// Makes room for an error.
    fn drop_warning(&mut self) {
        let is_warning = |problem: &Diagnostic| problem.severity() == Severity::Warning;
        if let Some(at) = self.kept.iter().rposition(is_warning) {
            self.kept.remove(at);
            self.warnings -= 1;
            self.unseen_warnings += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Span;

    fn finish(codes: impl IntoIterator<Item = &'static codes::Code>) -> (usize, Diagnostic) {
        let mut problems = Problems::default();
        for code in codes {
            problems.push(Diagnostic::new(code, Span::default(), ""));
        }
        let all = problems.finish();
        let errors = all.iter().filter(|p| p.severity() == Severity::Error);
        (errors.count(), all.into_iter().next_back().unwrap())
    }

    #[test]
    fn many_warnings_do_not_make_an_error() {
        let (errors, last) = finish(std::iter::repeat_n(&codes::UNREACHABLE, 150));
        assert_eq!((errors, last.code.id), (0, "W0607"));
        assert_eq!(last.message, "50 more warnings are not shown");
    }

    #[test]
    fn many_warnings_do_not_hide_an_error() {
        let warnings = std::iter::repeat_n(&codes::UNREACHABLE, 150);
        let (errors, last) = finish(warnings.chain([&codes::STRING]));
        assert_eq!((errors, last.code.id), (1, "W0607"));
        assert_eq!(last.message, "51 more warnings are not shown");
    }

    #[test]
    fn many_errors_are_counted() {
        let errors = std::iter::repeat_n(&codes::STRING, 150);
        let (errors, last) = finish(errors.chain([&codes::UNREACHABLE]));
        assert_eq!((errors, last.code.id), (101, "E0319"));
        assert_eq!(last.message, "51 more problems are not shown");
    }
}
