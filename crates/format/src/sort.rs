//! Sort orders.

use std::sync::Arc;

use crate::json::one_of;
use crate::{Extra, Transform};

/// In which direction values are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SortDirection {
    /// The least first.
    Asc,
    /// The greatest first.
    Desc,
}

/// Where nulls are sorted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum NullOrder {
    /// Before all values.
    #[serde(rename = "nulls-first")]
    First,
    /// After all values.
    #[serde(rename = "nulls-last")]
    Last,
}

impl<'de> serde::Deserialize<'de> for SortDirection {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        one_of(deserializer, &[("asc", Self::Asc), ("desc", Self::Desc)])
    }
}

impl<'de> serde::Deserialize<'de> for NullOrder {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [first, last] = [Self::First, Self::Last];
        one_of(deserializer, &[("nulls-first", first), ("nulls-last", last), ("nulls_first", first), ("nulls_last", last)])
    }
}

/// A field of a sort order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SortField {
    /// The field of the schema that it sorts by; none if it sorts by several.
    pub source_id: Option<i32>,
    /// The fields of the schema, where a transform takes several (version 3).
    pub source_ids: Option<Vec<i32>>,
    /// What it makes of its source.
    pub transform: Transform,
    /// Its direction.
    pub direction: SortDirection,
    /// Where its nulls come.
    pub null_order: NullOrder,
    /// What else its JSON says.
    pub extra: Extra,
}

/// How a table's rows are sorted within files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortOrder {
    /// What identifies it within its table; 0 is unsorted.
    pub order_id: i64,
    /// The fields in order.
    pub fields: Vec<SortField>,
    /// What else its JSON says.
    pub extra: Extra,
}

/// A sort order that is shared.
pub type SortOrderRef = Arc<SortOrder>;

impl SortOrder {
    /// The order of no rows.
    pub fn unsorted() -> Self {
        Self { order_id: 0, fields: Vec::new(), extra: Extra::default() }
    }

    /// Whether it sorts by nothing.
    pub fn is_unsorted(&self) -> bool {
        self.fields.is_empty()
    }
}
