//! The standard output of commands: lines, JSON, and the column of the warehouse in lists.

use serde::Serialize;
use serde_json::Value;

use crate::Result;

/// Prints JSON, indented.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    print_line(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints a line. A closed pipe (`esker … | head`) is no error.
pub(super) fn print_line(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The column of the warehouse in a list. A list about one warehouse has no such column.
#[derive(Debug)]
pub(super) struct WarehouseColumn {
    /// The width of the names; 0 if there is no column.
    width: usize,
}

impl WarehouseColumn {
    /// Makes the column for rows with the field `warehouse`.
    pub(super) fn of(rows: &[Value]) -> Self {
        let several = rows.iter().any(|row| row["warehouse"] != rows[0]["warehouse"]);
        let names = rows.iter().map(|row| name(row).chars().count()).chain(["warehouse".len()]);
        Self { width: if several { names.max().unwrap_or(0) } else { 0 } }
    }

    /// Returns the heading of the column, with the space after it.
    pub(super) fn heading(&self) -> String {
        self.pad("warehouse")
    }

    /// Returns the warehouse of a row, with the space after it.
    pub(super) fn cell(&self, row: &Value) -> String {
        self.pad(name(row))
    }

    fn pad(&self, text: &str) -> String {
        match self.width {
            0 => String::new(),
            width => format!("{text:<width$}  "),
        }
    }
}

/// Returns the warehouse of a row.
fn name(row: &Value) -> &str {
    row["warehouse"].as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_list_about_several_warehouses_names_them() {
        let rows = [json!({"warehouse": "lake"}), json!({"warehouse": "a-long-name"})];
        let column = WarehouseColumn::of(&rows);
        assert_eq!((column.heading(), column.cell(&rows[0])), ("warehouse    ".to_owned(), "lake         ".to_owned()));
        assert_eq!(WarehouseColumn::of(&rows[..1]).cell(&rows[0]), "");
        assert_eq!(WarehouseColumn::of(&[]).heading(), "");
    }
}
