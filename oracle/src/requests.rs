//! Random requests in Esker's schema, and what both engines are told about them.

use std::net::IpAddr;

use esker_access::{Identity, Privilege, RequestFacts, ResourcePath};
use esker_types::TableId;
use uuid::Uuid;

use crate::random::Random;

/// Names of roles. Policies name them too.
pub const ROLES: [&str; 3] = ["readers", "esker:everyone", "wri\"ters"];
/// Names of clients.
pub const CLIENTS: [&str; 2] = ["etl", "b i"];
/// The issuer of all users.
pub const ISSUER: &str = "https://id.example";
/// Names of users.
pub const USERS: [&str; 2] = ["ann", "bob@example.org"];
/// Values of claims.
pub const CLAIMS: [&str; 2] = ["eng", "/ops"];
/// Names of warehouses.
pub const WAREHOUSES: [&str; 2] = ["lake", "pond"];
/// Keys of namespaces.
pub const NAMESPACES: [&str; 4] = ["raw", "raw\u{1f}crm", "raw\u{1f}b.c", "x"];
/// Names of tables, views and functions.
pub const LEAVES: [&str; 3] = ["t", "a.b", "orders*"];
/// Addresses of clients.
const ADDRESSES: [&str; 5] = ["10.1.2.3", "127.0.0.1", "::1", "2001:db8::5", "224.0.0.1"];

/// A request.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub identity: Identity,
    /// Names of the roles that the identity has.
    pub roles: Vec<String>,
    /// The privilege that is asked for.
    pub privilege: Privilege,
    /// The securable that it is asked for.
    pub on: ResourcePath<'static>,
    /// Facts of the request.
    pub facts: RequestFacts,
}

/// Makes a request.
pub fn random_request(random: &mut Random) -> Asked {
    let identity = match random.below(5) {
        0 | 1 => Identity::client(random.pick(&CLIENTS)),
        2 | 3 => {
            let mut claims = CLAIMS.to_vec();
            claims.retain(|_| random.one_in(2));
            let claims = claims.into_iter().map(Into::into).collect();
            Identity::User { issuer: ISSUER.into(), name: random.pick(&USERS).into(), claims }
        }
        _ => Identity::Anonymous,
    };
    let mut roles: Vec<String> = ROLES.map(str::to_owned).into();
    roles.retain(|_| random.one_in(2));
    let source_ip = (!random.one_in(4)).then(|| random.pick(&ADDRESSES).parse::<IpAddr>().expect("an address"));
    let engine = random.one_in(2).then(|| random.pick(&["spark", "trino"]).into());
    let facts =
        RequestFacts { operation: random.pick(&["loadTable", "SELECT"]).into(), source_ip, engine, is_tls: random.one_in(2) };
    let privilege = random.pick(&[Privilege::ReadData, Privilege::List, Privilege::Drop, Privilege::Append, Privilege::Use]);
    Asked { identity, roles, privilege, on: random_path(random), facts }
}

/// Makes a path to a securable of some kind.
fn random_path(random: &mut Random) -> ResourcePath<'static> {
    let warehouse = ResourcePath::warehouse(1, random.pick(&WAREHOUSES));
    let namespace = warehouse.namespace(random.pick(&NAMESPACES));
    let (id, name) = (TableId(Uuid::from_u128(7)), random.pick(&LEAVES));
    match random.below(8) {
        0 => ResourcePath::SERVER,
        1 => warehouse,
        2 | 3 => namespace,
        4 => namespace.view(id, name),
        5 => namespace.function(name),
        _ => namespace.table(id, name),
    }
}
