//! [`KeyRing`]: the keys as one server holds them.
//!
//! Keys that are older than [`MAX_AGE`] are read again before they are used, and so are they for a tag by a key that this server does
//! not know: another server may just have made it. So a rotation on one server holds on all, and no task runs in the background.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use esker_state::{SigningKeyRow, State};
use esker_types::{Millis, now_ms, to_millis};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::master::KEY_BYTES;
use super::{KeyInfo, KeyPurpose, LISTED_AFTER_END_MS, MasterKeys};
use crate::AuthError;

/// The time in seconds after which a rotation holds on every server.
pub const KEYS_SECONDS: u64 = 2;

/// The maximum age of keys that sign or verify.
const MAX_AGE: Duration = Duration::from_secs(KEYS_SECONDS);

/// The keys of a server. Cheap to clone; the clones share the keys.
#[derive(Debug, Clone)]
pub struct KeyRing {
    inner: Arc<RingInner>,
}

#[derive(Debug)]
struct RingInner {
    state: State,
    masters: MasterKeys,
    loaded: RwLock<Option<LoadedKeys>>,
    /// True since keys could not be used, until they can.
    fails: AtomicBool,
    /// Held by the one request that asks the database.
    asking: Mutex<()>,
}

/// Keys that were read from the database.
#[derive(Debug, Clone)]
struct LoadedKeys {
    keys: Arc<[SigningKey]>,
    /// The time at which the database was asked.
    asked: Instant,
}

/// A key that signs or still verifies.
#[derive(Debug)]
struct SigningKey {
    id: String,
    purpose: KeyPurpose,
    hmac: hmac::Key,
    /// The time at which the key verifies nothing any more; `None` for the active key.
    ends_ms: Option<Millis>,
}

impl SigningKey {
    /// Returns the bytes that a tag is over: the purpose, the key and the parts, each behind its length.
    fn message(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut message = Vec::new();
        for part in [self.purpose.name().as_bytes(), self.id.as_bytes()].iter().chain(parts) {
            message.extend_from_slice(&(part.len() as u64).to_le_bytes());
            message.extend_from_slice(part);
        }
        message
    }

    /// Returns the cipher of the key, whose own key is derived from it. No message begins as the derivation does: its first bytes
    /// would be a length.
    fn cipher(&self) -> Option<LessSafeKey> {
        let derived = hmac::sign(&self.hmac, b"esker cipher");
        UnboundKey::new(&AES_256_GCM, derived.as_ref()).ok().map(LessSafeKey::new)
    }

    /// Checks that this is the key of an id and a purpose, and that it still verifies at the time `now`.
    fn counts_for(&self, purpose: KeyPurpose, id: &str, now: Millis) -> bool {
        self.id == id && self.purpose == purpose && self.ends_ms.is_none_or(|end| end > now)
    }
}

/// The keys that [`KeyRing::rewrap`] found under another master key or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewrappedKeys {
    /// The number of keys that are encrypted with the present master key now.
    pub count: usize,
    /// The keys that stayed as they are, because nothing decrypts them.
    pub left: Vec<KeyInfo>,
}

/// Returns the error that clients see in place of one that describes keys, which is in the log.
fn for_clients(error: AuthError) -> AuthError {
    if matches!(error, AuthError::Keys(_)) { AuthError::KeysUnusable } else { error }
}

/// Returns the active key of a purpose.
fn active(keys: &[SigningKey], purpose: KeyPurpose) -> Result<&SigningKey, AuthError> {
    let missing = || {
        tracing::error!(%purpose, "there is no active key; run `esker keys rotate` for the purpose");
        AuthError::KeysUnusable
    };
    keys.iter().find(|key| key.purpose == purpose && key.ends_ms.is_none()).ok_or_else(missing)
}

impl KeyRing {
    /// Makes the handle for the keys of a state database. Reads nothing.
    pub fn new(state: State, masters: MasterKeys) -> Self {
        let (loaded, fails, asking) = (RwLock::default(), AtomicBool::new(false), Mutex::default());
        Self { inner: Arc::new(RingInner { state, masters, loaded, fails, asking }) }
    }

