//! Adds the file and the column to the errors of a scan, and reports damaged files to the catalog.
//!
//! The decoder's own errors do not name them, and some of its errors are panics. Every planner and morsel of a file is therefore
//! wrapped in a `Step`. Start reading at `NamedReader`.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::error::{DataFusionError, Result};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use esker_catalog::{Catalog, Unreadable};
use esker_read::{InvalidVariant, ReadError, Reader, catch_panics, panic_as_parquet_error};
use esker_types::{Panicked, TableId, catch_panic, catch_panic_sync};
use futures::stream::{BoxStream, StreamExt};
use parquet::errors::ParquetError;

use crate::error::find_cause;
use crate::source::KnownFile;

/// The table whose files a scan reads, with its catalog and its reader.
#[derive(Debug, Clone)]
pub(crate) struct ScannedTable {
    pub(crate) catalog: Catalog,
    pub(crate) table: TableId,
    pub(crate) reader: Reader,
}

impl ScannedTable {
    /// Records in the catalog that a file could not be read, if trying again will not help.
    ///
    /// The query does not wait for it.
    pub(crate) fn record_damage(&self, error: &ReadError) {
        let Some((path, decoding)) = error.file() else { return };
        let met = Unreadable { path: path.to_owned(), error: error.to_string(), decoding, snapshot_id: None };
        let this = self.clone();
        tokio::spawn(async move { this.catalog.record_damage(this.table, &met, "met by a query").await });
    }
}

impl ScannedTable {
    /// Records that a file could not be read, if an error on its way through DataFusion is about that.
    pub(crate) fn record_damage_within(&self, error: &DataFusionError) {
        if let Some(read) = find_cause::<ReadError>(error) {
            self.record_damage(read);
        }
    }
}

/// A morselizer whose errors name the file and the column.
pub(crate) struct NamedReader {
    pub(crate) inner: Box<dyn Morselizer>,
    pub(crate) owner: ScannedTable,
}

impl fmt::Debug for NamedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Named").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Morselizer for NamedReader {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let Some(known) = file.extension::<KnownFile>() else { return self.inner.plan_file(file) };
        let name = Arc::new(Name { path: known.uri.clone(), size: file.object_meta.size, owner: self.owner.clone() });
        let inner = catch_panic_sync(|| self.inner.plan_file(file)).unwrap_or_else(|panic| Err(panicked(panic)))?;
        Ok(Box::new(Step { inner, name }))
    }
}

fn panicked(panic: Panicked) -> DataFusionError {
    DataFusionError::ParquetError(Box::new(panic_as_parquet_error(panic)))
}

/// The file that errors are about.
struct Name {
    path: Arc<str>,
    size: u64,
    owner: ScannedTable,
}

impl Name {
    /// Rewords an error of the decoder, with its file and column, and records it; returns any other as it is.
    async fn reworded(&self, error: DataFusionError) -> DataFusionError {
        let read = match error {
            DataFusionError::ParquetError(source) => self.blamed(*source).await,
            DataFusionError::ArrowError(source, _) => match *source {
                ArrowError::ParquetError(text) => self.blamed(ParquetError::General(text)).await,
                ArrowError::IoError(_, source) => self.blamed(ParquetError::External(Box::new(source))).await,
                source => match InvalidVariant::in_file(source, &self.path) {
                    Ok(read) => read,
                    Err(other) => return DataFusionError::ArrowError(Box::new(other), None),
                },
            },
            other => return other,
        };
        self.owner.record_damage(&read);
        DataFusionError::External(Box::new(read))
    }

    /// Finds the column that an error is about by reading the file.
    async fn blamed(&self, source: ParquetError) -> ReadError {
        self.owner.reader.blame(&self.path, self.size, source).await
    }
}

/// A planner or a morsel of a file.
struct Step<T> {
    inner: T,
    name: Arc<Name>,
}

impl<T: fmt::Debug> fmt::Debug for Step<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("inner", &self.inner).field("path", &self.name.path).finish()
    }
}

impl MorselPlanner for Step<Box<dyn MorselPlanner>> {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { inner, name } = *self;
        let planned = match catch_panic_sync(|| inner.plan()).unwrap_or_else(|panic| Err(panicked(panic))) {
            Ok(planned) => planned,
            Err(error) => {
                // The file is read to find the column, which only a pending planner can do.
                let mut failed = MorselPlan::new();
                failed.set_pending_planner(async move { Err(name.reworded(error).await) });
                return Ok(Some(failed));
            }
        };
        let Some(mut plan) = planned else { return Ok(None) };
        let step = |inner: Box<dyn Morsel>| Box::new(Step { inner, name: name.clone() }) as Box<dyn Morsel>;
        let next = |inner: Box<dyn MorselPlanner>| Box::new(Step { inner, name: name.clone() }) as Box<dyn MorselPlanner>;
        let morsels = plan.take_morsels().into_iter().map(step).collect();
        let planners = plan.take_ready_planners().into_iter().map(next).collect();
        let pending = plan.take_pending_planner();
        let mut plan = MorselPlan::new().with_morsels(morsels).with_planners(planners);
        if let Some(pending) = pending {
            plan.set_pending_planner(async move {
                match catch_panic(pending).await.unwrap_or_else(|panic| Err(panicked(panic))) {
                    Ok(inner) => Ok(Box::new(Step { inner, name }) as Box<dyn MorselPlanner>),
                    Err(error) => Err(name.reworded(error).await),
                }
            });
        }
        Ok(Some(plan))
    }
}

impl Morsel for Step<Box<dyn Morsel>> {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { inner, name } = *self;
        let reword = move |batch: Result<RecordBatch>| {
            let name = name.clone();
            async move {
                match batch {
                    Ok(batch) => Ok(batch),
                    Err(error) => Err(name.reworded(error).await),
                }
            }
        };
        catch_panics(inner.into_stream(), panicked).then(reword).boxed()
    }
}
