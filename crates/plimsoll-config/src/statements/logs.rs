//! Access logs as statements.

use super::{Words, words};
use crate::model::{AccessLog, FACILITIES, LogFormat, LogTarget, SEVERITIES, Syslog};

/// Where a log goes.
pub(crate) fn log_target(log: &AccessLog) -> String {
    match &log.to {
        LogTarget::Stdout => "stdout".to_owned(),
        LogTarget::File(path) => path.to_string_lossy().into_owned(),
        LogTarget::Syslog(syslog) => syslog.to.to_string(),
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

/// What else its lines are, where they go to syslog.
pub(crate) fn log_options(log: &AccessLog) -> Words {
    let LogTarget::Syslog(syslog) = &log.to else {
        return Words::new();
    };
    let name = |names: &[&'static str], number: u8| {
        let name = names.get(usize::from(number)).copied();
        name.unwrap_or_default()
    };
    let usual = Syslog::to(syslog.to.clone());
    let options = [
        (
            "facility",
            name(&FACILITIES, syslog.facility),
            syslog.facility != usual.facility,
        ),
        (
            "severity",
            name(&SEVERITIES, syslog.severity),
            syslog.severity != usual.severity,
        ),
        ("tag", &*syslog.tag, syslog.tag != usual.tag),
        ("rfc", syslog.form.number(), syslog.form != usual.form),
    ];
    let said = options.into_iter().filter(|(_, _, is_said)| *is_said);
    said.map(|(name, value, _)| format!("{name}={value}"))
        .collect()
}

/// The logs of a site or service.
pub(crate) fn logs(logs: &[AccessLog]) -> Vec<Words> {
    if logs.is_empty() {
        return vec![words(["log", "off"])];
    }
    let each = logs.iter();
    let line = |log| {
        let mut line = words(["log", &log_target(log), log_format(log)]);
        line.extend(log_options(log));
        line
    };
    each.map(line).collect()
}
