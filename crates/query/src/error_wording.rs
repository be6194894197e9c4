//! Rewords the errors of DataFusion and Arrow for people who write SQL.
//!
//! Messages use SQL's names of types, and no names of crates, Arrow types or error variants. Start reading at `reworded`.

use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use esker_read::is_variant;

/// Maximum number of columns that an error lists.
const LISTED: usize = 30;

/// Returns the message of an error, reworded.
pub(crate) fn reworded(error: &DataFusionError) -> String {
    let text = match error {
        DataFusionError::SQL(error, _) => match error.as_ref() {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => return text.clone(),
            ParserError::RecursionLimitExceeded => return "the statement is nested too deeply".to_owned(),
        },
        DataFusionError::SchemaError(error, _) => return schema(error).replace("\u{1f}.", "").replace('\u{1f}', ":"),
        DataFusionError::ArrowError(error, _) => arrow(error),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => return reworded(inner),
        DataFusionError::Shared(inner) => return reworded(inner),
        DataFusionError::Collection(all) => return all.first().map_or_else(String::new, reworded),
        DataFusionError::NotImplemented(text) => unsupported(text),
        DataFusionError::Internal(text) => format!("the statement could not be processed: {text}"),
        DataFusionError::Plan(text)
        | DataFusionError::Configuration(text)
        | DataFusionError::Execution(text)
        | DataFusionError::ResourcesExhausted(text) => text.clone(),
        other => other.strip_backtrace(),
    };
    invalid_pattern(&text).unwrap_or_else(|| plain(&in_other_words(&text)))
}

/// Returns the message for an invalid regular expression, if that is what a text reports.
pub(crate) fn invalid_pattern(text: &str) -> Option<String> {
    const PARSED: &str = "regex parse error:\n    ";
    const COMPILED: &str = "Regular expression did not compile: ";
    if let Some((_, rest)) = text.split_once(PARSED) {
        let shown = rest.lines().next().unwrap_or_default();
        // The operator `~*` adds this prefix.
        let shown = shown.strip_prefix("(?i)").unwrap_or(shown);
        let why = rest.split_once("\nerror: ").map_or("", |(_, why)| why.lines().next().unwrap_or_default());
        return Some(format!("'{shown}' is not a regular expression: {why}"));
    }
    if let Some((_, rest)) = text.split_once("regex parse error:\n") {
        let why = rest.split_once("\nerror: ").map_or("", |(_, why)| why.lines().next().unwrap_or_default());
        return Some(format!("a pattern of several lines is not a regular expression: {why}"));
    }
    let (_, rest) = text.split_once(COMPILED)?;
    Some(match rest.contains("CompiledTooBig") {
        true => "a regular expression is too large".to_owned(),
        false => format!("'{rest}' is not a regular expression"),
    })
}

/// Messages of the planner for statements that it does not support, each with the message that users get.
const REWORDED: [(&str, &str); 10] = [
    (
        "frame offsets for ROWS / GROUPS must be non negative integers",
        "the offset of a window frame of ROWS or GROUPS must be a literal whole number, not an expression, a parameter or a negative number",
    ),
    (
        "unnest() does not support null yet",
        "unnest takes a list: CAST a NULL or a parameter to one, as in CAST(NULL AS BIGINT[])",
    ),
    (
        "There is only support Literal types for field at idx:",
        "the offset and the default of lag, lead and nth_value must be constants: write CASE or coalesce around the function",
    ),
    (
        "Correlated scalar subquery must be aggregated to return at most one row",
        "a subquery of one value that names columns of the tables around it must return at most one row for sure: put its column into max or min",
    ),
    (
        "Correlated scalar subquery can only be used in Projection, Filter, Aggregate plan nodes",
        "a subquery that names columns of the tables around it is served only in select lists, WHERE and HAVING: move it there",
    ),
    (
        "Correlated scalar subquery in the GROUP BY clause must also be in the aggregate expressions",
        "a subquery in GROUP BY must be in the select list as well",
    ),
    (
        "Physical plan does not support logical expression WindowFunction",
        "a window function can only be in a select list or ORDER BY: select it in a subquery, and filter around it",
    ),
    (
        "Aggregate functions are not allowed in the WHERE clause",
        "an aggregate function cannot be in WHERE: use HAVING, or a subquery",
    ),
    (
        "SHOW TABLES IN not supported",
        "SHOW TABLES takes no FROM or IN: use SELECT table_name FROM information_schema.tables WHERE table_schema = '…'",
    ),
    (
        "Cannot infer common string type for string concat operation Null || Null",
        "the parts of a text have no type: CAST one of them",
    ),
];

/// Returns the users' message if the text contains a message of the planner in `WORDS`.
fn in_other_words(text: &str) -> String {
    let known = REWORDED.iter().find(|(theirs, _)| text.contains(theirs));
    known.map_or_else(|| text.to_owned(), |(_, ours)| (*ours).to_owned())
}

