//! SCRAM-SHA-256 for clients with a token of Esker, without any wire protocol: the verifier of a token, and the server's side of the
//! exchange. The token is the password.
//!
//! With the verifier, a server checks that a client knows the token, and the client checks that the server does; the token itself is
//! never sent. A client may have several tokens, and the server must name salt and iterations before it learns which one the client
//! has. So the salt is derived from the client's name. That gives nothing away: a salt slows down the guessing of passwords, and a
//! token has 256 random bits. A name that nobody has gets a salt too, so an exchange does not tell which clients exist.
//!
//! Spec: RFC 5802 and RFC 7677. There is no channel binding. Start reading at [`ScramExchange::begin`].

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use esker_types::now_ms;
use ring::{hmac, pbkdf2};
use sha2::{Digest, Sha256};

use crate::{AuthError, Authenticator};

/// The rounds of PBKDF2: the least number that RFC 7677 allows.
///
/// More would slow down the guessing of a password, and nobody guesses a token.
const ITERATIONS: NonZeroU32 = match NonZeroU32::new(4096) {
    Some(number) => number,
    None => NonZeroU32::MIN,
};

/// The beginning of a verifier as PostgreSQL writes it.
const MECHANISM: &str = "SCRAM-SHA-256";

/// The size of a salt, in bytes.
const SALT_BYTES: usize = 16;

/// The size of the server's part of a nonce, in bytes.
const NONCE_BYTES: usize = 24;

/// The maximum length of a message of a client, in bytes.
const MAX_MESSAGE_BYTES: usize = 4096;

/// What a server keeps of a token to check that a client knows it.
///
/// Its text is that of PostgreSQL: `SCRAM-SHA-256$ITERATIONS:SALT$STORED-KEY:SERVER-KEY`, with Base64 after the iterations. Who has
/// it can act as the server, and can act as the client after listening to one exchange. Its debug form has no keys.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl ScramVerifier {
    /// Makes the verifier of a client's token.
    pub fn of(client: &str, token: &str) -> Self {
        Self::derive(token, salt_of(client), ITERATIONS)
    }

    /// Derives the keys of a password. It must be ASCII, which the normalisation of RFC 4013 leaves as it is.
    ///
    /// Spec: RFC 5802, section 3.
    fn derive(password: &str, salt: Vec<u8>, iterations: NonZeroU32) -> Self {
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut salted);
        let client_key = mac(&salted, b"Client Key");
        Self { iterations, salt, stored_key: Sha256::digest(client_key).into(), server_key: mac(&salted, b"Server Key") }
    }

    /// Checks the proof of a client. Returns the signature of the server if it is right.
    ///
    /// Spec: RFC 5802, section 3.
    fn check(&self, message: &[u8], proof: &[u8; 32]) -> Option<[u8; 32]> {
        let mut client_key = mac(&self.stored_key, message);
        for (byte, shown) in client_key.iter_mut().zip(proof) {
            *byte ^= shown;
        }
        let shown: [u8; 32] = Sha256::digest(client_key).into();
        // The hashes of both are compared, so the time tells nothing about the stored key.
        (Sha256::digest(shown) == Sha256::digest(self.stored_key)).then(|| mac(&self.server_key, message))
    }
}

impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |bytes: &[u8]| STANDARD.encode(bytes);
        let (salt, stored, server) = (encode(&self.salt), encode(&self.stored_key), encode(&self.server_key));
        write!(f, "{MECHANISM}${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl FromStr for ScramVerifier {
    type Err = ScramFault;

    fn from_str(text: &str) -> Result<Self, ScramFault> {
        let mut parts = text.split('$');
        let (Some(MECHANISM), Some(first), Some(keys), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(ScramFault::Malformed);
        };
        let (iterations, salt) = first.split_once(':').ok_or(ScramFault::Malformed)?;
        let (stored, server) = keys.split_once(':').ok_or(ScramFault::Malformed)?;
        Ok(Self {
            iterations: iterations.parse().map_err(|_| ScramFault::Malformed)?,
            salt: STANDARD.decode(salt).map_err(|_| ScramFault::Malformed)?,
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
    }
}

/// The reason for which an exchange fails. Its text is for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScramFault {
    /// A message, or a stored verifier, has a wrong form.
    Malformed,
    /// The client wants to bind the exchange to its connection, or to act for another one.
    Unsupported,
    /// The last message does not continue the exchange: its nonce or its header is another one.
    OtherExchange,
    /// The client does not know a token that counts.
    Proof,
}

impl fmt::Display for ScramFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a message of SCRAM has a wrong form",
            Self::Unsupported => "SCRAM is accepted without channel binding, extensions and another identity",
            Self::OtherExchange => "the message belongs to another exchange of SCRAM",
            Self::Proof => "the token is not valid",
        })
    }
}

