//! MySQL and MariaDB: whether a server serves, and what it is among its copies.

use crate::talk::Talk;
use crate::{Failure, Role, Wire};

/// Longer messages are not what is waited for.
const MESSAGE_MAX: usize = 16 * 1024;

/// Messages until a user is let in: the server may ask to prove it in another way, and say that this will do.
const LOGIN_MAX: usize = 4;

/// How MySQL is asked.
#[derive(Clone, Debug)]
pub struct MysqlProbe {
    /// Who logs in; without a role it need not exist.
    pub user: String,
    /// What the server has to be.
    pub role: Option<Role>,
}

/// Reads the greeting and goes, politely: a connection that breaks off counts against our address
/// (`max_connect_errors`), one that ends with a well-formed refused login does not. What a server is, it says only to a
/// user that it lets in.
pub(crate) async fn ask(probe: &MysqlProbe, stream: &mut Wire) -> Result<(), Failure> {
    let mut talk = Talk::new(stream);
    greeting(&Packet::read(&mut talk).await?.body)?;
    talk.say(&packet(1, &login(&probe.user))).await?;
    let Some(role) = probe.role else {
        // Whatever it says to that, it has said it.
        let _ = Packet::read(&mut talk).await;
        return Ok(());
    };
    be_let_in(&mut talk, &probe.user).await?;
    talk.say(&packet(0, b"\x03SELECT @@global.read_only"))
        .await?;
    let is = value(&mut talk).await?;
    talk.say(&packet(0, b"\x01")).await?;
    role.judge(match &*is {
        b"0" | b"OFF" => Role::Primary,
        _ => Role::Replica,
    })
}

/// A message, and its number in the conversation.
struct Packet {
    number: u8,
    body: Vec<u8>,
}

impl Packet {
    async fn read(talk: &mut Talk<'_>) -> Result<Self, Failure> {
        let head = talk.take(4).await?;
        let [length @ .., number] = head.as_slice() else {
            return Err(not_mysql());
        };
        let length = length
            .iter()
            .rev()
            .fold(0_usize, |n, b| n << 8 | usize::from(*b));
        if !(1..MESSAGE_MAX).contains(&length) {
            return Err(not_mysql());
        }
        let body = talk.take(length).await?;
        Ok(Self {
            number: *number,
            body,
        })
    }

    /// Reads one that is no error.
    async fn read_good(talk: &mut Talk<'_>) -> Result<Self, Failure> {
        let packet = Self::read(talk).await?;
        match packet.body.as_slice() {
            [0xff, ..] => Err(Failure::Answer(refusal(&packet.body))),
            _ => Ok(packet),
        }
    }
}

fn not_mysql() -> Failure {
    Failure::Answer("not MySQL".to_owned())
}

/// What an error says, behind its number and its state.
fn refusal(body: &[u8]) -> String {
    let message = match body {
        [_, _, _, b'#', _, _, _, _, _, message @ ..] => message,
        [_, _, _, message @ ..] => message,
        _ => &[],
    };
    String::from_utf8_lossy(message).into_owned()
}

fn greeting(body: &[u8]) -> Result<(), Failure> {
    match body {
        [10, ..] => Ok(()),
        [0xff, _, _, ..] => Err(Failure::Answer(refusal(body))),
        _ => Err(not_mysql()),
    }
}

fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or_default().to_le_bytes();
    let length = length.iter().take(3);
    let head = length.chain(std::iter::once(&number));
    head.chain(body).copied().collect()
}

/// A login of protocol 4.1, with an empty answer to the challenge: without a password.
fn login(user: &str) -> Vec<u8> {
    let capabilities: u32 = 0x0200 | 0x8000 | 0x0008_0000; // PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH
    let mut body = capabilities.to_le_bytes().to_vec();
    body.extend_from_slice(&(1_u32 << 24).to_le_bytes());
    body.push(33); // utf8
    body.extend_from_slice(&[0; 23]);
    body.extend_from_slice(user.as_bytes());
    body.extend_from_slice(b"\0\0mysql_native_password\0");
    body
}

/// Waits until the server lets the user in. It may want to be told in another way that there is no password.
async fn be_let_in(talk: &mut Talk<'_>, user: &str) -> Result<(), Failure> {
    for _ in 0..LOGIN_MAX {
        let Packet { number, body } = Packet::read_good(talk).await?;
        match body.as_slice() {
            [0, ..] => return Ok(()),
            [0xfe, way @ ..] => {
                let empty: &[u8] = match way.starts_with(b"caching_sha2_password\0") {
                    true => b"\0",
                    false => b"",
                };
                talk.say(&packet(number.wrapping_add(1), empty)).await?;
            }
            [1, 3] => {} // that will do; the next message says so
            _ => break,
        }
    }
    Err(Failure::Answer(format!("it wants a password of {user}")))
}

/// The one value of an answer: behind its columns, the first of the first row.
async fn value(talk: &mut Talk<'_>) -> Result<Vec<u8>, Failure> {
    let columns = Packet::read_good(talk).await?;
    let [1] = columns.body.as_slice() else {
        return Err(not_mysql());
    };
    Packet::read_good(talk).await?; // what the column is called
    Packet::read_good(talk).await?; // no more columns
    let row = Packet::read_good(talk).await?;
    match row.body.split_first() {
        Some((length, text)) if usize::from(*length) == text.len() => Ok(text.to_vec()),
        _ => Err(not_mysql()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_are_told_apart() {
        assert!(greeting(b"\x0a8.0.1\0").is_ok());
        let blocked = greeting(b"\xff\x69\x04Host is blocked");
        assert!(matches!(blocked, Err(Failure::Answer(why)) if why == "Host is blocked"));
        assert!(greeting(b"SSH").is_err() && greeting(b"").is_err());
        assert_eq!(refusal(b"\xff\x15\x04#28000Access denied"), "Access denied");
    }

    #[test]
    fn packets_say_how_long_they_are() {
        assert_eq!(packet(3, b"ab"), b"\x02\0\0\x03ab");
        assert_eq!(login("u").len(), 32 + 2 + 1 + 22);
    }
}
