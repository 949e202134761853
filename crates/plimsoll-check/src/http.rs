//! An HTTP request on a connection of its own.

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Failure, Wire};

/// How much of an answer is read.
const ANSWER_MAX: usize = 64 * 1024;

/// A request, and what its answer must be.
#[derive(Clone, Debug)]
pub struct HttpProbe {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `Host`.
    pub host: String,
    /// Status codes that pass, as ranges.
    pub expect: Vec<(u16, u16)>,
    /// A field that must be there, and a text in its value.
    pub header: Option<(String, String)>,
    /// A text in the first 64 KiB of head and body.
    pub body: Option<String>,
}

/// Asks, and judges the answer.
pub(crate) async fn ask(probe: &HttpProbe, stream: &mut Wire) -> Result<(), Failure> {
    let HttpProbe {
        method, path, host, ..
    } = probe;
    let length = if method == "POST" {
        "Content-Length: 0\r\n"
    } else {
        ""
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: plimsoll-check\r\nAccept: */*\r\n{length}\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(1024);
    loop {
        let is_last = stream.read_buf(&mut answer).await? == 0 || answer.len() >= ANSWER_MAX;
        match judge(probe, &answer, is_last) {
            Judgement::Passed => return Ok(()),
            Judgement::Failed(why) => return Err(Failure::Answer(why)),
            Judgement::More => {}
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Passed,
    Failed(String),
    More,
}

/// Judges what has come of an answer; `is_last` when no more will come.
fn judge(probe: &HttpProbe, answer: &[u8], is_last: bool) -> Judgement {
    let Some(head_end) = memmem::find(answer, b"\r\n\r\n") else {
        return match (is_last, answer.is_empty()) {
            (false, _) => Judgement::More,
            (true, true) => Judgement::Failed("closed without an answer".to_owned()),
            (true, false) => Judgement::Failed("not an HTTP answer".to_owned()),
        };
    };
    let (head, body) = answer.split_at(head_end);
    let Some(status) = status(head) else {
        return Judgement::Failed("not an HTTP answer".to_owned());
    };
    if !probe
        .expect
        .iter()
        .any(|(from, to)| (*from..=*to).contains(&status))
    {
        return Judgement::Failed(format!("HTTP {status}"));
    }
    if let Some((name, text)) = &probe.header
        && !has_field(head, name, text)
    {
        return Judgement::Failed(format!("HTTP {status} without the field {name}"));
    }
    match &probe.body {
        Some(text) if memmem::find(body, text.as_bytes()).is_none() => match is_last {
            true => Judgement::Failed(format!("HTTP {status} without the text in its body")),
            false => Judgement::More,
        },
        _ => Judgement::Passed,
    }
}

/// The status of `HTTP/1.x NNN …`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|b| *b == b'\r').next()?;
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let (version, rest) = rest.split_first()?;
    let code = rest.strip_prefix(b" ")?.get(..3)?;
    let code = std::str::from_utf8(code).ok()?.parse().ok()?;
    (version.is_ascii_digit() && (100..=599).contains(&code)).then_some(code)
}

fn has_field(head: &[u8], name: &str, text: &str) -> bool {
    head.split(|b| *b == b'\n').skip(1).any(|line| {
        let mut parts = line.splitn(2, |b| *b == b':');
        let (own, value) = (parts.next().unwrap_or_default(), parts.next());
        own.eq_ignore_ascii_case(name.as_bytes())
            && value.is_some_and(|value| memmem::find(value, text.as_bytes()).is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> HttpProbe {
        HttpProbe {
            method: "GET".into(),
            path: "/".into(),
            host: "x".into(),
            expect: vec![(200, 299), (304, 304)],
            header: None,
            body: None,
        }
    }

    fn failed(why: &str) -> Judgement {
        Judgement::Failed(why.to_owned())
    }

    #[test]
    fn the_status_decides_as_soon_as_the_head_is_there() {
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        for end in 0..answer.len() {
            assert_eq!(judge(&probe(), &answer[..end], false), Judgement::More);
        }
        assert_eq!(judge(&probe(), answer, false), Judgement::Passed);
        for (answer, why) in [
            (&b"HTTP/1.1 500 Oops\r\n\r\n"[..], "HTTP 500"),
            (b"HTTP/1.1 OK\r\n\r\n", "not an HTTP answer"),
            (b"SSH-2.0-x\r\n", "not an HTTP answer"),
            (b"", "closed without an answer"),
        ] {
            assert_eq!(judge(&probe(), answer, true), failed(why));
        }
    }

    #[test]
    fn fields_and_bodies_are_looked_for() {
        let answer = b"HTTP/1.1 200 OK\r\nX-Ready: yes, really\r\n\r\nall is well";
        let with = |header: Option<(&str, &str)>, body: Option<&str>| HttpProbe {
            header: header.map(|(name, text)| (name.into(), text.into())),
            body: body.map(Into::into),
            ..probe()
        };
        assert_eq!(
            judge(&with(Some(("x-ready", "yes")), Some("well")), answer, false),
            Judgement::Passed
        );
        assert_eq!(
            judge(&with(Some(("x-ready", "no")), None), answer, false),
            failed("HTTP 200 without the field x-ready")
        );
        // A text in the head is not one in the body.
        assert_eq!(
            judge(&with(None, Some("really")), answer, false),
            Judgement::More
        );
        assert_eq!(
            judge(&with(None, Some("really")), answer, true),
            failed("HTTP 200 without the text in its body")
        );
    }
}