/// Returns the message for what is not supported. There, the planner prints its own trees.
fn unsupported(text: &str) -> String {
    if text.contains("Subquery(") || text.contains("Exists(") || text.contains("OuterReferenceColumn") {
        return "a subquery that names columns of the query around it is served in WHERE, HAVING and select lists; a scalar one \
                or one after LATERAL only where equality ties it to that query; none may name columns of queries farther out: use a join"
            .to_owned();
    }
    // Only the kind of a node that the planner prints as a tree.
    let kind = text.split_once(" { ").map_or(text, |(kind, _)| kind).trim_start_matches("Unsupported ast node in sqltorel: ");
    format!("not supported: {kind}")
}

/// Returns the message of a schema error, which is about the name of a column.
fn schema(error: &SchemaError) -> String {
    match error {
        SchemaError::AmbiguousReference { field } => format!("column {} is ambiguous: qualify it with its table", field.name),
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            format!("there is more than one column {name}: give them different names with AS")
        }
        SchemaError::FieldNotFound { field, valid_fields } => {
            // Leaves out the hidden columns that hold the positions of rows.
            let own = valid_fields.iter().filter(|column| !column.name.starts_with('\u{1f}'));
            let mut names: Vec<&str> = own.map(|column| column.name.as_str()).collect();
            names.truncate(LISTED);
            let wanted = field.relation.as_ref().map_or_else(|| field.name.clone(), |table| format!("{table}.{}", field.name));
            match names.is_empty() {
                true => format!("there is no column {wanted}"),
                false => format!("there is no column {wanted}; there are {}", names.join(", ")),
            }
        }
    }
}

/// Returns the message of an Arrow error.
pub(crate) fn arrow(error: &ArrowError) -> String {
    match error {
        ArrowError::DivideByZero => "division by zero".to_owned(),
        ArrowError::ArithmeticOverflow(text) => format!("out of range: {text}"),
        ArrowError::CastError(text)
        | ArrowError::ParseError(text)
        | ArrowError::ComputeError(text)
        | ArrowError::InvalidArgumentError(text)
        | ArrowError::NotYetImplemented(text)
        | ArrowError::SchemaError(text) => text.clone(),
        ArrowError::ExternalError(inner) => inner.to_string(),
        other => other.to_string(),
    }
}

/// The Arrow type of variants, as the planner prints it in errors.
const VARIANT: &str = "Struct(\"metadata\": non-null BinaryView, \"value\": non-null BinaryView)";

/// Phrases that are removed from a text: prefixes and suffixes of an error's own message.
const NOISE: [&str; 20] = [
    "Error during planning: ",
    "Execution error: ",
    "Internal error: ",
    "External error: ",
    "Schema error: ",
    "SQL error: ",
    "Arrow error: ",
    "Parquet error: ",
    "Object Store error: ",
    "IO error: ",
    "Parser error: ",
    "Cast error: ",
    "Compute error: ",
    "Invalid argument error: ",
    "Invalid or Unsupported Configuration: ",
    "This feature is not implemented: ",
    "Resources exhausted: ",
    "Arithmetic overflow: ",
    " in DataFusion",
    "ExecutionJoin error: ",
];

/// Phrases from which on a text addresses the developers of the library.
const TAILS: [&str; 5] = [
    "This issue was likely caused by a bug",
    "This was likely caused by a bug",
    "Please help us to resolve this",
    "\n\nbacktrace: ",
    "Candidate functions:",
];

/// Returns a text with SQL's names of types, values as SQL writes them, and nothing addressed to developers.
pub(crate) fn plain(text: &str) -> String {
    let end = TAILS.iter().filter_map(|tail| text.find(tail)).min().unwrap_or(text.len());
    let mut text = text[..end].replace(VARIANT, "variant");
    for noise in NOISE {
        text = text.replace(noise, "");
    }
    let text = text.replace("\u{1f}.", "").replace(".\u{1f}", ".").replace('\u{1f}', ":").replace("DataFusion", "the planner");
    let (mut out, mut rest) = (String::with_capacity(text.len()), text.as_str());
    while let Some(at) = rest.find(|c: char| c.is_alphanumeric() || c == '_') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let bare =
            matches!(word, "Timestamp" | "List" | "Interval" | "Duration" | "Binary" | "Boolean") && !after.starts_with('(');
        rest = match sql_word(word).filter(|_| !bare) {
            Some(ty) => typed(&mut out, word, ty, after),
            None => {
                out.push_str(word);
                after
            }
        };
    }
    out.push_str(rest);
    out.trim_end().trim_end_matches('.').to_owned()
}

/// Writes an SQL type or, where the type's name is followed by a value in parentheses, the value.
///
/// Returns the rest of the text.
fn typed<'a>(out: &mut String, word: &str, ty: &str, after: &'a str) -> &'a str {
    let Some((inner, rest)) = after.strip_prefix('(').and_then(within) else {
        out.push_str(ty);
        return after;
    };
    let unquoted = inner.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match word {
        "Decimal128" | "Decimal256" | "FixedSizeBinary" | "Decimal32" | "Decimal64" if !inner.contains("Some") => {
            out.push_str(&format!("{ty}({inner})"));
        }
        "Timestamp" | "Time64" | "Time32" | "Interval" | "Duration" => {
            let zoned = inner.contains(',') && !inner.contains("None");
            out.push_str(ty);
            out.push_str(if zoned && word == "Timestamp" { " with time zone" } else { "" });
        }
        "List" | "LargeList" | "Struct" | "Map" | "Dictionary" | "FixedSizeList" => out.push_str(ty),
        _ => match unquoted {
            Some(text) => out.push_str(&format!("'{}'", text.replace('\'', "''"))),
            None => out.push_str(inner),
        },
    }
    rest
}

