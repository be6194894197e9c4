//! Answers of SQL statements (`docs/sql.md`), by what they are about.

// Structs, lists and rows, functions, subqueries and outer joins.
mod composed_values;
// Casts, values as text and text as values, results out of range.
mod conversions;
// SQL as people write it: precedence, ambiguous names, defaults, patterns.
mod dialect;
// Comparisons of values of every type, against a model.
mod semantics;
// Statements from the client to the table: text, stored values, parameters.
mod statements;
// Subqueries, lists and sets with nulls.
mod subqueries;
