//! [`SecretSources`]: secrets of the configuration that come from files and commands.
//!
//! Beside every secret `KEY` of the configuration stand two more keys: `KEY_file` names a file with the secret, and `KEY_command` is a
//! command that prints it, with its arguments and without a shell. They are read before the configuration is, wherever the key stands:
//! in the file or in the environment. No error and no log has what was read. Start reading at [`is_secret`], which lists the secrets.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};
use rustix::process::{Pid, Signal, kill_process_group};

/// The time that a command gets.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The maximum size of a secret, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// The pause between two looks at whether a command that printed everything has ended.
const PAUSE: Duration = Duration::from_millis(5);

/// The ends of the names of the keys that say where a secret comes from.
pub(super) const ENDS: [&str; 2] = ["_file", "_command"];

/// Options of the stores that end as a source does, and are files which the stores read themselves.
const OPTIONS_OF_STORES: [&str; 3] = ["web_identity_token_file", "authorization_token_file", "federated_token_file"];

/// Checks that a key of the configuration is a secret. A test compares this list with the keys that the schema marks as secrets.
///
/// Every option of a storage and every property for clients may be one.
pub(super) fn is_secret(path: &[&str]) -> bool {
    matches!(
        path,
        ["auth" | "datahub", "token"]
            | ["auth", "oidc", _, "login", "client_secret"]
            | ["state", "url"]
            | ["keys", "master_key" | "previous_master_key"]
            | ["events", "webhooks" | "openlineage", _, "token"]
            | ["traces", "headers", _]
            | ["warehouses", _, "storage" | "client", _]
    )
}

/// The place that a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SecretSource {
    /// A file.
    File(String),
    /// A command with its arguments.
    Command(Vec<String>),
}

/// Reads a secret, or says why it can't be read.
pub(super) type ReadSecret<'a> = &'a dyn Fn(&SecretSource) -> Result<String, String>;

/// A source of configuration whose secrets are read from where it says.
pub(super) struct SecretSources<'a, P> {
    source: P,
    read: ReadSecret<'a>,
}

impl<'a, P> SecretSources<'a, P> {
    /// Reads `source`, and its secrets with `read`.
    pub(super) fn of(source: P, read: ReadSecret<'a>) -> Self {
        Self { source, read }
    }
}

impl<P: Provider> Provider for SecretSources<'_, P> {
    fn metadata(&self) -> Metadata {
        self.source.metadata()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut data = self.source.data()?;
        for dict in data.values_mut() {
            resolve(dict, &mut Vec::new(), self.read).map_err(figment::Error::from)?;
        }
        Ok(data)
    }
}

/// Replaces the sources of secrets in a table at `path` by the secrets.
fn resolve(dict: &mut Dict, path: &mut Vec<String>, read: ReadSecret<'_>) -> Result<(), String> {
    for (key, value) in dict.iter_mut() {
        if let Value::Dict(_, inner) = value {
            path.push(key.clone());
            resolve(inner, path, read)?;
            path.pop();
        }
    }
    let path = path.as_slice();
    let sources: Vec<(String, String)> = dict.keys().filter_map(|key| Some((key.clone(), secret_of(path, key)?))).collect();
    for (key, secret) in sources {
        let Some(value) = dict.remove(&key) else { continue };
        let full = |key: &str| path.iter().map(String::as_str).chain([key]).collect::<Vec<_>>().join(".");
        if dict.contains_key(&secret) {
            return Err(format!("{} and {} are both set; the secret comes from one place", full(&secret), full(&key)));
        }
        let text = source_of(&key, &value).and_then(|source| read(&source)).map_err(|why| format!("{}: {why}", full(&key)))?;
        dict.insert(secret, Value::String(value.tag(), text));
    }
    Ok(())
}

/// Returns the key of the secret whose source a key is; `None` if it is no source.
fn secret_of(path: &[String], key: &str) -> Option<String> {
    let secret = ENDS.iter().find_map(|end| key.strip_suffix(end)).filter(|secret| !secret.is_empty())?;
    let of_store = path.first().is_some_and(|section| section == "warehouses")
        && OPTIONS_OF_STORES.iter().any(|option| key.to_ascii_lowercase().ends_with(option));
    let full: Vec<&str> = path.iter().map(String::as_str).chain([secret]).collect();
    (is_secret(&full) && !of_store).then(|| secret.to_owned())
}

