//! Random policies, most of them well typed in Esker's schema.
//!
//! A policy here is the text behind `permit` or `forbid`. Start reading at [`random_policy`].

use esker_access::{Member, ResourcePath};
use esker_types::TableId;
use uuid::Uuid;

use crate::random::Random;
use crate::requests::{CLAIMS, CLIENTS, ISSUER, LEAVES, NAMESPACES, ROLES, USERS, WAREHOUSES};

/// The type of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Long,
    Text,
    Ip,
    Principal,
    Resource,
    Action,
    Longs,
    Texts,
    SetsOfLongs,
    Record,
}

const KINDS: [Kind; 11] = [
    Kind::Bool,
    Kind::Long,
    Kind::Text,
    Kind::Ip,
    Kind::Principal,
    Kind::Resource,
    Kind::Action,
    Kind::Longs,
    Kind::Texts,
    Kind::SetsOfLongs,
    Kind::Record,
];

/// Conditions behind which an attribute is there, with the attribute and its type.
const GUARDS: [(&str, &str, Kind); 9] = [
    ("resource has namespace", "resource.namespace", Kind::Text),
    ("resource has name", "resource.name", Kind::Text),
    ("resource has \"warehouse\"", "resource[\"warehouse\"]", Kind::Text),
    ("resource is Esker::Table", "resource.name", Kind::Text),
    ("principal is Esker::User", "principal.subject", Kind::Text),
    ("principal has issuer", "principal.issuer", Kind::Text),
    ("context has engine", "context.engine", Kind::Text),
    ("context has ip", "context.ip", Kind::Ip),
    ("context has ip", "context[\"ip\"]", Kind::Ip),
];

/// Texts, most of which some request has.
const TEXTS: [&str; 10] = ["", "t", "a.b", "raw", "lake", "ann", "loadTable", "spark", "tab\there \"é\"", "*"];
/// Patterns of `like`, as they are written.
const PATTERNS: [&str; 8] = ["*", "a*", "*.b", "r*w", "orders\\*", "*a*", "", "\\u{61}nn"];
const NUMBERS: [&str; 7] = ["0", "1", "-1", "7", "42", "9223372036854775807", "-9223372036854775808"];
const RANGES: [&str; 9] =
    ["10.0.0.0/8", "10.1.2.3", "10.1.2.3/8", "10.1.2.3/32", "127.0.0.1", "::1", "2001:db8::/32", "224.0.0.0/4", "0.0.0.0/0"];

/// Returns a text in quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}

/// Returns an entity.
fn entity(kind: &str, id: &str) -> String {
    format!("Esker::{kind}::{}", quoted(id))
}

/// The writer of a policy.
struct Writer<'a> {
    random: &'a mut Random,
    /// The attributes that are there where the writer is.
    safe: Vec<(&'static str, Kind)>,
}

/// Makes a policy, without `permit` or `forbid`.
pub fn random_policy(random: &mut Random) -> String {
    let mut writer = Writer { random, safe: Vec::new() };
    let mut policy = format!("({}, {}, {})", writer.principal_scope(), writer.action_scope(), writer.resource_scope());
    for _ in 0..writer.random.below(3) {
        let word = if writer.random.one_in(3) { "unless" } else { "when" };
        let depth = 1 + writer.random.below(4);
        policy += &format!(" {word} {{ {} }}", writer.expr(Kind::Bool, depth));
    }
    policy + ";"
}

