//! Privileges, sets of them, and the bundles that people grant.
//!
//! A privilege is one bit of a set. The state database stores sets as numbers. So the bit of a privilege never changes, and the bit
//! of one that goes is never used again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Result, RightsError, SecurableKind};

/// Makes the enum, the list, the names and the meanings of one list, so that no privilege can be missing in one of them.
macro_rules! privileges {
    ($($bit:literal $group:ident $privilege:ident = $name:literal, $meaning:literal;)*) => {
        /// A right to do one kind of thing with a securable.
        ///
        /// ```
        /// use esker_access::Privilege;
        ///
        /// assert_eq!("read_data".parse::<Privilege>().expect("a privilege"), Privilege::ReadData);
        /// assert_eq!(Privilege::ReadData.to_string(), "READ_DATA");
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        #[repr(u8)]
        pub enum Privilege {
            $(#[doc = concat!($meaning, ".")] $privilege = $bit,)*
        }

        impl Privilege {
            /// Every privilege, in the order of their bits.
            pub const ALL: [Self; [$($bit),*].len()] = [$(Self::$privilege),*];

            /// Returns the name of the privilege in texts, statements and the API.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$privilege => $name,)*
                }
            }

            /// Returns what the privilege allows, as the documentation says it.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$privilege => $meaning,)*
                }
            }

            /// Returns the group that the privilege belongs to.
            pub const fn group(self) -> PrivilegeGroup {
                match self {
                    $(Self::$privilege => PrivilegeGroup::$group,)*
                }
            }
        }
    };
}

privileges! {
    0 See Use = "USE", "Connect to the server or to a warehouse";
    1 See List = "LIST", "See that the thing exists, and see it in lists";
    2 See ReadMetadata = "READ_METADATA", "Read properties, schema, snapshots, health and history";
    3 Read ReadData = "READ_DATA", "Read rows";
    4 Read ReadAllRows = "READ_ALL_ROWS", "Call table functions of engines that apply no row filters and column masks";
    5 Write Append = "APPEND", "Commit snapshots of the operation `append`";
    6 Write Modify = "MODIFY", "Commit snapshots of the operations `overwrite` and `delete`";
    7 Write Rewrite = "REWRITE", "Commit snapshots of the operation `replace`";
    8 Define CreateNamespace = "CREATE_NAMESPACE", "Create namespaces inside";
    9 Define CreateTable = "CREATE_TABLE", "Create tables inside, and rename tables to a name inside";
    10 Define CreateView = "CREATE_VIEW", "Create views inside, and rename views to a name inside";
    11 Define CreateFunction = "CREATE_FUNCTION", "Create functions inside";
    12 Define Register = "REGISTER", "Register metadata files as tables or views inside";
    13 Define ChooseLocation = "CHOOSE_LOCATION", "Choose the location of what is created inside";
    14 Alter AlterSchema = "ALTER_SCHEMA", "Change schema, partition specs and sort orders; change the query of a view";
    15 Alter SetProperties = "SET_PROPERTIES", "Set and remove ordinary properties";
    16 Alter SetProtected = "SET_PROTECTED", "Set and remove protected properties";
    17 Alter SetLocation = "SET_LOCATION", "Change the location and the properties that name paths";
    18 Alter ManageRefs = "MANAGE_REFS", "Create, move and remove branches and tags; roll back";
    19 Alter Expire = "EXPIRE", "Remove snapshots, schemas and specs; set the retention of branches and tags";
    20 Alter Upgrade = "UPGRADE", "Upgrade the format version";
    21 Alter ManageKeys = "MANAGE_KEYS", "Add and remove encryption keys";
    22 End Drop = "DROP", "Drop the thing, or unregister it";
    23 End Purge = "PURGE", "Have the files deleted when the table is dropped";
    24 End Rename = "RENAME", "Give the thing another name";
    25 End Protect = "PROTECT", "Protect the thing from being dropped, and lift the protection";
    26 Care Maintain = "MAINTAIN", "Start, cancel and undo jobs of the table";
    27 Care Erase = "ERASE", "Start erasures of rows";
    28 Care Claim = "CLAIM", "Turn a foreign table into an owned one";
    29 Care Undrop = "UNDROP", "Bring back what was dropped inside";
    30 Care SetPolicy = "SET_POLICY", "Set the maintenance policy";
    31 Rule ManageGrants = "MANAGE_GRANTS", "Grant and revoke privileges that one has, on the thing and below it";
    32 Rule ManageRestrictions = "MANAGE_RESTRICTIONS", "Manage row filters and column masks";
    33 Server ManageAccess = "MANAGE_ACCESS", "Manage roles, clients, tokens, policies and the mode";
    34 Server ManageServer = "MANAGE_SERVER", "Manage warehouses, and start the sweep";
    35 Server Monitor = "MONITOR", "See all queries, jobs and metrics";
    36 Server ReadAudit = "READ_AUDIT", "Read the audit table";
    37 Server RunJobs = "RUN_JOBS", "Take jobs as an external worker";
    38 Server Decide = "DECIDE", "Ask the decision endpoint about others";
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Parses a name in any case. A hyphen counts as an underscore.
impl FromStr for Privilege {
    type Err = RightsError;

    fn from_str(name: &str) -> Result<Self> {
        let same = |privilege: &Self| is_name(name, privilege.as_str());
        Self::ALL.into_iter().find(same).ok_or_else(|| RightsError::UnknownPrivilege { name: name.to_owned() })
    }
}

/// Compares a name without case; a hyphen counts as an underscore.
fn is_name(text: &str, name: &str) -> bool {
    let same = |(a, b): (u8, u8)| a.eq_ignore_ascii_case(&b) || (a == b'-' && b == b'_');
    text.len() == name.len() && text.bytes().zip(name.bytes()).all(same)
}

/// A group of privileges, as the documentation lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrivilegeGroup {
    /// Privileges to connect and to see.
    See,
    /// Privileges to read rows.
    Read,
    /// Privileges to write rows.
    Write,
    /// Privileges to create things inside a container.
    Define,
    /// Privileges to change a table or view without its rows.
    Alter,
    /// Privileges to drop, rename and protect.
    End,
    /// Privileges of maintenance.
    Care,
    /// Privileges over the rights of others.
    Rule,
    /// Privileges that exist on the server only.
    Server,
}

