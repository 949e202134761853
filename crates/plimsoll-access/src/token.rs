//! JSON Web Tokens (RFC 7519) in compact form, signed with keys of a JWK set (RFC 7517).
//!
//! Which algorithms are good is the rule's to say, and never the token's: a token that names another
//! is refused before its signature is looked at (RFC 8725 §3.1).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, crypto, decode_header};
use serde_json::{Map, Value};

use crate::lines::BadFile;

/// The longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Keys that are tried for a token that names none.
const KEYS_TRIED_MAX: usize = 8;

/// The algorithms that a rule can name.
pub const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
];

/// Keys that tokens are signed with.
#[derive(Debug)]
pub struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// The one algorithm that it is for, if that is said.
    only: Option<String>,
    family: Family,
    key: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Rsa,
    Ec,
    Ed,
    Secret,
}

impl Family {
    fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Self::Secret,
            Algorithm::ES256 | Algorithm::ES384 => Self::Ec,
            Algorithm::EdDSA => Self::Ed,
            _ => Self::Rsa,
        }
    }
}

/// What a token must say.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Good algorithms.
    pub algorithms: Vec<Algorithm>,
    /// Who must have made it.
    pub issuer: Option<Box<str>>,
    /// Whom it must be for.
    pub audience: Option<Box<str>>,
    /// By how many seconds clocks may differ.
    pub leeway: u64,
    /// Whether a token is good that says no end.
    pub is_endless: bool,
    /// Further claims, and one of which values each must have or hold; no values mean any.
    pub claims: Vec<(Box<str>, Vec<Box<str>>)>,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is no token.
    Malformed,
    /// Its algorithm is not one of the rule's.
    Algorithm,
    /// No key has its id.
    UnknownKey,
    /// The signature is not that of the key.
    Signature,
    /// It was good before, or says no end.
    Expired,
    /// It is not good yet.
    Early,
    /// Someone else made it.
    Issuer,
    /// It is for someone else.
    Audience,
    /// It does not say what it must.
    Claim,
}

impl Refused {
    /// For logs.
    pub fn text(self) -> &'static str {
        match self {
            Self::Malformed => "the token is malformed",
            Self::Algorithm => "the token's algorithm is not allowed",
            Self::UnknownKey => "the token's key is unknown",
            Self::Signature => "the token's signature is wrong",
            Self::Expired => "the token has expired",
            Self::Early => "the token is not good yet",
            Self::Issuer => "the token has another issuer",
            Self::Audience => "the token is for another audience",
            Self::Claim => "the token lacks a claim",
        }
    }
}

/// What a good token says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// A claim as text: lists with commas between, and nothing for what has no text.
    pub fn text(&self, name: &str) -> String {
        let plain = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => String::new(),
        };
        match self.0.get(name) {
            Some(Value::Array(all)) => all.iter().map(plain).collect::<Vec<_>>().join(","),
            Some(value) => plain(value),
            None => String::new(),
        }
    }

    fn seconds(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.as_f64()
    }

    /// Tells whether a claim is, or holds, one of these texts.
    fn has(&self, name: &str, values: &[Box<str>]) -> bool {
        let is_one = |value: &Value| match value {
            Value::String(text) => values.iter().any(|known| **known == **text),
            Value::Number(_) | Value::Bool(_) => values.iter().any(|v| **v == *value.to_string()),
            _ => false,
        };
        match self.0.get(name) {
            None => false,
            Some(_) if values.is_empty() => true,
            Some(Value::Array(all)) => all.iter().any(is_one),
            // Scopes stand in one text with blanks between (RFC 8693 §4.2).
            Some(Value::String(text)) if name == "scope" => text
                .split(' ')
                .any(|part| values.iter().any(|known| **known == *part)),
            Some(value) => is_one(value),
        }
    }
}

impl Keys {
    /// Reads a JWK set. Keys of kinds that are not known are passed over, as RFC 7517 §5 says.
    ///
    /// # Errors
    /// It is no set, or none of its keys can be used.
    pub fn read(json: &[u8]) -> Result<Self, BadFile> {
        let set: JwkSet = serde_json::from_slice(json)
            .map_err(|error| BadFile::whole(format!("not a JWK set: {error}")))?;
        let keys: Vec<Key> = set.keys.iter().filter_map(Key::new).collect();
        match keys.is_empty() {
            true => Err(BadFile::whole("the JWK set has no key that can be used")),
            false => Ok(Self(keys)),
        }
    }