/// The server's side of one exchange, between the first message of the client and its last.
pub struct ScramExchange {
    /// The header of the first message, which the last one must repeat.
    header: String,
    /// The first message of the client without its header.
    client_first: String,
    /// The nonces of client and server, one after the other.
    nonce: String,
    iterations: NonZeroU32,
    salt: Vec<u8>,
}

impl fmt::Debug for ScramExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramExchange").field("client_first", &self.client_first).finish_non_exhaustive()
    }
}

impl ScramExchange {
    /// Begins an exchange with the first message of a client, whose name the protocol around it has.
    ///
    /// The name in the message does not count: PostgreSQL's clients send none there.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](AuthError::Invalid) if the message has a wrong form or wants what is not supported, and
    /// [`Random`](AuthError::Random) if the system gives no random numbers.
    pub fn begin(client: &str, message: &str) -> Result<Self, AuthError> {
        let mut bytes = [0_u8; NONCE_BYTES];
        getrandom::fill(&mut bytes).map_err(AuthError::Random)?;
        let begun = Self::begin_with(message, &STANDARD.encode(bytes), salt_of(client), ITERATIONS);
        begun.map_err(|fault| AuthError::Invalid(fault.to_string()))
    }

    /// Begins an exchange with the server's part of the nonce.
    ///
    /// Spec: RFC 5802, section 7, `client-first-message`.
    fn begin_with(message: &str, server_nonce: &str, salt: Vec<u8>, iterations: NonZeroU32) -> Result<Self, ScramFault> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(ScramFault::Malformed);
        }
        let mut parts = message.splitn(3, ',');
        let (Some(binding), Some(identity), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(ScramFault::Malformed);
        };
        // `y`: the client knows channel binding, and sees that the server does not offer it.
        if !matches!(binding, "n" | "y") || !identity.is_empty() {
            return Err(ScramFault::Unsupported);
        }
        let mut attributes = bare.split(',');
        let name = attributes.next().unwrap_or_default();
        if name.starts_with("m=") {
            return Err(ScramFault::Unsupported);
        }
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic()));
        let (true, Some(nonce)) = (name.starts_with("n="), nonce) else { return Err(ScramFault::Malformed) };
        let (header, nonce) = (format!("{binding},{identity},"), format!("{nonce}{server_nonce}"));
        Ok(Self { header, client_first: bare.to_owned(), nonce, iterations, salt })
    }

    /// Returns the first message of the server.
    ///
    /// Spec: RFC 5802, section 7, `server-first-message`.
    pub fn server_first(&self) -> String {
        format!("r={},s={},i={}", self.nonce, STANDARD.encode(&self.salt), self.iterations)
    }

    /// Checks the last message of a client with the verifiers of its tokens. Returns the number of the one that is right, and the last
    /// message of the server.
    ///
    /// Without a verifier, it fails as with a wrong token.
    ///
    /// Spec: RFC 5802, section 7, `client-final-message` and `server-final-message`.
    ///
    /// # Errors
    ///
    /// Returns [`Malformed`](ScramFault::Malformed) if the message has a wrong form,
    /// [`OtherExchange`](ScramFault::OtherExchange) if it does not continue this exchange, and [`Proof`](ScramFault::Proof) if no
    /// verifier fits.
    pub fn finish(self, message: &str, verifiers: &[ScramVerifier]) -> Result<(usize, String), ScramFault> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(ScramFault::Malformed);
        }
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramFault::Malformed)?;
        let proof = key(proof)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|binding| binding.strip_prefix("c=")).ok_or(ScramFault::Malformed)?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r=")).ok_or(ScramFault::Malformed)?;
        if binding != STANDARD.encode(&self.header) || nonce != self.nonce {
            return Err(ScramFault::OtherExchange);
        }
        let signed = format!("{},{},{without_proof}", self.client_first, self.server_first());
        // A verifier that a later release made with another salt is not the one that the client was asked for.
        let asked = |verifier: &ScramVerifier| verifier.iterations == self.iterations && verifier.salt == self.salt;
        let mut of_client = verifiers.iter().enumerate().filter(|(_, verifier)| asked(verifier));
        let found = of_client.find_map(|(n, verifier)| Some((n, verifier.check(signed.as_bytes(), &proof)?)));
        found.map(|(n, signature)| (n, format!("v={}", STANDARD.encode(signature)))).ok_or(ScramFault::Proof)
    }
}

