//! Files of users and hashed passwords, as `htpasswd -B` and `argon2` write them.

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params};
use hashbrown::HashMap;
use sha2::{Digest, Sha256};

use crate::lines::{self, BadFile, shown};

/// The most work that one hash may take: a bcrypt cost of 14 is about a second.
const BCRYPT_COST_MAX: u32 = 14;
/// What argon2 may fill, and how much in all its rounds: a GiB takes about a second.
const ARGON2_KIB_MAX: u32 = 256 * 1024;
const ARGON2_WORK_MAX: u64 = 1024 * 1024;

/// Users, and what their passwords hash to.
#[derive(Debug)]
pub struct Passwords {
    users: HashMap<String, Hash>,
    /// What a user that is not there is checked with, so that the answer takes as long.
    dummy: Option<Hash>,
    /// Changes with the contents.
    digest: [u8; 32],
}

#[derive(Clone, Debug)]
enum Hash {
    Bcrypt(String),
    Argon2(String),
}

impl Passwords {
    /// Reads `user:hash` lines.
    ///
    /// # Errors
    /// The lines that are something else, or whose hash cannot be used.
    pub fn read(text: &[u8]) -> Result<Self, BadFile> {
        let entries = lines::read(text, |line| {
            let (user, hash) = line
                .split_once(':')
                .ok_or_else(|| format!("{} is not `user:hash`", shown(line)))?;
            let hash = Hash::read(hash.split(':').next().unwrap_or_default())?;
            Ok((user.to_owned(), hash))
        })?;
        let costliest = entries.iter().max_by_key(|(_, hash)| hash.cost());
        let dummy = costliest.map(|(_, hash)| hash.clone());
        let mut users = HashMap::new();
        for (user, hash) in entries {
            if users.insert(user.clone(), hash).is_some() {
                return Err(BadFile::whole(format!(
                    "user {} is there twice",
                    shown(&user)
                )));
            }
        }
        Ok(Self {
            users,
            dummy,
            digest: Sha256::digest(text).into(),
        })
    }

    /// Tells whether this is the user's password. Costly on purpose: tens of milliseconds.
    pub fn verify(&self, user: &str, password: &[u8]) -> bool {
        match (self.users.get(user), &self.dummy) {
            (Some(hash), _) => hash.verify(password),
            (None, Some(dummy)) => {
                dummy.verify(password);
                false
            }
            (None, None) => false,
        }
    }