    /// What a token says that is good at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn verify(&self, token: &[u8], rule: &Rule, now: u64) -> Result<Claims, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refused::Malformed);
        }
        let header = decode_header(token).map_err(|_| Refused::Malformed)?;
        // RFC 7515 §4.1.11: what must be understood is not, whatever it is.
        if header.crit.is_some() {
            return Err(Refused::Malformed);
        }
        if !rule.algorithms.contains(&header.alg) {
            return Err(Refused::Algorithm);
        }
        let name = ALGORITHMS.iter().find(|(_, known)| *known == header.alg);
        let name = name.map_or("", |(name, _)| name);
        let keys = self.0.iter().filter(|key| {
            let is_named = header.kid.is_none() || key.id == header.kid;
            let is_for = key.only.as_ref().is_none_or(|only| only == name);
            is_named && is_for && key.family == Family::of(header.alg)
        });
        let mut outcome = Err(Refused::UnknownKey);
        let (signed, signature) = parts(token).ok_or(Refused::Malformed)?;
        for key in keys.take(KEYS_TRIED_MAX) {
            let is_good = crypto::verify(signature, signed, &key.key, header.alg);
            if is_good.is_ok_and(|is_good| is_good) {
                let claims = read_claims(signed).ok_or(Refused::Malformed)?;
                return check(claims, rule, now);
            }
            outcome = Err(Refused::Signature);
        }
        outcome
    }
}

/// What of a token is signed, and the signature.
fn parts(token: &[u8]) -> Option<(&[u8], &str)> {
    let dot = token.iter().rposition(|b| *b == b'.')?;
    let (signed, signature) = token.split_at_checked(dot)?;
    Some((signed, std::str::from_utf8(signature.get(1..)?).ok()?))
}

/// The claims of what was signed: one JSON object.
fn read_claims(signed: &[u8]) -> Option<Claims> {
    let mut parts = signed.split(|b| *b == b'.');
    let (_, payload, None) = (parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let json = URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&json).ok().map(Claims)
}

impl Key {
    fn new(jwk: &Jwk) -> Option<Self> {
        let family = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Family::Rsa,
            AlgorithmParameters::EllipticCurve(_) => Family::Ec,
            AlgorithmParameters::OctetKeyPair(_) => Family::Ed,
            AlgorithmParameters::OctetKey(_) => Family::Secret,
            _ => return None,
        };
        if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
            return None;
        }
        let only = jwk.common.key_algorithm.as_ref();
        Some(Self {
            id: jwk.common.key_id.clone(),
            only: only.map(|only| only.to_string()),
            family,
            key: DecodingKey::from_jwk(jwk).ok()?,
        })
    }
}

