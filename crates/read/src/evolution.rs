//! Tests schema evolution against a model.
//!
//! Random schemas and rows are written in an old schema and adapted to an evolved one. The model projects them row by row as the
//! specification says. Spec: "Column Projection", "Default values".

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, MapArray,
    RecordBatch, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, Fields, Float32Type, Float64Type, Int32Type, Int64Type, Schema as ArrowSchema,
};
use esker_format::{
    DefaultValue, ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Type, Value,
};
use esker_table::properties::{MappedField, NameMapping};

use crate::name_mapping::FieldNames;
use crate::{BatchAdapter, field_id, target_schema};

/// A value of any type.
#[derive(Debug, Clone, PartialEq)]
enum Model {
    Null,
    Whole(i128),
    Real(f64),
    Text(String),
    /// Values by field id.
    Struct(BTreeMap<i32, Model>),
    List(Vec<Model>),
    Map(Vec<(Model, Model)>),
}

/// A random number generator with a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// Makes schemas and values. No field id is used twice.
struct Maker {
    dice: Dice,
    last_id: i32,
}

impl Maker {
    fn id(&mut self) -> i32 {
        self.last_id += 1;
        self.last_id
    }

    fn primitive(&mut self) -> Type {
        let ty = match self.dice.roll(6) {
            0 => PrimitiveType::Int,
            1 => PrimitiveType::Long,
            2 => PrimitiveType::Float,
            3 => PrimitiveType::Double,
            4 => PrimitiveType::Decimal { precision: 9, scale: 2 },
            _ => PrimitiveType::String,
        };
        ty.into()
    }

    fn ty(&mut self, depth: u32) -> Type {
        let nested = if depth == 0 { 0 } else { self.dice.roll(6) };
        match nested {
            1 | 2 => {
                let n = 1 + self.dice.roll(3);
                StructType::new((0..n).map(|_| self.field(depth - 1)).collect()).into()
            }
            3 => {
                let (id, ty) = (self.id(), self.ty(depth - 1));
                ListType::new(id, ty, self.dice.one_in(2)).into()
            }
            4 => {
                let (key, id, ty) = (self.id(), self.id(), self.ty(depth - 1));
                MapType::new((key, PrimitiveType::Int.into()), (id, ty), self.dice.one_in(2)).into()
            }
            _ => self.primitive(),
        }
    }

    fn field(&mut self, depth: u32) -> NestedFieldRef {
        let (id, ty) = (self.id(), self.ty(depth));
        NestedField::new(id, format!("f{id}"), ty, self.dice.one_in(4)).into()
    }

    /// Makes an added field. Half of them have a default; a required one always has.
    fn added(&mut self, depth: u32) -> NestedFieldRef {
        let mut field = NestedField::clone(&self.field(depth));
        field.required = false;
        if self.dice.one_in(2) {
            let value = match field.field_type.as_ref() {
                Type::Primitive(ty) => Some(self.literal(ty)),
                Type::Struct(inner) => {
                    // The default of a struct is empty and its fields have their own. So required fields need one.
                    let all = inner.fields().iter().all(|f| !f.required);
                    all.then(|| Value::Struct(inner.fields().iter().map(|_| None).collect()))
                }
                Type::List(_) => Some(Value::List([].into())),
                Type::Map(_) | Type::Variant => None,
            };
            field.initial_default = value.map(|value| DefaultValue::of(&field.field_type, &value).expect("a default"));
            field.required = field.initial_default.is_some() && self.dice.one_in(3);
        }
        field.into()
    }

    fn literal(&mut self, ty: &PrimitiveType) -> Value {
        let n = self.dice.roll(100) as i64 - 50;
        match ty {
            PrimitiveType::Int => Value::Int(n as i32),
            PrimitiveType::Long => Value::Long(n),
            PrimitiveType::Float => Value::Float(n as f32 / 4.0),
            PrimitiveType::Double => Value::Double(n as f64 / 4.0),
            PrimitiveType::Decimal { scale, .. } => Value::Decimal { unscaled: i128::from(n), scale: *scale },
            _ => Value::String(format!("d{n}").into()),
        }
    }

