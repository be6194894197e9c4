//! [`VerificationKey`]: a public key of an issuer, read from its JSON Web Key Set.
//!
//! A key that can't be used is left out: an issuer may publish keys for other purposes and of kinds that come later.
//! Spec: RFC 7517; RFC 7518, section 6.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;

use super::algorithm::{SignatureCheck, SigningAlgorithm};

/// The most keys that are read from one set.
const MAX_KEYS: usize = 100;

/// A public key with which signatures are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VerificationKey {
    /// The id by which tokens name the key.
    pub(super) kid: Option<String>,
    /// The one algorithm that the key is for, if the issuer says so.
    algorithm: Option<SigningAlgorithm>,
    /// The numbers of the key.
    material: KeyMaterial,
}

/// The numbers of a key, as big-endian bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum KeyMaterial {
    /// Modulus and exponent of RSA, without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// An uncompressed point on P-256.
    P256(Vec<u8>),
    /// An uncompressed point on P-384.
    P384(Vec<u8>),
    /// A point on Curve25519.
    Ed25519(Vec<u8>),
}

/// A set of keys, as an issuer publishes it.
#[derive(Deserialize)]
struct JwkSet {
    /// The keys. Each is read by itself, so that one of an unknown form costs itself alone.
    keys: Vec<Value>,
}

/// A key, as an issuer publishes it.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads the keys of a set that can check signatures. Returns `None` if the text is no set of keys.
pub(super) fn parse_key_set(text: &[u8]) -> Option<Vec<VerificationKey>> {
    let set: JwkSet = serde_json::from_slice(text).ok()?;
    let keys = set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    Some(keys.filter_map(VerificationKey::of).collect())
}

impl VerificationKey {
    /// Reads a key; `None` if it is not for signatures, or of a kind that is not known.
    fn of(jwk: Jwk) -> Option<Self> {
        let signs = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
            && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !signs {
            return None;
        }
        let algorithm = match jwk.alg.as_deref() {
            Some(name) => Some(SigningAlgorithm::from_name(name)?),
            None => None,
        };
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?).ok();
        let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => KeyMaterial::Rsa { n: without_leading_zeros(bytes(&jwk.n)?), e: without_leading_zeros(bytes(&jwk.e)?) },
            ("EC", Some("P-256")) => KeyMaterial::P256(uncompressed_point(&bytes(&jwk.x)?, &bytes(&jwk.y)?, 32)?),
            ("EC", Some("P-384")) => KeyMaterial::P384(uncompressed_point(&bytes(&jwk.x)?, &bytes(&jwk.y)?, 48)?),
            ("OKP", Some("Ed25519")) => KeyMaterial::Ed25519(bytes(&jwk.x)?),
            _ => return None,
        };
        Some(Self { kid: jwk.kid, algorithm, material })
    }

    /// Checks that signatures of an algorithm can be of this key.
    pub(super) fn fits(&self, algorithm: SigningAlgorithm) -> bool {
        let of_kind = matches!(
            (algorithm.check(), &self.material),
            (SignatureCheck::Rsa(_), KeyMaterial::Rsa { .. })
                | (SignatureCheck::P256(_), KeyMaterial::P256(_))
                | (SignatureCheck::P384(_), KeyMaterial::P384(_))
                | (SignatureCheck::Ed25519(_), KeyMaterial::Ed25519(_))
        );
        of_kind && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// Checks that a message has a signature of this key. An algorithm that does not fit the key has none.
    pub(super) fn verifies(&self, algorithm: SigningAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.fits(algorithm) {
            return false;
        }
        match (algorithm.check(), &self.material) {
            (SignatureCheck::Rsa(parameters), KeyMaterial::Rsa { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            (SignatureCheck::P256(check), KeyMaterial::P256(point))
            | (SignatureCheck::P384(check), KeyMaterial::P384(point))
            | (SignatureCheck::Ed25519(check), KeyMaterial::Ed25519(point)) => {
                UnparsedPublicKey::new(check, point).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// Removes zeros at the beginning of a big-endian number, which some issuers write.
fn without_leading_zeros(mut bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.split_off(zeros)
}

/// Returns the uncompressed form of a point; `None` if a coordinate does not have `len` bytes.
fn uncompressed_point(x: &[u8], y: &[u8], len: usize) -> Option<Vec<u8>> {
    (x.len() == len && y.len() == len).then(|| [&[4][..], x, y].concat())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::SigningKey;
    use super::*;

    fn parse(keys: &[Value]) -> Vec<VerificationKey> {
        parse_key_set(json!({"keys": keys}).to_string().as_bytes()).expect("a set")
    }

    #[test]
    fn keys_for_other_purposes_and_of_unknown_kinds_are_left_out() {
        let jwk = SigningKey::p256("a").jwk();
        let with = |key: &str, value: Value| {
            let mut changed = jwk.clone();
            changed[key] = value;
            changed
        };
        let short = URL_SAFE_NO_PAD.encode([1; 31]);
        let bad = [
            with("use", json!("enc")),
            with("key_ops", json!(["encrypt"])),
            with("alg", json!("ECDH-ES")),
            with("crv", json!("P-521")),
            with("kty", json!("oct")),
            with("x", json!(short)),
            with("x", json!("a/b+")),
            with("x", Value::Null),
            with("kid", json!(1)),
            json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "a"}),
            json!("no key"),
        ];
        for key in bad {
            assert!(parse(std::slice::from_ref(&key)).is_empty(), "{key}");
        }
        assert_eq!(parse(&[json!(1), with("use", json!("sig")), with("key_ops", json!(["verify"]))]).len(), 2);
        assert!(parse_key_set(b"{}").is_none() && parse_key_set(b"<html>").is_none());
        assert_eq!(parse(&vec![jwk; MAX_KEYS + 5]).len(), MAX_KEYS);
    }

    #[test]
    fn a_key_checks_signatures_of_its_own_kind_and_algorithm_only() {
        let keys = [SigningKey::p256("a"), SigningKey::ed25519("a"), SigningKey::rsa("a")];
        for key in &keys {
            let parsed = parse(&[key.jwk()]).remove(0);
            let signature = key.signature(b"message");
            for algorithm in SigningAlgorithm::ALL {
                let own = algorithm == key.algorithm();
                assert_eq!(parsed.verifies(algorithm, b"message", &signature), own, "{algorithm:?}");
            }
            assert!(!parsed.verifies(key.algorithm(), b"another", &signature));
            let mut other = key.jwk();
            other["alg"] = json!(if key.algorithm() == SigningAlgorithm::Rs256 { "PS256" } else { "RS256" });
            assert!(!parse(&[other]).remove(0).verifies(key.algorithm(), b"message", &signature), "a key of another algorithm");
        }
        let mut padded = keys[2].jwk();
        let n = URL_SAFE_NO_PAD.decode(padded["n"].as_str().expect("text")).expect("Base64");
        padded["n"] = json!(URL_SAFE_NO_PAD.encode([&[0][..], n.as_slice()].concat()));
        assert_eq!(parse(&[padded]), parse(&[keys[2].jwk()]), "zeros at the beginning");
    }
}
