//! Changes of the rules, and how soon each handle sees them.

use esker_access::{EVERYONE, Unrecorded};
use esker_state::Database;

use super::*;
use crate::GrantOrder;

/// Opens the database of a directory. Each handle is a server of its own.
async fn open(dir: &tempfile::TempDir) -> (State, AccessControl) {
    let state = State::open(Database::Sqlite(dir.path().join("esker.db"))).await.expect("opened");
    let access = AccessControl::open(state.clone(), Arc::new(Unrecorded)).await.expect("loaded");
    (state, access)
}

/// Makes a token of a client that does not end.
async fn make_client(state: &State, name: &str) {
    let tokens = Authenticator::new(state.clone(), AuthOptions::default());
    tokens.make(name, "", None).await.expect("made");
}

async fn client(access: &AccessControl, name: &str) -> Arc<Caller> {
    access.caller(Identity::client(name), RequestFacts::default()).await.expect("a caller")
}

/// Carries out changes as the client `root`.
async fn change(access: &AccessControl, changes: Vec<RuleChange>) -> Result<i64, AuthError> {
    let by = client(access, "root").await;
    access.change(&by, changes).await
}

fn member(role: &str, client: &str) -> RuleChange {
    RuleChange::AddMember { role: role.to_owned(), member: Member::client(client) }
}

fn mode(mode: AccessMode) -> RuleChange {
    RuleChange::SetMode { mode }
}

fn role(name: &str) -> RuleChange {
    RuleChange::CreateRole { role: name.to_owned() }
}

/// Checks that a client may manage access.
async fn manages(access: &AccessControl, name: &str) -> bool {
    client(access, name).await.require(&Need::new(ResourcePath::SERVER, Privilege::ManageAccess)).is_ok()
}

fn roles_of(caller: &Caller) -> Vec<&str> {
    caller.subject().roles().collect()
}

#[tokio::test]
async fn a_change_is_seen_at_once_on_its_own_handle_and_soon_on_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let ((state, here), (other, there)) = (open(&dir).await, open(&dir).await);
    make_client(&state, "root").await;
    assert!(manages(&there, "etl").await, "the mode is off");
    change(&here, vec![member(ADMIN, "root"), mode(AccessMode::On)]).await.expect("changed");
    assert!(manages(&here, "root").await && !manages(&here, "etl").await);
    let began = Instant::now();
    while manages(&there, "etl").await {
        assert!(began.elapsed() < Duration::from_secs(30), "the other handle has the old rules");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Who asked before is asked about again under the new rules.
    change(&there, vec![member(ADMIN, "etl")]).await.expect("changed");
    assert!(manages(&there, "etl").await);
    here.refresh();
    assert!(manages(&here, "etl").await, "after a refresh the database is asked");
    state.close().await;
    other.close().await;
}

#[tokio::test]
async fn a_change_that_would_lock_everybody_out_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let (state, access) = open(&dir).await;
    make_client(&state, "root").await;
    for managers in [vec![], vec![member(ADMIN, "nobody-has-its-token")]] {
        for to in [AccessMode::Report, AccessMode::On] {
            let refused = change(&access, [managers.clone(), vec![mode(to)]].concat()).await.expect_err("refused");
            assert!(matches!(refused, AuthError::LocksOut), "{refused}");
        }
    }
    assert_eq!(access.rules().await.expect("rules").version(), 1, "nothing was stored");
    change(&access, vec![member(ADMIN, "root"), mode(AccessMode::On)]).await.expect("changed");
    let last = RuleChange::RemoveMember { role: ADMIN.to_owned(), member: Member::client("root") };
    let refused = change(&access, vec![last.clone()]).await.expect_err("refused");
    assert!(matches!(refused, AuthError::LocksOut), "{refused}");
    change(&access, vec![mode(AccessMode::Off), last]).await.expect("nobody is locked out where all is allowed");
    state.close().await;
}