    /// Makes the first key of each purpose that has none, and reads the keys. For the start of a server.
    ///
    /// # Errors
    ///
    /// - Returns [`Keys`](AuthError::Keys) if an active key can't be decrypted.
    /// - Returns [`Random`](AuthError::Random) if the system gives no random numbers, and [`State`](AuthError::State) if the
    ///   database fails.
    pub async fn open(state: State, masters: MasterKeys) -> Result<Self, AuthError> {
        let ring = Self::new(state, masters);
        let rows = ring.inner.state.keys().list().await?;
        for purpose in KeyPurpose::ALL {
            if !rows.iter().any(|row| row.purpose == purpose.name() && row.retiring_ms.is_none()) {
                // Another server may have made one meanwhile, which is as good.
                ring.inner.state.keys().insert_first(&ring.new_row(purpose, now_ms())?).await?;
            }
        }
        ring.inner.load().await?;
        Ok(ring)
    }

    /// Returns a tag over some parts, by the active key of a purpose: the id of the key, a dot, and the tag in base64.
    ///
    /// The parts are told apart by their lengths, so no two lists of parts have the same tag.
    ///
    /// # Errors
    ///
    /// Returns [`KeysUnusable`](AuthError::KeysUnusable) if the purpose has no active key or it can't be decrypted, and
    /// [`State`](AuthError::State) if the database does not answer.
    pub async fn sign(&self, purpose: KeyPurpose, parts: &[&[u8]]) -> Result<String, AuthError> {
        let keys = self.inner.current().await.map_err(for_clients)?;
        let key = active(&keys, purpose)?;
        let tag = hmac::sign(&key.hmac, &key.message(parts));
        Ok(format!("{}.{}", key.id, URL_SAFE_NO_PAD.encode(tag)))
    }

    /// Checks a tag over some parts. It is right if a key of the purpose made it that has not ended.
    ///
    /// # Errors
    ///
    /// Returns [`KeysUnusable`](AuthError::KeysUnusable) if an active key can't be decrypted, and [`State`](AuthError::State) if
    /// the database does not answer.
    pub async fn verify(&self, purpose: KeyPurpose, parts: &[&[u8]], tag: &str) -> Result<bool, AuthError> {
        let Some((id, tag)) = tag.split_once('.') else { return Ok(false) };
        let (Ok(_), Ok(tag)) = (Uuid::parse_str(id), URL_SAFE_NO_PAD.decode(tag)) else { return Ok(false) };
        let (keys, now) = (self.knowing(id).await?, now_ms());
        let mut fitting = keys.iter().filter(|key| key.counts_for(purpose, id, now));
        Ok(fitting.any(|key| hmac::verify(&key.hmac, &key.message(parts), &tag).is_ok()))
    }

