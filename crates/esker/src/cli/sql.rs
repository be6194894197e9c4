//! `esker sql`: runs statements through Flight SQL, at a prompt or from the command line, and prints the rows.

use std::io::{IsTerminal, Read};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use arrow::util::pretty::pretty_format_batches;
use arrow_flight::sql::client::FlightSqlServiceClient;
use clap::Args;
use esker_query::split_statements;
use esker_types::format_count;
use futures::TryStreamExt;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tonic::transport::Channel;

use super::{TlsArgs, print_line};
use crate::{Error, Result};

/// Maximum number of rows that the prompt prints of an answer. The others are only counted.
const MAX_PRINTED_ROWS: usize = 200;

/// The statement of `\d`.
const LIST_TABLES: &str = "SELECT table_schema AS namespace, table_name AS \"table\" \
    FROM information_schema.tables WHERE table_schema <> 'information_schema' ORDER BY 1, 2";

/// The help text of the prompt.
const HELP: &str = "\
  SELECT …;          run a query; it may span lines and ends with a semicolon
  \\d                 list tables
  \\d NAMESPACE.TABLE describe a table
  \\q                 quit";

/// The arguments of `esker sql`.
#[derive(Debug, Args)]
pub(super) struct SqlArgs {
    /// Run this statement and exit.
    #[arg(short, long)]
    command: Option<String>,
    /// The server's Flight SQL URL; https:// or grpc+tls:// for TLS.
    #[arg(long, env = "ESKER_FLIGHT_URL", default_value = "http://127.0.0.1:32010")]
    flight_url: String,
    /// The token of the caller.
    #[arg(long, env = "ESKER_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Print the rows alone, each as a JSON object on a line.
    #[arg(long)]
    json: bool,
    /// Refused: a statement names its tables' warehouses.
    #[arg(long, hide = true)]
    warehouse: Option<String>,
    #[command(flatten)]
    tls: TlsArgs,
}

/// The form in which the rows of a statement are printed.
#[derive(Debug, Clone, Copy)]
enum RowFormat {
    /// A table of at most so many rows, then the number of rows and the time.
    Table { max_rows: usize },
    /// A JSON object a line, and nothing else.
    JsonLines,
}

impl SqlArgs {
    /// Runs the statement of `--command`, or those of standard input; shows a prompt if that is a terminal.
    pub(super) async fn run(self) -> Result<()> {
        if let Some(name) = &self.warehouse {
            let what = format!("`esker sql` takes no --warehouse: name tables as {name}.NAMESPACE.TABLE");
            return Err(Error::Usage(what));
        }
        let mut client = FlightSqlServiceClient::new(self.tls.flight_channel(&self.flight_url).await?);
        if let Some(token) = self.token {
            client.set_token(token);
        }
        let format = if self.json { RowFormat::JsonLines } else { RowFormat::Table { max_rows: usize::MAX } };
        if let Some(command) = self.command {
            return statement(&mut client, &command, format).await;
        }
        if std::io::stdin().is_terminal() {
            let format = if self.json { format } else { RowFormat::Table { max_rows: MAX_PRINTED_ROWS } };
            return prompt(&mut client, format).await;
        }
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(|source| Error::Io { path: "standard input".to_owned(), source })?;
        let texts = split_statements(&text).map_err(|e| Error::Usage(format!("standard input: {e}")))?;
        for sql in texts.ended.into_iter().chain(texts.rest) {
            statement(&mut client, sql, format).await?;
        }
        Ok(())
    }
}

/// A Flight SQL client of the server.
type Client = FlightSqlServiceClient<Channel>;

/// Returns the statements of the lines that were typed so far; `None` if the last one goes on.
///
/// A quote or comment that is open goes on over lines. A line with nothing but a semicolon ends it: the server says what is wrong.
fn typed(lines: &str) -> Option<Vec<String>> {
    match split_statements(lines) {
        Ok(texts) if texts.rest.is_none() => Some(texts.ended.into_iter().map(str::to_owned).collect()),
        Ok(_) => None,
        Err(_) => lines.trim_end().strip_suffix(';').filter(|sql| sql.ends_with('\n')).map(|sql| vec![sql.to_owned()]),
    }
}

/// Reads statements from the terminal and runs them, until the input ends. A statement ends with a semicolon.
async fn prompt(client: &mut Client, format: RowFormat) -> Result<()> {
    let failed = |e: ReadlineError| Error::Usage(format!("the terminal: {e}"));
    let mut editor = DefaultEditor::new().map_err(failed)?;
    print_line("Esker SQL. \\? for help, \\q to quit.");
    let mut pending = String::new();
    loop {
        let line = match editor.readline(if pending.is_empty() { "esker> " } else { "    -> " }) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                pending.clear();
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(()),
            Err(e) => return Err(failed(e)),
        };
        let statements = match line.trim() {
            "" if pending.is_empty() => continue,
            "\\q" | "exit" | "quit" if pending.is_empty() => return Ok(()),
            "\\?" | "help" if pending.is_empty() => {
                print_line(HELP);
                continue;
            }
            "\\d" if pending.is_empty() => vec![LIST_TABLES.to_owned()],
            described if pending.is_empty() && described.starts_with("\\d ") => {
                vec![format!("DESCRIBE {}", described[3..].trim_end_matches(';'))]
            }
            _ => {
                pending.push_str(&line);
                pending.push('\n');
                let Some(statements) = typed(&pending) else { continue };
                pending.clear();
                statements
            }
        };
        for sql in statements {
            // A statement that can't be added to the history runs all the same.
            let _ = editor.add_history_entry(format!("{sql};"));
            if let Err(e) = statement(client, &sql, format).await {
                print_line(&format!("error: {e}"));
            }
        }
    }
}

