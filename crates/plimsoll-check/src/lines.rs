//! Protocols of lines: Redis, SMTP, agents, and whatever a script says.

use crate::talk::Talk;
use crate::{Advice, Failure, Role, Wire};

/// A step of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Waits for these bytes.
    Expect(Vec<u8>),
}

pub(crate) async fn script(steps: &[Step], stream: &mut Wire) -> Result<(), Failure> {
    let mut talk = Talk::new(stream);
    for step in steps {
        match step {
            Step::Send(bytes) => talk.say(bytes).await?,
            Step::Expect(bytes) => talk.expect(bytes).await?,
        }
    }
    Ok(())
}

/// `PING`, or `ROLE`. A server that wants a password first is alive, and does not say what it is.
pub(crate) async fn redis(role: Option<Role>, stream: &mut Wire) -> Result<(), Failure> {
    let mut talk = Talk::new(stream);
    let Some(role) = role else {
        talk.say(b"*1\r\n$4\r\nPING\r\n").await?;
        return redis_reply(&talk.line().await?);
    };
    talk.say(b"*1\r\n$4\r\nROLE\r\n").await?;
    let line = talk.line().await?;
    if !line.starts_with('*') {
        return Err(Failure::Answer(line));
    }
    talk.line().await?; // the length of the word
    role.judge(match &*talk.line().await? {
        "master" => Role::Primary,
        "slave" => Role::Replica,
        other => return Err(Failure::Answer(other.to_owned())),
    })
}

fn redis_reply(line: &str) -> Result<(), Failure> {
    let alive = ["+PONG", "-NOAUTH", "-NOPERM"];
    match alive.iter().any(|start| line.starts_with(start)) {
        true => Ok(()),
        false => Err(Failure::Answer(line.to_owned())),
    }
}

pub(crate) async fn smtp(stream: &mut Wire) -> Result<(), Failure> {
    let mut talk = Talk::new(stream);
    smtp_reply(&mut talk, "220").await?;
    talk.say(b"EHLO localhost\r\n").await?;
    smtp_reply(&mut talk, "250").await?;
    talk.say(b"QUIT\r\n").await
}

/// Reads a reply of one or more lines (RFC 5321 §4.2).
async fn smtp_reply(talk: &mut Talk<'_>, code: &str) -> Result<(), Failure> {
    loop {
        let line = talk.line().await?;
        match line.strip_prefix(code) {
            Some(rest) if rest.starts_with('-') => {}
            Some(_) => return Ok(()),
            None => return Err(Failure::Answer(line)),
        }
    }
}

/// Reads the line of an agent beside a server, in HAProxy's words.
pub(crate) async fn agent(stream: &mut Wire) -> Result<Advice, Failure> {
    let line = Talk::new(stream).line().await?;
    advice(&line)
}

fn advice(line: &str) -> Result<Advice, Failure> {
    let mut advice = Advice::default();
    let words = line.split('#').next().unwrap_or_default();
    for word in words
        .split([' ', ',', '\t'])
        .filter(|word| !word.is_empty())
    {
        match word.to_ascii_lowercase().as_str() {
            "up" | "ready" => advice.takes_new = Some(true),
            "drain" | "maint" => advice.takes_new = Some(false),
            "down" | "fail" | "failed" | "stopped" => return Err(Failure::Answer(line.to_owned())),
            word => match word.strip_suffix('%').and_then(|n| n.parse().ok()) {
                Some(percent @ 0..=100) => advice.weight_percent = Some(percent),
                _ => return Err(Failure::Answer(format!("not an agent's word: {word}"))),
            },
        }
    }
    Ok(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_redis() {
        for alive in ["+PONG", "-NOAUTH Authentication required."] {
            assert!(redis_reply(alive).is_ok());
        }
        for other in [
            "-LOADING Redis is loading",
            "-MASTERDOWN",
            "HTTP/1.1 400",
            "",
        ] {
            assert!(redis_reply(other).is_err());
        }
    }

    #[test]
    fn words_of_agents() {
        let heard = |line| advice(line).ok().map(|a| (a.weight_percent, a.takes_new));
        assert_eq!(heard("75%"), Some((Some(75), None)));
        assert_eq!(heard("ready up, 50% # fine"), Some((Some(50), Some(true))));
        assert_eq!(heard("drain"), Some((None, Some(false))));
        assert_eq!(
            [heard("down # disk full"), heard("101%"), heard("hello")],
            [None; 3]
        );
        assert_eq!(heard(""), Some((None, None)));
    }
}
