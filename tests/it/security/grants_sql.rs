//! Grants and roles by SQL: what the statements change and show, and who may send them.

use esker_tests::TestApp;
use reqwest::Method;
use serde_json::json;

use super::access::switch_on;
use super::sql::{lines, run};
use super::{make_token, send_as};

/// A server that enforces rules under which `admin` may do everything, with the tables `n.orders` and `n.secret`.
struct Sandbox {
    app: TestApp,
    /// A token of the client `bi`.
    token: String,
}

impl Sandbox {
    async fn start() -> Self {
        let app = TestApp::start().await;
        app.namespace().await;
        for table in ["orders", "secret"] {
            app.sql(&format!("CREATE TABLE n.{table} AS SELECT 1 AS id")).await.expect("created");
        }
        switch_on(&app).await;
        // A token that is made under the mode `on` gives no rights.
        let (_, token) = make_token(&app, "bi").await;
        Self { app, token }
    }

    /// Runs a statement of the administrator. Returns the lines of the result.
    async fn admin(&self, sql: &str) -> Vec<String> {
        lines(&self.app.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")))
    }

    /// Runs a statement of `bi`. Returns the lines of the result.
    async fn bi(&self, sql: &str) -> Result<Vec<String>, String> {
        run(&mut self.app.flight_as(&self.token).await, sql).await
    }

    async fn refused(&self, sql: &str) -> String {
        self.bi(sql).await.expect_err(sql)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_by_sql_counts_at_once_and_a_revocation_ends_it() {
    let sandbox = Sandbox::start().await;
    assert!(sandbox.refused("SELECT id FROM n.orders").await.contains("not found"));
    for sql in ["CREATE ROLE Readers", "GRANT ROLE readers TO CLIENT bi", "GRANT SELECT ON n.orders TO ROLE readers"] {
        assert_eq!(sandbox.admin(sql).await, ["0"], "{sql}");
    }
    assert_eq!(sandbox.bi("SELECT id FROM n.orders").await, Ok(vec!["1".to_owned()]));

    let shown = sandbox.admin("SHOW GRANTS ON TABLE \"default\".n.orders TO ROLE readers").await;
    let privileges: Vec<_> = shown.iter().map(|line| line.split('|').take(6).collect::<Vec<_>>().join("|")).collect();
    let expected = ["LIST", "READ_METADATA", "READ_DATA"].map(|name| format!("{name}|table|default.n.orders||role|readers"));
    assert_eq!(privileges, expected);
    assert!(shown[0].contains("|admin|20"), "who granted it, and when: {}", shown[0]);
    let members = sandbox.admin("SHOW GRANTS OF ROLE readers").await;
    assert!(members.len() == 1 && members[0].starts_with("readers|client|bi|admin|"), "{members:?}");
    assert!(sandbox.admin("SHOW ROLES").await.iter().any(|line| line.starts_with("readers|admin|")));

    sandbox.admin("REVOKE READ_DATA ON n.orders FROM ROLE readers").await;
    assert!(sandbox.refused("SELECT id FROM n.orders").await.contains("bi lacks READ_DATA on table n.orders"));
    sandbox.admin("REVOKE ROLE readers FROM CLIENT bi").await;
    assert!(sandbox.refused("SELECT id FROM n.orders").await.contains("not found"));
    sandbox.admin("DROP ROLE readers").await;
    assert!(sandbox.admin("SHOW GRANTS").await.iter().all(|line| !line.contains("readers")));
}

#[tokio::test(flavor = "multi_thread")]
async fn future_grants_by_sql_are_copied_to_new_tables() {
    let sandbox = Sandbox::start().await;
    sandbox.admin("GRANT SELECT ON FUTURE TABLES IN SCHEMA n TO CLIENT bi").await;
    assert!(sandbox.refused("SELECT id FROM n.orders").await.contains("not found"));
    sandbox.admin("CREATE TABLE n.new AS SELECT 2 AS id").await;
    assert_eq!(sandbox.bi("SELECT id FROM n.new").await, Ok(vec!["2".to_owned()]));
    let shown = sandbox.admin("SHOW GRANTS ON NAMESPACE \"default\".n").await;
    assert!(shown.len() == 3 && shown.iter().all(|line| line.contains("|namespace|default.n|table|client|bi|")), "{shown:?}");
    sandbox.admin("REVOKE ALL ON FUTURE TABLES IN SCHEMA n FROM CLIENT bi").await;
    assert_eq!(sandbox.admin("SHOW GRANTS ON NAMESPACE n").await, Vec::<String>::new());
    assert_eq!(sandbox.bi("SELECT id FROM n.new").await, Ok(vec!["2".to_owned()]), "the copy stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_about_grants_need_what_the_api_needs_and_tell_nothing_of_hidden_things() {
    let sandbox = Sandbox::start().await;
    for sql in [
        "CREATE ROLE mine",
        "DROP ROLE mine",
        "SHOW ROLES",
        "SHOW GRANTS",
        "SHOW GRANTS TO CLIENT bi",
        "SHOW GRANTS OF ROLE \"esker:admin\"",
        "GRANT ROLE \"esker:admin\" TO CLIENT bi",
        "REVOKE ROLE \"esker:admin\" FROM CLIENT admin",
        "GRANT MANAGE_ACCESS ON SERVER TO CLIENT bi",
    ] {
        let error = sandbox.refused(sql).await;
        assert!(error.contains("bi lacks ") && error.contains("on the server"), "{sql}: {error}");
    }
    let on_secret = [
        "GRANT SELECT ON n.secret TO CLIENT bi",
        "GRANT ALL ON TABLE n.secret TO CLIENT bi",
        "GRANT nonsense ON \"default\".n.secret TO CLIENT bi",
        "REVOKE SELECT ON n.secret FROM CLIENT bi",
        "SHOW GRANTS ON n.secret",
        "SHOW GRANTS ON TABLE \"default\".n.secret",
    ];
    let same_as_missing = async || {
        for sql in on_secret {
            let (hidden, missing) = (sandbox.refused(sql).await, sandbox.refused(&sql.replace("secret", "absent")).await);
            assert_eq!(hidden.replace("secret", "absent"), missing, "{sql}");
            assert!(hidden.contains("does not exist"), "{sql}: {hidden}");
        }
    };
    same_as_missing().await;

    // Nor does the id of a grant, which one may have from an earlier time.
    sandbox.admin("GRANT LIST ON n.secret TO CLIENT guest").await;
    let shown = sandbox.admin("SHOW GRANTS ON n.secret").await;
    let id = shown[0].split('|').nth(6).expect("an id").to_owned();
    let remove = async |id: &str| {
        let path = format!("/api/v1/access/grants/{id}");
        let (status, answer) = send_as(&sandbox.app, &sandbox.token, Method::DELETE, &path, &[], None).await;
        (status, answer["error"]["message"].as_str().expect("a message").replace(id, "ID"))
    };
    let absent = remove(&uuid::Uuid::now_v7().to_string()).await;
    assert_eq!((remove(&id).await, absent.0), (absent.clone(), 404));

    sandbox.admin("GRANT SELECT, MANAGE_GRANTS ON n.orders TO CLIENT bi").await;
    same_as_missing().await;
    sandbox.bi("GRANT READ_DATA ON n.orders TO CLIENT guest").await.expect("what one has one may give");
    let shown = sandbox.bi("SHOW GRANTS ON n.orders TO CLIENT guest").await.expect("listed");
    assert!(shown.len() == 1 && shown[0].starts_with("READ_DATA|table|default.n.orders||client|guest|"), "{shown:?}");
    let (sql, api) = ("GRANT DROP ON n.orders TO CLIENT guest", "/api/v1/access/grants");
    let body = json!({"to": {"kind": "client", "name": "guest"}, "privileges": "DROP", "on": "table default.n.orders"});
    let (status, answer) = send_as(&sandbox.app, &sandbox.token, Method::POST, api, &[], Some(body)).await;
    let message = answer["error"]["message"].as_str().expect("a message");
    assert!(status == 403 && message.contains("bi lacks DROP on table n.orders"), "{answer}");
    assert!(sandbox.refused(sql).await.contains(message), "the refusals are the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_until_a_statement_runs() {
    let sandbox = Sandbox::start().await;
    let mut client = sandbox.app.flight().await;
    let has_role = async || sandbox.admin("SHOW ROLES").await.iter().any(|line| line.starts_with("r|"));
    client.execute("CREATE ROLE r".to_owned(), None).await.expect("planned");
    drop(client.prepare("CREATE ROLE r".to_owned(), None).await.expect("prepared"));
    assert!(!has_role().await);
    assert_eq!(client.execute_update("CREATE ROLE r".to_owned(), None).await.expect("created"), 0);
    assert!(has_role().await);
    let error = client.execute_update("CREATE ROLE r".to_owned(), None).await.expect_err("it exists").to_string();
    assert!(error.contains("the role r already exists"), "{error}");
    assert_eq!(client.execute_update("CREATE ROLE IF NOT EXISTS r".to_owned(), None).await.expect("as it is"), 0);
    let error = client.execute_update("SHOW ROLES".to_owned(), None).await.expect_err("a query").to_string();
    assert!(error.contains("is a query"), "{error}");
    assert_eq!(client.execute_update("DROP ROLE IF EXISTS r".to_owned(), None).await.expect("dropped"), 0);
    assert_eq!(client.execute_update("DROP ROLE IF EXISTS r".to_owned(), None).await.expect("as it is"), 0);
    for sql in ["GRANT SELECT ON n.orders TO ROLE r", "GRANT ROLE r TO CLIENT bi", "SHOW GRANTS OF ROLE r"] {
        let error = sandbox.app.sql(sql).await.expect_err(sql);
        assert!(error.contains("there is no role r"), "{sql}: {error}");
    }
}
