//! Conversion of values to the types of a table's columns (assignment).
//!
//! Storing never changes a value: one that a column cannot hold exactly is an error that names the column and the value. Only
//! columns of floating point hold the nearest value. Start reading at `TargetColumn::store`.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Float32Array, Float64Array, ListArray, MapArray, RecordBatch,
    RecordBatchOptions, StructArray, make_array, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, Schema as ArrowSchema, Time64MicrosecondType};
use arrow::util::display::array_value_to_string;
use esker_format::{NestedField, PrimitiveType, Schema, Type};
use esker_types::format_count;

use crate::error_wording::sql_type;
use crate::semantics::nearest;
use crate::{QueryError, Result, geo, opaque, stored_text, timestamp_text};

/// Describes the values of a row that are not as many as the columns they are for.
pub(crate) fn values_for(values: usize, columns: usize) -> String {
    format!("{} for {}", format_count(values as u64, "value"), format_count(columns as u64, "column"))
}

/// Maximum number of characters of a value that an error shows.
const SHOWN: usize = 80;

/// Cast options under which a value that cannot be cast becomes null. Callers then look for such nulls.
const SAFE: CastOptions<'static> = CastOptions { safe: true, format_options: arrow::util::display::FormatOptions::new() };

/// A column that values are stored in: its name, its Iceberg type and its Arrow field.
#[derive(Debug, Clone)]
pub(crate) struct TargetColumn {
    /// The name; names of nested fields are joined by dots.
    path: String,
    ty: Type,
    field: FieldRef,
}

/// Returns the columns of a table, in order.
///
/// A column whose type cannot be written has the Arrow type null, so that it takes only nulls.
pub(crate) fn columns(schema: &Schema) -> Vec<TargetColumn> {
    let fields = schema.as_struct().fields();
    let column = |(field, arrow): (&Arc<NestedField>, &FieldRef)| TargetColumn {
        path: field.name.clone(),
        ty: field.field_type.as_ref().clone(),
        field: match opaque::type_of(arrow) {
            Some(_) => Arc::new(Field::new(&field.name, DataType::Null, !field.required)),
            None => arrow.clone(),
        },
    };
    fields.iter().zip(opaque::arrow_columns(schema).fields()).map(column).collect()
}

/// Converts the first columns of a batch to a table's columns, matched by place.
///
/// Further columns of the batch stay as they are.
///
/// # Errors
///
/// Returns [`QueryError::Statement`] if the batch has too few columns, or if a value does not fit its column. Returns
/// [`QueryError::Execution`] if the converted columns do not form a batch.
pub(crate) fn rows(batch: &RecordBatch, columns: &[TargetColumn]) -> Result<RecordBatch> {
    if batch.num_columns() < columns.len() {
        return Err(wrong(values_for(batch.num_columns(), columns.len())));
    }
    let (mut arrays, mut fields) = (batch.columns().to_vec(), batch.schema().fields().to_vec());
    for (at, column) in columns.iter().enumerate() {
        arrays[at] = column.store(&arrays[at])?;
        fields[at] = column.field.clone();
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), arrays, &options)?)
}

fn wrong(what: impl Into<String>) -> QueryError {
    QueryError::Statement(what.into())
}

impl TargetColumn {
    pub(crate) fn name(&self) -> &str {
        &self.path
    }

    /// Returns the column's Arrow type.
    pub(crate) fn data_type(&self) -> &DataType {
        self.field.data_type()
    }

    /// Returns the column without the metadata of nested fields, which scalar values lose.
    pub(crate) fn plain(&self) -> Self {
        let field = Field::new(self.field.name(), without_metadata(self.field.data_type()), self.field.is_nullable());
        Self { field: Arc::new(field), ..self.clone() }
    }

    /// Returns the column of a nested field.
    fn inner(&self, of: &NestedField, field: &FieldRef) -> Self {
        Self { path: format!("{}.{}", self.path, of.name), ty: of.field_type.as_ref().clone(), field: field.clone() }
    }