    /// Encrypts a text by the active key of a purpose: the id of the key, a dot, and the encrypted text in base64.
    ///
    /// It opens with the same parts alone, and nobody changes it. For texts that get into logs of others, such as parts of addresses.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::sign`], and [`Random`](AuthError::Random) if the system gives no random numbers.
    pub async fn encrypt(&self, purpose: KeyPurpose, parts: &[&[u8]], text: &[u8]) -> Result<String, AuthError> {
        let keys = self.inner.current().await.map_err(for_clients)?;
        let key = active(&keys, purpose)?;
        let (mut nonce, mut sealed) = ([0_u8; NONCE_LEN], text.to_vec());
        getrandom::fill(&mut nonce).map_err(AuthError::Random)?;
        let cipher = key.cipher().ok_or(AuthError::KeysUnusable)?;
        let unique = Nonce::assume_unique_for_key(nonce);
        let done = cipher.seal_in_place_append_tag(unique, Aad::from(key.message(parts)), &mut sealed);
        done.map_err(|_| AuthError::KeysUnusable)?;
        Ok(format!("{}.{}", key.id, URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat())))
    }

    /// Decrypts a text that [`Self::encrypt`] made with the same parts. Returns `None` for any other, and after the end of its key.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::verify`].
    pub async fn decrypt(&self, purpose: KeyPurpose, parts: &[&[u8]], text: &str) -> Result<Option<Vec<u8>>, AuthError> {
        let Some((id, sealed)) = text.split_once('.') else { return Ok(None) };
        let (Ok(_), Ok(mut sealed)) = (Uuid::parse_str(id), URL_SAFE_NO_PAD.decode(sealed)) else { return Ok(None) };
        let (keys, now) = (self.knowing(id).await?, now_ms());
        let key = keys.iter().find(|key| key.counts_for(purpose, id, now));
        let Some((key, cipher)) = key.and_then(|key| Some((key, key.cipher()?))) else { return Ok(None) };
        let Some((nonce, sealed)) = sealed.split_at_mut_checked(NONCE_LEN) else { return Ok(None) };
        let Ok(nonce) = Nonce::try_assume_unique_for_key(nonce) else { return Ok(None) };
        Ok(cipher.open_in_place(nonce, Aad::from(key.message(parts)), sealed).ok().map(|text| text.to_vec()))
    }

    /// Returns the keys, which are read again if the one with an id is not among them: another server may just have made it.
    async fn knowing(&self, id: &str) -> Result<Arc<[SigningKey]>, AuthError> {
        let began = Instant::now();
        let keys = self.inner.current().await.map_err(for_clients)?;
        match keys.iter().any(|key| key.id == id) {
            true => Ok(keys),
            false => self.inner.read_since(began).await.map_err(for_clients),
        }
    }

    /// Checks that the server can use its keys. The log says why not.
    pub async fn is_usable(&self) -> bool {
        !matches!(self.inner.current().await, Err(AuthError::Keys(_)))
    }

    /// Checks that a new key of a purpose would be encrypted as the active one is.
    ///
    /// Running servers can't use a key that is encrypted with another master key than theirs.
    ///
    /// # Errors
    ///
    /// - Returns [`Keys`](AuthError::Keys) if the active key can't be decrypted, and [`Invalid`](AuthError::Invalid) if it is
    ///   encrypted with another master key than `keys.master_key`, or one of the two is missing.
    /// - Returns [`State`](AuthError::State) if the database fails.
    pub async fn check_master_key(&self, purpose: KeyPurpose) -> Result<(), AuthError> {
        let masters = &self.inner.masters;
        let rows = self.inner.state.keys().list().await?;
        let Some(active) = rows.iter().find(|row| row.purpose == purpose.name() && row.retiring_ms.is_none()) else {
            return Ok(());
        };
        masters.open(active)?;
        match active.master_key == masters.current_id() {
            true => Ok(()),
            false => Err(AuthError::Invalid(format!(
                "the active key of {purpose} is not stored as keys.master_key of this configuration says; give all servers the \
                 same [keys], restart them, and run `esker keys rewrap` first"
            ))),
        }
    }

    /// Makes a new key, which signs from now on. Every earlier key of the purpose verifies for `overlap` at most.
    ///
    /// It holds on this server at once, and on the others within [`KEYS_SECONDS`]. For so long they sign with the earlier key, so an
    /// overlap begins after that. Without an overlap, the earlier keys end now, and what others still sign with them is refused.
    ///
    /// # Errors
    ///
    /// Returns [`Random`](AuthError::Random) if the system gives no random numbers, and [`State`](AuthError::State) if the database
    /// fails.
    pub async fn rotate(&self, purpose: KeyPurpose, overlap: Duration) -> Result<KeyInfo, AuthError> {
        let now = now_ms();
        let row = self.new_row(purpose, now)?;
        let overlap = if overlap.is_zero() { overlap } else { overlap.saturating_add(MAX_AGE) };
        let (end, forget_before) = (now.saturating_add(to_millis(overlap)), now.saturating_sub(LISTED_AFTER_END_MS));
        self.inner.state.keys().rotate(&row, end, forget_before).await?;
        // A request that reads the keys may have asked before the rotation, and would bring the earlier ones back.
        let _no_reader = self.inner.asking.lock().await;
        *self.inner.loaded.write().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(KeyInfo::of(row, now))
    }

    /// Returns all keys, by purpose and age. Keys that ended are among them for 30 days.
    ///
    /// # Errors
    ///
    /// Returns [`State`](AuthError::State) if the database fails.
    pub async fn list(&self) -> Result<Vec<KeyInfo>, AuthError> {
        let now = now_ms();
        Ok(self.inner.state.keys().list().await?.into_iter().map(|row| KeyInfo::of(row, now)).collect())
    }

    /// Encrypts every key with the present master key that has another one or none.
    ///
    /// Keys that sign no more stay as they are if they can't be decrypted: nothing can bring them back.
    ///
    /// # Errors
    ///
    /// - Returns [`Invalid`](AuthError::Invalid) if there is no master key.
    /// - Returns [`Keys`](AuthError::Keys) if an active key can't be decrypted. Nothing is changed then.
    /// - Returns [`Random`](AuthError::Random) if the system gives no random numbers, and [`State`](AuthError::State) if the
    ///   database fails.
    pub async fn rewrap(&self) -> Result<RewrappedKeys, AuthError> {
        let masters = &self.inner.masters;
        if masters.current.is_none() {
            return Err(AuthError::Invalid(
                "keys.master_key is not set, so there is nothing to encrypt the keys with".to_owned(),
            ));
        }
        let now = now_ms();
        let (mut changed, mut left) = (Vec::new(), Vec::new());
        for mut row in self.inner.state.keys().list().await? {
            if row.master_key == masters.current_id() {
                continue;
            }
            match masters.open(&row) {
                Ok(material) => {
                    masters.seal(&mut row, &material)?;
                    changed.push(row);
                }
                Err(_) if row.retiring_ms.is_some() => left.push(KeyInfo::of(row, now)),
                Err(error) => return Err(error),
            }
        }
        self.inner.state.keys().replace_material(&changed).await?;
        Ok(RewrappedKeys { count: changed.len(), left })
    }

    /// Checks that keys are stored as they are, because there is no master key.
    pub fn is_plain(&self) -> bool {
        self.inner.masters.current.is_none()
    }

    /// Makes the row of a new key.
    fn new_row(&self, purpose: KeyPurpose, now: Millis) -> Result<SigningKeyRow, AuthError> {
        let mut material = [0_u8; KEY_BYTES];
        getrandom::fill(&mut material).map_err(AuthError::Random)?;
        let mut row = SigningKeyRow {
            id: Uuid::now_v7().to_string(),
            purpose: purpose.name().to_owned(),
            material: String::new(),
            master_key: String::new(),
            created_ms: now,
            retiring_ms: None,
            ends_ms: None,
        };
        self.inner.masters.seal(&mut row, &material)?;
        Ok(row)
    }
}

