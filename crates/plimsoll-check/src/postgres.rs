//! PostgreSQL: whether a server serves, and what it is among its copies.

use std::fmt;

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};

use crate::talk::Talk;
use crate::{Failure, Role, Wire};

/// Longer messages are not what is waited for.
const MESSAGE_MAX: usize = 16 * 1024;

/// Messages before the answer to a question, at most: parameters, notices.
const MESSAGES_MAX: usize = 64;

/// What a server asks for, by its number.
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// How often a password may have to be hashed; PostgreSQL's own number is 4096.
const ITERATIONS_MAX: u32 = 100_000;

/// How PostgreSQL is asked.
#[derive(Clone)]
pub struct PostgresProbe {
    /// Who logs in.
    pub user: String,
    /// Where.
    pub database: String,
    /// With which password, where the server wants one.
    pub password: Option<String>,
    /// What the server has to be.
    pub role: Option<Role>,
}

impl fmt::Debug for PostgresProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        f.debug_struct("PostgresProbe")
            .field("user", &self.user)
            .field("database", &self.database)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// Starts a session. That the server asks for a password or refuses the user shows that it serves; that it
/// is starting up or shutting down shows that it does not. What it is, it says only to a user that it lets in.
pub(crate) async fn ask(probe: &PostgresProbe, stream: &mut Wire) -> Result<(), Failure> {
    let mut talk = Talk::new(stream);
    talk.say(&startup(probe)).await?;
    let first = Message::read(&mut talk).await?;
    if probe.role.is_none() && probe.password.is_none() {
        return match first.kind {
            b'R' => Ok(()),
            b'E' => judge_refusal(&first.body),
            _ => Err(not_postgres()),
        };
    }
    be_let_in(&mut talk, probe, first).await?;
    Message::wait(&mut talk, b'Z').await?;
    let is = match probe.role {
        Some(_) => Some(role(&mut talk).await?),
        None => None,
    };
    talk.say(&message(b'X', b"")).await?;
    match probe.role.zip(is) {
        Some((wanted, is)) => wanted.judge(is),
        None => Ok(()),
    }
}

/// What the server is.
async fn role(talk: &mut Talk<'_>) -> Result<Role, Failure> {
    let question = b"SELECT pg_is_in_recovery()\0";
    talk.say(&message(b'Q', question)).await?;
    let row = Message::wait(talk, b'D').await?;
    match row.body.last() {
        Some(b't') => Ok(Role::Replica),
        Some(b'f') => Ok(Role::Primary),
        _ => Err(not_postgres()),
    }
}

/// Shows the server that the user has the password, in the way that it asks for.
async fn be_let_in(
    talk: &mut Talk<'_>,
    probe: &PostgresProbe,
    first: Message,
) -> Result<(), Failure> {
    let user = &probe.user;
    let Some((code, asked)) = first.authentication()? else {
        return Ok(());
    };
    let Some(password) = &probe.password else {
        return Err(Failure::Answer(format!("it wants a password of {user}")));
    };
    match code {
        MD5 => {
            let salt = asked.first_chunk().ok_or_else(not_postgres)?;
            let hash = md5_hash(user.as_bytes(), password.as_bytes(), *salt);
            talk.say(&message(b'p', &[hash.as_bytes(), b"\0"].concat()))
                .await?;
        }
        SASL => scram(talk, password, asked).await?,
        _ => {
            let why = "it wants the password in a way that would give it away";
            return Err(Failure::Answer(why.to_owned()));
        }
    }
    match Message::read_good(talk).await?.authentication()? {
        None => Ok(()),
        Some(_) => Err(not_postgres()),
    }
}

/// SCRAM-SHA-256 (RFC 7677), without saying the password.
async fn scram(talk: &mut Talk<'_>, password: &str, ways: &[u8]) -> Result<(), Failure> {
    if !ways
        .split(|b| *b == 0)
        .any(|way| way == SCRAM_SHA_256.as_bytes())
    {
        return Err(Failure::Answer("it knows no SCRAM-SHA-256".to_owned()));
    }
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let length = u32::try_from(scram.message().len()).unwrap_or_default();
    let begin = [
        SCRAM_SHA_256.as_bytes(),
        b"\0",
        &length.to_be_bytes(),
        scram.message(),
    ];
    talk.say(&message(b'p', &begin.concat())).await?;
    let asked = Message::read_good(talk).await?;
    match asked.authentication()? {
        Some((SASL_CONTINUE, challenge)) if is_bearable(challenge) => {
            scram.update(challenge).map_err(|_| not_postgres())?;
        }
        _ => return Err(not_postgres()),
    }
    talk.say(&message(b'p', scram.message())).await?;
    let proof = Message::read_good(talk).await?;
    match proof.authentication()? {
        Some((SASL_FINAL, proof)) => scram.finish(proof).map_err(|_| {
            Failure::Answer("it does not know the password that it asks for".to_owned())
        }),
        _ => Err(not_postgres()),
    }
}