    fn evolved(&mut self, fields: &[NestedFieldRef], depth: u32) -> Vec<NestedFieldRef> {
        let mut new: Vec<NestedFieldRef> = Vec::new();
        for field in fields {
            if self.dice.one_in(5) {
                continue;
            }
            let mut field = NestedField::clone(field);
            if self.dice.one_in(3) {
                field.name = format!("r{}", field.id);
            }
            field.field_type = Box::new(self.promoted(&field.field_type, depth));
            new.push(field.into());
        }
        for _ in 0..self.dice.roll(3) {
            new.push(self.added(depth));
        }
        for i in (1..new.len()).rev() {
            new.swap(i, self.dice.roll(i as u64 + 1) as usize);
        }
        if new.is_empty() {
            new.push(self.added(0));
        }
        new
    }

    fn promoted(&mut self, ty: &Type, depth: u32) -> Type {
        let within = |field: &NestedFieldRef, ty: Type| {
            let mut field = NestedField::clone(field);
            field.field_type = Box::new(ty);
            NestedFieldRef::new(field)
        };
        match ty {
            Type::Primitive(PrimitiveType::Int) if self.dice.one_in(2) => PrimitiveType::Long.into(),
            Type::Primitive(PrimitiveType::Float) if self.dice.one_in(2) => PrimitiveType::Double.into(),
            Type::Primitive(PrimitiveType::Decimal { .. }) if self.dice.one_in(2) => {
                PrimitiveType::Decimal { precision: 18, scale: 2 }.into()
            }
            Type::Primitive(_) | Type::Variant => ty.clone(),
            Type::Struct(inner) => StructType::new(self.evolved(inner.fields(), depth.saturating_sub(1))).into(),
            Type::List(list) => {
                let element = self.promoted(&list.element_field.field_type, depth);
                ListType { element_field: within(&list.element_field, element), ..list.clone() }.into()
            }
            Type::Map(map) => {
                let value = self.promoted(&map.value_field.field_type, depth);
                MapType { value_field: within(&map.value_field, value), ..map.clone() }.into()
            }
        }
    }

    fn value(&mut self, ty: &Type, required: bool) -> Model {
        if !required && self.dice.one_in(4) {
            return Model::Null;
        }
        match ty {
            Type::Primitive(ty) => of_value(&self.literal(ty)),
            Type::Variant => Model::Null,
            Type::Struct(inner) => {
                Model::Struct(inner.fields().iter().map(|f| (f.id, self.value(&f.field_type, f.required))).collect())
            }
            Type::List(list) => {
                let element = &list.element_field;
                Model::List((0..self.dice.roll(4)).map(|_| self.value(&element.field_type, element.required)).collect())
            }
            Type::Map(map) => {
                let value = &map.value_field;
                let n = self.dice.roll(4);
                let pair = |i: u64| (Model::Whole(i128::from(i)), self.value(&value.field_type, value.required));
                Model::Map((0..n).map(pair).collect())
            }
        }
    }
}

fn of_value(value: &Value) -> Model {
    match value {
        Value::Int(v) => Model::Whole((*v).into()),
        Value::Long(v) => Model::Whole((*v).into()),
        Value::Decimal { unscaled, .. } => Model::Whole(*unscaled),
        Value::Float(v) => Model::Real((*v).into()),
        Value::Double(v) => Model::Real(*v),
        Value::String(v) => Model::Text(v.to_string()),
        other => panic!("{other:?}"),
    }
}

/// Returns the value that a reader sees in a field that the file lacks.
fn default_of(field: &NestedField) -> Model {
    let default = field.initial_default.as_ref().map(|default| default.value(&field.field_type).expect("a value"));
    match (&default, field.field_type.as_ref()) {
        (None, _) => Model::Null,
        (Some(_), Type::Struct(inner)) => Model::Struct(inner.fields().iter().map(|f| (f.id, default_of(f))).collect()),
        (Some(_), Type::List(_)) => Model::List(vec![]),
        (Some(value), _) => of_value(value),
    }
}

/// Returns the value that a reader with the new type sees for a value of the old type. Promotion does not change a value.
fn seen(value: &Model, new: &Type) -> Model {
    match (value, new) {
        (Model::Struct(old), Type::Struct(inner)) => {
            let field = |f: &NestedFieldRef| old.get(&f.id).map_or_else(|| default_of(f), |v| seen(v, &f.field_type));
            Model::Struct(inner.fields().iter().map(|f| (f.id, field(f))).collect())
        }
        (Model::List(items), Type::List(list)) => {
            Model::List(items.iter().map(|v| seen(v, &list.element_field.field_type)).collect())
        }
        (Model::Map(pairs), Type::Map(map)) => {
            Model::Map(pairs.iter().map(|(k, v)| (k.clone(), seen(v, &map.value_field.field_type))).collect())
        }
        (value, _) => value.clone(),
    }
}

