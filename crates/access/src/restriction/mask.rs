//! The actions of column masks, which the REST specification names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Result, RightsError};

/// What a column mask does with a value. NULL stays NULL, except with [`MaskAction::MaskToFixedValue`].
///
/// Spec: REST OpenAPI document, `ReadRestrictions`, `Action` (apache/iceberg #13879).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MaskAction {
    /// Replaces digits by `n` and everything else by `x`, but for `(`, `)`, `,`, `.`, `-` and `@`. For strings.
    MaskAlphanum,
    /// Replaces the value by a fixed one of its type, NULL too.
    MaskToFixedValue,
    /// Replaces the value by NULL. For optional fields.
    ReplaceWithNull,
    /// Shows the first four characters, and masks the rest like [`MaskAction::MaskAlphanum`]. For strings.
    #[serde(rename = "show-first-4")]
    ShowFirst4,
    /// Shows the last four characters, and masks the rest like [`MaskAction::MaskAlphanum`]. For strings.
    #[serde(rename = "show-last-4")]
    ShowLast4,
    /// Sets everything below the year to its smallest value. For dates and timestamps.
    TruncateToYear,
    /// Sets everything below the month to its smallest value. For dates and timestamps.
    TruncateToMonth,
    /// Replaces the value by its SHA-256 hash. For strings, ints, longs and binaries.
    #[serde(rename = "sha-256-global")]
    Sha256Global,
    /// Replaces the value by its SHA-256 hash with a salt of the query. For strings, ints, longs and binaries.
    #[serde(rename = "sha-256-query-local")]
    Sha256QueryLocal,
}

impl MaskAction {
    /// Every action, in the order of the specification.
    pub const ALL: [Self; 9] = [
        Self::MaskAlphanum,
        Self::MaskToFixedValue,
        Self::ReplaceWithNull,
        Self::ShowFirst4,
        Self::ShowLast4,
        Self::TruncateToYear,
        Self::TruncateToMonth,
        Self::Sha256Global,
        Self::Sha256QueryLocal,
    ];

    /// Returns the name of the action in the specification, the API and the state database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaskAlphanum => "mask-alphanum",
            Self::MaskToFixedValue => "mask-to-fixed-value",
            Self::ReplaceWithNull => "replace-with-null",
            Self::ShowFirst4 => "show-first-4",
            Self::ShowLast4 => "show-last-4",
            Self::TruncateToYear => "truncate-to-year",
            Self::TruncateToMonth => "truncate-to-month",
            Self::Sha256Global => "sha-256-global",
            Self::Sha256QueryLocal => "sha-256-query-local",
        }
    }
}

impl fmt::Display for MaskAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for MaskAction {
    type Err = RightsError;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|action| action.as_str() == text);
        found.ok_or_else(|| RightsError::UnknownAction { name: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_the_name_of_the_specification_everywhere() {
        let names = MaskAction::ALL.map(MaskAction::as_str);
        let expected = [
            "mask-alphanum",
            "mask-to-fixed-value",
            "replace-with-null",
            "show-first-4",
            "show-last-4",
            "truncate-to-year",
            "truncate-to-month",
            "sha-256-global",
            "sha-256-query-local",
        ];
        assert_eq!(names, expected);
        for action in MaskAction::ALL {
            assert_eq!(serde_json::to_value(action).expect("JSON"), action.as_str());
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        let error = "hash".parse::<MaskAction>().expect_err("no action").to_string();
        assert!(error.contains("\"hash\"") && error.contains("mask-alphanum, mask-to-fixed-value"), "{error}");
    }
}