impl Authenticator {
    /// Returns the verifiers of a client's tokens that count now, each with the id of its token, by age.
    ///
    /// Tokens of the configuration, of the first start and of earlier releases have none, and so have issued ones.
    ///
    /// # Errors
    ///
    /// Returns [`State`](AuthError::State) if the database fails.
    pub async fn scram_verifiers(&self, client: &str) -> Result<Vec<(String, ScramVerifier)>, AuthError> {
        let rows = self.state.tokens().scram_verifiers(client, now_ms()).await?;
        // One that a later release made in another form is left out: its token can't be used here.
        Ok(rows.into_iter().filter_map(|(id, text)| Some((id, text.parse().ok()?))).collect())
    }
}

/// Returns the salt of a client's tokens.
fn salt_of(client: &str) -> Vec<u8> {
    Sha256::digest(format!("esker scram salt {client}"))[..SALT_BYTES].to_vec()
}

/// Returns the HMAC-SHA-256 of a message.
fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

/// Decodes 32 bytes.
fn key(text: &str) -> Result<[u8; 32], ScramFault> {
    STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(ScramFault::Malformed)
}

#[cfg(test)]
mod tests {
    use esker_state::{Database, State};

    use super::*;
    use crate::AuthOptions;

    /// The messages of the example in RFC 7677, section 3, with the password `pencil`.
    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const LAST: &str =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_LAST: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn salt() -> Vec<u8> {
        STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("Base64")
    }

    fn begin(first: &str) -> Result<ScramExchange, ScramFault> {
        ScramExchange::begin_with(first, SERVER_NONCE, salt(), ITERATIONS)
    }