/// Reads the value of a source.
fn source_of(key: &str, value: &Value) -> Result<SecretSource, String> {
    if key.ends_with(ENDS[0]) {
        let file = value.as_str().map(|file| SecretSource::File(file.to_owned()));
        return file.ok_or_else(|| "write the path of a file".to_owned());
    }
    let words: Option<Vec<String>> =
        value.as_array().map(|words| words.iter().map(|word| word.as_str().map(str::to_owned)).collect()).unwrap_or_default();
    let words = words.filter(|words| words.first().is_some_and(|program| !program.is_empty()));
    words.map(SecretSource::Command).ok_or_else(|| "write a list of texts: the program, then its arguments".to_owned())
}

/// Reads a secret from its file, or runs the command that prints it. White space around the secret is no part of it.
///
/// # Errors
///
/// Returns the reason why there is no secret, without anything of what was read.
pub(super) fn read(source: &SecretSource) -> Result<String, String> {
    let bytes = match source {
        SecretSource::File(file) => {
            let wrong = |error: std::io::Error| format!("{file}: {error}");
            // To open a named pipe would wait for a writer, for ever.
            if !std::fs::metadata(file).map_err(wrong)?.is_file() {
                return Err(format!(
                    "{file}: it is no regular file; for what a program prints, use the key that ends in _command"
                ));
            }
            limited(std::fs::File::open(file).map_err(wrong)?).map_err(wrong)?
        }
        SecretSource::Command(command) => run(command, TIMEOUT)?,
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(too_much());
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not text in UTF-8".to_owned())?;
    let text = text.trim();
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// Runs a command that prints a secret. Returns its output as it is.
///
/// # Errors
///
/// Returns the reason why there is no output, without anything of the output.
pub(crate) fn run_for_secret(command: &[String]) -> Result<Vec<u8>, String> {
    run(command, TIMEOUT)
}

/// Words the error of a secret that is too large.
fn too_much() -> String {
    format!("it has more than {MAX_BYTES} bytes")
}

/// Reads at most one byte more than a secret may have.
fn limited(source: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Runs a command, and returns what it prints. One that prints more than a secret may have is ended.
///
/// It reads nothing from standard input. Its standard error is dropped: what programs complain about may hold secrets.
fn run(command: &[String], timeout: Duration) -> Result<Vec<u8>, String> {
    let (program, arguments) = command.split_first().ok_or("the command is empty")?;
    let deadline = Instant::now() + timeout;
    let mut prepared = Command::new(program);
    prepared.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // A group of its own, so that whatever the command started ends with it.
    let mut child = prepared.process_group(0).spawn().map_err(|error| format!("{program}: {error}"))?;
    let Some(stdout) = child.stdout.take() else {
        return Err(ended(&mut child, format!("{program}: its output can't be read")));
    };
    let (sender, output) = mpsc::channel();
    // The thread ends when the output does: the command is killed if it takes too long.
    std::thread::spawn(move || sender.send(limited(stdout)));
    let too_long = || format!("{program} took longer than {} seconds", timeout.as_secs());
    let bytes = match output.recv_timeout(timeout) {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(ended(&mut child, format!("{program}: {error}"))),
        Err(_) => return Err(ended(&mut child, too_long())),
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ended(&mut child, too_much()));
    }
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(bytes),
            Ok(Some(status)) => return Err(format!("{program} failed: {status}")),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Ok(None) => return Err(ended(&mut child, too_long())),
            Err(error) => return Err(ended(&mut child, format!("{program}: {error}"))),
        }
    }
}

