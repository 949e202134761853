//! The first messages of PostgreSQL and MySQL: enough to know that a server serves.

use crate::talk::Talk;
use crate::{Failure, Wire};

/// Messages longer than this are no greetings.
const MESSAGE_MAX: usize = 16 * 1024;

/// Starts a session as nobody in particular. That the server asks for a password or refuses the
/// user shows that it serves; that it is starting up or shutting down shows that it does not.
pub(crate) async fn postgres(stream: &mut Wire) -> Result<(), Failure> {
    let mut talk = Talk::new(stream);
    talk.say(&postgres_startup()).await?;
    let head = talk.take(5).await?;
    let [kind, length @ ..] = head.as_slice() else {
        return Err(Failure::Answer("not PostgreSQL".to_owned()));
    };
    let length = length.iter().fold(0_usize, |n, b| n << 8 | usize::from(*b));
    match kind {
        b'R' => Ok(()),
        b'E' if (4..MESSAGE_MAX).contains(&length) => {
            postgres_error(&talk.take(length.saturating_sub(4)).await?)
        }
        _ => Err(Failure::Answer("not PostgreSQL".to_owned())),
    }
}

fn postgres_startup() -> Vec<u8> {
    let parameters = b"user\0plimsoll_check\0database\0postgres\0application_name\0plimsoll\0\0";
    let length = u32::try_from(parameters.len() + 8).unwrap_or_default();
    let version: u32 = 3 << 16;
    [
        &length.to_be_bytes()[..],
        &version.to_be_bytes(),
        parameters,
    ]
    .concat()
}

/// Judges an ErrorResponse by its code: class 28 is about authorization, and `3D000` about the database.
fn postgres_error(fields: &[u8]) -> Result<(), Failure> {
    let field = |kind: u8| {
        let mut fields = fields.split(|b| *b == 0);
        let found = fields.find_map(|field| field.strip_prefix(&[kind]));
        found.map(|text| String::from_utf8_lossy(text).into_owned())
    };
    let code = field(b'C').unwrap_or_default();
    if code.starts_with("28") || code == "3D000" {
        return Ok(());
    }
    Err(Failure::Answer(field(b'M').unwrap_or(code)))
}

/// Reads the greeting and goes, politely: a connection that breaks off counts against our address
/// (`max_connect_errors`), one that ends with a well-formed refused login does not.
pub(crate) async fn mysql(stream: &mut Wire) -> Result<(), Failure> {
    let mut talk = Talk::new(stream);
    let head = talk.take(4).await?;
    let length = head
        .iter()
        .take(3)
        .rev()
        .fold(0_usize, |n, b| n << 8 | usize::from(*b));
    if !(1..MESSAGE_MAX).contains(&length) {
        return Err(Failure::Answer("not MySQL".to_owned()));
    }
    mysql_greeting(&talk.take(length).await?)?;
    talk.say(&mysql_login()).await?;
    // Whatever it says to that, it has said it.
    let _ = talk.take(5).await;
    Ok(())
}

fn mysql_greeting(packet: &[u8]) -> Result<(), Failure> {
    match packet {
        [10, ..] => Ok(()),
        [0xff, _, _, message @ ..] => Err(Failure::Answer(
            String::from_utf8_lossy(message).into_owned(),
        )),
        _ => Err(Failure::Answer("not MySQL".to_owned())),
    }
}

/// A login of protocol 4.1 as a user that need not exist, with an empty answer to the challenge.
fn mysql_login() -> Vec<u8> {
    let capabilities: u32 = 0x0200 | 0x8000; // PROTOCOL_41, SECURE_CONNECTION
    let mut body = capabilities.to_le_bytes().to_vec();
    body.extend_from_slice(&(1_u32 << 24).to_le_bytes());
    body.push(33); // utf8
    body.extend_from_slice(&[0; 23]);
    body.extend_from_slice(b"plimsoll_check\0\0");
    let length = u32::try_from(body.len()).unwrap_or_default().to_le_bytes();
    let mut packet: Vec<u8> = length.iter().take(3).copied().collect();
    packet.push(1); // the second packet of the conversation
    packet.extend_from_slice(&body);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_errors_are_told_apart() {
        assert!(postgres_error(b"SFATAL\0C28P01\0Mpassword\0\0").is_ok());
        assert!(postgres_error(b"SFATAL\0C28000\0Mno such role\0\0").is_ok());
        let starting = postgres_error(b"SFATAL\0C57P03\0Mthe database system is starting up\0\0");
        assert!(matches!(starting, Err(Failure::Answer(why)) if why.contains("starting up")));
        assert!(postgres_error(b"").is_err());
    }

    #[test]
    fn mysql_greetings_are_told_apart() {
        assert!(mysql_greeting(b"\x0a8.0.1\0").is_ok());
        let blocked = mysql_greeting(b"\xff\x69\x04Host is blocked");
        assert!(matches!(blocked, Err(Failure::Answer(why)) if why == "Host is blocked"));
        assert!(mysql_greeting(b"SSH").is_err() && mysql_greeting(b"").is_err());
        assert_eq!(mysql_login().len(), 4 + 32 + 16);
        let startup = postgres_startup();
        let length = u32::try_from(startup.len()).unwrap();
        assert_eq!(startup.first_chunk(), Some(&length.to_be_bytes()));
    }
}