#[tokio::test]
async fn a_user_manages_access_only_if_its_issuer_is_configured() {
    let dir = tempfile::tempdir().expect("a directory");
    let (state, access) = open(&dir).await;
    make_client(&state, "root").await;
    change(&access, vec![member(ADMIN, "root"), mode(AccessMode::On)]).await.expect("changed");
    let known = crate::oidc::testing::options("https://idp.example");
    let access = access.with_providers(Providers::new(vec![known]).expect("a provider"));
    let last = || RuleChange::RemoveMember { role: ADMIN.to_owned(), member: Member::client("root") };
    let user = |issuer: &str| Member::User { issuer: issuer.to_owned(), name: "ann".to_owned() };
    let claim = |issuer: &str| Member::Claim { issuer: issuer.to_owned(), value: "ops".to_owned() };
    let add = |member: Member| RuleChange::AddMember { role: ADMIN.to_owned(), member };
    for nobody in [user("https://no-such-issuer.example"), claim("https://idp.example/")] {
        let refused = change(&access, vec![add(nobody), last()]).await.expect_err("refused");
        assert!(matches!(refused, AuthError::LocksOut), "{refused}");
    }
    change(&access, vec![add(claim("https://idp.example")), last()]).await.expect("somebody can log in");
    state.close().await;
}

#[tokio::test]
async fn who_had_a_token_goes_on_as_before_when_the_mode_leaves_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let (state, access) = open(&dir).await;
    for name in ["root", "etl", "bi"] {
        make_client(&state, name).await;
    }
    change(&access, vec![member(ADMIN, "root"), mode(AccessMode::Report)]).await.expect("changed");
    let etl = client(&access, "etl").await;
    assert_eq!(roles_of(&etl), [EVERYONE, LEGACY]);
    assert_eq!(etl.effective(&ResourcePath::SERVER), PrivilegeSet::LEGACY);
    let grants = access.grants().await.expect("listed");
    assert_eq!((grants.len(), grants[0].created_by.as_str()), (1, "root"));

    // Who was taken out stays out, and a grant that was revoked stays revoked. Who came in while all was allowed goes on.
    let out = RuleChange::RemoveMember { role: LEGACY.to_owned(), member: Member::client("etl") };
    let revoked = RuleChange::RemoveGrant { id: grants[0].row.id.clone() };
    tokio::time::sleep(Duration::from_millis(5)).await;
    change(&access, vec![out, revoked, mode(AccessMode::Off)]).await.expect("changed");
    tokio::time::sleep(Duration::from_millis(5)).await;
    for name in ["etl", "late"] {
        make_client(&state, name).await;
    }
    change(&access, vec![mode(AccessMode::On)]).await.expect("changed");
    let legacy = access.members().await.expect("listed").into_iter().filter(|stored| stored.row.role == LEGACY);
    let legacy: Vec<_> = legacy.map(|stored| stored.row.member.to_string()).collect();
    assert_eq!(legacy, ["client bi", "client late", "client root"]);
    assert!(access.grants().await.expect("listed").is_empty());
    state.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_the_same_time_are_all_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let ((state, here), (other, there)) = (open(&dir).await, open(&dir).await);
    let changes = (0..8).map(|at| {
        let access = if at % 2 == 0 { here.clone() } else { there.clone() };
        async move { change(&access, vec![role(&format!("r{at}"))]).await.expect("changed") }
    });
    let mut versions = futures_of(changes).await;
    versions.sort_unstable();
    assert_eq!(versions, (2..10).collect::<Vec<_>>());
    assert_eq!(here.roles().await.expect("listed").len(), 8);
    let again = change(&here, vec![role("r0")]).await.expect_err("refused");
    assert!(matches!(again, AuthError::Rights(RightsError::RoleExists { .. })), "{again}");
    // A cycle that two changes would make together is seen, because the second is checked on the rules of the first.
    let inside = |role: &str, member: &str| RuleChange::AddMember { role: role.to_owned(), member: Member::role(member) };
    change(&here, vec![inside("r0", "r1")]).await.expect("changed");
    let cycle = change(&there, vec![inside("r1", "r0")]).await.expect_err("refused");
    assert!(matches!(cycle, AuthError::Rights(RightsError::RoleCycle { .. })), "{cycle}");
    state.close().await;
    other.close().await;
}

