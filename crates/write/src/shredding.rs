//! Decides which fields of variants a rewrite shreds: those that its input files shred.
//!
//! [`Shredding::of_files`] merges the columns of all input files; [`Shredding::shredded`] applies the result and verifies that no
//! value changed. The work on arrays is in `variant_shred.rs`. Spec: Parquet, "Variant Shredding".

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::error::ArrowError;
use esker_read::{can_be_shredded, field_id, variant_at, variant_hash, variant_type, variants};

use crate::variant_shred;

/// The shredding of a table's variant columns.
///
/// It maps a variant's field id to a shredding type: a struct of shredded fields by name, a list, or a primitive type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shredding {
    types: HashMap<i32, DataType>,
}

/// The columns that some files have for one field of a variant.
#[derive(Debug, Clone, Default)]
struct FieldShredding {
    /// Primitive types of the field's column, with the number of rows in files that have it.
    columns: Vec<(DataType, u64)>,
    /// Number of rows in files that shred the field as an object.
    objects: u64,
    /// The shredded fields of those objects.
    fields: Vec<(String, FieldShredding)>,
    /// Number of rows in files that shred the field as an array.
    arrays: u64,
    /// The shredded items of those arrays.
    items: Option<Box<FieldShredding>>,
}

impl Shredding {
    /// Merges the shredding of some files, each given by its columns and its number of rows.
    ///
    /// A field that any file shreds stays shredded. If files shred it to different types, it gets the type of most rows.
    pub fn of_files<'a>(files: impl IntoIterator<Item = (&'a Fields, u64)>) -> Self {
        let mut parts: HashMap<i32, FieldShredding> = HashMap::new();
        for (fields, rows) in files {
            fields.iter().for_each(|field| collect_shredding(field, rows, &mut parts));
        }
        let types = parts.into_iter().filter_map(|(id, part)| Some((id, part.ty()?))).collect();
        Self { types }
    }

    /// Returns true if no variant is shredded.
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// Returns the shredding type of a variant column.
    pub(crate) fn of(&self, field: &Field) -> Option<&DataType> {
        self.types.get(&field_id(field)?)
    }

    /// Returns the type of a variant column in files.
    pub(crate) fn type_of(&self, field: &Field) -> DataType {
        self.of(field).map_or_else(variant_type, variant_shred::column_type)
    }

    /// Shreds a column of variants, and verifies that no value changed. A column without shredding is returned as it is.
    pub(crate) fn shredded(&self, field: &FieldRef, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        match self.of(field) {
            Some(ty) => {
                let made = variant_shred::shredded(array.as_struct(), ty)?;
                check_unchanged(array.as_struct(), variants(&made)?.as_struct())?;
                Ok(made)
            }
            None => Ok(array.clone()),
        }
    }
}

/// Returns an error if shredding changed a value.
///
/// The content hash of a rewrite covers the rows before shredding, so it would not notice.
fn check_unchanged(before: &StructArray, after: &StructArray) -> Result<(), ArrowError> {
    let hash = |array: &StructArray, row: usize| array.is_valid(row).then(|| variant_hash(variant_at(array, row)));
    match (0..before.len()).find(|row| hash(before, *row) != hash(after, *row)) {
        Some(row) => Err(ArrowError::ComputeError(format!("variant {row} of a batch has another value after shredding"))),
        None => Ok(()),
    }
}

/// Adds the shredding of a file's column to `parts`.
///
/// In a file, a variant is a struct with a field `metadata` that is no field of the table.
fn collect_shredding(field: &Field, rows: u64, parts: &mut HashMap<i32, FieldShredding>) {
    match (field.data_type(), field_id(field)) {
        (DataType::Struct(fields), Some(id)) if is_variant_in_file(fields) => {
            if let Some((_, typed)) = fields.find("typed_value") {
                parts.entry(id).or_default().add(typed.data_type(), rows);
            }
        }
        (DataType::Struct(fields), _) => fields.iter().for_each(|field| collect_shredding(field, rows, parts)),
        (DataType::List(item) | DataType::Map(item, _), _) => collect_shredding(item, rows, parts),
        _ => {}
    }
}

