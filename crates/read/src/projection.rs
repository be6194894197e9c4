//! The columns of one file that a scan decodes.

use arrow::datatypes::{FieldRef, Fields};
use parquet::arrow::ProjectionMask;
use parquet::schema::types::SchemaDescriptor;

use crate::{BatchAdapter, field_id};

/// The columns of one file that a scan decodes.
#[derive(Debug, Clone)]
pub struct Projection {
    pub(crate) mask: ProjectionMask,
    /// The projected columns with field ids, in the file's order.
    pub(crate) fields: Fields,
}

impl Projection {
    /// Projects a file onto those of its columns that the adapter's target has, by field id.
    ///
    /// `fields` are the file's top-level columns with field ids.
    pub(crate) fn new(file: &SchemaDescriptor, fields: &Fields, adapter: &BatchAdapter) -> Self {
        let wanted: Vec<i32> = adapter.target().fields().iter().filter_map(|f| field_id(f)).collect();
        let is_wanted = |f: &FieldRef| field_id(f).is_some_and(|id| wanted.contains(&id));
        let roots: Vec<usize> = (0..fields.len()).filter(|i| is_wanted(&fields[*i])).collect();
        let projected = roots.iter().map(|i| fields[*i].clone()).collect();
        Self { mask: ProjectionMask::roots(file, roots), fields: projected }
    }
}
