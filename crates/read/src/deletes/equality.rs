//! Turns equality deletes into row positions.
//!
//! Deletes that compare the same columns form a [`KeySet`]. The keys of its delete files go into a hash table with the newest
//! sequence number of each key. Each data file's keys are then looked up: a row is deleted if its key was deleted after the file
//! was written. Keys that exceed the budget are partitioned by hash and spilled to disk, together with the data files' keys, and
//! joined partition by partition.
//!
//! Start with [`EqualityDeletes::positions`]. Spec: "Equality Delete Files", "Scan Planning".

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::row::Rows;
use esker_format::{
    NestedField, NestedFieldRef, PrimitiveType, Schema, SchemaRef as TableSchema, StructType, TableMetadata, Type,
};
use esker_table::{LiveDelete, LiveFile};
use esker_types::saturating_total;
use futures::stream::{StreamExt, TryStreamExt};
use roaring::RoaringTreemap;

use super::keys::{KeyMaker, KeyTable, hash};
use super::positional::check_readable;
use super::spill::{Partition, Partitions, SpilledKey};
use crate::defaults::find;
use crate::{BatchAdapter, FileScan, ReadError, ReadStats, Reader, Result, optional_schema};

/// Number of files whose keys are read concurrently.
const CONCURRENCY: usize = 4;

/// Delete files of at most so many bytes are read concurrently, larger ones one after the other.
const SMALL: u64 = 1 << 20;

/// The memory that keys of equality deletes may take, and the directory they are spilled to.
#[derive(Debug, Clone)]
pub struct EqualityBudget {
    /// Greatest number of bytes of keys in memory.
    pub bytes: usize,
    /// The directory for spilled keys; created if it does not exist.
    pub dir: PathBuf,
    /// True to read files through the block cache, for later queries.
    pub use_block_cache: bool,
}

/// The equality deletes that apply to some data files of one partition.
#[derive(Debug)]
pub struct EqualityDeletes {
    /// One set for each combination of compared columns.
    sets: Vec<KeySet>,
}

/// Equality deletes that compare the same columns.
#[derive(Debug)]
struct KeySet {
    columns: Arc<KeyColumns>,
    deletes: Vec<LiveDelete>,
}

/// The columns that equality deletes compare, also inside structs.
///
/// A column has its type in the current schema; a dropped column has that of the newest schema with it.
#[derive(Debug)]
struct KeyColumns {
    /// The schema of only the compared columns and the structs around them.
    schema: Schema,
    /// The Arrow schema of the compared columns, everything optional.
    target: SchemaRef,
    /// The field ids of the compared columns, ascending.
    ids: Vec<i32>,
    maker: KeyMaker,
}

impl KeyColumns {
    /// Finds the columns by their ids. `path` is the delete file that an error names.
    fn new(metadata: &TableMetadata, ids: &[i32], path: &str) -> Result<Self> {
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
        let maker = KeyMaker::new(target.fields(), ids).map_err(|source| ReadError::Arrow { path: path.to_owned(), source })?;
        Ok(Self { schema, target, ids: ids.to_vec(), maker })
    }

    /// Calls `each` with the keys of every batch of a file and the position of the batch's first row.
    ///
    /// Loops over keys are in synchronous functions: the body of an async function is compiled in the crate that awaits it, with
    /// that crate's optimisation level.
    async fn each(
        &self,
        reader: &Reader,
        file: &LiveFile,
        metadata: &TableMetadata,
        keep: bool,
        stats: &Arc<ReadStats>,
        mut each: impl FnMut(&Rows, u64) -> Result<()>,
    ) -> Result<()> {
        let path = file.file.file_path.as_str();
        let is_delete = file.file.equality_ids.as_ref().is_some_and(|ids| !ids.is_empty());
        let spec = metadata.partition_spec_by_id(file.spec_id).filter(|_| !is_delete);
        let partition = spec.map(|spec| (spec.as_ref(), file.file.partition.as_ref()));
        let adapter = Arc::new(BatchAdapter::new(self.target.clone(), &self.schema, partition));
        let size = file.file.size();
        let reader = reader.with_name_mapping(metadata);
        let open = if keep { reader.open_cached(path, size, stats).await? } else { reader.open(path, size, stats).await? };
        let lacking = || self.ids.iter().find(|id| find(open.fields().iter(), **id).is_none());
        if let Some(lacking) = is_delete.then(lacking).flatten() {
            let name = find(self.target.fields().iter(), *lacking).map_or("?", |f| f.name().as_str());
            return Err(ReadError::unsupported(path, format!("an equality delete file without its column {name}")));
        }
        let mut batches = open.stream(FileScan { adapter, row_groups: None, deleted: None, batch_size: 8192 })?;
        let mut position = 0;
        while let Some(batch) = batches.try_next().await? {
            let keys = self.maker.keys(&batch).map_err(|source| ReadError::Arrow { path: path.to_owned(), source })?;
            each(&keys, position)?;
            position += keys.num_rows() as u64;
        }
        Ok(())
    }

