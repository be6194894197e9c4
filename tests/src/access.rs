//! [`AccessTest`]: a server with access control, and clients with grants.

use esker_access::{
    AccessMode, Bundle, GrantRow, Identity, Member, Privilege, PrivilegeSet, RequestFacts, RuleChange, Securable, SecurableKind,
};
use esker_types::{NamespaceName, TableId, TableName};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::TestApp;

/// A server with access control. The test's own token belongs to an administrator.
#[derive(Debug)]
pub struct AccessTest {
    /// The server.
    pub app: TestApp,
}

impl AccessTest {
    /// Starts a server, and sets the mode. Tokens that are made later have no rights.
    pub async fn start(mode: AccessMode) -> Self {
        let test = Self { app: TestApp::start().await };
        test.app.server.access().bootstrap("admin", Some(mode)).await.expect("an administrator");
        test
    }

    /// Changes the rules as the administrator.
    pub async fn change(&self, changes: Vec<RuleChange>) {
        let access = self.app.server.access();
        let admin = access.caller(Identity::client("admin"), RequestFacts::default()).await.expect("a caller");
        access.change(&admin, changes).await.expect("changed");
    }

    /// Grants privileges to a client.
    pub async fn grant(&self, client: &str, on: Securable, privileges: PrivilegeSet) {
        self.add_grant(client, on, privileges, None).await;
    }

    /// Grants privileges on future things of a container to a client.
    pub async fn grant_on_future(&self, client: &str, on: Securable, kind: SecurableKind, privileges: PrivilegeSet) {
        self.add_grant(client, on, privileges, Some(kind)).await;
    }

    /// Adds a grant to a client.
    async fn add_grant(&self, client: &str, on: Securable, privileges: PrivilegeSet, future: Option<SecurableKind>) {
        let id = Uuid::now_v7().to_string();
        let grant = GrantRow { id, to: Member::client(client), on, privileges, future };
        self.change(vec![RuleChange::AddGrant { grant }]).await;
    }

    /// Makes a token of a client that may connect to the warehouse. Returns the token.
    pub async fn client(&self, name: &str) -> String {
        self.grant(name, self.warehouse(), Privilege::Use.into()).await;
        self.token(name).await
    }

    /// Makes a token of a client.
    pub async fn token(&self, name: &str) -> String {
        let made = self.app.ok(Method::POST, "/api/v1/tokens", Some(json!({"principal": name}))).await;
        made["token"].as_str().expect("a token").to_owned()
    }

    /// Returns the warehouse `default`.
    pub fn warehouse(&self) -> Securable {
        Securable::Warehouse { warehouse: self.app.catalog().warehouse().id }
    }

    /// Returns an outermost namespace of the warehouse.
    pub fn namespace(&self, name: &str) -> Securable {
        let namespace = NamespaceName::new(vec![name.to_owned()]).expect("a name");
        Securable::Namespace { warehouse: self.app.catalog().warehouse().id, namespace }
    }

    /// Returns a table by its name, such as `n.t`.
    pub async fn table(&self, name: &str) -> Securable {
        Securable::Table { table: self.table_id(name).await }
    }

    /// Returns the id of a table by its name, such as `n.t`.
    pub async fn table_id(&self, name: &str) -> TableId {
        let name: TableName = name.parse().expect("a name");
        self.app.catalog().table(&name).await.expect("a table").id
    }

    /// Returns the privileges of a bundle on a kind of thing.
    pub const fn bundle(bundle: Bundle, on: SecurableKind) -> PrivilegeSet {
        bundle.privileges(on, PrivilegeSet::EMPTY)
    }

    /// Sends a request with a token. Returns the status and the body as text.
    pub async fn send(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> (u16, String) {
        let (status, _, text) = self.app.send_as(token, method, path, &[], body).await;
        (status.as_u16(), text)
    }

    /// Returns the status of a request with a token.
    pub async fn status(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> u16 {
        self.send(token, method, path, body).await.0
    }

    /// Creates an outermost namespace as the administrator.
    pub async fn create_namespace(&self, name: &str) {
        self.app.ok(Method::POST, "/v1/default/namespaces", Some(json!({"namespace": [name]}))).await;
    }

    /// Creates a table of one column as the administrator.
    pub async fn create_table(&self, namespace: &str, name: &str) {
        let path = format!("/v1/default/namespaces/{namespace}/tables");
        self.app.ok(Method::POST, &path, Some(Self::new_table(name))).await;
    }

    /// Returns the body of a request that creates a table.
    pub fn new_table(name: &str) -> Value {
        let fields = json!([{"id": 1, "name": "id", "required": false, "type": "long"}]);
        json!({"name": name, "schema": {"type": "struct", "fields": fields}})
    }
}
