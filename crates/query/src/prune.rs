//! Pruning of files and row groups by the filters of a scan.
//!
//! [`files`] prunes by partition values and column bounds. [`Within`] prunes by conditions on parts of variants and on shapes.
//! Both only leave out rows that no filter can keep. Spec: "Scan Planning".

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use esker_format::TableMetadata;
use esker_table::PlannableFile;
use parquet::file::metadata::ParquetMetaData;
use roaring::RoaringTreemap;

use crate::ranges::FileRanges;
use crate::spatial_pruning;
use crate::variant::Conditions;

/// Returns filters as one expression on the table's columns; `None` if there are no filters.
pub(crate) fn condition(state: &dyn Session, schema: &SchemaRef, filters: &[Expr]) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(None) };
    let df_schema = DFSchema::try_from(schema.as_ref().clone())?;
    Ok(Some(state.create_physical_expr(filter, &df_schema)?))
}

/// The conditions of filters on what is nested in columns: parts of variants, and shapes.
#[derive(Debug, Default)]
pub(crate) struct Within {
    variants: Option<Conditions>,
    shapes: Vec<spatial_pruning::SpatialCondition>,
}

impl Within {
    /// Extracts the conditions from filters on the columns of a table.
    pub(crate) fn of(state: &dyn Session, schema: &SchemaRef, filters: &[Expr]) -> Result<Self> {
        Ok(Self { variants: Conditions::of(state, schema, filters)?, shapes: spatial_pruning::conditions(schema, filters) })
    }

    /// Checks whether there is any condition.
    pub(crate) fn is_some(&self) -> bool {
        self.variants.is_some() || !self.shapes.is_empty()
    }

    /// Returns the files that may hold rows that the filters keep.
    pub(crate) fn files<F: PlannableFile>(&self, files: Vec<F>) -> Vec<F> {
        let files = match &self.variants {
            Some(conditions) => conditions.files(files),
            None => files,
        };
        spatial_pruning::files(&self.shapes, files)
    }

    /// Returns the positions of rows in a file that the filters do not keep, as far as its footer shows.
    pub(crate) fn left_out(&self, footer: &ParquetMetaData) -> RoaringTreemap {
        let shapes = spatial_pruning::left_out(&self.shapes, footer);
        match &self.variants {
            Some(conditions) => conditions.left_out(footer) | shapes,
            None => shapes,
        }
    }
}

/// Returns the files that may hold rows that the condition keeps, according to partition values and column bounds.
pub(crate) fn files<F: PlannableFile>(
    condition: Option<&Arc<dyn PhysicalExpr>>,
    schema: &SchemaRef,
    metadata: &TableMetadata,
    files: Vec<F>,
) -> Result<Vec<F>> {
    let Some(condition) = condition else { return Ok(files) };
    let predicate = PruningPredicateBuilder::new().with_file_schema(schema.clone()).try_build(condition.clone())?;
    if predicate.always_true() && predicate.literal_guarantees().is_empty() {
        return Ok(files);
    }
    // A predicate that cannot be evaluated on statistics rules nothing out. DataFusion, for example, compares the prefix of a
    // LIKE as a string with bounds that are views.
    let Ok(keep) = predicate.prune(&FileRanges::new(schema.clone(), metadata, &files)) else { return Ok(files) };
    Ok(files.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file).collect())
}