/// Runs futures as tasks of their own, and returns their results.
async fn futures_of<F: Future<Output = i64> + Send + 'static>(all: impl Iterator<Item = F>) -> Vec<i64> {
    let tasks: Vec<_> = all.map(tokio::spawn).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("no panic"));
    }
    results
}

#[tokio::test]
async fn a_principal_of_an_emergency_may_do_everything_and_nobody_else_becomes_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let (state, access) = open(&dir).await;
    make_client(&state, "root").await;
    access.bootstrap("nobody", None).await.expect_err("it has no token");
    access.bootstrap("root", Some(AccessMode::On)).await.expect("changed");
    assert!(manages(&access, "root").await && !manages(&access, "etl").await);
    let first = access.break_glass(Duration::from_secs(3600)).await.expect("made").info;
    assert!(client(&access, &first.principal).await.subject().breaks_glass() && first.expires_ms.is_some());
    let refused = change(&access, vec![member(BREAK_GLASS, "etl")]).await.expect_err("refused");
    assert!(matches!(refused, AuthError::Rights(RightsError::FixedMembers { .. })), "{refused}");

    // The next emergency ends the membership of one whose token is over.
    let tokens = Authenticator::new(state.clone(), AuthOptions::default());
    tokens.revoke(&first.id).await.expect("revoked");
    let second = access.break_glass(Duration::from_secs(60)).await.expect("made").info;
    let members = access.members().await.expect("listed").into_iter().filter(|stored| stored.row.role == BREAK_GLASS);
    let members: Vec<_> = members.map(|stored| (stored.row.member, stored.created_by)).collect();
    assert_eq!(members, [(Member::client(second.principal.as_str()), MACHINE.to_owned())]);

    // So does the housekeeping, but not before a new emergency has its token.
    tokens.revoke(&second.id).await.expect("revoked");
    AccessControl::end_emergencies(&state).await.expect("looked");
    let in_glass =
        async || access.members().await.expect("listed").iter().filter(|stored| stored.row.role == BREAK_GLASS).count();
    assert_eq!(in_glass().await, 1, "it may have just begun");
    let third = access.break_glass(Duration::from_secs(60)).await.expect("made").info;
    AccessControl::end_emergencies_until(&state, now_ms()).await.expect("nothing is over");
    assert_eq!(in_glass().await, 1);
    tokens.revoke(&third.id).await.expect("revoked");
    AccessControl::end_emergencies_until(&state, now_ms()).await.expect("ended");
    assert_eq!(in_glass().await, 0);
    state.close().await;
}