/// Checks that a struct in a file is a variant.
fn is_variant_in_file(fields: &Fields) -> bool {
    let own = |name: &str| fields.find(name).is_some_and(|(_, field)| field_id(field).is_none());
    own("metadata") && (own("value") || own("typed_value"))
}

impl FieldShredding {
    /// Adds the type of a `typed_value` column, in a file of `rows` rows.
    fn add(&mut self, ty: &DataType, rows: u64) {
        match ty {
            DataType::Struct(fields) => {
                self.objects += rows;
                for field in fields {
                    let Some(typed) = typed_value(field) else { continue };
                    let at = match self.fields.iter().position(|(name, _)| name == field.name()) {
                        Some(at) => at,
                        None => {
                            self.fields.push((field.name().clone(), Self::default()));
                            self.fields.len() - 1
                        }
                    };
                    self.fields[at].1.add(typed.data_type(), rows);
                }
            }
            DataType::List(item) => {
                self.arrays += rows;
                if let Some(typed) = typed_value(item) {
                    self.items.get_or_insert_default().add(typed.data_type(), rows);
                }
            }
            ty if !can_be_shredded(ty) => {}
            ty => match self.columns.iter_mut().find(|(known, _)| known == ty) {
                Some((_, n)) => *n += rows,
                None => self.columns.push((ty.clone(), rows)),
            },
        }
    }

    /// Returns the shredding type of most rows; none if nothing is shredded.
    fn ty(self) -> Option<DataType> {
        // Of two types with equally many rows, the first seen wins.
        let most = self.columns.into_iter().reduce(|best, next| if next.1 > best.1 { next } else { best });
        let of_column = most.as_ref().map_or(0, |(_, rows)| *rows);
        if self.objects > of_column && self.objects >= self.arrays {
            let fields = self.fields.into_iter().filter_map(|(name, part)| Some(Field::new(name, part.ty()?, true)));
            let fields: Fields = fields.collect();
            return (!fields.is_empty()).then_some(DataType::Struct(fields));
        }
        match self.items {
            Some(items) if self.arrays > of_column => Some(DataType::new_list(items.ty()?, true)),
            _ => most.map(|(ty, _)| ty),
        }
    }
}