/// Kills a command with all that it started, and returns the reason.
fn ended(child: &mut Child, why: String) -> String {
    // A process that has ended already is no error.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.kill();
    let _ = child.wait();
    why
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use figment::Figment;
    use figment::providers::{Format, Toml};

    use super::*;

    fn command(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Reads a configuration in which each secret is the debug form of its source.
    fn resolved(toml: &str) -> Result<Value, String> {
        let shown = |source: &SecretSource| -> Result<String, String> { Ok(format!("{source:?}")) };
        Figment::from(SecretSources::of(Toml::string(toml), &shown)).extract::<Value>().map_err(|error| error.to_string())
    }

    #[test]
    fn every_secret_has_a_file_and_a_command_and_nothing_else_has() {
        let read = resolved(
            "[auth]\ntoken_file = \"/t\"\n[events.webhooks.w]\nurl = \"u\"\ntoken_command = [\"vault\", \"read\"]\n\
             [warehouses.w.storage]\nsecret_access_key_command = [\"x\"]\nweb_identity_token_file = \"/own\"\n\
             [traces.headers]\nauthorization_file = \"/h\"\n[server.tls]\nkey_file = \"/k\"",
        );
        let read = read.expect("read");
        let text = |path: &str| read.find_ref(path).and_then(Value::as_str).map(str::to_owned);
        assert_eq!(text("auth.token").as_deref(), Some("File(\"/t\")"));
        assert_eq!(text("events.webhooks.w.token").as_deref(), Some("Command([\"vault\", \"read\"])"));
        assert_eq!(text("warehouses.w.storage.secret_access_key").as_deref(), Some("Command([\"x\"])"));
        assert_eq!(text("warehouses.w.storage.web_identity_token_file").as_deref(), Some("/own"), "an option of the store");
        assert_eq!(text("traces.headers.authorization").as_deref(), Some("File(\"/h\")"));
        assert_eq!(text("server.tls.key_file").as_deref(), Some("/k"), "no secret; it is refused as an unknown key later");
        assert!(read.find_ref("auth.token_file").is_none());
    }

    #[test]
    fn a_secret_comes_from_one_place_that_is_written_right() {
        for (toml, words) in [
            ("[auth]\ntoken = \"a\"\ntoken_file = \"/t\"", "auth.token and auth.token_file are both set"),
            ("[auth]\ntoken_file = \"/t\"\ntoken_command = [\"x\"]", "both set"),
            ("[auth]\ntoken_command = \"vault read\"", "auth.token_command: write a list of texts"),
            ("[auth]\ntoken_command = []", "auth.token_command: write a list of texts"),
            ("[auth]\ntoken_command = [\"\"]", "auth.token_command: write a list of texts"),
            ("[auth]\ntoken_command = [\"x\", 1]", "auth.token_command: write a list of texts"),
            ("[auth]\ntoken_file = 1", "auth.token_file: write the path of a file"),
        ] {
            let error = resolved(toml).expect_err(toml);
            assert!(error.contains(words), "{toml:?}: {error}");
        }
    }

    #[test]
    fn a_file_is_read_without_the_white_space_around_the_secret() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().display().to_string();
        let from = |content: &[u8]| {
            std::fs::write(&path, content).expect("written");
            read(&SecretSource::File(path.clone()))
        };
        assert_eq!(from(b" a secret\r\n").as_deref(), Ok("a secret"));
        let large = vec![b'x'; 70_000];
        for (content, words) in [(b"\n".to_vec(), "empty"), (vec![0xff], "UTF-8"), (large, "more than 65536 bytes")] {
            let error = from(&content).expect_err(words);
            assert!(error.contains(words) && !error.contains("xxx"), "{error}");
        }
        assert!(read(&SecretSource::File("/does/not/exist".to_owned())).is_err());
    }

    #[test]
    fn a_pipe_without_a_writer_and_a_directory_are_refused_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = directory.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
        for path in [pipe.as_path(), directory.path()] {
            let error = read(&SecretSource::File(path.display().to_string())).expect_err("no regular file");
            assert!(error.contains("it is no regular file"), "{error}");
        }
    }

    #[test]
    fn a_command_runs_without_a_shell_and_its_failure_tells_nothing_of_its_output() {
        let read = |words: &[&str]| read(&SecretSource::Command(command(words)));
        assert_eq!(read(&["echo", "$HOME", ";", "x"]).as_deref(), Ok("$HOME ; x"));
        for (words, expected) in [
            (vec!["sh", "-c", "echo hunter2; echo hunter2 >&2; exit 3"], "sh failed: exit status: 3"),
            (vec!["sh", "-c", "true"], "it is empty"),
            (vec!["/does/not/exist"], "/does/not/exist: "),
            (vec!["sh", "-c", "while true; do echo hunter2; done"], "it has more than 65536 bytes"),
        ] {
            let error = read(&words).expect_err(expected);
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_what_it_started() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let script = format!("sleep 600 & echo $! > {}; wait", file.path().display());
        let error = run(&command(&["sh", "-c", &script]), Duration::from_secs(1)).expect_err("it hangs");
        assert_eq!(error, "sh took longer than 1 seconds");
        let started = std::fs::read_to_string(file.path()).expect("read");
        let began = Instant::now();
        loop {
            // What was killed is a zombie until its new parent asks for it.
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", started.trim())).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{stat}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn no_source_is_read_twice() {
        let seen = RefCell::new(0);
        let counted = |_: &SecretSource| -> Result<String, String> {
            *seen.borrow_mut() += 1;
            Ok("secret".to_owned())
        };
        let figment = Figment::from(SecretSources::of(Toml::string("[auth]\ntoken_file = \"/t\""), &counted));
        figment.extract::<Value>().expect("read");
        assert_eq!(*seen.borrow(), 1);
    }
}