#[tokio::test]
async fn without_enforcement_only_who_manages_access_changes_the_rules_once_somebody_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let (state, access) = open(&dir).await;
    for name in ["root", "etl"] {
        make_client(&state, name).await;
    }
    let etl = client(&access, "etl").await;
    access.change(&etl, vec![role("readers")]).await.expect("nobody manages access yet");
    access.change(&etl, vec![member(ADMIN, "without-a-token")]).await.expect("a client without a token manages nothing");
    access.change(&etl, vec![member(ADMIN, "root")]).await.expect("the first administrator");
    let refused_to_change = async || {
        let etl = client(&access, "etl").await;
        for changes in [vec![member(ADMIN, "etl")], vec![mode(AccessMode::Off), role("mine")]] {
            let refused = access.change(&etl, changes).await.expect_err("refused");
            assert!(refused.to_string().starts_with("etl lacks MANAGE_ACCESS on the server"), "{refused}");
        }
    };
    refused_to_change().await;

    let on = Securable::Server;
    let order =
        |privileges| GrantOrder { to: Member::client("etl"), privileges, on: &on, path: ResourcePath::SERVER, future: None };
    let refused = access.grant(&etl, order("LIST, MANAGE_GRANTS")).await.expect_err("refused").to_string();
    assert!(refused.starts_with("etl lacks LIST, MANAGE_GRANTS on the server"), "{refused}");
    let root = client(&access, "root").await;
    let given = access.grant(&root, order("LIST, MANAGE_GRANTS")).await.expect("granted");
    assert_eq!(given.privileges, PrivilegeSet::of(&[Privilege::List, Privilege::ManageGrants]));
    access.revoke(&etl, order("LIST")).await.expect("who manages the grants revokes what they have there");
    let refused = access.grant(&etl, order("DROP")).await.expect_err("refused").to_string();
    assert!(refused.starts_with("etl lacks DROP on the server"), "{refused}");

    change(&access, vec![mode(AccessMode::Report)]).await.expect("root manages access");
    refused_to_change().await;
    state.close().await;
}

#[tokio::test]
async fn a_change_is_decided_by_the_rules_that_it_changes_and_not_by_older_ones() {
    let dir = tempfile::tempdir().expect("a directory");
    let ((state, here), (other, there)) = (open(&dir).await, open(&dir).await);
    // A client with a token would be a member of `LEGACY` from then on, and have both privileges.
    make_client(&state, "root").await;
    // These callers of another server were allowed everything a moment ago.
    let (etl, root) = (client(&there, "etl").await, client(&there, "root").await);
    change(&here, vec![member(ADMIN, "root"), member(ADMIN, "second"), mode(AccessMode::On)]).await.expect("changed");
    make_client(&state, "second").await;
    let refused = there.change(&etl, vec![member(ADMIN, "etl")]).await.expect_err("refused").to_string();
    assert!(refused.starts_with("etl lacks MANAGE_ACCESS on the server"), "{refused}");
    let on = Securable::Server;
    let order = GrantOrder { to: Member::client("etl"), privileges: "LIST", on: &on, path: ResourcePath::SERVER, future: None };
    let refused = there.grant(&etl, order).await.expect_err("refused").to_string();
    assert!(refused.starts_with("etl lacks LIST, MANAGE_GRANTS on the server"), "{refused}");

    // So it is with an administrator who is none any more.
    let second = client(&here, "second").await;
    let out = RuleChange::RemoveMember { role: ADMIN.to_owned(), member: Member::client("root") };
    here.change(&second, vec![out]).await.expect("changed");
    let refused = there.change(&root, vec![role("mine")]).await.expect_err("refused").to_string();
    assert!(refused.starts_with("root lacks MANAGE_ACCESS on the server"), "{refused}");
    state.close().await;
    other.close().await;
}

#[tokio::test]
async fn the_answer_about_a_hidden_thing_does_not_depend_on_the_privileges() {
    let dir = tempfile::tempdir().expect("a directory");
    let (state, access) = open(&dir).await;
    make_client(&state, "root").await;
    change(&access, vec![member(ADMIN, "root"), mode(AccessMode::On)]).await.expect("changed");
    let bi = client(&access, "bi").await;
    let on = Securable::Warehouse { warehouse: 1 };
    for privileges in ["ALL", "LIST", "no-privilege", "MANAGE_ACCESS"] {
        let path = ResourcePath::warehouse(1, "lake");
        let order = || GrantOrder { to: Member::client("bi"), privileges, on: &on, path, future: None };
        for refused in
            [access.grant(&bi, order()).await.expect_err("refused"), access.revoke(&bi, order()).await.expect_err("refused")]
        {
            assert_eq!(refused.to_string(), "warehouse lake does not exist", "{privileges}");
        }
    }
    state.close().await;
}

