//! `esker sql`: runs statements through Flight SQL, at a prompt or from the command line, and prints the rows.

use std::io::{IsTerminal, Read};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use arrow_flight::sql::client::FlightSqlServiceClient;
use clap::Args;
use esker_query::split_statements;
use esker_types::format_count;
use futures::TryStreamExt;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tonic::transport::{Channel, Endpoint};

use super::print_line;
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
    /// The server's Flight SQL URL.
    #[arg(long, env = "ESKER_FLIGHT_URL", default_value = "http://127.0.0.1:32010")]
    flight_url: String,
    /// The token of the caller.
    #[arg(long, env = "ESKER_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl SqlArgs {
    /// Runs the statement of `--command`, or those of standard input; shows a prompt if that is a terminal.
    pub(super) async fn run(self) -> Result<()> {
        let url = self.flight_url.replace("grpc://", "http://");
        let endpoint = Endpoint::from_shared(url.clone()).map_err(|e| Error::Usage(format!("--flight-url: {e}")))?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|e| Error::Remote(format!("no Flight SQL server answers at {url} ({e}); is `esker serve` running?")))?;
        let mut client = FlightSqlServiceClient::new(channel);
        if let Some(token) = self.token {
            client.set_token(token);
        }
        if let Some(command) = self.command {
            return statement(&mut client, &command, usize::MAX).await;
        }
        if std::io::stdin().is_terminal() {
            return prompt(&mut client).await;
        }
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(|source| Error::Io { path: "standard input".to_owned(), source })?;
        let texts = split_statements(&text).map_err(|e| Error::Usage(format!("standard input: {e}")))?;
        for sql in texts.ended.into_iter().chain(texts.rest) {
            statement(&mut client, sql, usize::MAX).await?;
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
async fn prompt(client: &mut Client) -> Result<()> {
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
            if let Err(e) = statement(client, &sql, MAX_PRINTED_ROWS).await {
                print_line(&format!("error: {e}"));
            }
        }
    }
}

/// Runs a statement and prints at most `max_rows` rows, the number of rows and the time.
async fn statement(client: &mut Client, sql: &str, max_rows: usize) -> Result<()> {
    let started = Instant::now();
    let batches = run(client, sql).await?;
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
    print_line(&table.to_string());
    let cut = if rows > max_rows { format!(", the first {max_rows} shown") } else { String::new() };
    print_line(&format!("{}{cut}, {:.3} s", format_count(rows as u64, "row"), started.elapsed().as_secs_f64()));
    Ok(())
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
    use super::*;

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