    /// Returns the positions of a file's rows whose key was deleted after the file was written.
    async fn probe(
        &self,
        table: &KeyTable,
        reader: &Reader,
        metadata: &TableMetadata,
        file: &LiveFile,
        keep: bool,
        stats: &Arc<ReadStats>,
    ) -> Result<RoaringTreemap> {
        let mut deleted = RoaringTreemap::new();
        let check = |keys: &Rows, start: u64| {
            table.probe_all(keys, start, file.sequence_number, &mut deleted);
            Ok(())
        };
        self.each(reader, file, metadata, keep, stats, check).await?;
        Ok(deleted)
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

/// Runs a read as a task of its own, so that several reads use several threads.
async fn spawned<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.map_err(|e| ReadError::Spill(std::io::Error::other(e)))?
}

impl EqualityDeletes {
    /// Groups deletes by the columns that they compare. Reads no file.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Unsupported`] as [`check_readable`] does. Also if a delete file has no equality ids. Also if it
    /// compares a column that is unknown, is inside a list or a map, or has a type without equality. Returns
    /// [`ReadError::Undecodable`], [`ReadError::Format`] or [`ReadError::Arrow`] if the columns have no Arrow schema or can't be
    /// keys.
    pub fn new(metadata: &TableMetadata, deletes: Vec<LiveDelete>) -> Result<Self> {
        let mut by_ids: BTreeMap<Vec<i32>, Vec<LiveDelete>> = BTreeMap::new();
        for delete in deletes {
            check_readable(&delete)?;
            let file = &delete.entry.file;
            let mut ids = file.equality_ids.clone().unwrap_or_default();
            if ids.is_empty() {
                return Err(ReadError::unsupported(&file.file_path, "an equality delete file without equality ids"));
            }
            ids.sort_unstable();
            by_ids.entry(ids).or_default().push(delete);
        }
        let set = |(ids, deletes): (Vec<i32>, Vec<LiveDelete>)| {
            let path = deletes.first().map_or("", |d| d.entry.file.file_path.as_str());
            Ok(KeySet { columns: Arc::new(KeyColumns::new(metadata, &ids, path)?), deletes })
        };
        Ok(Self { sets: by_ids.into_iter().map(set).collect::<Result<_>>()? })
    }