#[tokio::test]
async fn without_the_database_nothing_is_decided_on_old_rules() {
    let dir = tempfile::tempdir().expect("a directory");
    let (state, access) = open(&dir).await;
    assert!(access.rules().await.is_ok());
    state.close().await;
    access.refresh();
    let failed = access.rules().await.expect_err("the database is closed");
    assert!(matches!(failed, AuthError::State(_)), "{failed}");
}

#[tokio::test]
async fn a_change_that_changes_nothing_is_no_new_version() {
    let dir = tempfile::tempdir().expect("a directory");
    let (state, access) = open(&dir).await;
    assert_eq!(change(&access, vec![role("readers"), member("readers", "bi")]).await.expect("changed"), 2);
    assert_eq!(change(&access, vec![member("readers", "bi"), mode(AccessMode::Off)]).await.expect("the same"), 2);
    let unknown = change(&access, vec![member("nobody", "bi")]).await.expect_err("refused");
    assert!(matches!(unknown, AuthError::Rights(RightsError::NoSuchRole { .. })), "{unknown}");
    let events = state.outbox().events_after(0, Some(""), 9).await.expect("events");
    let subjects: Vec<_> = events.iter().map(|event| (event.subject.as_str(), event.principal.as_str())).collect();
    assert_eq!(subjects, [("role readers", "root"), ("role readers", "root")]);
    assert_eq!(events[1].data["version"], 2);
    state.close().await;
}

fn policy(name: &str, text: &str) -> RuleChange {
    RuleChange::SetPolicy { name: name.to_owned(), text: text.to_owned() }
}

/// Forbids to manage access, where a condition holds.
fn forbid_to_manage(who: &str, condition: &str) -> String {
    format!("forbid ({who}, action == Esker::Action::\"MANAGE_ACCESS\", resource) {condition};")
}

#[tokio::test]
async fn policies_lock_nobody_out_whatever_their_conditions_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let (state, access) = open(&dir).await;
    make_client(&state, "root").await;
    change(&access, vec![member(ADMIN, "root"), member(ADMIN, "second")]).await.expect("changed");
    for enforced in [AccessMode::Off, AccessMode::Report, AccessMode::On] {
        change(&access, vec![mode(enforced)]).await.expect("changed");
        for condition in ["", "when { context.tls }", "unless { context has ip && context.ip.isLoopback() }"] {
            let everybody = policy("all", &forbid_to_manage("principal", condition));
            let refused = change(&access, vec![everybody]).await.expect_err("refused");
            assert!(matches!(refused, AuthError::LocksOut), "{enforced:?} {condition}: {refused}");
        }
        // The other administrator has no token.
        let root = policy("root", &forbid_to_manage("principal == Esker::Client::\"root\"", ""));
        let refused = change(&access, vec![root]).await.expect_err("refused");
        assert!(matches!(refused, AuthError::LocksOut), "{enforced:?}: {refused}");
        change(&access, vec![policy("second", &forbid_to_manage("principal == Esker::Client::\"second\"", ""))])
            .await
            .expect("set");
    }
    make_client(&state, "second").await;
    let refused = access.change(&*client(&access, "second").await, vec![role("mine")]).await.expect_err("forbidden");
    assert!(refused.to_string().starts_with("second lacks MANAGE_ACCESS on the server"), "{refused}");
    let removed = RuleChange::RemovePolicy { name: "second".into() };
    change(&access, vec![removed]).await.expect("removed");
    access.change(&*client(&access, "second").await, vec![role("mine")]).await.expect("an administrator again");
    state.close().await;
}

