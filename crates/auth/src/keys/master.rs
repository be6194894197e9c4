//! [`MasterKeys`]: the keys of the configuration that encrypt the keys of the database.
//!
//! The cipher is AES-256 in Galois/Counter Mode. The id and the purpose of a key are associated data, so that no stored material can
//! stand for that of another key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use esker_state::SigningKeyRow;
use esker_types::hex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

use crate::AuthError;

/// The size of a master key and of a key, in bytes.
pub(super) const KEY_BYTES: usize = 32;

/// The number of bytes of a hash that make the id of a master key.
const ID_BYTES: usize = 8;

/// A master key.
#[derive(Clone)]
pub struct MasterKey {
    id: String,
    cipher: LessSafeKey,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl MasterKey {
    /// Reads a master key of 32 bytes, as 64 hexadecimal digits or in base64.
    ///
    /// # Errors
    ///
    /// Returns [`Invalid`](AuthError::Invalid) if the text is no such key. The error does not have the text.
    pub fn parse(text: &str) -> Result<Self, AuthError> {
        let text = text.trim();
        let bytes = if text.len() == 2 * KEY_BYTES { from_hex(text) } else { STANDARD.decode(text).ok() };
        let wrong = || AuthError::Invalid("a master key is 32 random bytes, as 64 hexadecimal digits or in base64".to_owned());
        let bytes = bytes.filter(|bytes| bytes.len() == KEY_BYTES).ok_or_else(wrong)?;
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| wrong())?;
        let hash = Sha256::new().chain_update(b"esker master key\0").chain_update(&bytes).finalize();
        Ok(Self { id: hex(&hash[..ID_BYTES]), cipher: LessSafeKey::new(key) })
    }
}

/// Reads hexadecimal digits; `None` if the text has anything else.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    digits?.chunks(2).map(|pair| u8::try_from(pair.iter().fold(0_u32, |sum, digit| sum * 16 + digit)).ok()).collect()
}

/// The master keys of the configuration.
#[derive(Debug, Clone, Default)]
pub struct MasterKeys {
    /// The key that encrypts. Without one, keys are stored as they are.
    pub current: Option<MasterKey>,
    /// Another key that only decrypts, while the master key is rotated.
    pub previous: Option<MasterKey>,
}

impl MasterKeys {
    /// Returns the id of the master key that encrypts; empty if there is none.
    pub(super) fn current_id(&self) -> &str {
        self.current.as_ref().map_or("", |key| key.id.as_str())
    }

    /// Puts the material of a key into its row, encrypted if there is a master key.
    ///
    /// # Errors
    ///
    /// Returns [`Random`](AuthError::Random) if the system gives no random numbers, and [`Keys`](AuthError::Keys) if the material
    /// can't be encrypted.
    pub(super) fn seal(&self, row: &mut SigningKeyRow, material: &[u8]) -> Result<(), AuthError> {
        let stored = match &self.current {
            None => material.to_vec(),
            Some(master) => {
                let mut nonce = [0_u8; NONCE_LEN];
                getrandom::fill(&mut nonce).map_err(AuthError::Random)?;
                let mut sealed = material.to_vec();
                let nonce_of_key = Nonce::assume_unique_for_key(nonce);
                let done = master.cipher.seal_in_place_append_tag(nonce_of_key, Aad::from(associated(row)), &mut sealed);
                done.map_err(|_| AuthError::Keys(format!("key {} can't be encrypted", row.id)))?;
                [nonce.as_slice(), &sealed].concat()
            }
        };
        (row.material, row.master_key) = (STANDARD.encode(stored), self.current_id().to_owned());
        Ok(())
    }