fn check(claims: Claims, rule: &Rule, now: u64) -> Result<Claims, Refused> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds since 1970 are below 2^53"
    )]
    let (now, leeway) = (now as f64, rule.leeway as f64);
    // A time that is no number is no time that was kept.
    let time = |name| match claims.0.contains_key(name) {
        true => claims.seconds(name).map(Some).ok_or(Refused::Malformed),
        false => Ok(None),
    };
    match time("exp")? {
        Some(end) if end + leeway <= now => return Err(Refused::Expired),
        None if !rule.is_endless => return Err(Refused::Expired),
        _ => {}
    }
    if time("nbf")?.is_some_and(|begin| begin > now + leeway) {
        return Err(Refused::Early);
    }
    let has = |name, value: &Option<Box<str>>| {
        let value = value.as_ref();
        value.is_none_or(|value| claims.has(name, std::slice::from_ref(value)))
    };
    if !has("iss", &rule.issuer) {
        return Err(Refused::Issuer);
    }
    if !has("aud", &rule.audience) {
        return Err(Refused::Audience);
    }
    let mut required = rule.claims.iter();
    match required.all(|(name, values)| claims.has(name, values)) {
        true => Ok(claims),
        false => Err(Refused::Claim),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use proptest::prelude::*;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn keys() -> Keys {
        let secret = |id: &str, text: &str| json!({"kty": "oct", "kid": id, "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(text)});
        let unknown = json!({"kty": "new", "kid": "x"});
        let set = json!({"keys": [secret("a", "first"), secret("b", "second"), unknown]});
        Keys::read(set.to_string().as_bytes()).unwrap()
    }

    fn token(kid: Option<&str>, secret: &str, algorithm: Algorithm, claims: &Value) -> Vec<u8> {
        let mut header = Header::new(algorithm);
        header.kid = kid.map(str::to_owned);
        encode(
            &header,
            claims,
            &EncodingKey::from_secret(secret.as_bytes()),
        )
        .unwrap()
        .into_bytes()
    }

    fn rule() -> Rule {
        Rule {
            algorithms: vec![Algorithm::HS256],
            issuer: Some("https://id.example".into()),
            audience: Some("shop".into()),
            leeway: 60,
            is_endless: false,
            claims: vec![
                ("scope".into(), vec!["read".into()]),
                ("sub".into(), Vec::new()),
            ],
        }
    }

    fn good() -> Value {
        json!({"exp": NOW + 10, "iss": "https://id.example", "aud": ["other", "shop"], "scope": "write read", "sub": "ada", "n": 7})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    #[test]
    fn a_token_is_good_when_all_of_it_is() {
        let verdict = |claims: &Value| {
            keys().verify(
                &token(Some("a"), "first", Algorithm::HS256, claims),
                &rule(),
                NOW,
            )
        };
        let claims = verdict(&good()).unwrap();
        assert_eq!(claims.text("sub"), "ada");
        assert_eq!(
            (claims.text("aud"), claims.text("n"), claims.text("none")),
            ("other,shop".into(), "7".into(), String::new())
        );
        for (claims, why) in [
            (with("exp", json!(NOW - 60)), Refused::Expired),
            (with("exp", json!(null)), Refused::Malformed),
            (with("exp", json!("soon")), Refused::Malformed),
            (with("nbf", json!(NOW + 61)), Refused::Early),
            (with("iss", json!("https://evil.example")), Refused::Issuer),
            (with("iss", json!(null)), Refused::Issuer),
            (with("aud", json!("shops")), Refused::Audience),
            (with("scope", json!("reader")), Refused::Claim),
            (json!([1]), Refused::Malformed),
        ] {
            assert_eq!(verdict(&claims), Err(why), "{claims}");
        }
        assert!(verdict(&with("exp", json!(NOW - 59))).is_ok());
        assert!(verdict(&with("nbf", json!(NOW + 60))).is_ok());
    }

    #[test]
    fn keys_and_algorithms_are_the_rules_to_choose() {
        let verdict = |token: &[u8]| keys().verify(token, &rule(), NOW).map(|_| ());
        let made = |kid, secret, algorithm| token(kid, secret, algorithm, &good());
        assert_eq!(verdict(&made(None, "second", Algorithm::HS256)), Ok(()));
        assert_eq!(
            verdict(&made(Some("a"), "second", Algorithm::HS256)),
            Err(Refused::Signature)
        );
        assert_eq!(
            verdict(&made(Some("c"), "first", Algorithm::HS256)),
            Err(Refused::UnknownKey)
        );
        assert_eq!(
            verdict(&made(Some("a"), "first", Algorithm::HS512)),
            Err(Refused::Algorithm)
        );
        let none = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
            URL_SAFE_NO_PAD.encode(good().to_string())
        );
        assert_eq!(verdict(none.as_bytes()), Err(Refused::Malformed));
        for junk in ["", "a", "a.b", "a.b.c", "..", &"x".repeat(10_000)] {
            assert_eq!(verdict(junk.as_bytes()), Err(Refused::Malformed), "{junk}");
        }
        // An RSA rule takes no secret for a public key.
        let rsa = Rule {
            algorithms: vec![Algorithm::RS256],
            ..rule()
        };
        let forged = made(Some("a"), "first", Algorithm::HS256);
        assert_eq!(
            keys().verify(&forged, &rsa, NOW).map(|_| ()),
            Err(Refused::Algorithm)
        );
    }

    /// A pair of keys: the one that signs, and the set with the one that verifies.
    fn pair(algorithm: Algorithm) -> (EncodingKey, Keys) {
        use aws_lc_rs::rand::SystemRandom;
        use aws_lc_rs::signature::{
            ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
            Ed25519KeyPair,
        };
        let random = SystemRandom::new();
        let ec = |kind| EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        let key = match algorithm {
            Algorithm::ES256 => {
                EncodingKey::from_ec_der(ec(&ECDSA_P256_SHA256_FIXED_SIGNING).as_ref())
            }
            Algorithm::ES384 => {
                EncodingKey::from_ec_der(ec(&ECDSA_P384_SHA384_FIXED_SIGNING).as_ref())
            }
            _ => EncodingKey::from_ed_der(
                Ed25519KeyPair::generate_pkcs8v1(&random).unwrap().as_ref(),
            ),
        };
        let jwk = Jwk::from_encoding_key(&key, algorithm).unwrap();
        let set = json!({"keys": [jwk]}).to_string();
        (key, Keys::read(set.as_bytes()).unwrap())
    }

    #[test]
    fn tokens_that_others_sign_are_verified_with_what_everybody_may_know() {
        let all = [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
        for algorithm in all {
            let (key, keys) = pair(algorithm);
            let rule = Rule {
                algorithms: all.to_vec(),
                ..rule()
            };
            let made = encode(&Header::new(algorithm), &good(), &key).unwrap();
            let said = keys.verify(made.as_bytes(), &rule, NOW).unwrap();
            assert_eq!(said.text("sub"), "ada");
            let (_, others) = pair(algorithm);
            assert_eq!(
                others.verify(made.as_bytes(), &rule, NOW),
                Err(Refused::Signature)
            );
            // Every byte of what is signed counts.
            for at in 0..made.rfind('.').unwrap() {
                let mut forged = made.clone().into_bytes();
                forged[at] ^= 1;
                assert!(keys.verify(&forged, &rule, NOW).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn a_key_that_everybody_knows_is_nobodys_secret() {
        let public = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let set = json!({"keys": [{"kty": "RSA", "n": public, "e": "AQAB"}]}).to_string();
        let keys = Keys::read(set.as_bytes()).unwrap();
        let both = Rule {
            algorithms: vec![Algorithm::RS256, Algorithm::HS256],
            ..rule()
        };
        let bytes = URL_SAFE_NO_PAD.decode(public).unwrap();
        for secret in [public.as_bytes(), &bytes, set.as_bytes()] {
            let header = Header::new(Algorithm::HS256);
            let forged = encode(&header, &good(), &EncodingKey::from_secret(secret)).unwrap();
            let verdict = keys.verify(forged.as_bytes(), &both, NOW);
            assert_eq!(verdict, Err(Refused::UnknownKey));
        }
    }

    #[test]
    fn what_a_token_says_of_itself_is_understood_or_it_is_refused() {
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = |head: Value| {
            let text = format!("{}.{}", part(head), part(good()));
            let key = EncodingKey::from_secret(b"first");
            let mac = crypto::sign(text.as_bytes(), &key, Algorithm::HS256).unwrap();
            keys()
                .verify(format!("{text}.{mac}").as_bytes(), &rule(), NOW)
                .map(|_| ())
        };
        assert_eq!(signed(json!({"alg": "HS256", "kid": "a"})), Ok(()));
        let critical = json!({"alg": "HS256", "kid": "a", "crit": ["b64"], "b64": false});
        assert_eq!(signed(critical), Err(Refused::Malformed));
        for none in ["none", "None", "NONE", ""] {
            let head = json!({"alg": none, "kid": "a"});
            assert_eq!(signed(head), Err(Refused::Malformed), "{none}");
            let text = format!("{}.{}.", part(json!({"alg": none})), part(good()));
            let verdict = keys().verify(text.as_bytes(), &rule(), NOW);
            assert_eq!(verdict, Err(Refused::Malformed), "{none}");
        }
    }

    #[test]
    fn times_are_numbers_and_an_end_is_due_unless_the_rule_says_not() {
        let verdict = |claims: &Value, rule: &Rule| {
            let made = token(Some("a"), "first", Algorithm::HS256, claims);
            keys().verify(&made, rule, NOW).map(|_| ())
        };
        let mut endless = good();
        endless.as_object_mut().unwrap().remove("exp");
        assert_eq!(verdict(&endless, &rule()), Err(Refused::Expired));
        let lenient = Rule {
            is_endless: true,
            ..rule()
        };
        assert_eq!(verdict(&endless, &lenient), Ok(()));
        assert_eq!(
            verdict(&with("exp", json!(NOW - 61)), &lenient),
            Err(Refused::Expired)
        );
        for junk in [json!("1"), json!(null), json!([NOW + 10]), json!(true)] {
            for name in ["exp", "nbf"] {
                let claims = with(name, junk.clone());
                assert_eq!(
                    verdict(&claims, &lenient),
                    Err(Refused::Malformed),
                    "{claims}"
                );
            }
        }
    }

    #[test]
    fn a_set_without_keys_is_refused() {
        for json in [
            "",
            "{}",
            "[]",
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kty":"new"}]}"#,
        ] {
            assert!(Keys::read(json.as_bytes()).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_clients_send_breaks_it(token in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = keys().verify(&token, &rule(), NOW);
        }
    }
}