/// Runs a statement and prints its rows.
async fn statement(client: &mut Client, sql: &str, format: RowFormat) -> Result<()> {
    let started = Instant::now();
    let batches = run(client, sql).await?;
    let text = match format {
        RowFormat::Table { max_rows } => format_table(&batches, max_rows, started.elapsed())?,
        RowFormat::JsonLines => format_json_lines(&batches)?,
    };
    if !text.is_empty() {
        print_line(&text);
    }
    Ok(())
}

/// Formats rows as JSON objects, one a line. Columns that are null are there too.
fn format_json_lines(batches: &[RecordBatch]) -> Result<String> {
    let failed = |e: &dyn std::error::Error| Error::Remote(format!("the rows can't be written as JSON: {e}"));
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    for batch in batches {
        writer.write(batch).map_err(|e| failed(&e))?;
    }
    writer.finish().map_err(|e| failed(&e))?;
    let text = String::from_utf8(writer.into_inner()).map_err(|e| failed(&e))?;
    Ok(text.trim_end().to_owned())
}

/// Formats at most `max_rows` rows as a table, with the number of rows and the time below it.
fn format_table(batches: &[RecordBatch], max_rows: usize, took: Duration) -> Result<String> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let mut left = max_rows;
    let visible: Vec<RecordBatch> = batches
        .iter()
        .map(|batch| {
            let take = batch.num_rows().min(left);
            left -= take;
            batch.slice(0, take)
        })
        .collect();
    let table = pretty_format_batches(&visible).map_err(|e| Error::Remote(e.to_string()))?;
    let cut = if rows > max_rows { format!(", the first {max_rows} shown") } else { String::new() };
    Ok(format!("{table}\n{}{cut}, {:.3} s", format_count(rows as u64, "row"), took.as_secs_f64()))
}

/// Runs a statement and returns its record batches.
async fn run(client: &mut Client, sql: &str) -> Result<Vec<RecordBatch>> {
    let remote = |e: &dyn std::error::Error| Error::Remote(status_message(&e.to_string()));
    let info = client.execute(sql.to_owned(), None).await.map_err(|e| remote(&e))?;
    let mut batches = Vec::new();
    for endpoint in info.endpoint {
        let Some(ticket) = endpoint.ticket else { continue };
        let stream = client.do_get(ticket).await.map_err(|e| remote(&e))?;
        batches.extend(stream.try_collect::<Vec<_>>().await.map_err(|e| remote(&e))?);
    }
    Ok(batches)
}

/// Extracts the server's message from the debug text of a gRPC status, the only form in which the client returns it.
fn status_message(text: &str) -> String {
    let inner = text.split_once("message: \"").map(|(_, rest)| rest);
    let end =
        |rest: &str| ["\", details", "\", metadata", "\", source"].iter().find_map(|e| rest.find(e)).or_else(|| rest.rfind('"'));
    match inner.and_then(|rest| Some(rest[..end(rest)?].replace("\\\"", "\"").replace("\\n", "\n"))) {
        Some(message) => message,
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn rows_are_json_objects_with_their_nulls() {
        let (ids, texts) = (Int64Array::from(vec![1, 2]), StringArray::from(vec![Some("a"), None]));
        let columns = [("id", Arc::new(ids) as Arc<dyn Array>), ("s", Arc::new(texts) as _)];
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let lines = format_json_lines(&[batch.slice(0, 0), batch]).expect("written");
        assert_eq!(lines, "{\"id\":1,\"s\":\"a\"}\n{\"id\":2,\"s\":null}");
        assert_eq!(format_json_lines(&[]).expect("written"), "");
    }

    #[test]
    fn a_typed_statement_goes_on_until_a_semicolon_ends_it() {
        assert_eq!(typed("SELECT 1\n"), None);
        assert_eq!(typed("SELECT ';'\n"), None);
        assert_eq!(typed("SELECT 1; -- done\n"), Some(vec!["SELECT 1".to_owned()]));
        assert_eq!(typed("SELECT 1; SELECT\n2;\n"), Some(vec!["SELECT 1".to_owned(), "SELECT\n2".to_owned()]));
        assert_eq!(typed("-- nothing;\n"), Some(Vec::new()));
        assert_eq!(typed("SELECT 'a;\n"), None);
        assert_eq!(typed("SELECT 'a\n;\n"), Some(vec!["SELECT 'a\n".to_owned()]));
    }
}