    /// Converts an array to the column's type.
    ///
    /// # Errors
    ///
    /// Returns [`QueryError::Statement`] if the column cannot hold a value exactly, or is required and a value is null. Returns
    /// [`QueryError::Execution`] if the converted values do not form an array.
    pub(crate) fn store(&self, array: &ArrayRef) -> Result<ArrayRef> {
        if !self.field.is_nullable() && array.logical_null_count() > 0 {
            return Err(wrong(format!("column {} is required and can't be null", self.path)));
        }
        let to = self.field.data_type();
        match array.data_type() {
            from if from == to => Ok(array.clone()),
            DataType::Null => Ok(new_null_array(to, array.len())),
            DataType::Dictionary(_, values) => self.store(&self.cast(array, values)?),
            DataType::RunEndEncoded(_, values) => self.store(&self.cast(array, values.data_type())?),
            _ => match &self.ty {
                Type::Primitive(ty) => self.primitive(array, ty),
                Type::Struct(_) => self.fields(array),
                Type::List(_) => self.elements(array),
                Type::Map(_) => self.entries(array),
                Type::Variant => Err(self.no_variant(array.data_type())),
            },
        }
    }

    /// Builds the error for values of a type that the column cannot store.
    fn refuse(&self, from: &DataType) -> QueryError {
        wrong(format!("column {} is {}: {} can't be stored in it; cast it", self.path, type_name(&self.ty), sql_type(from)))
    }

    /// Builds the error for values that are not variants.
    fn no_variant(&self, from: &DataType) -> QueryError {
        let what = format!("column {} is a variant: {} can't be stored in it; ", self.path, sql_type(from));
        wrong(what + "use parse_json(…) for JSON text, or CAST(… AS VARIANT) for any value")
    }