    /// Changes with the contents of the file.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl Hash {
    fn read(text: &str) -> Result<Self, String> {
        let is_bcrypt = ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|start| text.starts_with(start));
        if is_bcrypt {
            let parts: bcrypt::HashParts = text
                .parse()
                .map_err(|_| "the bcrypt hash is malformed".to_owned())?;
            return match parts.get_cost() {
                ..=BCRYPT_COST_MAX => Ok(Self::Bcrypt(text.to_owned())),
                cost => Err(format!(
                    "a bcrypt cost of {cost} takes seconds; at most {BCRYPT_COST_MAX}"
                )),
            };
        }
        if text.starts_with("$argon2") {
            let malformed = || "the argon2 hash is malformed".to_owned();
            let hash = PasswordHash::new(text).map_err(|_| malformed())?;
            let params = Params::try_from(&hash).map_err(|_| malformed())?;
            let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
            let is_cheap = params.m_cost() <= ARGON2_KIB_MAX && work <= ARGON2_WORK_MAX;
            return match is_cheap {
                true => Ok(Self::Argon2(text.to_owned())),
                false => Err(format!(
                    "argon2 may take m={ARGON2_KIB_MAX} at most, and m times t may be {ARGON2_WORK_MAX}"
                )),
            };
        }
        Err("the password is not hashed with bcrypt or argon2: make it with `htpasswd -B`".into())
    }

    /// About how much work it is.
    fn cost(&self) -> u64 {
        match self {
            Self::Bcrypt(text) => {
                let cost = text.get(4..6).and_then(|cost| cost.parse().ok());
                1 << cost.unwrap_or(0_u32).min(BCRYPT_COST_MAX)
            }
            Self::Argon2(text) => {
                let params = PasswordHash::new(text)
                    .ok()
                    .and_then(|h| Params::try_from(&h).ok());
                params.map_or(0, |p| u64::from(p.m_cost()) * u64::from(p.t_cost()) / 64)
            }
        }
    }

    fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Argon2(text) => PasswordHash::new(text)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Of "secret", with the least work that each allows.
    const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuuOQOJFRnJxnRSnRBBnWWWGmRMlKzZ5kC";

    fn bcrypt_of(password: &str) -> String {
        bcrypt::hash_with_salt(password, 4, [7; 16])
            .unwrap()
            .to_string()
    }

    #[test]
    fn users_come_in_with_their_own_password() {
        let argon2 = {
            use argon2::password_hash::PasswordHasher;
            let params = Params::new(8, 1, 1, None).unwrap();
            let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
            let hash = argon2
                .hash_password_with_salt(b"other", b"saltsalt")
                .unwrap();
            hash.to_string()
        };
        let text = format!("# users\nada:{}\nbob:{argon2}\n\n", bcrypt_of("secret"));
        let users = Passwords::read(text.as_bytes()).unwrap();
        for (user, password, is_in) in [
            ("ada", "secret", true),
            ("ada", "other", false),
            ("bob", "other", true),
            ("bob", "", false),
            ("eve", "secret", false),
        ] {
            assert_eq!(users.verify(user, password.as_bytes()), is_in, "{user}");
        }
        let again = Passwords::read(format!("{text}#\n").as_bytes()).unwrap();
        assert_ne!(users.digest(), again.digest());
    }

    #[test]
    fn a_user_that_is_not_there_costs_as_much_as_the_costliest() {
        let of = |cost: u32| {
            bcrypt::hash_with_salt("secret", cost, [7; 16])
                .unwrap()
                .to_string()
        };
        let text = format!("ada:{}\nbob:{}\neve:{}\n", of(4), of(6), of(5));
        let users = Passwords::read(text.as_bytes()).unwrap();
        let dummy = users.dummy.as_ref().map(Hash::cost);
        assert_eq!(dummy, users.users.values().map(Hash::cost).max());
        // Its password is not one for anybody.
        assert!(!users.verify("mallory", b"secret"));
        assert!(users.verify("bob", b"secret"));
    }

    #[test]
    fn the_work_of_a_hash_has_a_bound_however_it_is_shared_out() {
        let line = |m: u32, t: u32| {
            format!("a:$argon2id$v=19$m={m},t={t},p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo")
        };
        for (m, t, is_good) in [
            (19_456, 2, true),
            (65_536, 16, true),
            (65_536, 17, false),
            (262_144, 4, true),
            (262_145, 1, false),
            (8, u32::MAX, false),
        ] {
            assert_eq!(
                Passwords::read(line(m, t).as_bytes()).is_ok(),
                is_good,
                "{m} {t}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_file_breaks_it(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = Passwords::read(&text);
            let _ = Passwords::read(&[b"a:$argon2id$v=19$", &text[..]].concat());
            let _ = Passwords::read(&[b"a:$2b$", &text[..]].concat());
        }
    }

    #[test]
    fn what_cannot_be_trusted_is_refused_with_its_line() {
        let text = format!(
            "plain:secret\nmd5:$apr1$a$b\nslow:$2y$31$abcdefghijklmnopqrstuuOQOJFRnJxnRSnRBBnWWWGmRMlKzZ5kC\nnothing\n\
             short:$2y$10$x\nhuge:$argon2id$v=19$m=4194304,t=3,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo\n{}",
            "ok:".to_owned() + BCRYPT
        );
        let bad = Passwords::read(text.as_bytes()).unwrap_err();
        assert_eq!(bad.count, 6);
        let said = bad.to_string();
        for part in [
            "line 1: the password is not hashed with bcrypt or argon2: make it with `htpasswd -B`",
            "line 3: a bcrypt cost of 31 takes seconds; at most 14",
            "line 4: `nothing` is not `user:hash`",
            "line 5: the bcrypt hash is malformed",
            "; and 1 more",
        ] {
            assert!(said.contains(part), "{said}");
        }
        let twice = format!("a:{BCRYPT}\na:{BCRYPT}\n");
        assert!(Passwords::read(twice.as_bytes()).is_err());
        assert!(!Passwords::read(b"").unwrap().verify("a", b"b"));
    }
}