/// Returns the column `typed_value` of a shredded field, if it has one.
fn typed_value(part: &Field) -> Option<&FieldRef> {
    match part.data_type() {
        DataType::Struct(pair) => pair.find("typed_value").map(|(_, field)| field),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::RecordBatch;
    use esker_read::is_variant;
    use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
    use parquet::variant::{
        ShreddedSchemaBuilder, Variant, VariantArray, VariantArrayBuilder, VariantBuilderExt, VariantDecimal4, shred_variant,
        unshred_variant,
    };

    use super::*;

    fn in_file(id: i32, typed: Option<&DataType>) -> FieldRef {
        let empty = VariantArrayBuilder::new(0).build();
        let array = match typed {
            Some(ty) => shred_variant(&empty, ty).expect("a type"),
            None => empty,
        };
        let id = [(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into();
        Arc::new(array.field("v").with_metadata(id))
    }

    fn object(fields: &[(&str, DataType)]) -> DataType {
        DataType::Struct(fields.iter().map(|(name, ty)| Field::new(*name, ty.clone(), true)).collect())
    }

    fn of(files: &[(Option<DataType>, u64)]) -> Option<DataType> {
        let files: Vec<(Fields, u64)> = files.iter().map(|(ty, rows)| (vec![in_file(7, ty.as_ref())].into(), *rows)).collect();
        Shredding::of_files(files.iter().map(|(fields, rows)| (fields, *rows))).types.remove(&7)
    }

    #[test]
    fn what_any_file_has_apart_stays_apart_with_the_type_that_most_rows_have() {
        let (int, text) = (DataType::Int64, DataType::Utf8);
        assert_eq!(of(&[(None, 9)]), None);
        let one = object(&[("a", int.clone())]);
        let other = object(&[("a", text.clone()), ("b", object(&[("c", text.clone())]))]);
        let both = |a: DataType| object(&[("a", a), ("b", object(&[("c", text.clone())]))]);
        assert_eq!(of(&[(Some(one.clone()), 10), (Some(other.clone()), 5), (None, 100)]), Some(both(int.clone())));
        assert_eq!(of(&[(Some(one.clone()), 5), (Some(other), 10)]), Some(both(text.clone())));
        assert_eq!(of(&[(Some(one.clone()), 5), (Some(text.clone()), 10)]), Some(text.clone()));
        assert_eq!(of(&[(Some(one.clone()), 11), (Some(text), 10)]), Some(one));
        let list = DataType::new_list(int, true);
        assert_eq!(of(&[(Some(list.clone()), 5)]), Some(list));
    }

    /// A value that does not fit its column stays a variant: shredding casts nothing.
    #[test]
    fn values_of_other_types_stay_values() {
        let decimal = |unscaled, scale| Variant::Decimal4(VariantDecimal4::try_new(unscaled, scale).expect("a decimal"));
        let all = [
            Variant::Null,
            Variant::BooleanTrue,
            Variant::Int8(7),
            Variant::Int64(i64::MAX),
            Variant::Float(1.5),
            Variant::Double(2.0),
            Variant::Double(f64::NAN),
            Variant::from("7"),
            Variant::from("2024-01-01"),
            decimal(150, 2),
            decimal(7, 0),
            Variant::Binary(&[0xff, 0]),
            Variant::Date(chrono_date()),
        ];
        let mut builder = VariantArrayBuilder::new(all.len());
        all.iter().for_each(|value| builder.append_variant(value.clone()));
        let mut list = builder.try_new_list().expect("a list");
        list.append_value(1_i8);
        list.append_value("x");
        list.finish();
        builder.append_null();
        let array = builder.build();
        let whole = esker_read::variant_array(
            array.metadata_column().as_binary_view().clone(),
            nulled(array.value_column().as_binary_view(), array.nulls()),
        );
        let whole = whole.expect("variants");
        let hashes = |array: &VariantArray| -> Vec<Option<u64>> {
            {
                let array = variants(&ArrayRef::from(array.clone())).expect("variants");
                let array = array.as_struct();
                (0..array.len()).map(|i| array.is_valid(i).then(|| variant_hash(variant_at(array, i)))).collect()
            }
        };
        let types = [
            DataType::Boolean,
            DataType::Int8,
            DataType::Int32,
            DataType::Int64,
            DataType::Float32,
            DataType::Float64,
            DataType::Utf8,
            DataType::Binary,
            DataType::Date32,
            DataType::Decimal128(9, 1),
            DataType::Decimal128(20, 4),
            DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None),
            DataType::new_list(DataType::Int64, true),
            ShreddedSchemaBuilder::new().with_path("a", &DataType::Int64).expect("a path").build(),
        ];
        for ty in types {
            let shredded = variant_shred::shredded(whole.as_struct(), &ty).expect("parts");
            assert_eq!(shredded.data_type(), &variant_shred::column_type(&ty));
            let back = unshred_variant(&VariantArray::try_new(&shredded).expect("variants")).expect("whole again");
            assert_eq!(hashes(&back), hashes(&array), "{ty}");
        }
    }

    fn nulled(
        values: &arrow::array::BinaryViewArray,
        nulls: Option<&arrow::buffer::NullBuffer>,
    ) -> arrow::array::BinaryViewArray {
        let data = values.to_data().into_builder().nulls(nulls.cloned()).build().expect("an array");
        arrow::array::make_array(data).as_binary_view().clone()
    }

    fn chrono_date() -> chrono::NaiveDate {
        chrono::NaiveDate::from_ymd_opt(2024, 1, 1).expect("a day")
    }

    #[test]
    fn a_column_is_of_the_type_that_it_is_said_to_have() {
        let field = in_file(7, None);
        let shredding = Shredding { types: [(7, object(&[("a", DataType::Int64)]))].into() };
        let mut builder = VariantArrayBuilder::new(1);
        builder.append_variant(Variant::Int8(1));
        let array = builder.build();
        let (metadata, value) = (array.metadata_column().as_binary_view().clone(), array.value_column().as_binary_view().clone());
        let array = esker_read::variant_array(metadata, value).expect("variants");
        let made = shredding.shredded(&field, &array).expect("a column");
        assert_eq!(made.data_type(), &shredding.type_of(&field));
        assert!(!is_variant(made.data_type()) && made.as_struct().column_by_name("typed_value").is_some());
        RecordBatch::try_from_iter([("v", made)]).expect("a batch");
    }
}
