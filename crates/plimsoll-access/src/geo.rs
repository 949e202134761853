//! Where addresses are: a MaxMind file in memory.

use std::net::IpAddr;

use maxminddb::{PathElement, Reader};

use crate::lines::BadFile;

/// A file of countries.
#[derive(Debug)]
pub struct Geo(Reader<Vec<u8>>);

impl Geo {
    /// Takes the contents of a file.
    ///
    /// # Errors
    /// It is no such file, or a broken one.
    pub fn read(bytes: Vec<u8>) -> Result<Self, BadFile> {
        let reader = Reader::from_source(bytes);
        let reader =
            reader.map_err(|error| BadFile::whole(format!("not a MaxMind file: {error}")))?;
        Ok(Self(reader))
    }

    /// The country of an address, as two letters (ISO 3166-1); nothing where it is not known.
    pub fn country(&self, ip: IpAddr) -> Option<[u8; 2]> {
        let found = self.0.lookup(ip.to_canonical()).ok()?;
        let code = |name| {
            let path = [PathElement::Key(name), PathElement::Key("iso_code")];
            found.decode_path::<&str>(&path).ok().flatten()
        };
        let code = code("country").or_else(|| code("registered_country"))?;
        code.as_bytes().try_into().ok()
    }

    /// The continent of an address, as two letters: `EU`, `NA`.
    pub fn continent(&self, ip: IpAddr) -> Option<[u8; 2]> {
        let found = self.0.lookup(ip.to_canonical()).ok()?;
        let path = [PathElement::Key("continent"), PathElement::Key("code")];
        let code: &str = found.decode_path(&path).ok().flatten()?;
        code.as_bytes().try_into().ok()
    }

    /// The autonomous system of an address, where the file is one of these.
    pub fn asn(&self, ip: IpAddr) -> Option<u32> {
        let found = self.0.lookup(ip.to_canonical()).ok()?;
        let path = [PathElement::Key("autonomous_system_number")];
        found.decode_path(&path).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest file: two nodes, of which the first half of all addresses is in Germany.
    fn file() -> Vec<u8> {
        fn text(text: &str) -> Vec<u8> {
            [&[0x40 | u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
        }
        let map = |entries: u8| vec![0xe0 | entries];
        let number = |n: u8| vec![0xa1, n];
        let record_bits = number(24);
        let data = [
            map(3),
            text("country"),
            map(1),
            text("iso_code"),
            text("DE"),
            text("continent"),
            map(1),
            text("code"),
            text("EU"),
            text("autonomous_system_number"),
            vec![0xc2, 0xfd, 0xe8],
        ]
        .concat();
        // One node: left leads to the data (its pointer is the node count and 16), right to nothing.
        let tree = [0, 0, 1 + 16, 0, 0, 1];
        let metadata = [
            map(9),
            text("binary_format_major_version"),
            number(2),
            text("binary_format_minor_version"),
            number(0),
            text("build_epoch"),
            vec![0x01, 0x02, 1],
            text("database_type"),
            text("Test"),
            text("description"),
            map(0),
            text("ip_version"),
            number(4),
            text("languages"),
            vec![0x00, 0x04],
            text("node_count"),
            vec![0xc1, 1],
            text("record_size"),
            record_bits,
        ]
        .concat();
        [
            &tree[..],
            &[0; 16],
            &data,
            b"\xab\xcd\xefMaxMind.com",
            &metadata,
        ]
        .concat()
    }

    #[test]
    fn countries_are_found() {
        let geo = Geo::read(file()).unwrap();
        assert_eq!(geo.country("1.2.3.4".parse().unwrap()), Some(*b"DE"));
        assert_eq!(geo.country("::ffff:1.2.3.4".parse().unwrap()), Some(*b"DE"));
        assert_eq!(geo.country("200.2.3.4".parse().unwrap()), None);
        assert_eq!(geo.continent("1.2.3.4".parse().unwrap()), Some(*b"EU"));
        assert_eq!(geo.asn("1.2.3.4".parse().unwrap()), Some(65_000));
        assert_eq!(geo.asn("200.2.3.4".parse().unwrap()), None);
        assert_eq!(geo.country("2001:db8::1".parse().unwrap()), None);
    }

    #[test]
    fn broken_files_are_refused_or_know_nothing() {
        assert!(Geo::read(b"nothing".to_vec()).is_err());
        let good = file();
        for at in 0..good.len() {
            let mut broken = good.clone();
            broken[at] ^= 0x55;
            if let Ok(geo) = Geo::read(broken) {
                let ip = "1.2.3.4".parse().unwrap();
                let _ = (geo.country(ip), geo.continent(ip), geo.asn(ip));
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_file_breaks_it(
            changes in proptest::collection::vec((0_usize..1000, proptest::prelude::any::<u8>()), 1..6),
            cut in 0_usize..400,
        ) {
            let mut broken = file();
            let length = broken.len();
            for (at, byte) in changes {
                broken[at % length] = byte;
            }
            broken.truncate(length - cut % 20);
            if let Ok(geo) = Geo::read(broken) {
                for ip in ["1.2.3.4", "200.2.3.4", "2001:db8::1"] {
                    let ip = ip.parse().unwrap();
                    let _ = (geo.country(ip), geo.continent(ip), geo.asn(ip));
                }
            }
        }
    }
}
