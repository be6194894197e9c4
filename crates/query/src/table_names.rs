//! The names of tables in SQL: what a schema's name may mean as a namespace.

use esker_types::{IdentError, NamespaceName, TableName};

/// Prefix of a namespace whose levels are known. The namespace's key follows, in which a dot does not separate levels.
const EXACT: char = NamespaceName::SEPARATOR;

/// Returns the schema that means a namespace and no other.
pub(crate) fn exact_schema(namespace: &str) -> String {
    format!("{EXACT}{namespace}")
}

/// Returns levels joined by dots, for people and for lists.
pub(crate) fn shown(levels: &[String]) -> String {
    levels.iter().map(|level| level.trim_start_matches(EXACT).replace(EXACT, ".")).collect::<Vec<_>>().join(".")
}

/// Returns the tables that a name may mean, the likeliest first.
///
/// The first has the levels as they are written, the second splits them at dots.
pub(crate) fn candidate_tables(levels: &[String], table: &str) -> Result<Vec<TableName>, IdentError> {
    let of = |levels: Vec<String>| TableName::new(NamespaceName::new(levels)?, table);
    if let [level] = levels
        && let Some(key) = level.strip_prefix(EXACT)
    {
        return Ok(vec![of(key.split(EXACT).map(str::to_owned).collect())?]);
    }
    let mut found = vec![of(levels.to_vec())?];
    if levels.iter().any(|level| level.contains('.')) {
        found.extend(of(levels.iter().flat_map(|level| level.split('.')).map(str::to_owned).collect()));
    }
    Ok(found)
}