    /// Builds the error for the value in `row`, which does not fit the column.
    fn value_error(&self, array: &ArrayRef, row: usize) -> QueryError {
        let value = array_value_to_string(array, row).unwrap_or_else(|_| "a value".to_owned());
        let shown: String = value.chars().take(SHOWN).collect();
        let more = if shown.len() < value.len() { "…" } else { "" };
        let quote = if matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) { "'" } else { "" };
        wrong(format!("column {}: {quote}{shown}{more}{quote} does not fit {}", self.path, type_name(&self.ty)))
    }

    /// Casts an array; values that cannot be cast become null.
    fn cast(&self, array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        let cast = match array.data_type() {
            DataType::Decimal128(..) if to.is_floating() => nearest(array, to),
            _ => cast_with_options(array, to, &SAFE).map_err(Into::into),
        };
        cast.map_err(|_| self.refuse(array.data_type()))
    }

    /// Casts an array to the column's type. A value that becomes null is an error.
    fn cast_or_refuse(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let stored = self.cast(array, self.field.data_type())?;
        let lost = (0..array.len()).find(|i| array.is_valid(*i) && stored.is_null(*i));
        lost.map_or(Ok(stored), |row| Err(self.value_error(array, row)))
    }

    /// Casts an array to the column's type. A value that differs after a cast back is an error.
    fn cast_without_loss(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let array = &positive_zero(array);
        let stored = self.cast_or_refuse(array)?;
        let back = self.cast(&stored, array.data_type())?;
        let differs: BooleanArray = distinct(array, &back).map_err(QueryError::from)?;
        let changed = (0..array.len()).find(|i| differs.value(*i));
        changed.map_or(Ok(stored), |row| Err(self.value_error(array, row)))
    }

    /// Casts numbers to the nearest values of floating point. A value that becomes infinite or zero is an error.
    fn nearest(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let stored = self.cast_or_refuse(array)?;
        let as_doubles = |array: &ArrayRef| self.cast(array, &DataType::Float64);
        let (before, after) = (as_doubles(array)?, as_doubles(&stored)?);
        let (before, after) = (before.as_primitive::<Float64Type>(), after.as_primitive::<Float64Type>());
        let lost = |i: &usize| {
            let (before, after) = (before.value(*i), after.value(*i));
            (after.is_infinite() && !before.is_infinite()) || (after == 0.0 && before != 0.0)
        };
        let lost = (0..array.len()).filter(|i| array.is_valid(*i)).find(lost);
        lost.map_or(Ok(stored), |row| Err(self.value_error(array, row)))
    }

    /// Casts times of day. A value outside the day, which ends before the next midnight, is an error.
    fn time_of_day(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let stored = self.cast_without_loss(array)?;
        let times = stored.as_primitive::<Time64MicrosecondType>();
        const DAY: i64 = 86_400_000_000;
        let lost = times.iter().position(|time| time.is_some_and(|time| !(0..DAY).contains(&time)));
        let refuse = |row| wrong(format!("column {}: {} microseconds are not a time of day", self.path, times.value(row)));
        match lost {
            Some(row) => Err(refuse(row)),
            None => Ok(stored),
        }
    }

    /// Converts an array to the column's primitive type.
    fn primitive(&self, array: &ArrayRef, ty: &PrimitiveType) -> Result<ArrayRef> {
        let from = array.data_type();
        let text = matches!(from, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let binary =
            matches!(from, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_));
        let number = from.is_integer() || from.is_floating() || from.is_decimal();
        let date = matches!(from, DataType::Date32 | DataType::Date64);
        let time = matches!(from, DataType::Time32(_) | DataType::Time64(_));
        let timestamp = matches!(from, DataType::Timestamp(..));
        match ty {
            PrimitiveType::String if text => self.cast_or_refuse(array),
            PrimitiveType::String if time || timestamp => self.cast_or_refuse(&timestamp_text::as_texts(array)?),
            PrimitiveType::String if number || date || from == &DataType::Boolean => self.cast_or_refuse(array),
            PrimitiveType::Binary if text || binary => self.cast_or_refuse(array),
            PrimitiveType::Geometry { .. } | PrimitiveType::Geography { .. } if binary => {
                let bytes = self.cast(array, &DataType::LargeBinary)?;
                match geo::first_wrong(bytes.as_binary::<i64>()) {
                    Some(row) => Err(wrong(format!("column {}: value {} {}", self.path, row + 1, geo::NO_SHAPE))),
                    None => self.cast_or_refuse(array),
                }
            }
            PrimitiveType::Geometry { .. } | PrimitiveType::Geography { .. } if text => Err(wrong(format!(
                "column {} is {}: text can't be stored in it; use ST_GeomFromText(…) to convert it",
                self.path,
                type_name(&self.ty)
            ))),
            PrimitiveType::Fixed(n) if binary => self.fixed(array, usize::try_from(*n).unwrap_or(usize::MAX)),
            PrimitiveType::Uuid if from == &DataType::FixedSizeBinary(16) => self.cast_or_refuse(array),
            PrimitiveType::Int | PrimitiveType::Long | PrimitiveType::Decimal { .. } if number => self.cast_without_loss(array),
            PrimitiveType::Float | PrimitiveType::Double if from.is_integer() || is_whole(from) => self.cast_without_loss(array),
            PrimitiveType::Float | PrimitiveType::Double if number => self.nearest(array),
            PrimitiveType::Date if date || timestamp => self.cast_without_loss(array),
            PrimitiveType::Time if time => self.time_of_day(array),
            PrimitiveType::Timestamp | PrimitiveType::Timestamptz | PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs
                if date || timestamp =>
            {
                self.cast_without_loss(array)
            }
            _ if text && !matches!(ty, PrimitiveType::Fixed(_)) => {
                let texts = self.cast(array, &DataType::Utf8)?;
                let stored = stored_text::read(texts.as_string::<i32>(), ty, self.field.data_type());
                stored.ok_or_else(|| self.refuse(from))?.map_err(|row| self.value_error(array, row))
            }
            _ => Err(self.refuse(from)),
        }
    }

    /// Converts binary values to fixed ones. A value of another length is an error.
    fn fixed(&self, array: &ArrayRef, length: usize) -> Result<ArrayRef> {
        let bytes = self.cast(array, &DataType::LargeBinary)?;
        let bytes = bytes.as_binary::<i64>();
        if let Some(row) = (0..bytes.len()).find(|i| bytes.is_valid(*i) && bytes.value(*i).len() != length) {
            let given = bytes.value(row).len();
            return Err(wrong(format!("column {}: a value of {given} B does not fit {}", self.path, type_name(&self.ty))));
        }
        let size = i32::try_from(length).map_err(|e| QueryError::Execution(e.to_string()))?;
        let stored = FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes.iter(), size);
        Ok(Arc::new(stored.map_err(QueryError::from)?))
    }

    /// Converts structs. Fields are matched by name; a field that is not given becomes null.
    fn fields(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let (Type::Struct(ty), DataType::Struct(arrow), Some(given)) = (&self.ty, self.field.data_type(), array.as_struct_opt())
        else {
            return Err(self.refuse(array.data_type()));
        };
        if let Some(unknown) = given.fields().iter().find(|f| ty.field_by_name(f.name()).is_none()) {
            return Err(wrong(format!("column {} has no field {}", self.path, unknown.name())));
        }
        let mut stored = Vec::with_capacity(arrow.len());
        for (field, arrow) in ty.fields().iter().zip(arrow) {
            let column = self.inner(field, arrow);
            let child = match given.column_by_name(&field.name) {
                Some(child) => within(child, given.nulls())?,
                None => new_null_array(&DataType::Null, given.len()),
            };
            // Where the struct is null, its fields are null even if they are required.
            let optional = Self { field: Arc::new(Field::clone(arrow).with_nullable(true)), ..column };
            let child = optional.store(&child)?;
            let lacks = |i: &usize| given.is_valid(*i) && child.is_null(*i);
            if !arrow.is_nullable() && (0..given.len()).any(|i| lacks(&i)) {
                return Err(wrong(format!("column {} is required and can't be null", optional.path)));
            }
            stored.push(child);
        }
        let stored = StructArray::try_new_with_length(arrow.clone(), stored, given.nulls().cloned(), given.len());
        Ok(Arc::new(stored.map_err(QueryError::from)?))
    }

    /// Converts lists, of any of Arrow's list types.
    fn elements(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let (Type::List(ty), DataType::List(arrow)) = (&self.ty, self.field.data_type()) else {
            return Err(self.refuse(array.data_type()));
        };
        let item = match array.data_type() {
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item) => item.clone(),
            other => return Err(self.refuse(other)),
        };
        let lists = self.cast(array, &DataType::List(item))?;
        let lists = lists.as_list::<i32>();
        let stored = self.inner(&ty.element_field, arrow).store(lists.values())?;
        let stored = ListArray::try_new(arrow.clone(), lists.offsets().clone(), stored, lists.nulls().cloned());
        Ok(Arc::new(stored.map_err(QueryError::from)?))
    }

    /// Converts maps.
    fn entries(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let (Type::Map(ty), DataType::Map(arrow, sorted), Some(given)) = (&self.ty, self.field.data_type(), array.as_map_opt())
        else {
            return Err(self.refuse(array.data_type()));
        };
        let DataType::Struct(fields) = arrow.data_type() else { return Err(self.refuse(array.data_type())) };
        let keys = self.inner(&ty.key_field, &fields[0]).store(given.keys())?;
        let values = self.inner(&ty.value_field, &fields[1]).store(given.values())?;
        let failed = |e: arrow::error::ArrowError| QueryError::Execution(e.to_string());
        let entries = StructArray::try_new(fields.clone(), vec![keys, values], None).map_err(failed)?;
        let stored = MapArray::try_new(arrow.clone(), given.offsets().clone(), entries, given.nulls().cloned(), *sorted);
        Ok(Arc::new(stored.map_err(failed)?))
    }
}

