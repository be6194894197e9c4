//! The names of tables in SQL, and the namespaces that the name of a SQL schema may mean.

use esker_types::{IdentError, NamespaceName, TableName};

/// Prefix of a namespace whose levels are known. The namespace's key follows, in which a dot does not separate levels.
const EXACT: char = NamespaceName::SEPARATOR;

/// Returns the name of the SQL schema that means one namespace and no other. `namespace` is the namespace's key.
pub(crate) fn exact_schema(namespace: &str) -> String {
    format!("{EXACT}{namespace}")
}

/// Returns the levels of a namespace joined by dots, without the mark of [`exact_schema`], for people and for lists.
pub(crate) fn display_levels(levels: &[String]) -> String {
    levels.iter().map(|level| level.trim_start_matches(EXACT).replace(EXACT, ".")).collect::<Vec<_>>().join(".")
}

/// Returns the tables that a name may mean, the likeliest first.
///
/// The first has the levels as they are written. The second has the levels split at dots, if any of them has a dot.
///
/// # Errors
///
/// Returns [`IdentError`] if a level or the name of the table is empty or has a control character.
pub(crate) fn candidate_tables(levels: &[String], table: &str) -> Result<Vec<TableName>, IdentError> {
    if let [level] = levels
        && let Some(key) = level.strip_prefix(EXACT)
    {
        return Ok(vec![TableName::new(NamespaceName::from_key(key)?, table)?]);
    }
    candidate_namespaces(levels)?.into_iter().map(|namespace| TableName::new(namespace, table)).collect()
}

/// Returns the namespaces that levels may mean, the likeliest first: as they are written, then split at dots.
///
/// # Errors
///
/// Returns [`IdentError`] if a level is empty or has a control character.
pub(crate) fn candidate_namespaces(levels: &[String]) -> Result<Vec<NamespaceName>, IdentError> {
    let mut found = vec![NamespaceName::new(levels.to_vec())?];
    if levels.iter().any(|level| level.contains('.')) {
        found.extend(NamespaceName::new(levels.iter().flat_map(|level| level.split('.')).map(str::to_owned).collect()));
    }
    Ok(found)
}