impl PrivilegeGroup {
    /// Returns the name of the group in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::See => "see",
            Self::Read => "read",
            Self::Write => "write",
            Self::Define => "define",
            Self::Alter => "alter",
            Self::End => "end",
            Self::Care => "care",
            Self::Rule => "rule",
            Self::Server => "server",
        }
    }
}

/// A set of privileges. In JSON it is the list of their names.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, utoipa::ToSchema)]
#[schema(value_type = Vec<Privilege>)]
pub struct PrivilegeSet(u64);

impl PrivilegeSet {
    /// The set without a privilege.
    pub const EMPTY: Self = Self(0);

    /// The set of every privilege.
    pub const ALL: Self = Self::of(&Privilege::ALL);

    /// Privileges that exist on the server only.
    pub const SERVER_ONLY: Self = Self::of_group(PrivilegeGroup::Server);

    /// Privileges of [`LEGACY`](crate::LEGACY), the role of all tokens that are older than the rules.
    pub const LEGACY: Self = Self::ALL.without(Self::of(&[Privilege::ManageAccess, Privilege::ReadAudit]));

    /// Privileges that who may read the audit trail has on its table. Nobody has others there.
    pub const READS_OF_AUDIT: Self = Self::of(&[Privilege::List, Privilege::ReadMetadata, Privilege::ReadData]);