impl RingInner {
    /// Returns the keys that were read last.
    fn known(&self) -> Option<LoadedKeys> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns keys that are no older than [`MAX_AGE`].
    async fn current(&self) -> Result<Arc<[SigningKey]>, AuthError> {
        let is_fresh = |loaded: &LoadedKeys| loaded.asked.elapsed() < MAX_AGE;
        if let Some(loaded) = self.known().filter(is_fresh) {
            return Ok(loaded.keys);
        }
        let _one = self.asking.lock().await;
        match self.known().filter(is_fresh) {
            Some(loaded) => Ok(loaded.keys),
            None => self.load().await,
        }
    }

    /// Returns keys that were read after a time.
    async fn read_since(&self, time: Instant) -> Result<Arc<[SigningKey]>, AuthError> {
        let _one = self.asking.lock().await;
        match self.known().filter(|loaded| loaded.asked >= time) {
            Some(loaded) => Ok(loaded.keys),
            None => self.load().await,
        }
    }

    /// Reads the keys that sign or still verify. The first failure after a success is logged, and so is the end of it.
    async fn load(&self) -> Result<Arc<[SigningKey]>, AuthError> {
        let read = self.read().await;
        match &read {
            Ok(_) if self.fails.swap(false, Ordering::Relaxed) => tracing::info!("the keys can be used again"),
            Err(error @ AuthError::Keys(_)) if !self.fails.swap(true, Ordering::Relaxed) => {
                tracing::error!(%error, "the keys can't be used: statements of Flight SQL and scan plans fail");
            }
            _ => {}
        }
        read
    }

