//! Sort orders: the order of a table's rows within files.
//!
//! Spec: "Sorting".

use std::sync::Arc;

use crate::json::one_of;
use crate::{Extra, Transform};

/// The direction in which a sort field orders values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SortDirection {
    /// Ascending: the least value first.
    Asc,
    /// Descending: the greatest value first.
    Desc,
}

/// The position of nulls in a sort order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum NullOrder {
    /// Nulls come before all values.
    #[serde(rename = "nulls-first")]
    First,
    /// Nulls come after all values.
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
///
/// Spec: "Sorting".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SortField {
    /// The id of the schema's field to sort by; `None` if `source_ids` has several.
    pub source_id: Option<i32>,
    /// The ids of the schema's fields, for a transform of several arguments (format version 3).
    pub source_ids: Option<Vec<i32>>,
    /// The transform applied to the source value before it is compared.
    pub transform: Transform,
    /// The direction of the order.
    pub direction: SortDirection,
    /// The position of nulls.
    pub null_order: NullOrder,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

/// The order of a table's rows within files.
///
/// Spec: "Sorting".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortOrder {
    /// The id of the order, unique within the table; 0 is the unsorted order.
    pub order_id: i64,
    /// The fields, the most significant first.
    pub fields: Vec<SortField>,
    /// The unknown fields of its JSON object.
    pub extra: Extra,
}

/// A shared sort order.
pub type SortOrderRef = Arc<SortOrder>;

impl SortOrder {
    /// Returns the unsorted order, whose id is 0.
    pub fn unsorted() -> Self {
        Self { order_id: 0, fields: Vec::new(), extra: Extra::default() }
    }

    /// Returns `true` if the order has no fields.
    pub fn is_unsorted(&self) -> bool {
        self.fields.is_empty()
    }
}
