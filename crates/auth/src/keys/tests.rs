//! Keys on servers that share a database.

use std::time::Duration;

use esker_state::{Database, State};

use super::*;
use crate::AuthError;

const HOUR: Duration = Duration::from_secs(3600);

async fn state(dir: &tempfile::TempDir) -> State {
    State::open(Database::Sqlite(dir.path().join("esker.db"))).await.expect("opened")
}

fn masters(current: &str, previous: Option<&str>) -> MasterKeys {
    let key = |digit: &str| MasterKey::parse(&digit.repeat(64)).expect("a key");
    MasterKeys { current: Some(key(current)), previous: previous.map(key) }
}

#[tokio::test]
async fn every_server_accepts_what_another_one_signed_and_a_rotation_overlaps() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = state(&dir).await;
    let one = KeyRing::open(state.clone(), MasterKeys::default()).await.expect("opened");
    let other = KeyRing::open(state.clone(), MasterKeys::default()).await.expect("opened");
    let parts: [&[u8]; 2] = [b"client:a", b"text"];
    let verify = async |ring: &KeyRing, tag: &str| ring.verify(KeyPurpose::Handles, &parts, tag).await.expect("checked");
    let first = one.sign(KeyPurpose::Handles, &parts).await.expect("signed");
    assert!(verify(&one, &first).await && verify(&other, &first).await);

    one.rotate(KeyPurpose::Handles, HOUR).await.expect("rotated");
    let second = one.sign(KeyPurpose::Handles, &parts).await.expect("signed");
    assert_ne!(first.split_once('.').map(|tag| tag.0), second.split_once('.').map(|tag| tag.0), "another key signs");
    assert!(verify(&other, &second).await, "a server that does not know the key asks for it");
    assert!(verify(&one, &first).await && verify(&other, &first).await, "the earlier key verifies until its end");

    one.rotate(KeyPurpose::Handles, Duration::ZERO).await.expect("rotated");
    assert!(!verify(&one, &first).await && !verify(&one, &second).await, "no overlap: all earlier keys have ended");
    let states: Vec<(String, KeyState)> =
        one.list().await.expect("listed").into_iter().map(|key| (key.purpose, key.state)).collect();
    let of = |purpose: &str, state| (purpose.to_owned(), state);
    let handles = [KeyState::Retired, KeyState::Retired, KeyState::Active].map(|state| of("handles", state));
    let others = ["plans", "secrets", "servers"].map(|purpose| of(purpose, KeyState::Active));
    assert_eq!(states, [&handles[..], &others].concat(), "the other purposes have their keys still");
    state.close().await;
}

#[tokio::test]
async fn a_tag_counts_for_its_purpose_and_its_parts_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = state(&dir).await;
    let ring = KeyRing::open(state.clone(), MasterKeys::default()).await.expect("opened");
    let tag = ring.sign(KeyPurpose::Handles, &[b"ab", b"c"]).await.expect("signed");
    let verify = async |purpose, parts: &[&[u8]], tag: &str| ring.verify(purpose, parts, tag).await.expect("checked");
    assert!(verify(KeyPurpose::Handles, &[b"ab", b"c"], &tag).await);
    assert!(!verify(KeyPurpose::Plans, &[b"ab", b"c"], &tag).await);
    let others: [&[&[u8]]; 5] = [&[b"a", b"bc"], &[b"abc"], &[b"ab", b"c", b""], &[b"c", b"ab"], &[]];
    for parts in others {
        assert!(!verify(KeyPurpose::Handles, parts, &tag).await, "{parts:?}");
    }
    for at in 0..tag.len() {
        let mut changed = tag.clone().into_bytes();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        let changed = String::from_utf8(changed).expect("text");
        assert!(!verify(KeyPurpose::Handles, &[b"ab", b"c"], &changed).await, "{changed}");
        assert!(!verify(KeyPurpose::Handles, &[b"ab", b"c"], &tag[..at]).await, "{at}");
    }
    for wrong in ["", ".", "x.y", "00000000-0000-0000-0000-000000000000.AAAA", &tag.to_uppercase()] {
        assert!(!verify(KeyPurpose::Handles, &[b"ab", b"c"], wrong).await, "{wrong}");
    }
    state.close().await;
}

