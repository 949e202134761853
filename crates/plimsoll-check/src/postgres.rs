//! PostgreSQL: whether a server serves, and what it is among its copies.

use crate::talk::Talk;
use crate::{Failure, Role, Wire};

/// Longer messages are not what is waited for.
const MESSAGE_MAX: usize = 16 * 1024;

/// Messages before the answer to a question, at most: parameters, notices.
const MESSAGES_MAX: usize = 64;

/// How PostgreSQL is asked.
#[derive(Clone, Debug)]
pub struct PostgresProbe {
    /// Who logs in.
    pub user: String,
    /// Where.
    pub database: String,
    /// What the server has to be.
    pub role: Option<Role>,
}

/// Starts a session. That the server asks for a password or refuses the user shows that it serves; that it
/// is starting up or shutting down shows that it does not. What it is, it says only to a user that it lets in.
pub(crate) async fn ask(probe: &PostgresProbe, stream: &mut Wire) -> Result<(), Failure> {
    let mut talk = Talk::new(stream);
    talk.say(&startup(probe)).await?;
    let first = Message::read(&mut talk).await?;
    let Some(role) = probe.role else {
        return match first.kind {
            b'R' => Ok(()),
            b'E' => judge_refusal(&first.body),
            _ => Err(not_postgres()),
        };
    };
    match (first.kind, &*first.body) {
        (b'R', [0, 0, 0, 0]) => {}
        (b'R', _) => {
            let user = &probe.user;
            return Err(Failure::Answer(format!("it wants a password of {user}")));
        }
        (b'E', fields) => return Err(Failure::Answer(text(fields))),
        _ => return Err(not_postgres()),
    }
    Message::wait(&mut talk, b'Z').await?;
    talk.say(&message(b'Q', b"SELECT pg_is_in_recovery()\0"))
        .await?;
    let row = Message::wait(&mut talk, b'D').await?;
    talk.say(&message(b'X', b"")).await?;
    role.judge(match row.body.last() {
        Some(b't') => Role::Replica,
        Some(b'f') => Role::Primary,
        _ => return Err(not_postgres()),
    })
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

    /// Waits for one of a kind.
    async fn wait(talk: &mut Talk<'_>, kind: u8) -> Result<Self, Failure> {
        for _ in 0..MESSAGES_MAX {
            let message = Self::read(talk).await?;
            if message.kind == b'E' {
                return Err(Failure::Answer(text(&message.body)));
            }
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
    fn messages_say_how_long_they_are() {
        let startup = startup(&PostgresProbe {
            user: "u".into(),
            database: "d".into(),
            role: None,
        });
        let length = u32::try_from(startup.len()).unwrap();
        assert_eq!(startup.first_chunk(), Some(&length.to_be_bytes()));
        assert_eq!(message(b'X', b""), b"X\0\0\0\x04");
    }
}
