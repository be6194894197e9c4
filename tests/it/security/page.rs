//! The log-in to the page: sessions, their ends, the secrets in forms, and the headers of pages.

use std::collections::BTreeMap;
use std::time::Duration;

use esker_access::{AccessMode, Member};
use esker_auth::token_hash;
use esker_state::{NewToken, PageSession};
use esker_tests::{TOKEN, TestApp, TestTable};
use esker_types::now_ms;
use reqwest::Method;
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use serde_json::json;

/// A browser: it keeps cookies, says from which site a form comes, and shows redirects instead of following them.
pub(super) struct Browser<'a> {
    app: &'a TestApp,
    http: reqwest::Client,
    pub(super) cookies: BTreeMap<String, String>,
}

/// An answer to a browser.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
    }

    /// Returns the value of the hidden field `csrf`.
    pub(super) fn csrf(&self) -> String {
        let (_, rest) = self.text.split_once("name=\"csrf\" value=\"").expect("a form with the secret");
        rest.split_once('"').expect("a value").0.to_owned()
    }
}

impl<'a> Browser<'a> {
    pub(super) fn of(app: &'a TestApp) -> Self {
        let http = reqwest::Client::builder().redirect(Policy::none()).build().expect("a client");
        Self { app, http, cookies: BTreeMap::new() }
    }

