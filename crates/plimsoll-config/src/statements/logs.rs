//! Access logs as statements.

use super::{Words, words};
use crate::model::{AccessLog, LogFormat, LogTarget};

/// Where a log goes.
pub(crate) fn log_target(log: &AccessLog) -> String {
    match &log.to {
        LogTarget::Stdout => "stdout".to_owned(),
        LogTarget::File(path) => path.to_string_lossy().into_owned(),
    }
}

/// How its lines look.
pub(crate) fn log_format(log: &AccessLog) -> &'static str {
    match log.format {
        LogFormat::Json => "json",
        LogFormat::JsonFingerprint => "json+ja4",
        LogFormat::Combined => "combined",
        LogFormat::Haproxy => "haproxy",
    }
}

/// The logs of a site or service.
pub(crate) fn logs(logs: &[AccessLog]) -> Vec<Words> {
    if logs.is_empty() {
        return vec![words(["log", "off"])];
    }
    let each = logs.iter();
    each.map(|log| words(["log", &log_target(log), log_format(log)]))
        .collect()
}