    /// The last message of a client that knows the token.
    fn prove(first: &str, server_first: &str, token: &str) -> String {
        let field = |name: &str| server_first.split(',').find_map(|part| part.strip_prefix(name)).expect("a field");
        let iterations: NonZeroU32 = field("i=").parse().expect("a number");
        let mut salted = [0; 32];
        let salt = STANDARD.decode(field("s=")).expect("Base64");
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, token.as_bytes(), &mut salted);
        let client_key = mac(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={}", field("r="));
        let bare = first.strip_prefix("n,,").expect("a header");
        let signature = mac(&Sha256::digest(client_key), format!("{bare},{server_first},{without_proof}").as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, byte)| key ^ byte).collect();
        format!("{without_proof},p={}", STANDARD.encode(proof))
    }

    #[test]
    fn the_exchange_is_that_of_the_example_of_rfc_7677() {
        let verifier = ScramVerifier::derive("pencil", salt(), ITERATIONS);
        let text = verifier.to_string();
        assert!(text.starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"), "{text}");
        assert_eq!(text.parse::<ScramVerifier>(), Ok(verifier.clone()));
        let exchange = begin(FIRST).expect("begun");
        assert_eq!(exchange.server_first(), SERVER_FIRST);
        assert_eq!(exchange.finish(LAST, &[verifier]), Ok((0, SERVER_LAST.to_owned())));
        assert_eq!(prove(FIRST, SERVER_FIRST, "pencil"), LAST, "the client of the tests");
    }

    #[test]
    fn a_wrong_token_another_nonce_and_every_changed_message_are_refused() {
        let verifier = ScramVerifier::derive("pencil", salt(), ITERATIONS);
        let finish = |last: &str, verifiers: &[ScramVerifier]| begin(FIRST).expect("begun").finish(last, verifiers);
        let other = ScramVerifier::derive("pencil2", salt(), ITERATIONS);
        assert_eq!(finish(LAST, &[]), Err(ScramFault::Proof), "a client that does not exist");
        assert_eq!(finish(LAST, std::slice::from_ref(&other)), Err(ScramFault::Proof));
        assert_eq!(finish(LAST, &[other, verifier.clone()]).map(|(n, _)| n), Ok(1), "one of several tokens");
        let of_other_salt = ScramVerifier::derive("pencil", vec![0; 16], ITERATIONS);
        assert_eq!(finish(LAST, &[of_other_salt]), Err(ScramFault::Proof));
        for (from, to, fault) in [
            ("c=biws", "c=eSws", ScramFault::OtherExchange),
            ("r=rOpr", "r=sOpr", ScramFault::OtherExchange),
            ("$k0,", "$k0,x=1,", ScramFault::Proof),
            ("p=dHzb", "p=eHzb", ScramFault::Proof),
            ("p=dHzb", "p=", ScramFault::Malformed),
            (",p=", ",q=", ScramFault::Malformed),
            ("c=biws,", "", ScramFault::Malformed),
        ] {
            assert_eq!(finish(&LAST.replace(from, to), std::slice::from_ref(&verifier)), Err(fault), "{to}");
        }
        for (first, fault) in [
            ("p=tls-unique,,n=user,r=a", ScramFault::Unsupported),
            ("n,a=root,n=user,r=a", ScramFault::Unsupported),
            ("n,,m=x,n=user,r=a", ScramFault::Unsupported),
            ("n,,n=user,r=", ScramFault::Malformed),
            ("n,,n=user,r=a b", ScramFault::Malformed),
            ("n,,r=a", ScramFault::Malformed),
            ("n,,n=user", ScramFault::Malformed),
            ("n", ScramFault::Malformed),
            ("", ScramFault::Malformed),
        ] {
            assert_eq!(begin(first).err(), Some(fault), "{first}");
        }
        for text in ["", "SCRAM-SHA-256$0:AAAA$AAAA:AAAA", "md5$4096:AAAA$AAAA:AAAA", "SCRAM-SHA-256$4096:AAAA$AAAA"] {
            assert_eq!(text.parse::<ScramVerifier>(), Err(ScramFault::Malformed), "{text}");
        }
    }

    #[tokio::test]
    async fn a_made_token_proves_itself_until_it_is_revoked() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = State::open(Database::Sqlite(dir.path().join("esker.db"))).await.expect("opened");
        let auth = Authenticator::new(state.clone(), AuthOptions::default());
        let (first, second) = (auth.make("p", "", None).await.expect("made"), auth.make("p", "", None).await.expect("made"));
        let (first_id, token) = (first.info.id, second.token.reveal());
        let exchange = async |token: &str| {
            let verifiers = auth.scram_verifiers("p").await.expect("asked");
            let verifiers: Vec<ScramVerifier> = verifiers.into_iter().map(|(_, verifier)| verifier).collect();
            let exchange = ScramExchange::begin("p", "n,,n=,r=a-nonce").expect("begun");
            let last = prove("n,,n=,r=a-nonce", &exchange.server_first(), token);
            exchange.finish(&last, &verifiers).map(|(n, _)| n)
        };
        assert_eq!(exchange(&token).await, Ok(1));
        assert_eq!(exchange("esk_wrong").await, Err(ScramFault::Proof));
        auth.revoke(&first_id).await.expect("revoked");
        assert_eq!(exchange(&token).await, Ok(0));
        auth.revoke(&second.info.id).await.expect("revoked");
        assert_eq!(exchange(&token).await, Err(ScramFault::Proof));
        let nobody = ScramExchange::begin("nobody", "n,,n=,r=a").expect("begun");
        assert!(nobody.server_first().contains(",i=4096"), "it looks like that of a client");
        state.close().await;
    }
}