    pub(super) async fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = self.http.request(method, self.app.url(path)).body(body.to_owned());
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        request = request.header("cookie", cookies.join("; "));
        if headers.iter().all(|(name, _)| *name != "sec-fetch-site") {
            request = request.header("sec-fetch-site", "same-origin");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        for set in headers.get_all("set-cookie") {
            let set = set.to_str().expect("text");
            let (name, value) = set.split(';').next().and_then(|pair| pair.split_once('=')).expect("a name and a value");
            match set.contains("Max-Age=0") {
                true => self.cookies.remove(name),
                false => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        Answer { status, headers, text: answer.text().await.expect("a body") }
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub(super) async fn post(&mut self, path: &str, form: &str) -> Answer {
        self.send(Method::POST, path, &[], form).await
    }

    pub(super) async fn log_in(&mut self, token: &str) -> Answer {
        let csrf = self.get("/login").await.csrf();
        self.post("/login", &format!("csrf={csrf}&token={token}")).await
    }

    /// Checks whether the page knows the reader.
    pub(super) async fn is_known(&mut self) -> bool {
        let answer = self.get("/").await;
        let sent_away = answer.status == 303 && answer.header("location") == "/login";
        assert!(sent_away || answer.status == 200, "{}", answer.text);
        !sent_away
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_logs_in_with_a_token_and_comes_to_the_page_that_it_wanted() {
    let app = TestApp::start().await;
    let mut browser = Browser::of(&app);
    let sent = browser.get("/jobs?state=queued").await;
    assert_eq!((sent.status, sent.header("location")), (303, "/login?next=%2Fjobs%3Fstate%3Dqueued"));
    let form = browser.get(sent.header("location")).await;
    assert!(form.status == 200 && form.text.contains("name=\"next\" value=\"/jobs?state=queued\""), "{}", form.text);
    let fields = |csrf: &str, token: &str| format!("csrf={csrf}&next=%2Fjobs%3Fstate%3Dqueued&token={token}");
    let wrong = browser.post("/login", &fields(&form.csrf(), "wrong")).await;
    assert!(wrong.status == 401 && wrong.text.contains("The token is not valid."), "{}", wrong.text);
    assert!(!browser.is_known().await);
    let entered = browser.post("/login", &fields(&wrong.csrf(), TOKEN)).await;
    assert_eq!((entered.status, entered.header("location")), (303, "/jobs?state=queued"));
    let set = entered.header("set-cookie");
    assert!(set.starts_with("esker=") && set.contains("; HttpOnly; SameSite=Lax"), "{set}");
    assert!(!set.contains("Secure"), "on its own machine without TLS: {set}");
    let page = browser.get("/jobs?state=queued").await;
    assert!(page.status == 200 && page.text.contains("Log out") && page.text.contains("admin"), "{}", page.text);
    assert_eq!(browser.get("/api/v1/tables").await.status, 401, "the API reads no cookie");
    assert_eq!(browser.get("/v1/config").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_needs_the_secret_of_its_session() {
    let app = TestApp::start().await;
    let mut browser = Browser::of(&app);
    assert_eq!(browser.post("/login", &format!("token={TOKEN}")).await.status, 403, "a log-in from nowhere");
    browser.log_in(TOKEN).await;
    let csrf = browser.get("/jobs").await.csrf();
    let mut other = Browser::of(&app);
    other.log_in(TOKEN).await;
    let of_other = other.get("/jobs").await.csrf();
    assert_ne!(csrf, of_other);
    for path in ["/jobs/missing/cancel", "/warehouses/default/jobs/missing/undo", "/logout"] {
        for form in [String::new(), "csrf=".to_owned(), format!("csrf={of_other}")] {
            assert_eq!(browser.post(path, &form).await.status, 403, "{path} {form}");
        }
    }
    let large = format!("csrf={csrf}&x={}", "x".repeat(20_000));
    assert_eq!(browser.post("/jobs/missing/cancel", &large).await.status, 413);
    assert_eq!(browser.post("/jobs/missing/cancel", &format!("csrf={csrf}")).await.status, 404, "the job is missing");
    let request = reqwest::Client::new().post(app.url("/logout")).body(format!("csrf={csrf}"));
    let request = request.header("cookie", format!("esker={}", browser.cookies["esker"])).header("sec-fetch-site", "cross-site");
    assert_eq!(request.send().await.expect("an answer").status(), 403, "the right secret from another site");
    assert!(browser.is_known().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_manages_access_changes_roles_and_grants_on_the_page() {
    let app = TestApp::start().await;
    app.table().await;
    app.server.access().bootstrap("admin", Some(AccessMode::On)).await.expect("an administrator");
    let mut browser = Browser::of(&app);
    browser.log_in(TOKEN).await;
    let page = browser.get("/access").await;
    assert!(page.text.contains("Access control is <b>on</b>") && page.text.contains("esker:break-glass"), "{}", page.text);
    let csrf = page.csrf();
    let mut sent = async |form: &str| browser.post("/access", &format!("csrf={csrf}&{form}")).await;
    for form in [
        "action=create-role&role=readers",
        "action=add-member&role=readers&member=client%3Abi",
        "action=grant&privileges=SELECT&on=table+default.n.t&to=role%3Areaders",
    ] {
        let done = sent(form).await;
        assert_eq!((done.status, done.header("location")), (303, "/access"), "{form}: {}", done.text);
    }
    assert_eq!(sent("action=grant&privileges=SELECT&on=table+default.n.x&to=role%3Areaders").await.status, 404);
    assert_eq!(sent("action=add-member&role=readers&member=bi").await.status, 400);
    assert_eq!(sent("action=nothing").await.status, 400);
    let page = browser.get("/access?on=table+default.n.t&who=client%3Abi&privileges=DROP&of=table+default.n.t").await;
    for part in ["<code>client:bi</code>", "LIST, READ_METADATA, READ_DATA", "table default.n.t", "refused: no rule gives DROP"] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    assert!(page.text.contains("<h2>Policies</h2><p class=\"soft\">None.</p>"), "{}", page.text);
    let text = "// <b>\nforbid (principal == Esker::Client::\"bi\", action, resource is Esker::View);";
    let path = "/api/v1/access/policies/no-views";
    app.ok(Method::PUT, path, Some(serde_json::json!({"text": text}))).await;
    let page = browser.get("/access").await;
    for part in ["<code>no-views</code>", "// &lt;b&gt;\nforbid (principal == Esker::Client::&quot;bi&quot;"] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }

    // The secret counts for the fields as well: a form of another site changes nothing.
    for form in ["action=drop-role&role=readers", "csrf=wrong&action=drop-role&role=readers"] {
        assert_eq!(browser.post("/access", form).await.status, 403);
    }
    let grants = app.server.access().grants().await.expect("grants");
    let id = grants.iter().find(|stored| stored.row.to == Member::role("readers")).expect("a grant").row.id.clone();
    let removed = browser.post("/access", &format!("csrf={csrf}&action=remove-grant&id={id}&back=table+default.n.t")).await;
    assert_eq!((removed.status, removed.header("location")), (303, "/access?on=table%20default%2En%2Et"));
    for form in ["action=remove-member&role=readers&member=client%3Abi", "action=drop-role&role=readers"] {
        assert_eq!(browser.post("/access", &format!("csrf={csrf}&{form}")).await.status, 303, "{form}");
    }
    assert!(!browser.get("/access").await.text.contains("<code>readers</code>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_manages_nothing_sees_themselves_and_changes_nothing_on_the_page() {
    let app = TestApp::start().await;
    app.table().await;
    app.server.access().bootstrap("admin", Some(AccessMode::On)).await.expect("an administrator");
    let (_, token) = super::make_token(&app, "bi").await;
    let mut browser = Browser::of(&app);
    browser.log_in(&token).await;
    let page = browser.get("/access").await;
    assert!(page.status == 200 && page.text.contains("<code>bi</code>"), "{}", page.text);
    assert!(!page.text.contains("esker:admin") && !page.text.contains("New role"), "{}", page.text);
    assert!(!page.text.contains("Policies"), "{}", page.text);
    let (hidden, missing) =
        (browser.get("/access?on=table+default.n.t").await, browser.get("/access?on=table+default.n.x").await);
    assert!(missing.text.contains("warehouse default does not exist"), "{}", missing.text);
    assert_eq!(hidden.text.replace("default.n.t", "default.n.x").replace(": n.t", ": n.x"), missing.text);
    let csrf = page.csrf();
    for form in [
        "action=create-role&role=mine",
        "action=drop-role&role=mine",
        "action=add-member&role=esker%3Aadmin&member=client%3Abi",
        "action=remove-member&role=esker%3Aadmin&member=client%3Aadmin",
        "action=grant&privileges=LIST&on=server&to=client%3Abi",
        "action=revoke&privileges=LIST&on=server&to=client%3Abi",
    ] {
        assert_eq!(browser.post("/access", &format!("csrf={csrf}&{form}")).await.status, 403, "{form}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_out_and_another_log_in_end_the_session() {
    let app = TestApp::start().await;
    let mut browser = Browser::of(&app);
    browser.log_in(TOKEN).await;
    let first = browser.cookies["esker"].clone();
    browser.log_in(TOKEN).await;
    let second = browser.cookies["esker"].clone();
    assert_ne!(first, second, "a log-in has a new id");
    let mut thief = Browser::of(&app);
    thief.cookies.insert("esker".to_owned(), first);
    assert!(!thief.is_known().await);
    let csrf = browser.get("/").await.csrf();
    let left = browser.post("/logout", &format!("csrf={csrf}")).await;
    assert_eq!((left.status, left.header("location")), (303, "/login"));
    assert!(!browser.cookies.contains_key("esker"));
    thief.cookies.insert("esker".to_owned(), second);
    assert!(!thief.is_known().await, "the id is worth nothing any more");
    thief.cookies.insert("esker".to_owned(), "made-up".to_owned());
    assert!(!thief.is_known().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_token_and_lives_on_in_another_server() {
    let app = TestApp::start().await;
    let principals = app.catalog().state().principals();
    principals.put("reader", &token_hash("the-first-token-of-reader")).await.expect("stored");
    let mut browser = Browser::of(&app);
    assert_eq!(browser.log_in("the-first-token-of-reader").await.status, 303);
    assert!(browser.is_known().await);
    let cookies = browser.cookies.clone();
    let app = TestApp::restart(app.stop().await).await;
    let mut browser = Browser { cookies, ..Browser::of(&app) };
    assert!(browser.is_known().await, "the session is in the database");
    let principals = app.catalog().state().principals();
    principals.put("reader", &token_hash("the-second-token-of-reader")).await.expect("stored");
    assert!(!browser.is_known().await);
}

/// A server of a later release may open sessions for other kinds of principals on the same database.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_kind_of_principals_that_only_a_later_release_knows_is_unknown() {
    let app = TestApp::start().await;
    let state = app.catalog().state();
    for (kind, known) in [("client", true), ("kind-of-later", false)] {
        let (id, token_sha256, now) = (format!("session-of-{kind}"), token_hash(kind), now_ms());
        let token = NewToken {
            id: kind,
            token_sha256: &token_sha256,
            principal_kind: kind,
            principal: "reader",
            label: "",
            root_id: kind,
            created_ms: now,
            expires_ms: None,
            root_expires_ms: None,
            issuer: "",
            claims: "[]",
        };
        state.tokens().insert(&token, None).await.expect("stored");
        let session = PageSession {
            id_sha256: token_hash(&id),
            principal: "reader".to_owned(),
            token_sha256,
            csrf: "secret".to_owned(),
            created_ms: now,
            seen_ms: now,
            expires_ms: now + 600_000,
        };
        state.sessions().insert(&session, 600_000).await.expect("stored");
        let mut browser = Browser { cookies: BTreeMap::from([("esker".to_owned(), id)]), ..Browser::of(&app) };
        assert_eq!(browser.is_known().await, known, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_nobody_uses_it_and_at_its_time() {
    let idle = TestApp::start_with(|c| c.auth.page.idle_seconds = 1).await;
    let limited = TestApp::start_with(|c| c.auth.page.max_seconds = 1).await;
    for app in [&idle, &limited] {
        let mut browser = Browser::of(app);
        assert_eq!(browser.log_in(TOKEN).await.status, 303);
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert!(!browser.is_known().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_cookies_are_bound_to_the_host_and_over_plain_http_there_is_no_log_in() {
    let app = TestApp::start_with(|c| c.server.public_url = Some("https://esker.example".to_owned())).await;
    let mut browser = Browser::of(&app);
    let form = browser.send(Method::GET, "/login", &[("host", "esker.example")], "").await;
    let body = format!("csrf={}&token={TOKEN}", form.csrf());
    let entered = browser.send(Method::POST, "/login", &[("host", "esker.example")], &body).await;
    assert_eq!(entered.status, 303, "{}", entered.text);
    let set = entered.header("set-cookie");
    assert!(set.starts_with("__Host-esker=") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"), "{set}");
    assert_eq!(browser.send(Method::GET, "/", &[("host", "esker.example")], "").await.status, 200);

    let plain = TestApp::start().await;
    for method in [Method::GET, Method::POST] {
        let request = reqwest::Client::new().request(method, plain.url("/login")).header("host", "esker.lan:8181");
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 403);
        assert!(!answer.headers().contains_key("set-cookie") && answer.text().await.expect("a body").contains("needs TLS"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_run_no_script_and_are_shown_in_no_other_page() {
    let app = TestApp::start().await;
    let mut browser = Browser::of(&app);
    let login = browser.get("/login").await;
    browser.log_in(TOKEN).await;
    let missing = browser.get("/jobs/missing").await;
    assert_eq!(missing.status, 404);
    let pages = [login, browser.get("/").await, browser.get("/quarantine").await, missing];
    for page in &pages {
        let policy = page.header("content-security-policy");
        for part in
            ["default-src 'none'", "style-src 'sha256-", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
        {
            assert!(policy.contains(part), "{part}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!((page.header("x-content-type-options"), page.header("cache-control")), ("nosniff", "no-store"));
        assert_eq!(page.header("referrer-policy"), "same-origin");
        assert!(!page.text.contains(" style=") && !page.text.contains("<script"), "the policy would stop it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_token_is_needed_the_page_asks_for_none_and_its_forms_still_have_a_secret() {
    let app = TestApp::start_with(|c| c.auth.anonymous = true).await;
    let mut browser = Browser::of(&app);
    let page = browser.get("/").await;
    assert!(page.status == 200 && !page.text.contains("Log out"), "{}", page.text);
    assert_eq!(browser.post("/jobs/missing/cancel", "").await.status, 403);
    browser.log_in(TOKEN).await;
    assert!(browser.get("/").await.text.contains("Log out"), "a token may be used all the same");
}

/// A form may be sent to another server than its page came from.
#[tokio::test(flavor = "multi_thread")]
async fn the_secret_of_a_reader_without_a_session_is_the_same_after_a_restart() {
    let app = TestApp::start_with(|c| c.auth.anonymous = true).await;
    TestTable::six_files(&app).await;
    let job = app.job("compact", json!({"rewrite-all": true})).await;
    // The page of the job has the form for its undo.
    let csrf = Browser::of(&app).get(&format!("/jobs/{}", job["id"].as_str().expect("an id"))).await.csrf();
    let app = TestApp::restart_with(app.stop().await, |c| c.auth.anonymous = true).await;
    let mut browser = Browser::of(&app);
    assert_eq!(browser.post("/jobs/missing/cancel", &format!("csrf={csrf}")).await.status, 404, "the job is missing");
    assert_eq!(browser.post("/jobs/missing/cancel", "csrf=other").await.status, 403);
}
