//! The Arrow representation of Iceberg's type `variant`: a struct of `metadata` and `value`, both binary views.
//!
//! Rows in memory always have the whole value in `value`, also if the file shreds it (`unshred.rs`). Spec: Parquet, "Variant
//! Binary Encoding".

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;

use super::value::Variant;

/// The variant value `null`: one byte of basic type "primitive" and primitive type 0.
const NULL: &[u8] = &[0];

/// The metadata of a variant without field names: version 1, and an empty dictionary.
const NO_NAMES: &[u8] = &[1, 0, 0];

/// The fields of the Arrow type of variants.
static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    let bytes = |name| Field::new(name, DataType::BinaryView, false);
    vec![bytes("metadata"), bytes("value")].into()
});

/// Returns the Arrow type of a variant: a struct of the binary views `metadata` and `value`, neither nullable.
///
/// No other column has this type: Esker reads other bytes in structs as binary arrays, not as views.
pub fn variant_type() -> DataType {
    DataType::Struct(FIELDS.clone())
}

/// Checks that an Arrow type is the type of a variant.
pub fn is_variant(ty: &DataType) -> bool {
    matches!(ty, DataType::Struct(fields) if fields.len() == 2 && is_bytes(&fields[0], "metadata") && is_bytes(&fields[1], "value"))
}

/// Checks that a field is a binary view of some name.
fn is_bytes(field: &Field, name: &str) -> bool {
    field.name() == name && *field.data_type() == DataType::BinaryView
}

/// Returns the metadata and the value column of an array of variants.
pub fn variant_parts(array: &StructArray) -> (&BinaryViewArray, &BinaryViewArray) {
    (array.column(0).as_binary_view(), array.column(1).as_binary_view())
}

/// Returns the variant in a row, which must not be null.
///
/// The bytes are not checked again: arrays that come from [`variants`](crate::variants) hold only valid ones.
pub fn variant_at(array: &StructArray, row: usize) -> Variant<'_> {
    let (metadata, value) = variant_parts(array);
    Variant::new(metadata.value(row), value.value(row))
}

/// Makes an array of variants from metadata and values; a row with a null value is null.
///
/// # Errors
///
/// Returns [`ArrowError::InvalidArgumentError`] if the two arrays differ in length.
pub fn variant_array(metadata: BinaryViewArray, value: BinaryViewArray) -> Result<ArrayRef, ArrowError> {
    let nulls = value.nulls().cloned();
    with_nulls(&metadata, &value, nulls)
}

/// Makes an array of variants whose null rows are `nulls`; null bytes in other rows are the variant `null`.
pub(super) fn with_nulls(
    metadata: &BinaryViewArray,
    value: &BinaryViewArray,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let columns = vec![filled(metadata, NO_NAMES), filled(value, NULL)];
    Ok(Arc::new(StructArray::try_new(FIELDS.clone(), columns, nulls)?))
}

/// Builds an array of variants row by row.
#[derive(Debug, Default)]
pub struct VariantRows {
    metadata: BinaryViewBuilder,
    values: BinaryViewBuilder,
}

impl VariantRows {
    /// Appends a null row.
    pub fn append_null(&mut self) {
        self.metadata.append_null();
        self.values.append_null();
    }

    /// Appends a variant: the bytes of its metadata and of its value.
    pub fn append(&mut self, (metadata, value): (impl AsRef<[u8]>, impl AsRef<[u8]>)) {
        self.metadata.append_value(metadata);
        self.values.append_value(value);
    }

    /// Returns the array of all appended rows.
    ///
    /// # Errors
    ///
    /// Returns the error of [`variant_array`]; the arrays of appended rows always have equal lengths, so there is none.
    pub fn finish(self) -> Result<ArrayRef, ArrowError> {
        let (metadata, value) = self.columns();
        variant_array(metadata, value)
    }

    /// Returns the metadata and the values, both null in rows without a variant.
    pub(super) fn columns(mut self) -> (BinaryViewArray, BinaryViewArray) {
        (self.metadata.finish(), self.values.finish())
    }
}

/// Replaces null bytes by `with`.
///
/// A variant that is in none of a file's columns is the variant `null`. Spec: Parquet, "Variant Shredding".
fn filled(array: &BinaryViewArray, with: &[u8]) -> ArrayRef {
    if array.null_count() == 0 {
        return Arc::new(array.clone());
    }
    let mut made = BinaryViewBuilder::with_capacity(array.len());
    array.iter().for_each(|bytes| made.append_value(bytes.unwrap_or(with)));
    Arc::new(made.finish())
}
