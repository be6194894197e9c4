use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicate;
use esker_read::OpenFile;
use esker_table::LiveFile;
use iceberg::spec::TableMetadata;

use crate::ranges::{FileRanges, RowGroupRanges};

/// What filters say about minima and maxima; `None` if they say nothing.
pub(crate) fn predicate(state: &dyn Session, schema: &SchemaRef, filters: &[Expr]) -> Result<Option<Arc<PruningPredicate>>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(None) };
    let df_schema = DFSchema::try_from(schema.as_ref().clone())?;
    let expr = state.create_physical_expr(filter, &df_schema)?;
    let predicate = PruningPredicate::try_new(expr, schema.clone())?;
    Ok((!predicate.always_true()).then(|| Arc::new(predicate)))
}

/// The files that may hold rows that the predicate keeps.
pub(crate) fn files<'a>(
    predicate: Option<&PruningPredicate>,
    schema: &SchemaRef,
    metadata: &TableMetadata,
    files: &'a [LiveFile],
) -> Result<Vec<(usize, &'a LiveFile)>> {
    let all = files.iter().enumerate();
    let Some(predicate) = predicate else { return Ok(all.collect()) };
    let refs: Vec<&LiveFile> = files.iter().collect();
    let keep = predicate.prune(&FileRanges::new(schema.clone(), metadata, &refs))?;
    Ok(all.zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file).collect())
}

/// The row groups that may hold such rows.
pub(crate) fn row_groups(predicate: &PruningPredicate, schema: &SchemaRef, file: &OpenFile) -> Result<Vec<bool>> {
    predicate.prune(&RowGroupRanges { schema: schema.clone(), file })
}