    /// Returns the set of some privileges.
    pub const fn of(privileges: &[Privilege]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < privileges.len() {
            bits |= 1 << privileges[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    /// Returns the set of a group's privileges.
    const fn of_group(group: PrivilegeGroup) -> Self {
        let (mut set, mut at) = (Self::EMPTY, 0);
        while at < Privilege::ALL.len() {
            if Privilege::ALL[at].group() as u8 == group as u8 {
                set = set.union(Self::of(&[Privilege::ALL[at]]));
            }
            at += 1;
        }
        set
    }

    /// Returns the set that the state database stores as `bits`. Bits that a later release may have written are left out.
    pub const fn from_bits(bits: i64) -> Self {
        Self(bits.cast_unsigned()).intersection(Self::ALL)
    }

    /// Returns the number that the state database stores.
    pub const fn to_bits(self) -> i64 {
        self.0.cast_signed()
    }

    /// Returns the privileges that are in one of the sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the privileges that are in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the privileges that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Checks that every privilege of `other` is in the set.
    pub const fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Checks that a privilege is in the set.
    pub const fn has(self, privilege: Privilege) -> bool {
        self.0 >> privilege as u8 & 1 == 1
    }

    /// Checks that the sets share a privilege.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Checks that the set has no privilege.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Iterates over the privileges, in the order of their bits.
    pub fn iter(self) -> impl Iterator<Item = Privilege> {
        Privilege::ALL.into_iter().filter(move |privilege| self.has(*privilege))
    }
}

impl From<Privilege> for PrivilegeSet {
    fn from(privilege: Privilege) -> Self {
        Self::of(&[privilege])
    }
}

impl FromIterator<Privilege> for PrivilegeSet {
    fn from_iter<I: IntoIterator<Item = Privilege>>(privileges: I) -> Self {
        privileges.into_iter().fold(Self::EMPTY, |set, privilege| set.union(privilege.into()))
    }
}

/// Prints the names, separated by commas.
impl fmt::Display for PrivilegeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, privilege) in self.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            f.write_str(privilege.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for PrivilegeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl Serialize for PrivilegeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for PrivilegeSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Ok(Vec::<Privilege>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// A name for several privileges, which people grant together.
///
/// A grant stores the privileges that the bundle has when it is granted. A later release that adds to a bundle changes no grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bundle {
    /// Sees the thing, its metadata and its rows.
    Select,
    /// Sees the thing and its metadata, and appends rows.
    Insert,
    /// Reads and writes rows, and manages branches and tags.
    Write,
    /// Does everything but what only the server has, reading all rows, and erasing.
    Own,
    /// Does everything that the giver may do there.
    All,
}

impl Bundle {
    /// Every bundle.
    pub const ALL: [Self; 5] = [Self::Select, Self::Insert, Self::Write, Self::Own, Self::All];

    /// Returns the name of the bundle in statements and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Write => "WRITE",
            Self::Own => "OWN",
            Self::All => "ALL",
        }
    }

    /// Returns the privileges of the bundle on a kind of securable. `giver` has the privileges of the giver there.
    pub const fn privileges(self, on: SecurableKind, giver: PrivilegeSet) -> PrivilegeSet {
        use Privilege::{Append, Erase, List, ManageRefs, Modify, ReadAllRows, ReadData, ReadMetadata, Rewrite};
        let all = match self {
            Self::Select => PrivilegeSet::of(&[List, ReadMetadata, ReadData]),
            Self::Insert => PrivilegeSet::of(&[List, ReadMetadata, Append]),
            Self::Write => PrivilegeSet::of(&[List, ReadMetadata, ReadData, Append, Modify, Rewrite, ManageRefs]),
            Self::Own => PrivilegeSet::ALL.without(PrivilegeSet::SERVER_ONLY).without(PrivilegeSet::of(&[ReadAllRows, Erase])),
            Self::All => giver,
        };
        all.intersection(on.privileges())
    }
}

impl fmt::Display for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Parses privileges and bundles that are separated by commas, as `GRANT` and the command line have them.
///
/// `giver` has the privileges of the giver there, which the bundle `ALL` stands for.
///
/// # Errors
///
/// Returns [`RightsError::UnknownPrivilege`] for the first name that is neither a privilege nor a bundle, and
/// [`RightsError::NotGrantable`] if privileges are named that a securable of this kind does not have.
pub fn parse_privileges(text: &str, on: SecurableKind, giver: PrivilegeSet) -> Result<PrivilegeSet> {
    let mut set = PrivilegeSet::EMPTY;
    for name in text.split(',').map(str::trim) {
        set = match Bundle::ALL.into_iter().find(|bundle| is_name(name, bundle.as_str())) {
            Some(bundle) => set.union(bundle.privileges(on, giver)),
            None => set.union(name.parse::<Privilege>()?.into()),
        };
    }
    on.check_grantable(set)?;
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_privilege_has_its_bit_and_one_name_everywhere() {
        for (bit, privilege) in Privilege::ALL.into_iter().enumerate() {
            assert_eq!(privilege as usize, bit, "bits are never used again, so the list has no gap yet");
            assert_eq!(privilege.as_str().parse(), Ok(privilege));
            assert_eq!(serde_json::to_value(privilege).expect("JSON"), privilege.as_str());
            assert_eq!(PrivilegeSet::from(privilege).to_bits(), 1 << bit);
        }
    }

    #[test]
    fn names_are_read_in_any_case_and_with_hyphens() {
        assert_eq!("read-all-Rows".parse(), Ok(Privilege::ReadAllRows));
        let error = "READ".parse::<Privilege>().expect_err("no privilege");
        assert!(error.to_string().contains("SELECT, INSERT, WRITE, OWN, ALL, the privileges USE, LIST"), "{error}");
    }

    #[test]
    fn sets_are_lists_of_names_in_json() {
        let set = PrivilegeSet::of(&[Privilege::Drop, Privilege::List]);
        assert_eq!(serde_json::to_value(set).expect("JSON"), serde_json::json!(["LIST", "DROP"]));
        assert_eq!(serde_json::from_str::<PrivilegeSet>(r#"["DROP", "LIST", "DROP"]"#).expect("a set"), set);
        assert!(serde_json::from_str::<PrivilegeSet>(r#"["NOTHING"]"#).is_err());
    }

    #[test]
    fn bits_of_a_later_release_give_nothing() {
        assert_eq!(PrivilegeSet::from_bits(-1), PrivilegeSet::ALL);
        assert_eq!(PrivilegeSet::from_bits(1 << 62), PrivilegeSet::EMPTY);
        assert_eq!(PrivilegeSet::from_bits(PrivilegeSet::LEGACY.to_bits()), PrivilegeSet::LEGACY);
    }

    #[test]
    fn bundles_give_only_what_their_securable_has() {
        let on = |bundle: Bundle, kind: SecurableKind| bundle.privileges(kind, PrivilegeSet::ALL);
        assert_eq!(on(Bundle::Select, SecurableKind::Table).to_string(), "LIST, READ_METADATA, READ_DATA");
        assert_eq!(on(Bundle::Insert, SecurableKind::Table).to_string(), "LIST, READ_METADATA, APPEND");
        let writes = "LIST, READ_METADATA, READ_DATA, APPEND, MODIFY, REWRITE, MANAGE_REFS";
        assert_eq!(on(Bundle::Write, SecurableKind::Namespace).to_string(), writes);
        for kind in SecurableKind::ALL {
            let own = on(Bundle::Own, kind);
            assert!(!own.has(Privilege::ReadAllRows) && !own.has(Privilege::Erase) && !own.intersects(PrivilegeSet::SERVER_ONLY));
            assert_eq!(on(Bundle::All, kind), kind.privileges());
        }
        let few = PrivilegeSet::from(Privilege::List);
        assert_eq!(Bundle::All.privileges(SecurableKind::Table, few), few, "nobody gives what they don't have");
    }

    #[test]
    fn a_list_of_privileges_and_bundles_is_their_union() {
        let read = |text: &str, kind| parse_privileges(text, kind, PrivilegeSet::EMPTY);
        let set = read("select, Drop", SecurableKind::View).expect("privileges");
        assert_eq!(set.to_string(), "LIST, READ_METADATA, READ_DATA, DROP");
        let privileges = Privilege::CreateTable.into();
        let error = read("CREATE_TABLE", SecurableKind::Table);
        assert_eq!(error, Err(RightsError::NotGrantable { privileges, kind: SecurableKind::Table }));
        assert_eq!(read("ALL", SecurableKind::Table), Err(RightsError::NoPrivileges), "the giver has nothing");
        assert!(
            matches!(read("LIST,,DROP", SecurableKind::Table), Err(RightsError::UnknownPrivilege { name }) if name.is_empty())
        );
    }
}
