//! Steps, compiled: what is done with a request between its route and its action.

use plimsoll_config::model;
use plimsoll_http::edit::Replacement;
use plimsoll_http::rewrite::Rewritten;
use plimsoll_http::target::BadTarget;

use crate::edits;
use crate::generation::Limiter;
use crate::template::Template;

/// A statement that is carried out in its turn.
#[derive(Debug)]
pub(crate) enum Step {
    /// Counts the request, which goes no further when it is above the limit.
    Limit(Limiter),
    /// Changes where the request goes.
    Target(TargetStep),
}

/// A change of the target that a server receives.
#[derive(Debug)]
pub(crate) enum TargetStep {
    StripPrefix(Box<[u8]>),
    Rewrite(Replacement),
    RemoveParameter(Box<[u8]>),
    SetParameter(Box<[u8]>, Template),
    AddParameter(Box<[u8]>, Template),
}

impl Step {
    /// Tells whether a statement is carried out in its turn, and not folded with others.
    pub(crate) fn is_for(step: &model::Step) -> bool {
        !matches!(
            step,
            model::Step::RequestHeader(_) | model::Step::ResponseHeader(_) | model::Step::Cookie(_)
        )
    }
}

impl TargetStep {
    /// Changes a target; `write` fills a text in.
    ///
    /// # Errors
    /// What comes out has no canonical form.
    pub(crate) fn apply(
        &self,
        rewritten: &mut Rewritten,
        write: impl FnOnce(&Template, &mut Vec<u8>),
    ) -> Result<(), BadTarget> {
        match self {
            Self::StripPrefix(prefix) => rewritten.strip_prefix(prefix),
            Self::Rewrite(replacement) => return rewritten.replace(replacement),
            Self::RemoveParameter(name) => rewritten.remove_parameter(name),
            Self::SetParameter(name, value) | Self::AddParameter(name, value) => {
                if matches!(self, Self::SetParameter(..)) {
                    rewritten.remove_parameter(name);
                }
                rewritten.add_parameter(name, |out| write(value, out));
            }
        }
        Ok(())
    }
}

/// Compiles the steps that are carried out one by one; edits of fields are folded apart.
pub(crate) fn compile(
    steps: &[model::Step],
    mut limiter: impl FnMut(&model::Limit) -> Limiter,
) -> Vec<Step> {
    let name = |name: &str| name.as_bytes().into();
    let compile = |step: &model::Step| {
        let target = match step {
            model::Step::Limit(limit) => return Some(Step::Limit(limiter(limit))),
            model::Step::StripPrefix(prefix) => TargetStep::StripPrefix(name(prefix)),
            model::Step::Rewrite(rewrite) => TargetStep::Rewrite(edits::replacement(rewrite)?),
            model::Step::Query(edit) => match edit {
                model::QueryEdit::Set(parameter, value) => {
                    TargetStep::SetParameter(name(parameter), Template::new(value))
                }
                model::QueryEdit::Add(parameter, value) => {
                    TargetStep::AddParameter(name(parameter), Template::new(value))
                }
                model::QueryEdit::Remove(parameter) => TargetStep::RemoveParameter(name(parameter)),
            },
            model::Step::RequestHeader(_)
            | model::Step::ResponseHeader(_)
            | model::Step::Cookie(_) => return None,
        };
        Some(Step::Target(target))
    };
    steps.iter().filter_map(compile).collect()
}