impl Writer<'_> {
    fn client(&mut self) -> String {
        entity("Client", self.random.pick(&CLIENTS))
    }

    fn user(&mut self) -> String {
        let member = Member::User { issuer: ISSUER.to_owned(), name: self.random.pick(&USERS).to_owned() };
        entity("User", &member.to_string())
    }

    fn claim(&mut self) -> String {
        let member = Member::Claim { issuer: ISSUER.to_owned(), value: self.random.pick(&CLAIMS).to_owned() };
        entity("Claim", &member.to_string())
    }

    fn role(&mut self) -> String {
        entity("Role", self.random.pick(&ROLES))
    }

    fn action(&mut self) -> String {
        entity("Action", self.random.pick(&["READ_DATA", "LIST", "DROP", "APPEND", "USE"]))
    }

    /// Returns a privilege or a bundle.
    fn actions(&mut self) -> String {
        if self.random.one_in(2) {
            self.action()
        } else {
            entity("Action", self.random.pick(&["SELECT", "INSERT", "OWN", "ALL"]))
        }
    }

    /// Returns a table, view or function.
    fn leaf(&mut self) -> String {
        let here = ResourcePath::warehouse(1, self.random.pick(&WAREHOUSES)).namespace(self.random.pick(&NAMESPACES));
        let (id, name) = (TableId(Uuid::from_u128(7)), self.random.pick(&LEAVES));
        match self.random.below(4) {
            0 => entity("View", &here.view(id, name).dotted()),
            1 => entity("Function", &here.function(name).dotted()),
            _ => entity("Table", &here.table(id, name).dotted()),
        }
    }

    /// Returns a resource that others are in.
    fn container(&mut self) -> String {
        let warehouse = ResourcePath::warehouse(1, self.random.pick(&WAREHOUSES));
        match self.random.below(5) {
            0 => entity("Server", "server"),
            1 | 2 => entity("Warehouse", &warehouse.dotted()),
            _ => entity("Namespace", &warehouse.namespace(self.random.pick(&NAMESPACES)).dotted()),
        }
    }

    fn principal_scope(&mut self) -> String {
        match self.random.below(12) {
            0 => format!("principal == {}", self.client()),
            1 => {
                self.safe.push(("principal.subject", Kind::Text));
                format!("principal == {}", self.user())
            }
            2 => "principal == Esker::Anonymous::\"anonymous\"".to_owned(),
            3 => format!("principal in {}", self.role()),
            4 => format!("principal in {}", self.claim()),
            5 => {
                self.safe.push(("principal.issuer", Kind::Text));
                "principal is Esker::User".to_owned()
            }
            6 => format!("principal is Esker::User in {}", self.role()),
            _ => "principal".to_owned(),
        }
    }

    fn action_scope(&mut self) -> String {
        match self.random.below(8) {
            0 => format!("action == {}", self.action()),
            1 => format!("action in {}", self.actions()),
            2 => format!("action in [{}, {}]", self.actions(), self.action()),
            _ => "action".to_owned(),
        }
    }

    fn resource_scope(&mut self) -> String {
        match self.random.below(12) {
            0 => {
                self.safe.push(("resource.name", Kind::Text));
                format!("resource == {}", self.leaf())
            }
            1 => format!("resource in {}", self.container()),
            2 => format!("resource in {}", self.leaf()),
            3 => {
                self.safe.push(("resource.namespace", Kind::Text));
                "resource is Esker::Table".to_owned()
            }
            4 => format!("resource is Esker::View in {}", self.container()),
            5 => format!("resource == {}", self.container()),
            _ => "resource".to_owned(),
        }
    }

    /// Makes an expression of a type; once in a while, one of another.
    fn expr(&mut self, kind: Kind, depth: u64) -> String {
        let kind = if self.random.one_in(60) { self.random.pick(&KINDS) } else { kind };
        if depth > 0 && self.random.one_in(12) {
            return self.guarded(kind, depth - 1);
        }
        match kind {
            Kind::Bool => self.bool(depth),
            Kind::Long if depth > 0 && !self.random.one_in(3) => {
                let sign = self.random.pick(&["+", "-", "*"]);
                match self.random.below(5) {
                    0 => format!("-({})", self.expr(Kind::Long, depth - 1)),
                    1 => format!("{{a: {}}}.a", self.expr(Kind::Long, depth - 1)),
                    2 => {
                        let (first, other) = (self.expr(Kind::Long, depth - 1), self.random.pick(&["+", "-", "*"]));
                        format!("({first} {sign} {} {other} {})", self.expr(Kind::Long, 0), self.expr(Kind::Long, depth - 1))
                    }
                    _ => format!("({} {sign} {})", self.expr(Kind::Long, depth - 1), self.expr(Kind::Long, depth - 1)),
                }
            }
            Kind::Long => self.random.pick(&NUMBERS).to_owned(),
            Kind::Text => self.text(),
            Kind::Ip => {
                let there: Vec<_> = self.safe.iter().filter(|(_, kind)| *kind == Kind::Ip).map(|(name, _)| *name).collect();
                match there.first() {
                    Some(name) if !self.random.one_in(3) => (*name).to_owned(),
                    _ => format!("ip({})", quoted(self.random.pick(&RANGES))),
                }
            }
            Kind::Principal => match self.random.below(3) {
                0 => self.client(),
                1 => self.user(),
                _ => "principal".to_owned(),
            },
            Kind::Resource => match self.random.below(4) {
                0 => self.leaf(),
                1 => self.container(),
                _ => "resource".to_owned(),
            },
            Kind::Action => {
                if self.random.one_in(2) {
                    "action".to_owned()
                } else {
                    self.action()
                }
            }
            Kind::Longs => self.set(Kind::Long, depth),
            Kind::Texts => self.set(Kind::Text, depth),
            Kind::SetsOfLongs => self.set(Kind::Longs, depth),
            Kind::Record => {
                let deeper = depth.saturating_sub(1);
                format!("{{\"b c\": {}, a: {}}}", self.expr(Kind::Bool, deeper), self.expr(Kind::Long, deeper))
            }
        }
    }

    /// Makes an expression with another behind a condition, under which an attribute is there.
    fn guarded(&mut self, kind: Kind, depth: u64) -> String {
        let (guard, attribute, of) = self.random.pick(&GUARDS);
        self.safe.push((attribute, of));
        let inner = self.expr(kind, depth);
        self.safe.pop();
        match kind {
            Kind::Bool if self.random.one_in(2) => format!("({guard} && {inner})"),
            _ => format!("(if {guard} then {inner} else {})", self.expr(kind, depth)),
        }
    }

    fn text(&mut self) -> String {
        let there: Vec<_> = self.safe.iter().filter(|(_, kind)| *kind == Kind::Text).map(|(name, _)| *name).collect();
        match self.random.below(10) {
            0..=4 if !there.is_empty() => self.random.pick(&there).to_owned(),
            0..=2 => "context.operation".to_owned(),
            // It may be missing. Most often, such a policy can't be stored.
            3 if self.random.one_in(4) => self.random.pick(&GUARDS).1.to_owned(),
            // Only the request's own entities have attributes.
            4 => format!("{}.{}", self.leaf(), self.random.pick(&["name", "warehouse", "namespace"])),
            5 if self.random.one_in(3) => format!("{}[\"subject\"]", self.user()),
            _ => quoted(self.random.pick(&TEXTS)),
        }
    }

    fn set(&mut self, of: Kind, depth: u64) -> String {
        let deeper = if self.random.one_in(2) { 0 } else { depth.saturating_sub(1) };
        let count = if self.random.one_in(10) { 0 } else { 1 + self.random.below(3) };
        let values: Vec<String> = (0..count).map(|_| self.expr(of, deeper)).collect();
        format!("[{}]", values.join(", "))
    }

    fn bool(&mut self, depth: u64) -> String {
        if depth == 0 {
            return self.plain_bool();
        }
        let depth = depth - 1;
        match self.random.below(17) {
            0 => format!("({} && {})", self.expr(Kind::Bool, depth), self.expr(Kind::Bool, depth)),
            1 => format!("({} || {})", self.expr(Kind::Bool, depth), self.expr(Kind::Bool, depth)),
            2 => format!("!({})", self.expr(Kind::Bool, depth)),
            3 => {
                let (condition, then) = (self.expr(Kind::Bool, depth), self.expr(Kind::Bool, depth));
                format!("(if {condition} then {then} else {})", self.expr(Kind::Bool, depth))
            }
            4 | 5 => {
                let sign = self.random.pick(&["<", "<=", ">", ">="]);
                format!("({} {sign} {})", self.expr(Kind::Long, depth), self.expr(Kind::Long, depth))
            }
            6 | 7 => {
                let (kind, sign) = (self.random.pick(&KINDS), self.random.pick(&["==", "!="]));
                format!("({} {sign} {})", self.expr(kind, depth), self.expr(kind, depth))
            }
            8 => format!("({} like \"{}\")", self.expr(Kind::Text, depth), self.random.pick(&PATTERNS)),
            9 | 10 => {
                let (set, of) =
                    self.random.pick(&[(Kind::Longs, Kind::Long), (Kind::Texts, Kind::Text), (Kind::SetsOfLongs, Kind::Longs)]);
                match self.random.below(4) {
                    0 => format!("{}.contains({})", self.expr(set, depth), self.expr(of, depth)),
                    1 => format!("{}.containsAll({})", self.expr(set, depth), self.expr(set, depth)),
                    2 => format!("{}.containsAny({})", self.expr(set, depth), self.expr(set, depth)),
                    _ => format!("{}.isEmpty()", self.expr(set, depth)),
                }
            }
            11 => {
                let method = self.random.pick(&["isIpv4", "isIpv6", "isLoopback", "isMulticast"]);
                format!("{}.{method}()", self.expr(Kind::Ip, depth))
            }
            12 => format!("{}.isInRange({})", self.expr(Kind::Ip, depth), self.expr(Kind::Ip, depth)),
            13 => self.guarded(Kind::Bool, depth),
            14 => {
                let record = self.expr(Kind::Record, depth);
                match self.random.below(3) {
                    0 => format!("({record} has a)"),
                    1 => format!("{record}[\"b c\"]"),
                    _ => format!("({record}.a > 0)"),
                }
            }
            15 => {
                let (first, second) = (self.expr(Kind::Bool, depth), self.plain_bool());
                format!("({first} || {second} && {})", self.expr(Kind::Bool, depth))
            }
            _ => self.plain_bool(),
        }
    }

    /// Makes a condition without operands that are expressions of their own.
    fn plain_bool(&mut self) -> String {
        match self.random.below(19) {
            0 => self.random.pick(&["true", "false", "!!true"]).to_owned(),
            1 => self.random.pick(&["context.tls", "!context.tls", "context[\"tls\"]"]).to_owned(),
            2 => format!("(principal in {})", self.role()),
            3 => format!("(principal in [{}, {}])", self.role(), self.role()),
            4 => format!("(resource in {})", self.container()),
            5 => format!("(resource in [{}, {}])", self.container(), self.container()),
            6 => format!("(action in {})", self.actions()),
            7 => format!("(action == {})", self.action()),
            8 => format!("(resource is Esker::{})", self.random.pick(&["Table", "Namespace", "Server", "Warehouse"])),
            9 => format!("(resource is Esker::Table in {})", self.container()),
            10 => format!("(principal is Esker::{})", self.random.pick(&["Client", "User", "Anonymous"])),
            11 => format!("({})", self.random.pick(&GUARDS).0),
            12 => format!("(action in [{}, {}])", self.actions(), self.actions()),
            13 => format!("({} in {})", self.leaf(), self.container()),
            14 => format!("({} in [{}])", self.container(), self.container()),
            15 => format!("({} in {})", self.actions(), self.actions()),
            16 => format!("({} in {})", self.user(), self.role()),
            17 => format!("(principal in [{}, {}])", self.claim(), self.role()),
            _ => format!("(principal == {})", self.client()),
        }
    }
}
