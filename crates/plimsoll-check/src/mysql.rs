//! The first messages of MySQL: enough to know that a server serves.

use crate::talk::Talk;
use crate::{Failure, Wire};

/// Messages longer than this are no greetings.
const MESSAGE_MAX: usize = 16 * 1024;

/// Reads the greeting and goes, politely: a connection that breaks off counts against our address
/// (`max_connect_errors`), one that ends with a well-formed refused login does not.
pub(crate) async fn greet(stream: &mut Wire) -> Result<(), Failure> {
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
    greeting(&talk.take(length).await?)?;
    talk.say(&login()).await?;
    // Whatever it says to that, it has said it.
    let _ = talk.take(5).await;
    Ok(())
}

fn greeting(packet: &[u8]) -> Result<(), Failure> {
    match packet {
        [10, ..] => Ok(()),
        [0xff, _, _, message @ ..] => Err(Failure::Answer(
            String::from_utf8_lossy(message).into_owned(),
        )),
        _ => Err(Failure::Answer("not MySQL".to_owned())),
    }
}

/// A login of protocol 4.1 as a user that need not exist, with an empty answer to the challenge.
fn login() -> Vec<u8> {
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
    fn greetings_are_told_apart() {
        assert!(greeting(b"\x0a8.0.1\0").is_ok());
        let blocked = greeting(b"\xff\x69\x04Host is blocked");
        assert!(matches!(blocked, Err(Failure::Answer(why)) if why == "Host is blocked"));
        assert!(greeting(b"SSH").is_err() && greeting(b"").is_err());
        assert_eq!(login().len(), 4 + 32 + 16);
    }
}