/// Encodes values as an array. Under a null struct, required fields hold an arbitrary value.
fn encoded(values: &[Model], field: &Field) -> ArrayRef {
    let nulls = NullBuffer::from(values.iter().map(|v| *v != Model::Null).collect::<Vec<_>>());
    let nulls = (field.is_nullable() && nulls.null_count() > 0).then_some(nulls);
    let whole = |v: &Model| if let Model::Whole(v) = v { Some(*v) } else { None };
    let real = |v: &Model| if let Model::Real(v) = v { Some(*v) } else { None };
    let or = |v: Option<i128>| if field.is_nullable() { v } else { Some(v.unwrap_or(77)) };
    let or_real = |v: Option<f64>| if field.is_nullable() { v } else { Some(v.unwrap_or(7.5)) };
    match field.data_type() {
        DataType::Int32 => Arc::new(values.iter().map(|v| or(whole(v)).map(|v| v as i32)).collect::<Int32Array>()),
        DataType::Int64 => Arc::new(values.iter().map(|v| or(whole(v)).map(|v| v as i64)).collect::<Int64Array>()),
        DataType::Decimal128(p, s) => {
            let array = values.iter().map(|v| or(whole(v))).collect::<Decimal128Array>();
            Arc::new(array.with_precision_and_scale(*p, *s).expect("a decimal"))
        }
        DataType::Float32 => Arc::new(values.iter().map(|v| or_real(real(v)).map(|v| v as f32)).collect::<Float32Array>()),
        DataType::Float64 => Arc::new(values.iter().map(|v| or_real(real(v))).collect::<Float64Array>()),
        DataType::Utf8 => {
            let text = |v: &Model| match v {
                Model::Text(text) => Some(text.clone()),
                _ => (!field.is_nullable()).then(String::new),
            };
            Arc::new(values.iter().map(text).collect::<StringArray>())
        }
        DataType::Struct(fields) => {
            let child = |f: &Arc<Field>| {
                let id = field_id(f).or_else(|| f.name().trim_start_matches('f').parse().ok()).expect("an id");
                let of = |v: &Model| if let Model::Struct(v) = v { v[&id].clone() } else { Model::Null };
                encoded(&values.iter().map(of).collect::<Vec<_>>(), f)
            };
            Arc::new(StructArray::new(fields.clone(), fields.iter().map(child).collect(), nulls))
        }
        DataType::List(item) => {
            let of = |v: &Model| if let Model::List(v) = v { v.clone() } else { vec![] };
            let lists: Vec<Vec<Model>> = values.iter().map(of).collect();
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
            Arc::new(ListArray::new(item.clone(), offsets, encoded(&lists.concat(), item), nulls))
        }
        DataType::Map(entries, sorted) => {
            let of = |v: &Model| if let Model::Map(v) = v { v.clone() } else { vec![] };
            let maps: Vec<Vec<(Model, Model)>> = values.iter().map(of).collect();
            let offsets = OffsetBuffer::from_lengths(maps.iter().map(Vec::len));
            let (keys, values): (Vec<Model>, Vec<Model>) = maps.concat().into_iter().unzip();
            let DataType::Struct(pair) = entries.data_type() else { panic!("{entries}") };
            let columns = vec![encoded(&keys, &pair[0]), encoded(&values, &pair[1])];
            Arc::new(MapArray::new(entries.clone(), offsets, StructArray::new(pair.clone(), columns, None), nulls, *sorted))
        }
        other => panic!("{other}"),
    }
}

fn decoded(array: &ArrayRef, i: usize) -> Model {
    if array.is_null(i) {
        return Model::Null;
    }
    match array.data_type() {
        DataType::Int32 => Model::Whole(i128::from(array.as_primitive::<Int32Type>().value(i))),
        DataType::Int64 => Model::Whole(i128::from(array.as_primitive::<Int64Type>().value(i))),
        DataType::Decimal128(_, _) => Model::Whole(array.as_primitive::<Decimal128Type>().value(i)),
        DataType::Float32 => Model::Real(f64::from(array.as_primitive::<Float32Type>().value(i))),
        DataType::Float64 => Model::Real(array.as_primitive::<Float64Type>().value(i)),
        DataType::Utf8 => Model::Text(array.as_string::<i32>().value(i).to_owned()),
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            Model::Struct(columns.map(|(f, c)| (field_id(f).expect("an id"), decoded(c, i))).collect())
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(i);
            Model::List((0..items.len()).map(|i| decoded(&items, i)).collect())
        }
        DataType::Map(_, _) => {
            let pairs = array.as_map().value(i);
            let (keys, values) = (pairs.column(0), pairs.column(1));
            Model::Map((0..pairs.len()).map(|i| (decoded(keys, i), decoded(values, i))).collect())
        }
        other => panic!("{other}"),
    }
}

