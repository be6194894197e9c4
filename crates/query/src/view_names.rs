//! The names of tables and views in the text of a view, without a plan of it.
//!
//! They are the names that the view's own engine would look up, so that definer's rights count for these and for nothing else. Start
//! reading at [`names_in_view`].

use datafusion::common::TableReference;
use datafusion::sql::resolve::resolve_table_references;
use esker_format::{ViewMetadata, ViewRepresentation, ViewVersion};
use esker_types::TableName;

use crate::dialect::Grammar;
use crate::statement_text::{as_written, parse_name};
use crate::table_names::candidate_tables;

/// Returns the tables and views of its own warehouse that the current version of a view names: for each name what it may mean, the
/// likeliest first.
///
/// Every text is read whose dialect is known. One that can't be parsed names nothing. `is_other_warehouse` checks that a catalog is
/// another warehouse of this server, in which a name means nothing of this one. Engines call a warehouse by names of their own, so
/// the default catalog of the view is this warehouse, unless it is another one.
pub fn names_in_view(view: &ViewMetadata, is_other_warehouse: &dyn Fn(&str) -> bool) -> Vec<Vec<TableName>> {
    let version = view.current_version();
    let texts = version.representations.iter().filter_map(|text| match text {
        ViewRepresentation::Sql { sql, dialect, .. } => Some((sql, Grammar::of_dialect(dialect)?.1)),
        ViewRepresentation::Other(_) => None,
    });
    let references = texts.flat_map(|(sql, grammar)| references(sql, grammar));
    references.map(|reference| candidates(&reference, version, is_other_warehouse)).filter(|names| !names.is_empty()).collect()
}

/// Returns the names of tables in a text, without those of its own `WITH` queries.
fn references(sql: &str, grammar: Grammar) -> Vec<TableReference> {
    // Spark and DuckDB keep the case of names, also without quotes.
    let folds_case = matches!(grammar, Grammar::Standard | Grammar::Trino);
    let statement = as_written(sql, grammar).map(|(statement, _)| statement);
    let found = statement.ok().and_then(|statement| resolve_table_references(&statement, folds_case).ok());
    found.map(|(tables, _)| tables).unwrap_or_default()
}

/// Returns the tables of the view's own warehouse that a name may mean.
fn candidates(reference: &TableReference, version: &ViewVersion, is_other_warehouse: &dyn Fn(&str) -> bool) -> Vec<TableName> {
    let (table, _) = parse_name(reference.table());
    let default_catalog = version.default_catalog.as_deref();
    let levels: Vec<String> = match (reference.catalog(), reference.schema()) {
        (None, _) if default_catalog.is_some_and(is_other_warehouse) => return Vec::new(),
        (None, None) => version.default_namespace.clone(),
        (None, Some(schema)) => vec![schema.to_owned()],
        (Some(catalog), _) if is_other_warehouse(catalog) => return Vec::new(),
        (Some(catalog), schema) if default_catalog == Some(catalog) => schema.map(str::to_owned).into_iter().collect(),
        (Some(catalog), schema) => {
            // The first part may be the outer level of a namespace, or what the engine calls the warehouse.
            let schema: Vec<String> = schema.map(str::to_owned).into_iter().collect();
            let outer = [&[catalog.to_owned()][..], schema.as_slice()].concat();
            let nested = candidate_tables(&outer, table).unwrap_or_default();
            return nested.into_iter().chain(candidate_tables(&schema, table).unwrap_or_default()).collect();
        }
    };
    candidate_tables(&levels, table).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The metadata of a view in the namespace `n`, with texts of dialects.
    fn view(texts: &[(&str, &str)], default_catalog: Option<&str>) -> ViewMetadata {
        let representations: Vec<Value> =
            texts.iter().map(|(dialect, sql)| json!({"type": "sql", "sql": sql, "dialect": dialect})).collect();
        let mut version = json!({"version-id": 1, "timestamp-ms": 1, "schema-id": 0, "summary": {},
            "representations": representations, "default-namespace": ["n"]});
        if let Some(catalog) = default_catalog {
            version["default-catalog"] = json!(catalog);
        }
        let metadata = json!({"view-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1", "format-version": 1, "location": "file:///v",
            "schemas": [{"type": "struct", "schema-id": 0, "fields": []}], "current-version-id": 1, "versions": [version],
            "version-log": [{"timestamp-ms": 1, "version-id": 1}], "properties": {}});
        ViewMetadata::from_json(metadata.to_string().as_bytes()).expect("metadata")
    }

    /// The likeliest meaning of each name in a text, sorted.
    fn names(dialect: &str, sql: &str) -> Vec<String> {
        let found = names_in_view(&view(&[(dialect, sql)], None), &|catalog| catalog == "other");
        let mut names: Vec<String> = found.iter().map(|candidates| candidates[0].to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_text_names_its_tables_wherever_they_stand_and_nothing_else() {
        let sql = "WITH w AS (SELECT * FROM a) SELECT * FROM w JOIN m.b ON b.x = w.x WHERE y IN (SELECT y FROM c) -- FROM d";
        for dialect in ["spark", "trino", "duckdb", "esker"] {
            assert_eq!(names(dialect, sql), ["m.b", "n.a", "n.c"], "{dialect}");
        }
        assert_eq!(names("spark", "SELECT 'FROM t' AS t, t FROM u VERSION AS OF 5"), ["n.u"]);
        // A function that Esker's SQL does not know changes nothing.
        assert_eq!(names("spark", "SELECT initcap(x) FROM t"), ["n.t"]);
        assert_eq!(names("flink", "SELECT * FROM t"), Vec::<String>::new(), "the dialect is not known");
        assert_eq!(names("trino", "SELECT * FROM"), Vec::<String>::new(), "it can't be parsed");
    }

    #[test]
    fn names_have_the_case_that_the_engine_looks_up() {
        assert_eq!(names("spark", "SELECT * FROM Orders"), ["n.Orders"]);
        assert_eq!(names("trino", "SELECT * FROM Orders"), ["n.orders"]);
        assert_eq!(names("trino", "SELECT * FROM \"Orders\""), ["n.Orders"]);
    }

    #[test]
    fn a_catalog_is_the_warehouse_by_any_name_but_that_of_another_one() {
        let meanings = |sql: &str, default: Option<&str>| -> Vec<Vec<String>> {
            let found = names_in_view(&view(&[("trino", sql)], default), &|catalog| catalog == "other");
            found.iter().map(|candidates| candidates.iter().map(TableName::to_string).collect()).collect()
        };
        assert_eq!(meanings("SELECT * FROM lake.m.t", Some("lake")), [["m.t"]]);
        assert_eq!(meanings("SELECT * FROM lake.m.t", None), [["lake.m.t", "m.t"]]);
        assert_eq!(meanings("SELECT * FROM other.m.t", None), Vec::<Vec<String>>::new());
        assert_eq!(meanings("SELECT * FROM m.t", Some("other")), Vec::<Vec<String>>::new());
        assert_eq!(meanings("SELECT * FROM m.t", Some("lake")), [["m.t"]]);
    }
}
