//! Where access logs go, and how their lines look.

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::draft::Scope;
use crate::model::{
    AccessLog, FACILITIES, LogFormat, LogTarget, SEVERITIES, Syslog, SyslogForm, SyslogPlace,
    TAG_MAX,
};
use crate::read::Reader;
use crate::suggest::nearest;
use crate::syntax::{Stmt, Word};

const FORMATS: [&str; 4] = ["json", "json+ja4", "combined", "haproxy"];

pub(crate) fn log(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some((target, rest)) = stmt.words.split_first() else {
        return;
    };
    let (format, options) = match rest.split_first() {
        Some((word, options)) if !word.text.contains('=') => (Some(word), options),
        _ => (None, rest),
    };
    let Some(format) = format.map_or(Some(LogFormat::Json), |word| self::format(reader, word))
    else {
        return;
    };
    let Some(to) = self::target(reader, target, options) else {
        return;
    };
    let Some(settings) = scope.settings() else {
        return;
    };
    let logs = settings.log.get_or_insert_default();
    match target.text.as_str() {
        "off" if stmt.words.len() == 1 && logs.is_empty() => {}
        "off" => reader.problem(
            Diagnostic::new(
                &codes::REPEATED,
                stmt.span,
                "`log off` stands beside another log",
            )
            .help("`off` is written alone, without a format and without other `log` lines"),
        ),
        _ => logs.push(AccessLog { to, format }),
    }
}

fn format(reader: &mut Reader<'_>, word: &Word) -> Option<LogFormat> {
    match word.text.as_str() {
        "json" => Some(LogFormat::Json),
        "json+ja4" => {
            reader.fingerprints = true;
            Some(LogFormat::JsonFingerprint)
        }
        "combined" => Some(LogFormat::Combined),
        "haproxy" => Some(LogFormat::Haproxy),
        other => {
            let what = format!("`{other}` is not a log format");
            unknown(reader, word.into(), what, other, &FORMATS);
            None
        }
    }
}

fn target(reader: &mut Reader<'_>, word: &Word, options: &[Word]) -> Option<LogTarget> {
    let text = word.text.as_str();
    if text == "syslog" || text.starts_with("syslog:") {
        return syslog(reader, word, options).map(LogTarget::Syslog);
    }
    if let Some(option) = options.first() {
        let message = format!("`{}` is said of syslog alone", option.text);
        let problem = Diagnostic::new(&codes::OPTION, option.span, message);
        reader.problem(problem.help("a log is `syslog`, `syslog:/PATH`, `syslog:udp:ADDRESS` or `syslog:tcp:ADDRESS`; all else is a path"));
        return None;
    }
    Some(match text {
        "stdout" => LogTarget::Stdout,
        path => LogTarget::File(path.into()),
    })
}

fn syslog(reader: &mut Reader<'_>, word: &Word, options: &[Word]) -> Option<Syslog> {
    let Ok(place) = word.text.parse::<SyslogPlace>() else {
        let message = format!("`{}` is no place of a syslog daemon", word.text);
        let problem = Diagnostic::new(&codes::VALUE, word.span, message);
        reader.problem(problem.help(
            "write `syslog`, `syslog:/dev/log`, `syslog:udp:192.0.2.1:514` or `syslog:tcp:192.0.2.1:601`",
        ));
        return None;
    };
    let mut syslog = Syslog::to(place);
    let known = ["facility", "severity", "tag", "rfc"];
    reader.options(options, &known, |reader, name, value| match name {
        "facility" => set_number(reader, value, &FACILITIES, &mut syslog.facility),
        "severity" => set_number(reader, value, &SEVERITIES, &mut syslog.severity),
        "tag" if is_tag(value.text) => syslog.tag = value.text.to_owned(),
        "tag" => {
            let message = format!("a tag is 1 to {TAG_MAX} letters, digits, `-`, `_`, `.` or `/`");
            reader.problem(Diagnostic::new(&codes::VALUE, value.span, message));
        }
        _ => match value.text {
            "5424" => syslog.form = SyslogForm::Rfc5424,
            "3164" => syslog.form = SyslogForm::Rfc3164,
            other => {
                let what = format!("lines for syslog are not written as RFC {other} has it");
                unknown(reader, value, what, other, &["5424", "3164"]);
            }
        },
    });
    Some(syslog)
}

fn set_number(reader: &mut Reader<'_>, value: Value<'_>, names: &[&'static str], number: &mut u8) {
    let position = names.iter().position(|name| *name == value.text);
    match position.and_then(|at| u8::try_from(at).ok()) {
        Some(found) => *number = found,
        None => {
            let what = format!("syslog knows no `{}`", value.text);
            unknown(reader, value, what, value.text, names);
        }
    }
}

fn unknown(
    reader: &mut Reader<'_>,
    value: Value<'_>,
    what: String,
    word: &str,
    known: &[&'static str],
) {
    let mut problem = Diagnostic::new(&codes::VALUE, value.span, what);
    if let Some(near) = nearest(word, known.iter().copied()) {
        problem = problem.label(format!("did you mean `{near}`?"));
    }
    reader.problem(problem.help(format!("known: {}", known.join(", "))));
}

/// Letters that nobody takes for the end of a tag.
fn is_tag(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    (1..=TAG_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}