/// Splits a text at the parenthesis that closes an open one; returns what is before and after it.
fn within(text: &str) -> Option<(&str, &str)> {
    let (mut depth, mut quoted) = (1, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return Some((&text[..at], &text[at + 1..]));
                }
            }
            _ => {}
        }
    }
    None
}

/// Returns SQL's name for a word that is the name of an Arrow type.
fn sql_word(word: &str) -> Option<&'static str> {
    Some(match word {
        "Utf8" | "LargeUtf8" | "Utf8View" => "text",
        "Binary" | "LargeBinary" | "BinaryView" => "binary",
        "FixedSizeBinary" => "fixed",
        "Boolean" => "boolean",
        "Int8" => "tinyint",
        "Int16" => "smallint",
        "Int32" => "int",
        "Int64" => "bigint",
        "UInt8" | "UInt16" | "UInt32" | "UInt64" => "unsigned integer",
        "Float16" | "Float32" => "float",
        "Float64" => "double",
        "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => "decimal",
        "Date32" | "Date64" => "date",
        "Time32" | "Time64" => "time",
        "Timestamp" => "timestamp",
        "Interval" | "Duration" => "interval",
        "IntervalMonthDayNano" => "interval",
        "List" | "LargeList" | "ListView" | "LargeListView" | "FixedSizeList" => "list",
        "TimestampNanosecond" | "TimestampMicrosecond" | "TimestampMillisecond" | "TimestampSecond" => "timestamp",
        _ => return None,
    })
}

/// Returns SQL's name of a type.
pub(crate) fn sql_type(ty: &DataType) -> String {
    match ty {
        DataType::Null => "null".to_owned(),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
            format!("decimal({p}, {s})")
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            if zone.is_some() { "timestamp_ns with time zone" } else { "timestamp_ns" }.to_owned()
        }
        DataType::Timestamp(_, zone) => if zone.is_some() { "timestamp with time zone" } else { "timestamp" }.to_owned(),
        DataType::FixedSizeBinary(n) => format!("fixed({n})"),
        ty if is_variant(ty) => "variant".to_owned(),
        DataType::Struct(_) => "a struct".to_owned(),
        DataType::Map(..) => "a map".to_owned(),
        DataType::Dictionary(_, values) => sql_type(values),
        other => {
            let name = other.to_string();
            let word = name.split('(').next().unwrap_or_default();
            sql_word(word).map_or_else(|| word.to_lowercase(), str::to_owned)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_values_are_worded_as_sql_writes_them() {
        assert_eq!(
            plain("Cannot coerce arithmetic expression Utf8View + Int64"),
            "Cannot coerce arithmetic expression text + bigint"
        );
        assert_eq!(plain("a = Utf8(\"it's\") AND b = Int64(5)"), "a = 'it''s' AND b = 5");
        assert_eq!(plain("Decimal128(10, 2) to Timestamp(µs, \"UTC\")"), "decimal(10, 2) to timestamp with time zone");
        assert_eq!(plain("Timestamp(Nanosecond, None) is not Date32"), "timestamp is not date");
        assert_eq!(plain("column Int64s, my_Utf8"), "column Int64s, my_Utf8");
    }

    #[test]
    fn a_pattern_that_is_no_regular_expression_is_named() {
        let parsed = "regex parse error:\n    (?i)a(\n         ^\nerror: unclosed group";
        assert_eq!(invalid_pattern(parsed).as_deref(), Some("'a(' is not a regular expression: unclosed group"));
        assert_eq!(invalid_pattern("Regular expression did not compile: *").as_deref(), Some("'*' is not a regular expression"));
        assert_eq!(invalid_pattern("'abc' is not a number"), None);
    }

    #[test]
    fn nothing_is_addressed_to_others() {
        let error = DataFusionError::Internal("it went wrong".to_owned()).context("Optimizer rule 'x' failed");
        assert_eq!(reworded(&error), "the statement could not be processed: it went wrong");
        let error = DataFusionError::Shared(std::sync::Arc::new(DataFusionError::Execution(error.to_string())));
        let text = reworded(&error);
        assert!(!text.contains("bug") && !text.contains("Internal error") && text.contains("it went wrong"), "{text}");
        let error = DataFusionError::from(ArrowError::CastError("Can't cast value 5 to type Int8".to_owned()));
        assert_eq!(reworded(&error), "Can't cast value 5 to type tinyint");
        let error = DataFusionError::from(ParserError::ParserError("Expected: x, found: y".to_owned()));
        assert_eq!(reworded(&error), "Expected: x, found: y");
    }
}