/// Maps the names of a type's fields to their ids, as a name mapping does.
fn by_name(ty: &Type) -> Vec<MappedField> {
    let one = |f: &NestedFieldRef, name: &str| MappedField {
        field_id: Some(f.id),
        names: vec![name.to_owned()],
        fields: by_name(&f.field_type),
    };
    match ty {
        Type::Primitive(_) | Type::Variant => vec![],
        Type::Struct(inner) => inner.fields().iter().map(|f| one(f, &f.name)).collect(),
        Type::List(list) => vec![one(&list.element_field, "element")],
        Type::Map(map) => vec![one(&map.key_field, "key"), one(&map.value_field, "value")],
    }
}

/// Removes the ids from fields, and renames what lists and maps hold.
fn bare(fields: &Fields) -> Fields {
    fn one(field: &Field, name: &str) -> Arc<Field> {
        let ty = match field.data_type() {
            DataType::Struct(fields) => DataType::Struct(bare(fields)),
            DataType::List(item) => DataType::List(one(item, "array_element")),
            DataType::Map(entries, sorted) => {
                let DataType::Struct(pair) = entries.data_type() else { panic!("{entries}") };
                let pair = DataType::Struct(vec![one(&pair[0], "k"), one(&pair[1], "v")].into());
                DataType::Map(Arc::new(Field::new("pairs", pair, false)), *sorted)
            }
            other => other.clone(),
        };
        Arc::new(Field::new(name, ty, field.is_nullable()))
    }
    fields.iter().map(|f| one(f, f.name())).collect()
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 400, ..Default::default() })]

    #[test]
    fn rows_are_seen_as_the_specification_projects_them(seed: u64, ids: bool, rows in 1_usize..6) {
        let mut maker = Maker { dice: Dice(seed), last_id: 0 };
        let old: Vec<NestedFieldRef> = (0..3).map(|_| maker.field(3)).collect();
        let new = maker.evolved(&old, 3);
        let schema = |fields: &[NestedFieldRef]| Schema::new(0, fields.to_vec()).expect("a schema");
        let (old, new) = (schema(&old), schema(&new));
        let roots = |schema: &Schema| schema.as_struct().fields().iter().map(|f| f.id).collect::<Vec<_>>();

        let old_type = Type::Struct(old.as_struct().clone());
        let values: Vec<Model> = (0..rows).map(|_| maker.value(&old_type, true)).collect();
        let written = target_schema(&old, &roots(&old)).expect("a schema");
        let fields = if ids { written.fields().clone() } else { bare(written.fields()) };
        let column = |f: &Arc<Field>, about: &NestedFieldRef| {
            let of = |v: &Model| if let Model::Struct(v) = v { v[&about.id].clone() } else { Model::Null };
            encoded(&values.iter().map(of).collect::<Vec<_>>(), f)
        };
        let columns = fields.iter().zip(old.as_struct().fields()).map(|(f, about)| column(f, about)).collect();
        let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields.clone())), columns).expect("a batch");

        let names = FieldNames::from(NameMapping { fields: by_name(&old_type) });
        let fields = names.identify(&fields).expect("ids");
        let target = target_schema(&new, &roots(&new)).expect("a target");
        let adapted = BatchAdapter::new(target, &new, None).adapt(&batch, &fields).expect("adapted");
        let new_type = Type::Struct(new.as_struct().clone());
        for (i, value) in values.iter().enumerate() {
            let columns = new.as_struct().fields().iter().zip(adapted.columns());
            let got = Model::Struct(columns.map(|(f, c)| (f.id, decoded(c, i))).collect());
            proptest::prop_assert_eq!(got, seen(value, &new_type));
        }
        // The child array of a null struct is null as well, for readers of that child alone.
        for (field, column) in new.as_struct().fields().iter().zip(adapted.columns()) {
            if let (Some(inner), Type::Struct(about)) = (column.as_struct_opt(), field.field_type.as_ref()) {
                for (at, f) in about.fields().iter().enumerate().filter(|(_, f)| old.field_by_id(f.id).is_none()) {
                    for i in (0..rows).filter(|i| column.is_null(*i)) {
                        proptest::prop_assert!(inner.column(at).is_null(i), "{}", f.name);
                    }
                }
            }
        }
    }
}
