//! The columns that equality deletes compare, and the keys that a file has in them.
//!
//! The specification finds compared columns by field id, also inside structs and among dropped columns. Start with
//! [`KeyColumns::new`] and [`KeyColumns::read`]. Spec: "Equality Delete Files".

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::row::Rows;
use esker_format::{
    NestedField, NestedFieldRef, PrimitiveType, Schema, SchemaRef as TableSchema, StructType, TableMetadata, Type,
};
use esker_table::LiveFile;
use futures::stream::{BoxStream, TryStreamExt};
use roaring::RoaringTreemap;

use super::keys::{KeyEncoder, KeyTable};
use crate::defaults::find;
use crate::{BatchAdapter, FileScan, ReadError, ReadStats, Reader, Result, optional_schema};

/// The columns that equality deletes compare, also inside structs.
///
/// A column has its type in the current schema; a dropped column has that of the newest schema with it.
#[derive(Debug)]
pub(super) struct KeyColumns {
    /// The schema of only the compared columns and the structs around them.
    schema: Schema,
    /// The Arrow schema of the compared columns, everything optional.
    target: SchemaRef,
    /// The field ids of the compared columns, ascending.
    ids: Vec<i32>,
    pub(super) maker: KeyEncoder,
}

impl KeyColumns {
    /// Finds the columns by their ids. `path` is the delete file that an error names.
    pub(super) fn new(metadata: &TableMetadata, ids: &[i32], path: &str) -> Result<Self> {
        let mut older: Vec<&TableSchema> = metadata.schemas.iter().collect();
        older.sort_unstable_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
        let mut fields: Vec<NestedFieldRef> = Vec::new();
        for id in ids {
            let known = std::iter::once(metadata.current_schema()).chain(older.iter().copied());
            let found = known.into_iter().find_map(|schema| schema.as_struct().fields().iter().find_map(|f| holding(f, *id)));
            let missing =
                || ReadError::unsupported(path, format!("equality deletes on field {id}: unknown, or in a list or map"));
            let found = found.ok_or_else(missing)?;
            if let Some(field) = leaf(&found, *id).filter(|field| !is_compared(&field.field_type)) {
                let what =
                    format!("equality deletes on column {}, as values of {} are not compared", field.name, field.field_type);
                return Err(ReadError::unsupported(path, what));
            }
            merge(&mut fields, found);
        }
        let roots: Vec<i32> = fields.iter().map(|f| f.id).collect();
        let schema = Schema::new(0, fields)?;
        let target = optional_schema(&schema, &roots)?;
        let maker = KeyEncoder::new(target.fields(), ids).map_err(|source| ReadError::Arrow { path: path.to_owned(), source })?;
        Ok(Self { schema, target, ids: ids.to_vec(), maker })
    }

    /// Opens a file to read its keys. With `keep`, the bytes read go into the block cache.
    pub(super) async fn read(
        &self,
        reader: &Reader,
        file: &LiveFile,
        metadata: &TableMetadata,
        keep: bool,
        stats: &Arc<ReadStats>,
    ) -> Result<KeyBatches<'_>> {
        let path = file.file.file_path.clone();
        let is_delete = file.file.equality_ids.as_ref().is_some_and(|ids| !ids.is_empty());
        let spec = metadata.partition_spec_by_id(file.spec_id).filter(|_| !is_delete);
        let partition = spec.map(|spec| (spec.as_ref(), file.file.partition.as_ref()));
        let adapter = Arc::new(BatchAdapter::new(self.target.clone(), &self.schema, partition));
        let size = file.file.size();
        let reader = reader.with_name_mapping(metadata);
        let open = if keep { reader.open_cached(&path, size, stats).await? } else { reader.open(&path, size, stats).await? };
        let lacking = || self.ids.iter().find(|id| find(open.fields().iter(), **id).is_none());
        if let Some(lacking) = is_delete.then(lacking).flatten() {
            let name = find(self.target.fields().iter(), *lacking).map_or("?", |f| f.name().as_str());
            return Err(ReadError::unsupported(&path, format!("an equality delete file without its column {name}")));
        }
        let batches = open.stream(FileScan { adapter, row_groups: None, deleted: None, batch_size: 8192 })?;
        Ok(KeyBatches { maker: &self.maker, path, batches, position: 0 })
    }

    /// Returns the positions of a file's rows whose key was deleted after the file was written.
    pub(super) async fn probe(
        &self,
        table: &KeyTable,
        reader: &Reader,
        metadata: &TableMetadata,
        file: &LiveFile,
        keep: bool,
        stats: &Arc<ReadStats>,
    ) -> Result<RoaringTreemap> {
        let mut deleted = RoaringTreemap::new();
        let mut batches = self.read(reader, file, metadata, keep, stats).await?;
        while let Some((keys, start)) = batches.next().await? {
            table.add_deleted(&keys, start, file.sequence_number, &mut deleted);
        }
        Ok(deleted)
    }
}

