//! Records of challenges, written into the domain name system (RFC 2136) with a signature (RFC 8945).

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hickory_proto::op::{Message, ResponseCode, update_message};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record, RecordSet, TSigner};
use plimsoll_config::model::DnsUpdate;
use plimsoll_net::clock;

use super::{dns, name_servers, storage};

/// How long the server may take for one change.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long others may remember a record, in seconds.
const TTL: u32 = 1;

/// How far the clocks of the two ends may be apart, in seconds (RFC 8945 §10).
const FUDGE: u16 = 300;

/// Who takes records, for all zones.
pub(super) struct Updaters(Vec<Updater>);

/// A record that was written.
pub(super) struct Written {
    /// Where.
    pub(super) server: SocketAddr,
    pub(super) zone: Name,
    pub(super) name: Name,
    pub(super) value: String,
}

impl Updaters {
    /// Reads the keys that sign changes.
    ///
    /// # Errors
    /// Why one cannot be used; never what stands in it.
    pub(super) fn new(updates: &[DnsUpdate]) -> Result<Self, String> {
        let updaters = updates.iter().map(Updater::new);
        Ok(Self(updaters.collect::<Result<_, _>>()?))
    }

    /// Adds a record beside those that are there.
    ///
    /// # Errors
    /// Why no server has taken it.
    pub(super) async fn add(&self, record: &str, value: &str) -> Result<Written, String> {
        let name = Name::from_ascii(format!("{record}."));
        let name = name.map_err(|error| error.to_string())?;
        let updater = self.of(&name)?;
        let zone = match &updater.zone {
            Some(zone) => zone.clone(),
            None => name_servers::zone_of(updater.server, &name).await?,
        };
        let written = Written {
            server: updater.server,
            zone: zone.clone(),
            name,
            value: value.to_owned(),
        };
        let message = update_message::append(written.set(), zone, false, false);
        updater.send(message).await?;
        Ok(written)
    }

    /// Takes a record away, and no other.
    ///
    /// # Errors
    /// Why the server has not done so.
    pub(super) async fn remove(&self, written: &Written) -> Result<(), String> {
        let zone = written.zone.clone();
        let message = update_message::delete_by_rdata(written.set(), zone, false);
        self.of(&written.name)?.send(message).await
    }

    /// Who takes the record of a name: whoever has the longest zone that it is in, or else who says itself
    /// which zones it has.
    fn of(&self, name: &Name) -> Result<&Updater, String> {
        let length = |updater: &&Updater| updater.zone.as_ref().map(Name::num_labels);
        let able = self.0.iter().filter(|updater| updater.may_take(name));
        let best = able.max_by_key(length);
        best.ok_or_else(|| format!("no `dns-update` is for a zone with `{name}`"))
    }
}

impl Written {
    /// What it says.
    pub(super) fn data(&self) -> RData {
        RData::TXT(TXT::new(vec![self.value.clone()]))
    }

    fn set(&self) -> RecordSet {
        RecordSet::from(Record::from_rdata(self.name.clone(), TTL, self.data()))
    }
}

/// Writes records where one server has the zone.
struct Updater {
    server: SocketAddr,
    /// The zone that it has; else it is asked.
    zone: Option<Name>,
    signer: TSigner,
}

impl Updater {
    fn new(update: &DnsUpdate) -> Result<Self, String> {
        let problem = |why: &str| format!("cannot use the key `{}`: {why}", update.key);
        let text = storage::secret(&update.key).map_err(|why| problem(&why))?;
        let Key {
            name,
            algorithm,
            secret,
        } = Key::read(&text).map_err(problem)?;
        let name = Name::from_ascii(name).map_err(|_| problem("its name is none"))?;
        let signer = TSigner::new(secret, algorithm, name, FUDGE);
        let zone = update.zone.as_ref();
        let zone = zone.map(|zone| Name::from_ascii(format!("{zone}.")));
        Ok(Self {
            server: update.server,
            zone: zone.transpose().map_err(|error| error.to_string())?,
            signer: signer.map_err(|_| problem("its algorithm is not known"))?,
        })
    }

    fn may_take(&self, name: &Name) -> bool {
        self.zone.as_ref().is_none_or(|zone| zone.zone_of(name))
    }

    async fn send(&self, message: Message) -> Result<(), String> {
        let sent = tokio::time::timeout(DEADLINE, self.exchange(message)).await;
        let sent = sent.unwrap_or_else(|_| Err("it took longer than 10 seconds".to_owned()));
        sent.map_err(|why| format!("the name server {}: {why}", self.server))
    }

    async fn exchange(&self, mut message: Message) -> Result<(), String> {
        let now = clock::unix_time().as_secs();
        let signed = message.finalize(&self.signer, now);
        let verifier = signed.map_err(|error| error.to_string())?;
        let mut verifier = verifier.ok_or("the change was not signed")?;
        let bytes = message.to_vec().map_err(|error| error.to_string())?;
        let answer = dns::exchange(self.server, &bytes).await?;
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

    fn updaters(zones: &[Option<&str>]) -> Updaters {
        let updater = |(at, zone): (usize, &Option<&str>)| {
            let name = Name::from_ascii("update.").unwrap();
            let algorithm = TsigAlgorithm::HmacSha256;
            Updater {
                server: ([127, 0, 0, 1], u16::try_from(at).unwrap()).into(),
                zone: zone.map(|zone| Name::from_ascii(zone).unwrap()),
                signer: TSigner::new(vec![0; 32], algorithm, name, FUDGE).unwrap(),
            }
        };
        Updaters(zones.iter().enumerate().map(updater).collect())
    }

    #[test]
    fn the_longest_zone_takes_a_record() {
        let all = [None, Some("example."), Some("b.example."), Some("test.")];
        for (zones, name, expected) in [
            (&all[..], "_acme-challenge.a.example.", Some(1)),
            (&all, "_acme-challenge.b.example.", Some(2)),
            (&all, "_acme-challenge.A.B.Example.", Some(2)),
            (&all, "_acme-challenge.bb.example.", Some(1)),
            (&all, "_acme-challenge.test.", Some(3)),
            (&all, "_acme-challenge.elsewhere.", Some(0)),
            (&all[1..], "_acme-challenge.elsewhere.", None),
            (&[], "_acme-challenge.example.", None),
        ] {
            let updaters = updaters(zones);
            let found = updaters.of(&Name::from_ascii(name).unwrap());
            let found = found.ok().map(|updater| updater.server.port());
            assert_eq!(found, expected, "{name}");
        }
    }

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
