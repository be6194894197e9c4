//! [`Jws`]: a token in the compact form, taken apart and not yet checked.
//!
//! Spec: RFC 7515, sections 3.1 and 4.1; RFC 8725, "JSON Web Token Best Current Practices".

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::SigningAlgorithm;
use super::fault::TokenFault;

/// The maximum length of a token, in bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 16 << 10;

/// The types of tokens that may be shown here, without `application/` and in lower case.
///
/// `at+jwt` is that of access tokens (RFC 9068). Others, such as that of a log-out, are made for another purpose.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// A token in the compact form. Nothing is checked but its form.
#[derive(Debug)]
pub(super) struct Jws<'a> {
    /// The algorithm that the header names.
    pub(super) algorithm: SigningAlgorithm,
    /// The id of the key that the header names.
    pub(super) kid: Option<String>,
    /// The claims.
    pub(super) claims: Map<String, Value>,
    /// The text that is signed.
    pub(super) signed: &'a [u8],
    /// The signature.
    pub(super) signature: Vec<u8>,
}

/// Checks whether a text has the form of such a token: three parts, and an object as header. Esker's own tokens have no dot.
pub(super) fn is_jws(token: &str) -> bool {
    let Some((header, rest)) = token.split_once('.') else { return false };
    // A long token is told by the first letters, which encode `{"`. It is refused later.
    let is_object = match header.len() <= MAX_TOKEN_BYTES {
        true => object(header).is_some(),
        false => header.starts_with("eyJ"),
    };
    is_object && rest.split('.').count() == 2
}

impl<'a> Jws<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    ///
    /// Returns the fault of the token's form or header: [`TooLong`](TokenFault::TooLong), [`Malformed`](TokenFault::Malformed),
    /// [`Algorithm`](TokenFault::Algorithm), [`Critical`](TokenFault::Critical) or [`Type`](TokenFault::Type).
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenFault> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenFault::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenFault::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenFault::Malformed)?;
        let header = object(header).ok_or(TokenFault::Malformed)?;
        let (algorithm, kid) = check_header(&header)?;
        let claims = object(claims).ok_or(TokenFault::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenFault::Malformed)?;
        Ok(Self { algorithm, kid, claims, signed: signed.as_bytes(), signature })
    }
}

/// Returns algorithm and id of the key. Keys and addresses of keys in the header (`jwk`, `jku`, `x5c`, `x5u`) are not looked at.
fn check_header(header: &Map<String, Value>) -> Result<(SigningAlgorithm, Option<String>), TokenFault> {
    // Esker understands no extension.
    if header.contains_key("crit") {
        return Err(TokenFault::Critical);
    }
    match header.get("typ") {
        None => {}
        Some(Value::String(name)) => {
            let name = name.to_ascii_lowercase();
            if !TYPES.contains(&name.strip_prefix("application/").unwrap_or(&name)) {
                return Err(TokenFault::Type);
            }
        }
        Some(_) => return Err(TokenFault::Type),
    }
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(SigningAlgorithm::from_name);
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.clone()),
        Some(_) => return Err(TokenFault::Malformed),
    };
    Ok((algorithm.ok_or(TokenFault::Algorithm)?, kid))
}

/// Decodes an object. Base64 with padding, or with bits set that no byte has, is refused: a token has one form.
fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(header: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", encode(header), encode(&json!({"iss": "i"})))
    }

    #[test]
    fn a_token_is_told_by_its_three_parts_and_its_header() {
        assert!(is_jws(&token(&json!({"alg": "ES256"}))));
        assert!(is_jws(&format!("eyJ{}.a.b", "x".repeat(MAX_TOKEN_BYTES))), "a long one");
        for other in ["esk_0123", "a.b.c", "", "..", "eyJhbGciOiJFUzI1NiJ9.e30", "eyJhbGciOiJFUzI1NiJ9.a.b.c.d", "W10.a.b"] {
            assert!(!is_jws(other), "{other}");
        }
    }

    #[test]
    fn the_header_says_what_the_token_is_for_and_may_ask_for_nothing_more() {
        for typ in ["JWT", "at+jwt", "application/at+jwt", "AT+JWT"] {
            let text = token(&json!({"alg": "ES256", "typ": typ, "kid": "k", "jku": "http://attacker.example"}));
            let jws = Jws::parse(&text).expect(typ);
            assert_eq!((jws.algorithm, jws.kid.as_deref()), (SigningAlgorithm::Es256, Some("k")));
            assert_eq!(jws.signature, b"sig");
            assert_eq!(jws.signed, text.rsplit_once('.').expect("parts").0.as_bytes());
        }
        for (header, fault) in [
            (json!({}), TokenFault::Algorithm),
            (json!({"alg": "none"}), TokenFault::Algorithm),
            (json!({"alg": "HS256"}), TokenFault::Algorithm),
            (json!({"alg": ["ES256"]}), TokenFault::Algorithm),
            (json!({"alg": "ES256", "typ": "logout+jwt"}), TokenFault::Type),
            (json!({"alg": "ES256", "typ": null}), TokenFault::Type),
            (json!({"alg": "ES256", "crit": ["exp"]}), TokenFault::Critical),
            (json!({"alg": "ES256", "crit": null}), TokenFault::Critical),
            (json!({"alg": "ES256", "kid": 1}), TokenFault::Malformed),
        ] {
            assert_eq!(Jws::parse(&token(&header)).expect_err("refused"), fault, "{header}");
        }
    }

    #[test]
    fn a_token_has_one_form() {
        let good = token(&json!({"alg": "ES256"}));
        assert!(Jws::parse(&good).is_ok());
        // The last letter has two bits that no byte has. `c2l` sets one.
        assert!(Jws::parse(&good.replace("c2ln", "c2k")).is_ok() && Jws::parse(&good.replace("c2ln", "c2l")).is_err());
        for bad in [format!("{good}="), good.replace('.', ".."), format!(" {good}"), good.replace("c2ln", "c+/n")] {
            assert_eq!(Jws::parse(&bad).expect_err(&bad), TokenFault::Malformed);
        }
        let long = token(&json!({"alg": "ES256", "x": "x".repeat(MAX_TOKEN_BYTES)}));
        assert_eq!(Jws::parse(&long).expect_err("too long"), TokenFault::TooLong);
    }
}
