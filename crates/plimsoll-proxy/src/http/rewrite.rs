//! Changing where a request goes, after its route was found by where it asked to go.

use plimsoll_http::reason::Reason;
pub(crate) use plimsoll_http::rewrite::location;

use crate::http::exchange::Exchange;
use crate::http::respond::Answer;
use crate::steps::TargetStep;

/// Carries out a change of the target that the server receives.
pub(crate) fn change(
    exchange: &mut Exchange<'_>,
    step: &TargetStep,
) -> Result<(), Answer<'static>> {
    let mut rewritten = std::mem::take(&mut exchange.scratch.rewritten);
    if !std::mem::replace(&mut exchange.is_rewritten, true) {
        let (bytes, target) = (exchange.bytes(), &exchange.scratch.target);
        rewritten.begin(
            target.path(bytes),
            target.query.map(|query| query.of(bytes)),
        );
    }
    let values = exchange.values();
    let outcome = step.apply(&mut rewritten, |value, out| value.write(&values, out));
    exchange.scratch.rewritten = rewritten;
    outcome.map_err(|_| Answer {
        status: 400,
        ..Answer::to(
            Reason::HttpRequestError,
            "the rewritten path has no canonical form",
        )
    })
}