/// Tells whether a challenge asks for no more work than servers do: it must not keep us busy.
fn is_bearable(challenge: &[u8]) -> bool {
    let mut parts = challenge.split(|b| *b == b',');
    let count = parts.find_map(|part| part.strip_prefix(b"i="));
    let count = count.and_then(|count| std::str::from_utf8(count).ok()?.parse().ok());
    count.is_some_and(|count: u32| count <= ITERATIONS_MAX)
}

fn not_postgres() -> Failure {
    Failure::Answer("not PostgreSQL".to_owned())
}

/// A message of a server's.
struct Message {
    kind: u8,
    body: Vec<u8>,
}

impl Message {
    async fn read(talk: &mut Talk<'_>) -> Result<Self, Failure> {
        let head = talk.take(5).await?;
        let [kind, length @ ..] = head.as_slice() else {
            return Err(not_postgres());
        };
        let length = length.iter().fold(0_usize, |n, b| n << 8 | usize::from(*b));
        if !kind.is_ascii_alphabetic() || !(4..MESSAGE_MAX).contains(&length) {
            return Err(not_postgres());
        }
        let body = talk.take(length - 4).await?;
        Ok(Self { kind: *kind, body })
    }

    /// Reads one that is no error.
    async fn read_good(talk: &mut Talk<'_>) -> Result<Self, Failure> {
        let message = Self::read(talk).await?;
        match message.kind {
            b'E' => Err(Failure::Answer(text(&message.body))),
            _ => Ok(message),
        }
    }

    /// What a message about who we are asks for; nothing when it lets us in.
    fn authentication(&self) -> Result<Option<(u32, &[u8])>, Failure> {
        match (self.kind, self.body.split_first_chunk()) {
            (b'R', Some((code, asked))) => match u32::from_be_bytes(*code) {
                0 => Ok(None),
                code => Ok(Some((code, asked))),
            },
            (b'E', _) => Err(Failure::Answer(text(&self.body))),
            _ => Err(not_postgres()),
        }
    }

    /// Waits for one of a kind.
    async fn wait(talk: &mut Talk<'_>, kind: u8) -> Result<Self, Failure> {
        for _ in 0..MESSAGES_MAX {
            let message = Self::read_good(talk).await?;
            if message.kind == kind {
                return Ok(message);
            }
        }
        Err(not_postgres())
    }
}

/// A message of ours.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or_default();
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

fn startup(probe: &PostgresProbe) -> Vec<u8> {
    let parameters = format!(
        "user\0{}\0database\0{}\0application_name\0plimsoll\0\0",
        probe.user, probe.database
    );
    let length = u32::try_from(parameters.len() + 8).unwrap_or_default();
    let version: u32 = 3 << 16;
    [
        &length.to_be_bytes()[..],
        &version.to_be_bytes(),
        parameters.as_bytes(),
    ]
    .concat()
}

/// A field of an `ErrorResponse`.
fn field(fields: &[u8], kind: u8) -> Option<String> {
    let mut fields = fields.split(|b| *b == 0);
    let found = fields.find_map(|field| field.strip_prefix(&[kind]));
    found.map(|text| String::from_utf8_lossy(text).into_owned())
}

/// What an `ErrorResponse` says.
fn text(fields: &[u8]) -> String {
    let message = field(fields, b'M').or_else(|| field(fields, b'C'));
    message.unwrap_or_default()
}

/// Judges an `ErrorResponse` by its code: class 28 is about authorization, and `3D000` about the database.
fn judge_refusal(fields: &[u8]) -> Result<(), Failure> {
    let code = field(fields, b'C').unwrap_or_default();
    match code.starts_with("28") || code == "3D000" {
        true => Ok(()),
        false => Err(Failure::Answer(text(fields))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart() {
        assert!(judge_refusal(b"SFATAL\0C28P01\0Mpassword\0\0").is_ok());
        assert!(judge_refusal(b"SFATAL\0C28000\0Mno such role\0\0").is_ok());
        let starting = judge_refusal(b"SFATAL\0C57P03\0Mthe database system is starting up\0\0");
        assert!(matches!(starting, Err(Failure::Answer(why)) if why.contains("starting up")));
        assert!(judge_refusal(b"").is_err());
    }

    #[test]
    fn a_challenge_may_not_keep_us_busy() {
        assert!(is_bearable(b"r=abc,s=c2FsdA==,i=4096"));
        assert!(!is_bearable(b"r=abc,s=c2FsdA==,i=4000000000"));
        assert!(!is_bearable(b"r=abc,s=c2FsdA==") && !is_bearable(b"i=-1"));
    }

    #[test]
    fn messages_say_how_long_they_are() {
        let startup = startup(&PostgresProbe {
            user: "u".into(),
            database: "d".into(),
            password: None,
            role: None,
        });
        let length = u32::try_from(startup.len()).unwrap();
        assert_eq!(startup.first_chunk(), Some(&length.to_be_bytes()));
        assert_eq!(message(b'X', b""), b"X\0\0\0\x04");
    }
}
