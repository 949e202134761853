//! Whether a server answers a TLS handshake. The handshake is not finished: a certificate that has
//! expired does not make a server deaf.

use crate::talk::Talk;
use crate::{Failure, Wire};

/// TLS record types.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

pub(crate) async fn hello(server_name: &str, stream: &mut Wire) -> Result<(), Failure> {
    let mut talk = Talk::new(stream);
    talk.say(&client_hello(server_name)).await?;
    let record = talk.take(5).await?;
    let kind = record.first().copied().unwrap_or_default();
    match kind {
        HANDSHAKE => match talk.take(1).await?.first() {
            Some(2) => Ok(()), // ServerHello
            _ => Err(Failure::Answer("an unexpected TLS message".to_owned())),
        },
        ALERT => {
            let alert = talk.take(2).await?;
            let code = alert.get(1).copied().unwrap_or_default();
            Err(Failure::Answer(format!("TLS alert {code}")))
        }
        _ => Err(Failure::Answer("not TLS".to_owned())),
    }
}

/// A ClientHello that servers of TLS 1.2 and 1.3 answer (RFC 8446 §4.1.2). Its key share is a point
/// that nobody has the secret of, since no secret will be agreed on.
fn client_hello(server_name: &str) -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut extension = |kind: u16, data: &[u8]| {
        extensions.extend_from_slice(&kind.to_be_bytes());
        extensions.extend_from_slice(&prefixed::<2>(data));
    };
    if !server_name.is_empty() {
        let name = [&[0][..], &prefixed::<2>(server_name.as_bytes())].concat();
        extension(0, &prefixed::<2>(&name));
    }
    let groups = [0, 29, 0, 23, 0, 24]; // x25519, secp256r1, secp384r1
    extension(10, &prefixed::<2>(&groups));
    let signatures = [4, 3, 8, 4, 4, 1, 5, 3, 8, 5, 5, 1, 8, 6, 6, 1, 8, 7];
    extension(13, &prefixed::<2>(&signatures));
    extension(43, &prefixed::<1>(&[3, 4, 3, 3]));
    let share = [&[0, 29][..], &prefixed::<2>(&[9; 32])].concat();
    extension(51, &prefixed::<2>(&share));
    let ciphers = [
        0x13, 0x01, 0x13, 0x02, 0x13, 0x03, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30, 0xcc,
        0xa9, 0xcc, 0xa8,
    ];
    let body = [
        &[3, 3][..],
        &[0x50; 32], // random, of which nothing depends
        &prefixed::<1>(&[0x50; 32]),
        &prefixed::<2>(&ciphers),
        &prefixed::<1>(&[0]),
        &prefixed::<2>(&extensions),
    ]
    .concat();
    let message = [&[1][..], &prefixed::<3>(&body)].concat();
    [&[HANDSHAKE, 3, 1][..], &prefixed::<2>(&message)].concat()
}

/// The length of `data` in `N` bytes, and `data`.
fn prefixed<const N: usize>(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_be_bytes();
    let (_, short) = length.split_at(8 - N);
    [short, data].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_fit_together() {
        let hello = client_hello("example.com");
        assert_eq!(
            usize::from(hello[3]) << 8 | usize::from(hello[4]),
            hello.len() - 5
        );
        assert_eq!(
            usize::from(hello[7]) << 8 | usize::from(hello[8]),
            hello.len() - 9
        );
        assert!(client_hello("").len() + 20 == hello.len());
    }
}