    /// Reads the keys that sign or still verify.
    ///
    /// A key that only verifies and can't be decrypted is left out, with a warning. Keys of purposes that this release does not know
    /// are those of a later one.
    async fn read(&self) -> Result<Arc<[SigningKey]>, AuthError> {
        let (asked, now) = (Instant::now(), now_ms());
        let mut keys = Vec::new();
        for row in self.state.keys().list().await? {
            let Ok(purpose) = row.purpose.parse::<KeyPurpose>() else { continue };
            if row.ends_ms.is_some_and(|end| end <= now) {
                continue;
            }
            match self.masters.open(&row) {
                Ok(material) => {
                    let hmac = hmac::Key::new(hmac::HMAC_SHA256, &material);
                    keys.push(SigningKey { id: row.id, purpose, hmac, ends_ms: row.ends_ms });
                }
                Err(error) if row.ends_ms.is_some() => tracing::warn!(%error, "a retiring key is left out"),
                Err(error) => return Err(error),
            }
        }
        let keys: Arc<[SigningKey]> = keys.into();
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Some(LoadedKeys { keys: keys.clone(), asked });
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use esker_state::Database;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn ring(dir: &tempfile::TempDir) -> KeyRing {
        let state = State::open(Database::Sqlite(dir.path().join("esker.db"))).await.expect("opened");
        KeyRing::open(state, MasterKeys::default()).await.expect("opened")
    }

    /// Returns the keys of handles, the oldest first.
    async fn handles(ring: &KeyRing) -> Vec<KeyInfo> {
        ring.list().await.expect("listed").into_iter().filter(|key| key.purpose == "handles").collect()
    }

    #[tokio::test]
    async fn a_read_that_began_before_a_rotation_does_not_bring_the_earlier_key_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let ring = ring(&dir).await;
        let earlier = ring.inner.current().await.expect("keys");
        // The test stands for a request that has asked the database, and has not stored the answer yet.
        let reader = ring.inner.asking.lock().await;
        let rotation = tokio::spawn({
            let ring = ring.clone();
            async move { ring.rotate(KeyPurpose::Handles, HOUR).await }
        });
        while handles(&ring).await.len() < 2 {
            tokio::task::yield_now().await;
        }
        *ring.inner.loaded.write().expect("no panic") = Some(LoadedKeys { keys: earlier, asked: Instant::now() });
        drop(reader);
        let made = rotation.await.expect("no panic").expect("rotated");
        let tag = ring.sign(KeyPurpose::Handles, &[b"x"]).await.expect("signed");
        assert!(tag.starts_with(&made.id), "the new key signs: {tag}");
    }

    #[tokio::test]
    async fn an_overlap_begins_when_no_server_signs_with_the_earlier_key_any_more() {
        let dir = tempfile::tempdir().expect("a directory");
        let ring = ring(&dir).await;
        let second = Duration::from_secs(1);
        ring.rotate(KeyPurpose::Handles, second).await.expect("rotated");
        let retiring = handles(&ring).await.remove(0);
        let lasts = retiring.ends_ms.zip(retiring.retiring_ms).map(|(end, begin)| end - begin);
        assert_eq!(lasts, Some(to_millis(second + MAX_AGE)));
        ring.rotate(KeyPurpose::Handles, Duration::ZERO).await.expect("rotated");
        assert!(handles(&ring).await[..2].iter().all(|key| key.state == super::super::KeyState::Retired));
    }
}