    /// Returns the material of a row.
    ///
    /// # Errors
    ///
    /// Returns [`Keys`](AuthError::Keys) if the configuration has not the master key of the row, or the material was changed.
    pub(super) fn open(&self, row: &SigningKeyRow) -> Result<Vec<u8>, AuthError> {
        let damaged = || AuthError::Keys(format!("the material of key {} ({}) is damaged", row.id, row.purpose));
        let mut stored = STANDARD.decode(&row.material).map_err(|_| damaged())?;
        if !row.master_key.is_empty() {
            let master = [&self.current, &self.previous].into_iter().flatten().find(|key| key.id == row.master_key);
            let missing = || {
                AuthError::Keys(format!(
                    "key {id} ({purpose}) is encrypted with the master key {master}, which is neither keys.master_key nor \
                     keys.previous_master_key; configure it, or, if it is lost, make a new key with \
                     `esker keys rotate {purpose} --lost-master-key --overlap 0s`",
                    id = row.id,
                    purpose = row.purpose,
                    master = row.master_key
                ))
            };
            let master = master.ok_or_else(missing)?;
            let (nonce, sealed) = stored.split_at_mut_checked(NONCE_LEN).ok_or_else(damaged)?;
            let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
            let opened = master.cipher.open_in_place(nonce, Aad::from(associated(row)), sealed).map_err(|_| damaged())?;
            stored = opened.to_vec();
        }
        if stored.len() == KEY_BYTES { Ok(stored) } else { Err(damaged()) }
    }
}

/// Returns the associated data of a row.
fn associated(row: &SigningKeyRow) -> Vec<u8> {
    format!("{}\0{}", row.purpose, row.id).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, purpose: &str) -> SigningKeyRow {
        SigningKeyRow {
            id: id.to_owned(),
            purpose: purpose.to_owned(),
            material: String::new(),
            master_key: String::new(),
            created_ms: 0,
            retiring_ms: None,
            ends_ms: None,
        }
    }

    fn master(digit: &str) -> MasterKey {
        MasterKey::parse(&digit.repeat(64)).expect("a key")
    }

    #[test]
    fn a_master_key_has_two_spellings_and_no_other_size() {
        let base64 = STANDARD.encode([0xaa_u8; 32]);
        assert_eq!(master("a").id, MasterKey::parse(&format!(" {base64}\n")).expect("a key").id);
        for wrong in ["", "secret", &"a".repeat(63), &"g".repeat(64), &STANDARD.encode([1_u8; 31])] {
            let error = MasterKey::parse(wrong).expect_err("refused").to_string();
            assert!(error.contains("32 random bytes") && (wrong.is_empty() || !error.contains(wrong)), "{error}");
        }
        assert!(!format!("{:?}", master("a")).contains("aaaa"), "no log has it");
    }

    #[test]
    fn encrypted_material_opens_with_its_master_key_in_its_own_row_alone() {
        let material = [7_u8; KEY_BYTES];
        let keys = MasterKeys { current: Some(master("a")), previous: None };
        let mut sealed = row("k", "handles");
        keys.seal(&mut sealed, &material).expect("sealed");
        assert!(sealed.material != STANDARD.encode(material) && sealed.master_key == keys.current_id());
        assert_eq!(keys.open(&sealed).expect("opened"), material);
        // While the master key is rotated, the previous one opens too.
        let rotated = MasterKeys { current: Some(master("b")), previous: Some(master("a")) };
        assert_eq!(rotated.open(&sealed).expect("opened"), material);
        let refused = MasterKeys { current: Some(master("b")), previous: None }.open(&sealed).expect_err("another master key");
        assert!(refused.to_string().contains("keys.previous_master_key"), "{refused}");
        let other_id = SigningKeyRow { id: "l".to_owned(), ..sealed.clone() };
        let other_purpose = SigningKeyRow { purpose: "plans".to_owned(), ..sealed.clone() };
        for moved in [other_id, other_purpose] {
            assert!(keys.open(&moved).is_err(), "the material of another key: {moved:?}");
        }
        let stored = STANDARD.decode(&sealed.material).expect("base64");
        for bit in 0..stored.len() * 8 {
            let mut changed = stored.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.open(&SigningKeyRow { material: STANDARD.encode(changed), ..sealed.clone() }).is_err(), "bit {bit}");
        }
        assert!(keys.open(&SigningKeyRow { material: STANDARD.encode([1, 2]), ..sealed.clone() }).is_err(), "too short");
    }

    #[test]
    fn without_a_master_key_the_material_is_stored_as_it_is() {
        let mut plain = row("k", "handles");
        MasterKeys::default().seal(&mut plain, &[7; KEY_BYTES]).expect("stored");
        assert_eq!((plain.material.as_str(), plain.master_key.as_str()), (STANDARD.encode([7_u8; KEY_BYTES]).as_str(), ""));
        assert_eq!(MasterKeys { current: Some(master("a")), previous: None }.open(&plain).expect("opened"), [7; KEY_BYTES]);
    }
}