#[tokio::test]
async fn an_encrypted_text_opens_for_its_purpose_and_its_parts_alone_on_every_server() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = state(&dir).await;
    let one = KeyRing::open(state.clone(), MasterKeys::default()).await.expect("opened");
    let other = KeyRing::open(state.clone(), MasterKeys::default()).await.expect("opened");
    let parts: [&[u8]; 2] = [b"p1", b"client:a"];
    let text = one.encrypt(KeyPurpose::Plans, &parts, b"a@example.com").await.expect("encrypted");
    let again = one.encrypt(KeyPurpose::Plans, &parts, b"a@example.com").await.expect("encrypted");
    assert!(text != again && text.len() < 120, "{text}");
    assert!(
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)),
        "it is a part of an address: {text}"
    );
    let open =
        async |ring: &KeyRing, purpose, parts: &[&[u8]], text: &str| ring.decrypt(purpose, parts, text).await.expect("checked");
    let others: [&[&[u8]]; 4] = [&[b"p1", b"client:b"], &[b"t1", b"client:a"], &[b"p1client:a"], &[]];
    for ring in [&one, &other] {
        assert_eq!(open(ring, KeyPurpose::Plans, &parts, &text).await.as_deref(), Some(&b"a@example.com"[..]));
        assert_eq!(open(ring, KeyPurpose::Handles, &parts, &text).await, None);
        for wrong in others {
            assert_eq!(open(ring, KeyPurpose::Plans, wrong, &text).await, None, "{wrong:?}");
        }
    }
    for at in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        let changed = String::from_utf8(changed).expect("text");
        assert_eq!(open(&one, KeyPurpose::Plans, &parts, &changed).await, None, "{changed}");
        assert_eq!(open(&one, KeyPurpose::Plans, &parts, &text[..at]).await, None, "{at}");
    }
    other.rotate(KeyPurpose::Plans, HOUR).await.expect("rotated");
    let next = other.encrypt(KeyPurpose::Plans, &parts, b"b").await.expect("encrypted");
    assert_eq!(open(&one, KeyPurpose::Plans, &parts, &next).await.as_deref(), Some(&b"b"[..]), "a key that it did not know");
    assert!(open(&one, KeyPurpose::Plans, &parts, &text).await.is_some(), "the earlier key opens until its end");
    other.rotate(KeyPurpose::Plans, Duration::ZERO).await.expect("rotated");
    assert_eq!(open(&other, KeyPurpose::Plans, &parts, &next).await, None, "its key has ended");
    state.close().await;
}

#[tokio::test]
async fn the_master_key_rotates_while_servers_have_both() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = state(&dir).await;
    let parts: [&[u8]; 1] = [b"x"];
    let plain = KeyRing::open(state.clone(), MasterKeys::default()).await.expect("opened");
    assert!(plain.is_plain() && matches!(plain.rewrap().await, Err(AuthError::Invalid(_))));
    let tag = plain.sign(KeyPurpose::Plans, &parts).await.expect("signed");

    let first = KeyRing::open(state.clone(), masters("a", None)).await.expect("keys that are not encrypted open too");
    assert_eq!(first.rewrap().await.expect("encrypted").count, 4);
    assert_eq!(first.rewrap().await.expect("nothing to do").count, 0);
    let refused = KeyRing::open(state.clone(), MasterKeys::default()).await.expect_err("no master key");
    assert!(refused.to_string().contains("esker keys rotate"), "{refused}");

    let second = KeyRing::open(state.clone(), masters("b", Some("a"))).await.expect("both");
    assert_eq!(second.rewrap().await.expect("encrypted").count, 4);
    let last = KeyRing::open(state.clone(), masters("b", None)).await.expect("the new one alone");
    assert!(last.verify(KeyPurpose::Plans, &parts, &tag).await.expect("checked"), "the keys are the same");
    KeyRing::open(state.clone(), masters("a", None)).await.expect_err("the old one opens nothing any more");

    // A lost master key is no dead end: new keys replace those that can't be opened.
    let lost = KeyRing::new(state.clone(), masters("c", None));
    lost.rewrap().await.expect_err("the active keys can't be opened");
    for purpose in KeyPurpose::ALL {
        let refused = lost.check_master_key(purpose).await.expect_err("running servers have another master key").to_string();
        assert!(refused.contains("--lost-master-key"), "{refused}");
        lost.rotate(purpose, HOUR).await.expect("rotated");
    }
    let after = KeyRing::open(state.clone(), masters("c", None)).await.expect("opened");
    assert!(!after.verify(KeyPurpose::Plans, &parts, &tag).await.expect("checked"));
    let rewrapped = after.rewrap().await.expect("those that can't be opened are left");
    assert_eq!((rewrapped.count, rewrapped.left.len()), (0, 4), "{rewrapped:?}");
    assert!(rewrapped.left.iter().all(|key| key.state == KeyState::Retiring), "{rewrapped:?}");
    after.check_master_key(KeyPurpose::Plans).await.expect("it is that of the new key");

    // A server that still has the earlier master key can't use the new keys, and tells clients no more than that.
    assert!(after.is_usable().await && !last_with_lost_keys(&last).await);
    state.close().await;
}

/// Checks that a server can use its keys, once those that it has are too old, and that clients see nothing of the keys.
async fn last_with_lost_keys(ring: &KeyRing) -> bool {
    tokio::time::sleep(Duration::from_secs(KEYS_SECONDS) + Duration::from_millis(100)).await;
    let refused = ring.sign(KeyPurpose::Handles, &[b"x"]).await.expect_err("the key is another master key's");
    assert!(matches!(refused, AuthError::KeysUnusable) && !refused.to_string().contains("master"), "{refused}");
    ring.is_usable().await
}

#[tokio::test]
async fn a_key_is_rotated_under_the_master_key_that_the_servers_have() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = state(&dir).await;
    let plain = KeyRing::open(state.clone(), MasterKeys::default()).await.expect("opened");
    plain.check_master_key(KeyPurpose::Handles).await.expect("there is none");
    let master = KeyRing::open(state.clone(), masters("a", None)).await.expect("opened");
    let refused = master.check_master_key(KeyPurpose::Handles).await.expect_err("running servers may have none").to_string();
    assert!(refused.contains("esker keys rewrap"), "{refused}");
    master.rewrap().await.expect("encrypted");
    master.check_master_key(KeyPurpose::Handles).await.expect("it is the same");
    let next = KeyRing::open(state.clone(), masters("b", Some("a"))).await.expect("opened");
    next.check_master_key(KeyPurpose::Handles).await.expect_err("the keys come first");
    state.close().await;
}