#[tokio::test]
async fn who_changes_the_rules_is_asked_with_the_facts_of_the_request() {
    let dir = tempfile::tempdir().expect("a directory");
    let (state, access) = open(&dir).await;
    for name in ["root", "etl"] {
        make_client(&state, name).await;
    }
    let permit = "permit (principal == Esker::Client::\"etl\", action == Esker::Action::\"MANAGE_ACCESS\", resource)
        when { context.tls };";
    change(&access, vec![member(ADMIN, "root"), policy("by-tls", permit)]).await.expect("changed");
    let etl = async |is_tls| {
        let facts = RequestFacts { is_tls, ..RequestFacts::default() };
        access.caller(Identity::client("etl"), facts).await.expect("a caller")
    };
    for enforced in [AccessMode::Off, AccessMode::On] {
        change(&access, vec![mode(enforced)]).await.expect("changed");
        let refused = access.change(&*etl(false).await, vec![role("mine")]).await.expect_err("refused");
        assert!(refused.to_string().starts_with("etl lacks MANAGE_ACCESS on the server"), "{refused}");
        access.change(&*etl(true).await, vec![role(enforced.as_str())]).await.expect("permitted");
    }
    let absent = access.caller_without_request(Identity::client("etl"), "startJob").await.expect("a caller");
    assert!(absent.require(&Need::new(ResourcePath::SERVER, Privilege::ManageAccess)).is_err());
    state.close().await;
}

#[tokio::test]
async fn while_everybody_changes_the_rules_a_policy_forbids_all_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let (state, access) = open(&dir).await;
    make_client(&state, "root").await;
    let forbid = forbid_to_manage("principal == Esker::Client::\"etl\"", "");
    change(&access, vec![policy("no-etl", &forbid)]).await.expect("nobody manages access yet");
    let refused = access.change(&*client(&access, "etl").await, vec![role("mine")]).await.expect_err("forbidden");
    let text = "etl lacks MANAGE_ACCESS on the server: the access policy no-etl forbids it";
    assert_eq!(refused.to_string(), text, "a grant would not help");
    change(&access, vec![role("readers")]).await.expect("others still do");
    for who in ["principal", "principal is Esker::Client", "principal == Esker::Client::\"root\""] {
        for condition in ["", "unless { context.tls }"] {
            let refused = change(&access, vec![policy("all", &forbid_to_manage(who, condition))]).await.expect_err("refused");
            assert!(matches!(refused, AuthError::LocksOut), "no other client has a token: {who} {condition}: {refused}");
        }
    }
    state.close().await;
}

#[tokio::test]
async fn a_stored_policy_that_can_not_be_read_stops_all_requests_until_the_machine_removes_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (state, access) = open(&dir).await;
    make_client(&state, "root").await;
    let text = "permit (principal, action, resource) when { context.of_a_later_release };";
    // It was stored by another release.
    let (version, _) = state.access().version().await.expect("read");
    let changes = [policy("later", text), policy("good", "permit (principal, action, resource);")];
    state.access().change(version, "root", &changes, &outbox(version + 1, "root", &changes)).await.expect("stored");
    access.refresh();
    let refused = access.caller(Identity::client("root"), RequestFacts::default()).await.expect_err("no rules");
    assert_eq!(refused.code(), ErrorCode::Unavailable, "it is no fault of the client: {refused}");
    assert!(refused.to_string().contains("the policy later can't be used"), "{refused}");
    let refused = AccessControl::open(state.clone(), Arc::new(Unrecorded)).await.expect_err("no rules");
    assert!(refused.to_string().contains("`esker access remove-policy later`"), "{refused}");

    assert_eq!(AccessControl::remove_stored_policy(&state, "later").await.expect("removed"), text);
    access.refresh();
    let names: Vec<String> = access.policies().await.expect("read").into_iter().map(|policy| policy.name).collect();
    assert_eq!((names, access.rules().await.expect("rules").has_policies()), (vec!["good".to_owned()], true));
    let again = AccessControl::remove_stored_policy(&state, "later").await.expect_err("it is gone");
    assert!(matches!(again, AuthError::Rights(RightsError::NoSuchPolicy { .. })), "{again}");
    state.close().await;
}