/// The keys of a file, batch by batch.
///
/// Loops over the keys of a batch are in synchronous functions: the body of an async function is compiled in the crate that awaits
/// it, with that crate's optimisation level.
pub(super) struct KeyBatches<'a> {
    maker: &'a KeyEncoder,
    path: String,
    batches: BoxStream<'static, Result<RecordBatch>>,
    /// Position of the next batch's first row.
    position: u64,
}

impl KeyBatches<'_> {
    /// Returns the keys of the next batch, and the position of its first row; none at the end of the file.
    pub(super) async fn next(&mut self) -> Result<Option<(Rows, u64)>> {
        let Some(batch) = self.batches.try_next().await? else { return Ok(None) };
        let keys = self.maker.keys(&batch).map_err(|source| ReadError::Arrow { path: self.path.clone(), source })?;
        let start = self.position;
        self.position += keys.num_rows() as u64;
        Ok(Some((keys, start)))
    }
}

/// Returns a field reduced to the descendant with an id; the field itself if it has that id.
///
/// None if no such descendant exists, or if it is inside a list or a map.
fn holding(field: &NestedFieldRef, id: i32) -> Option<NestedFieldRef> {
    match field.field_type.as_ref() {
        Type::Primitive(_) | Type::Variant => (field.id == id).then(|| field.clone()),
        Type::Struct(inner) => Some(of_fields(field, vec![inner.fields().iter().find_map(|f| holding(f, id))?])),
        Type::List(_) | Type::Map(_) => None,
    }
}

/// Returns the leaf with an id from a field that [`holding`] reduced.
fn leaf(field: &NestedFieldRef, id: i32) -> Option<NestedFieldRef> {
    match field.field_type.as_ref() {
        _ if field.id == id => Some(field.clone()),
        Type::Struct(inner) => inner.fields().iter().find_map(|field| leaf(field, id)),
        _ => None,
    }
}

/// Checks that values of a type can be compared for equality. Spec: "Equality Delete Files".
fn is_compared(ty: &Type) -> bool {
    !matches!(ty, Type::Variant | Type::Primitive(PrimitiveType::Geometry { .. } | PrimitiveType::Geography { .. }))
}

/// Adds a field to others; structs with the same id are merged into one.
fn merge(fields: &mut Vec<NestedFieldRef>, new: NestedFieldRef) {
    let Some(known) = fields.iter_mut().find(|f| f.id == new.id) else { return fields.push(new) };
    if let (Type::Struct(a), Type::Struct(b)) = (known.field_type.as_ref(), new.field_type.as_ref()) {
        let mut both = a.fields().to_vec();
        b.fields().iter().for_each(|f| merge(&mut both, f.clone()));
        *known = of_fields(known, both);
    }
}

/// Returns a struct field with other children, and its default unchanged.
///
/// A child's value is found in that default by its id; a child that it leaves out has a default of its own.
fn of_fields(field: &NestedField, fields: Vec<NestedFieldRef>) -> NestedFieldRef {
    let field_type = Box::new(Type::Struct(StructType::new(fields)));
    Arc::new(NestedField { field_type, ..field.clone() })
}

#[cfg(test)]
mod tests {
    use esker_format::{NewTable, PrimitiveType, create};
    use uuid::Uuid;

    use super::*;

    /// A delete file holds only its keys. Other fields of their structs, required ones too, need not be in the file.
    #[test]
    fn nothing_is_read_of_a_struct_but_its_keys() {
        let long = |name: &str| NestedFieldRef::new(NestedField::required(0, name, PrimitiveType::Long));
        let numbered = |fields: Vec<NestedFieldRef>, first: i32| {
            let field = |(id, f): (i32, NestedFieldRef)| NestedFieldRef::new(NestedField { id, ..f.as_ref().clone() });
            (first..).zip(fields).map(field).collect::<Vec<_>>()
        };
        let deep = StructType::new(numbered(vec![long("c"), long("d")], 10));
        let mut inner = numbered(vec![long("a"), long("b")], 3);
        inner.push(NestedField::required(5, "deep", deep).into());
        let mut fields = numbered(vec![long("id")], 1);
        fields.push(NestedField::optional(2, "s", StructType::new(inner)).into());
        let schema = Schema::new(0, fields).expect("a schema");
        let metadata = create(NewTable::of(schema, "file:///t"), Uuid::nil(), 0).expect("metadata");

        let names = ["id", "s", "s.a", "s.b", "s.deep", "s.deep.c", "s.deep.d"];
        let read = |keys: &[&str]| {
            let id = |name: &&str| metadata.current_schema().field_by_name(name).expect("a field").id;
            let columns = KeyColumns::new(&metadata, &keys.iter().map(id).collect::<Vec<_>>(), "f").expect("columns");
            names.into_iter().filter(|name| columns.schema.field_by_name(name).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(read(&["s.b"]), ["s", "s.b"]);
        assert_eq!(read(&["id", "s.a", "s.deep.d"]), ["id", "s", "s.a", "s.deep", "s.deep.d"]);
    }
}
