//! Parts of variants in shredded files. If a file has a column for a part, the rest of the variant is not read.
//!
//! A shredded variant is a struct of `metadata`, `value` and `typed_value`, and so is each of its parts, without `metadata`.
//! Spec: Parquet's "Variant Shredding".

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, StructArray, new_null_array};
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::core::get_field;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::{Column, lit};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use esker_read::{InvalidVariant, variants};

use super::cast::{as_variants_have, converted};
use super::{Extract, Path, of_values, texts};
use crate::semantics::extracted_type;

/// A physical expression for a part of a variant, in a file that has a column for the part.
///
/// The first child is the part's `typed_value`. The part's `value`, which holds values of other types, and the variant's
/// `metadata` follow if the file has them.
#[derive(Debug, Clone)]
pub(crate) struct ShreddedPart {
    extract: Extract,
    /// Name of the variant, for errors.
    name: String,
    /// The children.
    columns: Vec<Arc<dyn PhysicalExpr>>,
}

impl ShreddedPart {
    /// Returns the expression for a part of a file's column, or `None` if the file has no column for the part.
    pub(crate) fn of(extract: &Extract, column: &Column, file: &Schema) -> Result<Option<Self>> {
        // `get_field` does not take an empty name.
        let Some(names) = extract.path.names().filter(|names| !names.contains(&"")) else { return Ok(None) };
        let Some((field, mut at)) = typed(file.field(column.index()), &names) else { return Ok(None) };
        if field.data_type().is_nested() || matches!(field.data_type(), DataType::FixedSizeBinary(_) | DataType::Binary) {
            return Ok(None);
        }
        let options = Arc::new(ConfigOptions::default());
        let leaf = |path: &[String]| -> Result<Arc<dyn PhysicalExpr>> {
            let own: Arc<dyn PhysicalExpr> = Arc::new(column.clone());
            let args = std::iter::once(own).chain(path.iter().map(|name| lit(name.as_str()))).collect();
            Ok(Arc::new(ScalarFunctionExpr::try_new(get_field(), args, file, options.clone())?))
        };
        let mut columns = vec![leaf(&at)?];
        at.pop();
        at.push("value".to_owned());
        if within(file.field(column.index()), &at).is_some() {
            columns.push(leaf(&at)?);
            columns.push(leaf(&["metadata".to_owned()])?);
        }
        let extract = Extract { path: Path(Vec::new()), ..extract.clone() };
        Ok(Some(Self { extract, name: column.name().to_owned(), columns }))
    }
}

/// Returns the `typed_value` of a part, and the path to it in the variant.
fn typed<'a>(variant: &'a Field, names: &[&str]) -> Option<(&'a FieldRef, Vec<String>)> {
    let mut path = Vec::new();
    for name in names {
        path.extend(["typed_value".to_owned(), (*name).to_owned()]);
    }
    path.push("typed_value".to_owned());
    within(variant, &path).map(|field| (field, path))
}

/// Returns the field at a path of structs.
fn within<'a>(field: &'a Field, path: &[String]) -> Option<&'a FieldRef> {
    let (first, rest) = path.split_first()?;
    let DataType::Struct(fields) = field.data_type() else { return None };
    let (_, found) = fields.find(first)?;
    if rest.is_empty() { Some(found) } else { within(found, rest) }
}

impl Eq for ShreddedPart {}

impl PartialEq for ShreddedPart {
    fn eq(&self, other: &Self) -> bool {
        self.extract == other.extract && self.columns == other.columns
    }
}

impl Hash for ShreddedPart {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.extract.hash(state);
        self.columns.hash(state);
    }
}

impl fmt::Display for ShreddedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} apart", self.columns[0])
    }
}

impl PhysicalExpr for ShreddedPart {
    fn return_field(&self, _input: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(Field::new("variant_part", extracted_type(&self.extract.to), true)))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let columns: Vec<ArrayRef> =
            self.columns.iter().map(|column| column.evaluate(batch)?.into_array(batch.num_rows())).collect::<Result<_>>()?;
        let own = &as_variants_have(&columns[0])?;
        // Without a conversion between the two types, all is null, as for a value that does not fit.
        let mut found = converted(own, &self.extract.to, true)?.unwrap_or_else(|| new_null_array(&self.extract.to, own.len()));
        let lost = |row: usize| -> Result<Option<String>> {
            let is_lost = own.is_valid(row) && found.is_null(row);
            let shown = || Ok::<_, DataFusionError>(texts(of_values(&own.slice(row, 1))?.as_struct()).value(0).to_owned());
            Ok(if is_lost { Some(self.extract.unreadable(&shown()?)) } else { None })
        };
        let mut wrong: StringArray = match found.null_count() > own.null_count() {
            true => (0..own.len()).map(lost).collect::<Result<_>>()?,
            false => StringArray::new_null(own.len()),
        };
        if let [_, rest, metadata] = columns.as_slice()
            && rest.null_count() < rest.len()
        {
            let fields: Fields = [("metadata", metadata), ("value", rest)]
                .map(|(name, array)| Field::new(name, array.data_type().clone(), true))
                .into_iter()
                .collect();
            let others = StructArray::try_new(fields, vec![metadata.clone(), rest.clone()], rest.nulls().cloned())?;
            let others = variants(&(Arc::new(others) as ArrayRef)).map_err(|error| InvalidVariant::of(&self.name, error))?;
            let (values, why) = self.extract.tried(&others)?;
            let is_other: BooleanArray = (0..rest.len()).map(|row| Some(rest.is_valid(row))).collect();
            found = zip(&is_other, &values, &found)?;
            wrong = zip(&is_other, &why, &wrong)?.as_string::<i32>().clone();
        }
        let DataType::Struct(fields) = extracted_type(&self.extract.to) else {
            return Err(DataFusionError::Internal("a part is a struct".to_owned()));
        };
        Ok(ColumnarValue::Array(Arc::new(StructArray::try_new(fields, vec![found, Arc::new(wrong)], None)?)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.columns.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, columns: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { extract: self.extract.clone(), name: self.name.clone(), columns }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