/// Returns the type without the metadata of its nested fields.
fn without_metadata(ty: &DataType) -> DataType {
    let plain = |f: &FieldRef| Arc::new(Field::new(f.name(), without_metadata(f.data_type()), f.is_nullable()));
    match ty {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain).collect()),
        DataType::List(item) => DataType::List(plain(item)),
        DataType::Map(entries, sorted) => DataType::Map(plain(entries), *sorted),
        other => other.clone(),
    }
}

/// Returns a struct's child array that is null wherever the struct is.
fn within(child: &ArrayRef, nulls: Option<&NullBuffer>) -> Result<ArrayRef> {
    let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0 && child.data_type() != &DataType::Null) else {
        return Ok(child.clone());
    };
    let both = NullBuffer::union(child.nulls(), Some(nulls));
    let data = child.to_data().into_builder().nulls(both).build().map_err(QueryError::from)?;
    Ok(make_array(data))
}

/// Checks for decimals without a fraction, as integers beyond `BIGINT` are.
fn is_whole(ty: &DataType) -> bool {
    matches!(ty, DataType::Decimal128(_, ..=0))
}

/// Replaces -0.0 by 0.0: only floating point has a negative zero.
fn positive_zero(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float64 => {
            let zeroed: Float64Array = array.as_primitive::<Float64Type>().unary(|v| v + 0.0);
            Arc::new(zeroed)
        }
        DataType::Float32 => {
            let zeroed: Float32Array = array.as_primitive::<Float32Type>().unary(|v| v + 0.0);
            Arc::new(zeroed)
        }
        _ => array.clone(),
    }
}

/// Returns the name of an Iceberg type for messages.
fn type_name(ty: &Type) -> String {
    match ty {
        Type::Primitive(ty) => ty.to_string(),
        Type::Struct(_) => "a struct".to_owned(),
        Type::List(_) => "a list".to_owned(),
        Type::Map(_) => "a map".to_owned(),
        Type::Variant => "a variant".to_owned(),
    }
}
