//! Records of challenges, written into the domain name system (RFC 2136) with a signature (RFC 8945).

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hickory_proto::op::{Message, ResponseCode, update_message};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record, RecordSet, TSigner};
use plimsoll_config::model::DnsUpdate;
use plimsoll_net::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::storage;

/// How long the server may take for one change.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long others may remember a record, in seconds.
const TTL: u32 = 1;

/// How far the clocks of the two ends may be apart, in seconds (RFC 8945 §10).
const FUDGE: u16 = 300;

/// Writes records into one zone.
pub(super) struct Updater {
    server: std::net::SocketAddr,
    zone: Name,
    signer: TSigner,
}

impl Updater {
    /// Reads the key that signs changes.
    ///
    /// # Errors
    /// Why it cannot be used; never what stands in it.
    pub(super) fn new(update: &DnsUpdate) -> Result<Self, String> {
        let problem = |why: &str| format!("cannot use the key `{}`: {why}", update.key);
        let text = storage::secret(&update.key).map_err(|why| problem(&why))?;
        let Key {
            name,
            algorithm,
            secret,
        } = Key::read(&text).map_err(problem)?;
        let name = Name::from_ascii(name).map_err(|_| problem("its name is none"))?;
        let signer = TSigner::new(secret, algorithm, name, FUDGE);
        let zone = Name::from_ascii(format!("{}.", update.zone));
        Ok(Self {
            server: update.server,
            zone: zone.map_err(|error| error.to_string())?,
            signer: signer.map_err(|_| problem("its algorithm is not known"))?,
        })
    }

    /// Adds a record beside those that are there.
    ///
    /// # Errors
    /// Why the server has not taken it.
    pub(super) async fn add(&self, record: &str, value: &str) -> Result<(), String> {
        let set = self.set(record, value)?;
        let zone = self.zone.clone();
        self.send(update_message::append(set, zone, false, false))
            .await
    }

    /// Takes a record away, and no other.
    ///
    /// # Errors
    /// Why the server has not done so.
    pub(super) async fn remove(&self, record: &str, value: &str) -> Result<(), String> {
        let set = self.set(record, value)?;
        let zone = self.zone.clone();
        self.send(update_message::delete_by_rdata(set, zone, false))
            .await
    }

    fn set(&self, record: &str, value: &str) -> Result<RecordSet, String> {
        let name = Name::from_ascii(format!("{record}."));
        let name = name.map_err(|error| error.to_string())?;
        if !self.zone.zone_of(&name) {
            return Err(format!("`{record}` is not in the zone `{}`", self.zone));
        }
        let text = RData::TXT(TXT::new(vec![value.to_owned()]));
        Ok(RecordSet::from(Record::from_rdata(name, TTL, text)))
    }

    async fn send(&self, message: Message) -> Result<(), String> {
        let sent = tokio::time::timeout(DEADLINE, self.exchange(message)).await;
        let sent = sent.unwrap_or_else(|_| Err("it took longer than 10 seconds".to_owned()));
        sent.map_err(|why| format!("the name server {}: {why}", self.server))
    }

    async fn exchange(&self, mut message: Message) -> Result<(), String> {
        let failed = |error: std::io::Error| error.to_string();
        let now = clock::unix_time().as_secs();
        let signed = message.finalize(&self.signer, now);
        let verifier = signed.map_err(|error| error.to_string())?;
        let mut verifier = verifier.ok_or("the change was not signed")?;
        let bytes = message.to_vec().map_err(|error| error.to_string())?;
        let length = u16::try_from(bytes.len()).map_err(|error| error.to_string())?;
        let mut stream = TcpStream::connect(self.server).await.map_err(failed)?;
        stream.write_u16(length).await.map_err(failed)?;
        stream.write_all(&bytes).await.map_err(failed)?;
        let length = stream.read_u16().await.map_err(failed)?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.map_err(failed)?;
        let read = Message::from_vec(&answer).map_err(|error| error.to_string())?;
        // Who does not know our key does not sign.
        match read.metadata.response_code {
            ResponseCode::NoError => {}
            code => return Err(format!("it refuses the change: {code}")),
        }
        let verified = verifier.verify(&answer);
        verified.map_err(|error| format!("its answer is not signed as it has to be: {error}"))?;
        Ok(())
    }
}

/// What a file with a key says.
struct Key {
    name: String,
    algorithm: TsigAlgorithm,
    secret: Vec<u8>,
}

impl Key {
    /// Reads `key "NAME" { algorithm NAME; secret "BASE64"; };`.
    fn read(text: &str) -> Result<Self, &'static str> {
        let words = text.split(|c: char| c.is_whitespace() || "{};\"".contains(c));
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1).copied()
        };
        let name = after("key").ok_or("it has no name: write `key \"NAME\" { … };`")?;
        let algorithm = match after("algorithm") {
            Some("hmac-sha256") => TsigAlgorithm::HmacSha256,
            Some("hmac-sha384") => TsigAlgorithm::HmacSha384,
            Some("hmac-sha512") => TsigAlgorithm::HmacSha512,
            _ => return Err("its algorithm is not hmac-sha256, hmac-sha384 or hmac-sha512"),
        };
        let secret = after("secret").ok_or("it has no secret")?;
        let secret = BASE64_STANDARD.decode(secret);
        Ok(Self {
            name: name.to_owned(),
            algorithm,
            secret: secret.map_err(|_| "its secret is not Base64")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_bind_writes_it() {
        let text =
            "key \"update.example\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0\";\n};\n";
        let key = Key::read(text).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(key.name, "update.example");
        assert_eq!(key.algorithm, TsigAlgorithm::HmacSha256);
        assert_eq!(key.secret, b"secret");
        for broken in [
            "",
            "key",
            "key a { algorithm hmac-md5; secret c2VjcmV0; };",
            "key a { algorithm hmac-sha256; };",
            "key a { algorithm hmac-sha256; secret \"!\"; };",
        ] {
            assert!(Key::read(broken).is_err(), "{broken}");
        }
    }
}
