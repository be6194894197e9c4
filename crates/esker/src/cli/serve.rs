//! `esker serve`: starts the logs and the server, and waits for a signal.

use std::path::PathBuf;

use clap::Args;
use esker_state::StateError;
use tokio::signal::unix::{SignalKind, signal};

use super::print_line;
use crate::config::LogFormat;
use crate::server::Server;
use crate::traces::Traces;
use crate::{Config, Error, Result, logging};

/// The arguments of `esker serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The directory of the state database and the default warehouse. Wins over data_dir of the configuration.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The TOML file. Every key can also be set as ESKER__SECTION__KEY.
    #[arg(long)]
    config: Option<PathBuf>,
}

impl ServeArgs {
    /// Runs the server until SIGTERM, SIGINT, or until the other servers count it as dead, which is an error.
    pub(super) async fn run(self) -> Result<()> {
        let mut config = Config::load(self.config.as_deref())?;
        config.data_dir = self.data_dir.or(config.data_dir);
        let traces = Traces::new(&config.traces)?;
        logging::start(&config.log, &traces)?;
        for warning in &config.warnings {
            tracing::warn!("configuration: {warning}");
        }
        let failed = |source| Error::Io { path: "signals".to_owned(), source };
        let (mut term, mut int) =
            (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?);
        let mut server = Server::start(&config).await?;
        match config.log.format {
            // A reader of JSON logs must find no other lines. A new token is the exception: it can be shown only now.
            LogFormat::Json if server.new_token.is_none() => {
                let version = env!("CARGO_PKG_VERSION");
                tracing::info!(version, rest = %server.rest, flight = %server.flight, "listening");
            }
            _ => print_line(&banner(&config, &server)),
        }
        let fenced = tokio::select! {
            _ = term.recv() => false,
            _ = int.recv() => false,
            () = server.fenced() => true,
        };
        tracing::info!("stopping: waiting for requests and jobs");
        server.stop().await;
        tracing::info!("stopped");
        traces.stop().await;
        if fenced { Err(StateError::Fenced.into()) } else { Ok(()) }
    }
}

/// Formats the lines that a server prints when it has started.
fn banner(config: &Config, server: &Server) -> String {
    let http = if config.server.tls.is_on() { "https" } else { "http" };
    let grpc = if config.server.tls_of_flight().1.is_on() { "grpc+tls" } else { "grpc" };
    let mut lines = vec![
        format!("Esker {}", env!("CARGO_PKG_VERSION")),
        format!("  REST catalog  {http}://{}", server.rest),
        format!("  web page      {http}://{}/", server.rest),
        format!("  Flight SQL    {grpc}://{}", server.flight),
    ];
    for options in server.catalogs().iter().map(|catalog| catalog.options()) {
        lines.push(format!("  warehouse     {} at {}", options.warehouse, options.location));
    }
    if let Some(token) = &server.new_token {
        lines.push(format!("  token         {token}"));
        lines.push("                (of the principal admin; shown this once, kept only as a hash)".to_owned());
    }
    if config.auth.anonymous {
        lines.push("  callers on loopback need no token (auth.anonymous)".to_owned());
    }
    lines.join("\n")
}
