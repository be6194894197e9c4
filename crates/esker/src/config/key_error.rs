//! [`describe`]: the text about a key that can't be read. It names the key as a person writes it, and the nearest known key.

use esker_types::closest;
use figment::Source;
use figment::error::{Error, Kind};

/// The prefix of the environment variables that set keys.
pub(super) const ENVIRONMENT: &str = "ESKER__";

/// Words the errors of reading the configuration, each with its key and its source.
pub(super) fn describe(errors: Error) -> String {
    errors.into_iter().map(|error| of_key(&error)).collect::<Vec<_>>().join("; ")
}

fn of_key(error: &Error) -> String {
    let what = match (&error.kind, error.path.split_last()) {
        (Kind::UnknownField(_, known), Some((key, section))) => unknown(section, key, known),
        (kind, Some(_)) => format!("{}: {kind}", error.path.join(".")),
        (kind, None) => kind.to_string(),
    };
    match source(error) {
        Some(source) => format!("{what} (in {source})"),
        None => what,
    }
}

/// Words the error of an unknown key of a section.
fn unknown(section: &[String], key: &str, known: &[&str]) -> String {
    let full = |name: &str| section.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".");
    match closest(key, known.iter().copied()) {
        Some(near) => format!("unknown key {}; is {} meant?", full(key), full(near)),
        None => format!("unknown key {}; the keys there are {}", full(key), known.join(", ")),
    }
}

/// Returns the file or the environment variable that an error is about, if it is known.
fn source(error: &Error) -> Option<String> {
    match error.metadata.as_ref()?.source.as_ref() {
        Some(Source::File(file)) => Some(file.display().to_string()),
        Some(_) => None,
        // Only the environment has no source.
        None => Some(variable(&error.path)),
    }
}

/// Returns the environment variable that sets a key, or something below it.
fn variable(path: &[String]) -> String {
    let name = format!("{ENVIRONMENT}{}", path.join("__").to_uppercase());
    let below = format!("{name}__");
    let mut set = std::env::vars_os().filter_map(|(set, _)| set.into_string().ok());
    set.find(|set| set.to_uppercase() == name || set.to_uppercase().starts_with(&below)).unwrap_or(name)
}
