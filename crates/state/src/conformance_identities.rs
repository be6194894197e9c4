//! The behaviour of tokens and of receipts by principal, which both databases must share.
//!
//! The functions run on SQLite and PostgreSQL as those of `conformance.rs` do.

use esker_types::now_ms;
use uuid::Uuid;

use crate::{NewReceipt, NewToken, ReceiptKey, State, StateError, TokenRow};

/// The time at which the tokens of [`insert`] were made, in milliseconds since the Unix epoch.
const CREATED_MS: i64 = 1_700_000_000_000;

/// The token `id` of the principal `p`, whose SHA-256 is `sha-ID`.
async fn insert(state: &State, id: &str, root: &str, expires_ms: Option<i64>) {
    let token_sha256 = format!("sha-{id}");
    let token = NewToken {
        id,
        token_sha256: &token_sha256,
        principal_kind: "client",
        principal: "p",
        label: "a label",
        root_id: root,
        created_ms: CREATED_MS,
        expires_ms,
        root_expires_ms: expires_ms,
        issuer: "",
        claims: "[]",
    };
    match id == root {
        true => state.tokens().insert(&token, Some(&format!("verifier-{id}"))).await.expect("inserted"),
        false => state.tokens().insert_issued(&token).await.expect("inserted"),
    }
}

async fn live(state: &State, token_sha256: &str) -> Option<TokenRow> {
    state.tokens().live(token_sha256, now_ms()).await.expect("asked")
}

/// Returns the ids of the listed tokens with the number of tokens that were issued for each.
async fn listed(state: &State) -> Vec<(String, i64)> {
    state.tokens().list(now_ms()).await.expect("listed").into_iter().map(|(row, issued)| (row.id, issued)).collect()
}

/// Makes a principal as an earlier release does: with its one token, and an access token for a minute.
async fn insert_earlier(state: &State, name: &str, token_sha256: &str, access_sha256: &str) {
    state.principals().put(name, token_sha256).await.expect("made");
    let insert = sqlx::query("INSERT INTO access_token (token_sha256, principal, expires_ms) VALUES ($1, $2, $3)");
    let insert = insert.bind(access_sha256).bind(name).bind(now_ms() + 60_000);
    insert.execute(&state.writer).await.expect("inserted");
}

pub(crate) async fn a_chain_counts_while_its_root_does(state: &State) {
    assert!(!state.principals().any().await.expect("asked"), "the first start");
    insert(state, "root", "root", None).await;
    insert(state, "second", "second", Some(now_ms() + 60_000)).await;
    insert(state, "issued", "root", Some(now_ms() + 60_000)).await;
    insert(state, "ended", "root", Some(now_ms() - 1)).await;
    assert!(state.principals().any().await.expect("asked"));
    // Issued tokens have none, and so have those that end.
    let verifiers = state.tokens().scram_verifiers("p", now_ms()).await.expect("asked");
    let own = |id: &str| (id.to_owned(), format!("verifier-{id}"));
    assert_eq!(verifiers, [own("root"), own("second")]);
    assert!(state.tokens().scram_verifiers("p", now_ms() + 60_000).await.expect("asked").iter().all(|(id, _)| id == "root"));
    assert!(state.tokens().scram_verifiers("q", now_ms()).await.expect("asked").is_empty());
    let row = live(state, "sha-root").await.expect("known");
    assert_eq!((row.principal.as_str(), row.label.as_str(), row.expires_ms, row.is_root()), ("p", "a label", None, true));
    assert_eq!(row.created_ms, CREATED_MS);
    assert!(!live(state, "sha-issued").await.expect("known").is_root());
    assert_eq!((live(state, "sha-ended").await, live(state, "sha-nobody").await), (None, None));
    let ended = state.tokens().ended_since("sha-ended", now_ms() - 60_000).await.expect("asked");
    assert_eq!(ended, Some(("client".to_owned(), "p".to_owned())));
    assert_eq!(state.tokens().ended_since("sha-ended", now_ms()).await.expect("asked"), None, "too long ago");
    assert_eq!(listed(state).await, [("root".to_owned(), 1), ("second".to_owned(), 0)]);

    let has_unrevoked = async |client: &str| state.tokens().has_unrevoked(client).await.expect("asked");
    assert!(has_unrevoked("p").await && !has_unrevoked("q").await);
    assert!(state.tokens().revoke("root").await.expect("revoked"));
    assert!(state.tokens().revoke("root").await.expect("revoked already"));
    assert!(!state.tokens().revoke("nobody").await.expect("asked"));
    // A token that another server issued at the same moment ends as well.
    insert(state, "late", "root", Some(now_ms() + 60_000)).await;
    for sha256 in ["sha-root", "sha-issued", "sha-late"] {
        assert_eq!(live(state, sha256).await, None, "{sha256}");
    }
    assert!(live(state, "sha-second").await.is_some());
    let revoked = state.tokens().list(now_ms()).await.expect("listed").into_iter().find(|(row, _)| row.id == "root");
    assert!(revoked.expect("still listed").0.revoked_ms.is_some());

    state.tokens().forget(now_ms(), now_ms() + 1).await.expect("forgotten");
    assert_eq!(state.tokens().ended_since("sha-ended", 0).await.expect("asked"), None);
    assert_eq!(listed(state).await, [("second".to_owned(), 0)]);
    assert_eq!(live(state, "sha-late").await, None, "its root is gone");
    assert!(has_unrevoked("p").await, "one that ends counts");
    assert!(state.tokens().revoke("second").await.expect("revoked"));
    assert!(!has_unrevoked("p").await, "a link of a chain is no token of a person");
    insert_earlier(state, "old", "sha-old", "sha-access").await;
    assert!(has_unrevoked("old").await);
}