    /// Returns the deleted positions of each data file that has any, by path.
    ///
    /// Keys that exceed the budget are split by hash and spilled, and so are the data files' keys. The time is linear in rows and
    /// deletes either way. Spec: "Scan Planning".
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Unsupported`] if a delete file lacks a compared column, or if a file has no field ids. Returns
    /// [`ReadError::Spill`] if the spill directory fails, or if a task that reads keys panics. Returns [`ReadError::Storage`],
    /// [`ReadError::Parquet`], [`ReadError::Decoding`], [`ReadError::Panicked`] or [`ReadError::Arrow`] if a file can't be
    /// fetched, decoded or converted.
    pub async fn positions(
        mut self,
        reader: &Reader,
        metadata: &Arc<TableMetadata>,
        files: &[LiveFile],
        budget: &EqualityBudget,
        stats: &Arc<ReadStats>,
    ) -> Result<HashMap<String, RoaringTreemap>> {
        let mut found: HashMap<String, RoaringTreemap> = HashMap::new();
        for set in std::mem::take(&mut self.sets) {
            let newest = set.newest();
            let under = |f: &&LiveFile| newest > f.sequence_number;
            let files: Vec<LiveFile> = files.iter().filter(under).cloned().collect();
            match set.read(reader, metadata, budget, stats).await? {
                Some(table) => {
                    let table = Arc::new(table);
                    let one = |file: LiveFile| {
                        let (columns, table, reader) = (set.columns.clone(), table.clone(), reader.clone());
                        let (metadata, stats, keep) = (metadata.clone(), stats.clone(), budget.use_block_cache);
                        spawned(async move {
                            let deleted = columns.probe(&table, &reader, &metadata, &file, keep, &stats).await?;
                            Ok((file.file.file_path.clone(), deleted))
                        })
                    };
                    let mut probes = futures::stream::iter(files).map(one).buffer_unordered(CONCURRENCY);
                    while let Some((path, deleted)) = probes.try_next().await? {
                        *found.entry(path).or_default() |= deleted;
                    }
                }
                None => set.spilled(reader, metadata, &files, budget, stats, &mut found).await?,
            }
        }
        found.retain(|_, deleted| !deleted.is_empty());
        Ok(found)
    }
}

impl KeySet {
    /// Returns the newest sequence number among the deletes.
    fn newest(&self) -> i64 {
        self.deletes.iter().map(|d| d.entry.sequence_number).max().unwrap_or(i64::MIN)
    }

    /// Reads the keys of all delete files into memory; none if they exceed the budget.
    ///
    /// Small delete files are read concurrently, large ones one after the other and batch by batch.
    async fn read(
        &self,
        reader: &Reader,
        metadata: &Arc<TableMetadata>,
        budget: &EqualityBudget,
        stats: &Arc<ReadStats>,
    ) -> Result<Option<KeyTable>> {
        let (bytes, keep) = (budget.bytes, budget.use_block_cache);
        let mut table = KeyTable::new();
        let (small, large): (Vec<&LiveDelete>, Vec<&LiveDelete>) =
            self.deletes.iter().partition(|d| d.entry.file.size() <= SMALL);
        let one = |delete: LiveDelete| {
            let (columns, reader, metadata, stats) = (self.columns.clone(), reader.clone(), metadata.clone(), stats.clone());
            spawned(async move {
                let mut keys: Vec<Box<[u8]>> = Vec::new();
                let collect = |batch: &Rows, _| {
                    keys.extend(batch.iter().map(|key| key.data().into()));
                    Ok(())
                };
                columns.each(&reader, &delete.entry, &metadata, keep, &stats, collect).await?;
                Ok((delete.entry.sequence_number, keys))
            })
        };
        let small: Vec<LiveDelete> = small.into_iter().cloned().collect();
        let mut read = futures::stream::iter(small).map(one).buffer_unordered(CONCURRENCY);
        while let Some((sequence_number, keys)) = read.try_next().await? {
            table.insert_each(&keys, sequence_number);
            if table.memory() > bytes {
                return Ok(None);
            }
        }
        for delete in large {
            let sequence_number = delete.entry.sequence_number;
            let mut full = false;
            let insert = |keys: &Rows, _| {
                // Beyond the budget the file is read to its end but its keys are dropped: they will be spilled.
                full = full || table.memory() > bytes;
                if !full {
                    table.insert_all(keys, sequence_number);
                }
                Ok(())
            };
            self.columns.each(reader, &delete.entry, metadata, keep, stats, insert).await?;
            if full {
                return Ok(None);
            }
        }
        Ok(Some(table))
    }

    /// Spills the keys of delete files and data files by hash, and joins them partition by partition.
    async fn spilled(
        &self,
        reader: &Reader,
        metadata: &TableMetadata,
        files: &[LiveFile],
        budget: &EqualityBudget,
        stats: &Arc<ReadStats>,
        found: &mut HashMap<String, RoaringTreemap>,
    ) -> Result<()> {
        // An entry in memory takes its key and about thirty bytes. Half of the budget is left for tables that double when they
        // grow. A delete file without a record count is assumed to have one delete a byte.
        let count = |d: &LiveDelete| d.entry.file.rows().unwrap_or_else(|| d.entry.file.size());
        let deletes = saturating_total(self.deletes.iter().map(count));
        let width = self.columns.maker.width();
        let estimate = deletes.saturating_mul(width as u64 + 64);
        let n = usize::try_from(estimate / (budget.bytes as u64 / 2).max(1)).unwrap_or(usize::MAX).clamp(2, 512);
        let mut keys = Partitions::create(&budget.dir, n)?;
        for delete in &self.deletes {
            let sequence_number = delete.entry.sequence_number.cast_unsigned();
            let write = |batch: &Rows, _| Ok(keys.write_all(batch, sequence_number, 0)?);
            self.columns.each(reader, &delete.entry, metadata, budget.use_block_cache, stats, write).await?;
        }
        let mut rows = Partitions::create(&budget.dir, n)?;
        for (i, file) in files.iter().enumerate() {
            let write = |batch: &Rows, start: u64| Ok(rows.write_all(batch, i as u64, start)?);
            self.columns.each(reader, file, metadata, budget.use_block_cache, stats, write).await?;
        }
        for (keys, rows) in keys.finish()?.into_iter().zip(rows.finish()?) {
            join(keys, rows, files, found)?;
        }
        Ok(())
    }
}

/// Looks up the rows of one partition among its deletes, and records the deleted positions.
fn join(mut keys: Partition, mut rows: Partition, files: &[LiveFile], found: &mut HashMap<String, RoaringTreemap>) -> Result<()> {
    let mut record = SpilledKey { key: Vec::new(), a: 0, b: 0 };
    let mut table = KeyTable::new();
    while keys.next(&mut record)? {
        table.insert(hash(&record.key), &record.key, record.a.cast_signed());
    }
    while rows.next(&mut record)? {
        let file = &files[usize::try_from(record.a).unwrap_or(usize::MAX)];
        if table.get(hash(&record.key), &record.key).is_some_and(|newest| newest > file.sequence_number) {
            found.entry(file.file.file_path.clone()).or_default().insert(record.b);
        }
    }
    Ok(())
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