pub(crate) async fn a_chain_of_a_user_is_kept_until_it_ends_and_is_no_token_of_a_person(state: &State) {
    let (hour, now) = (3_600_000, now_ms());
    let insert_of_user = async |id: &str, root_id: &str, expires_ms: i64| {
        let token = NewToken {
            id,
            token_sha256: &format!("sha-{id}"),
            principal_kind: "user",
            principal: "ann",
            label: "",
            root_id,
            created_ms: CREATED_MS,
            expires_ms: Some(expires_ms),
            root_expires_ms: Some(now + hour),
            issuer: "https://idp.example",
            claims: r#"["readers"]"#,
        };
        state.tokens().insert_issued(&token).await.expect("inserted");
    };
    insert_of_user("root", "root", now + 60_000).await;
    insert_of_user("next", "root", now + 60_000).await;
    let row = live(state, "sha-next").await.expect("known");
    assert_eq!((row.principal_kind.as_str(), row.principal.as_str()), ("user", "ann"));
    assert_eq!((row.issuer.as_str(), row.claims.as_str()), ("https://idp.example", r#"["readers"]"#));
    assert!(!state.principals().any().await.expect("asked"), "nobody can log in once the provider is gone");

    // The root has ended, and its chain has not.
    state.tokens().forget(now + hour - 1, now + hour).await.expect("forgotten");
    assert_eq!(listed(state).await, [("root".to_owned(), 0)]);
    insert_of_user("third", "root", now + hour).await;
    assert!(live(state, "sha-third").await.is_some());
    assert!(state.tokens().revoke("root").await.expect("revoked"));
    assert_eq!(live(state, "sha-third").await, None);
    state.tokens().forget(now + hour + 1, 0).await.expect("forgotten");
    assert!(listed(state).await.is_empty());
}

pub(crate) async fn tokens_of_earlier_releases_count_until_they_are_revoked(state: &State) {
    insert_earlier(state, "admin", "own", "access").await;
    insert_earlier(state, "b", "of-b", "access-of-b").await;
    insert(state, "issued", "own", Some(now_ms() + 60_000)).await;
    assert!(state.principals().any().await.expect("asked"));
    let own = live(state, "own").await.expect("known");
    assert_eq!((own.id.as_str(), own.principal.as_str(), own.is_root()), ("principal:admin", "admin", true));
    let access = live(state, "access").await.expect("known");
    assert_eq!((access.principal.as_str(), access.root_id.as_str(), access.is_root()), ("admin", "own", false));
    assert!(live(state, "sha-issued").await.is_some());
    assert_eq!(listed(state).await, [("principal:admin".to_owned(), 2), ("principal:b".to_owned(), 1)]);

    // The configuration, or an earlier release, replaces the token: what the one before led to ends.
    state.principals().put("admin", "new").await.expect("replaced");
    assert_eq!((live(state, "own").await, live(state, "sha-issued").await), (None, None));
    assert!(state.tokens().revoke("principal:admin").await.expect("revoked"));
    assert!(!state.tokens().revoke("principal:admin").await.expect("gone"));
    assert_eq!((live(state, "new").await, live(state, "access").await), (None, None));
    assert!(live(state, "access-of-b").await.is_some());
    state.tokens().revoke("principal:b").await.expect("revoked");
    assert!(!state.principals().any().await.expect("asked"), "the next start makes a token again");
}

pub(crate) async fn a_token_that_counts_again_brings_back_none_that_was_issued_for_it(state: &State) {
    let put = async |token_sha256: &str| state.principals().put("admin", token_sha256).await.expect("put");
    let counting =
        async |issued: &str, access: &str| [live(state, "own").await, live(state, issued).await, live(state, access).await];
    insert_earlier(state, "admin", "own", "access").await;
    insert(state, "issued", "own", Some(now_ms() + 60_000)).await;
    put("own").await;
    assert!(counting("sha-issued", "access").await.iter().all(Option::is_some), "the next start changes nothing");

    put("other").await;
    assert_eq!(counting("sha-issued", "access").await, [None, None, None]);
    put("own").await;
    let [own, issued, access] = counting("sha-issued", "access").await;
    assert_eq!((own.is_some(), issued, access), (true, None, None));

    insert_earlier(state, "admin", "own", "access-2").await;
    insert(state, "issued-2", "own", Some(now_ms() + 60_000)).await;
    assert!(counting("sha-issued-2", "access-2").await.iter().all(Option::is_some));
    assert!(state.tokens().revoke("principal:admin").await.expect("revoked"));
    assert_eq!(counting("sha-issued-2", "access-2").await, [None, None, None]);
    put("own").await;
    let [own, issued, access] = counting("sha-issued-2", "access-2").await;
    assert_eq!((own.is_some(), issued, access), (true, None, None));
}

pub(crate) async fn issued_tokens_of_earlier_releases_are_forgotten_after_their_end(state: &State) {
    insert_earlier(state, "admin", "own", "access").await;
    for (issued_before, left) in [(now_ms(), true), (now_ms() + 120_000, false)] {
        state.tokens().forget(issued_before, 0).await.expect("forgotten");
        assert_eq!(live(state, "access").await.is_some(), left, "{issued_before}");
    }
    assert!(live(state, "own").await.is_some());
}

pub(crate) async fn a_use_is_recorded_once_in_an_interval(state: &State) {
    insert(state, "t", "t", None).await;
    let last_used = async || live(state, "sha-t").await.expect("known").last_used_ms;
    assert_eq!(last_used().await, None);
    for (now, recorded) in [(1_000_000, 1_000_000), (1_059_999, 1_000_000), (1_060_000, 1_060_000), (1_000_000, 1_060_000)] {
        state.tokens().record_use("t", now, 60_000).await.expect("recorded");
        assert_eq!(last_used().await, Some(recorded), "{now}");
    }
}

pub(crate) async fn a_receipt_answers_only_its_own_principal(state: &State) {
    let (warehouse, _) = state.warehouses().ensure("w", "file:///w", false).await.expect("made");
    let uuid = Uuid::now_v7();
    let key = |principal: &str| ReceiptKey {
        warehouse,
        principal: principal.to_owned(),
        operation: "POST /t".to_owned(),
        key: uuid,
        body_sha256: "0".to_owned(),
    };
    let insert = async |principal: &str| {
        state.outbox().insert_receipt(NewReceipt { key: key(principal), outcome: format!("of {principal}") }).await
    };
    let outcome =
        async |principal: &str| state.outbox().receipt(&key(principal)).await.expect("read").map(|receipt| receipt.outcome);
    for principal in ["client:a", "client:b", "anonymous"] {
        assert_eq!(outcome(principal).await, None, "{principal}");
        insert(principal).await.expect("inserted");
        assert_eq!(outcome(principal).await, Some(format!("of {principal}")));
        let again = insert(principal).await.expect_err("a duplicate");
        assert!(matches!(again, StateError::DuplicateKey(key) if key == uuid), "{again}");
    }
    assert_eq!(outcome("client:a").await.as_deref(), Some("of client:a"));

    // A receipt of an earlier release names nobody: its request is repeated by whoever has its key, as before.
    sqlx::query("DELETE FROM receipt").execute(&state.writer).await.expect("deleted");
    insert("").await.expect("inserted");
    assert_eq!(outcome("client:a").await.as_deref(), Some("of "));
    let taken = insert("client:a").await.expect_err("a duplicate");
    assert!(matches!(taken, StateError::DuplicateKey(_)), "{taken}");
}
