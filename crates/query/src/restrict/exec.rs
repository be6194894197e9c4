//! The node of a physical plan that scans a restricted table: [`RestrictedExec`].

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{BatchCoalescer, filter_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, EmptyRecordBatchStream, ExecutionPlan, ExecutionPlanProperties, Partitioning, PhysicalExpr,
    PlanProperties, ReplaceChildrenOptions,
};
use futures::stream::{TryStreamExt, try_unfold};

use super::filter::RowPredicate;
use super::nested::FieldMask;
use super::{Salt, concealed};
use crate::plan_inputs::RECOMPUTED;

/// A column of the output.
pub(super) struct OutputColumn {
    /// Index of the column in a batch of the input.
    pub(super) place: usize,
    /// The mask of the column; `None` if it is shown as it is.
    pub(super) mask: Option<FieldMask>,
}

/// What is done to each batch of the scan below.
pub(super) struct BatchRules {
    /// Name of the table, for errors.
    pub(super) table: String,
    /// The filter, on the table's columns; `None` if the caller sees all rows.
    pub(super) filter: Option<RowPredicate>,
    /// The table's columns that the scan below reads, in their order.
    pub(super) read: Vec<usize>,
    /// The columns of the output.
    pub(super) outputs: Vec<OutputColumn>,
    /// The salt of the statement.
    pub(super) salt: Salt,
}

impl BatchRules {
    /// Returns the rows that the caller may see, with masked values, in a schema.
    fn apply(&self, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        let places: Vec<usize> = self.outputs.iter().map(|output| output.place).collect();
        let shown = batch.project(&places)?;
        let kept = match &self.filter {
            Some(filter) => {
                let column = |at: usize| self.read.binary_search(&at).ok().map(|place| batch.column(place).clone());
                filter_record_batch(&shown, &filter.evaluate(batch.num_rows(), &column)?)?
            }
            None => shown,
        };
        let masked = |(output, column): (&OutputColumn, &ArrayRef)| match &output.mask {
            Some(mask) => mask.apply(column, &self.salt),
            None => Ok(column.clone()),
        };
        let columns = self.outputs.iter().zip(kept.columns()).map(masked).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_match_field_names(false).with_row_count(Some(kept.num_rows()));
        Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
    }
}

/// The scan of a restricted table.
///
/// It has no inputs for who looks at the plan, no statistics and no metrics. It has as many partitions as plans have by default,
/// whatever the table has, and its batches are full, so that their number tells nothing about the rows that were left out.
pub(super) struct RestrictedExec {
    input: Arc<dyn ExecutionPlan>,
    rules: Arc<BatchRules>,
    properties: Arc<PlanProperties>,
}

impl RestrictedExec {
    /// Builds the node around the scan below. `schema` is that of its output.
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, rules: BatchRules, schema: SchemaRef, partitions: usize) -> Self {
        let partitions = partitions.max(input.output_partitioning().partition_count());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, rules: Arc::new(rules), properties: Arc::new(properties) }
    }
}

impl fmt::Debug for RestrictedExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestrictedExec").finish_non_exhaustive()
    }
}

impl DisplayAs for RestrictedExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match kind {
            DisplayFormatType::Default | DisplayFormatType::Verbose => write!(f, "RestrictedExec"),
            DisplayFormatType::TreeRender => Ok(()),
        }
    }
}

impl ExecutionPlan for RestrictedExec {
    fn name(&self) -> &'static str {
        "RestrictedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, RECOMPUTED)
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        // Recursive queries run their plan again, and find no inputs here that they could reset.
        let input = Arc::clone(&self.input).reset_state()?;
        Ok(Arc::new(Self { input, rules: self.rules.clone(), properties: self.properties.clone() }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        if partition >= self.input.output_partitioning().partition_count() {
            return Ok(Box::pin(EmptyRecordBatchStream::new(schema)));
        }
        let full = BatchCoalescer::new(schema.clone(), context.session_config().batch_size());
        let input = self.input.execute(partition, context).map_err(|error| concealed(&self.rules.table, error))?;
        let rows = Rows { input, rules: self.rules.clone(), schema: schema.clone(), full, has_ended: false };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, try_unfold(rows, Rows::next))))
    }
}

/// The rows of a partition, as far as they are read.
struct Rows {
    input: SendableRecordBatchStream,
    rules: Arc<BatchRules>,
    schema: SchemaRef,
    /// Joins what is left of batches to full ones.
    full: BatchCoalescer,
    has_ended: bool,
}

impl Rows {
    /// Returns the next full batch; the last one has what is left.
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        loop {
            if let Some(batch) = self.full.next_completed_batch() {
                return Ok(Some((batch, self)));
            }
            if self.has_ended {
                return Ok(None);
            }
            let next = self.input.try_next().await;
            match next.map_err(|error| concealed(&self.rules.table, error))? {
                Some(batch) => {
                    let seen = self.rules.apply(&batch, &self.schema)?;
                    self.full.push_batch(seen)?;
                }
                None => {
                    self.has_ended = true;
                    self.full.finish_buffered_batch()?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringViewArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::physical_plan::{collect_partitioned, displayable};
    use datafusion_datasource::memory::MemorySourceConfig;
    use esker_access::{CompareOp, FilterExpr, MaskAction};
    use esker_format::{NestedField, PrimitiveType, Schema as IcebergSchema};
    use serde_json::json;

    use super::super::nested::Masks;
    use super::*;

    /// Returns the scan of the column `s` of batches with some ids: masked, and with the rows whose id is greater than 2.
    fn restricted(partitions: &[&[&[i64]]]) -> Arc<dyn ExecutionPlan> {
        let columns = vec![
            Arc::new(NestedField::optional(1, "id", PrimitiveType::Long)),
            Arc::new(NestedField::optional(2, "s", PrimitiveType::String)),
        ];
        let table = IcebergSchema::new(0, columns.clone()).expect("a schema");
        let fields = vec![Field::new("id", DataType::Int64, true), Field::new("s", DataType::Utf8View, true)];
        let schema = Arc::new(Schema::new(fields));
        let batch = |ids: &&[i64]| {
            let texts = ids.iter().map(|id| Some(format!("-{id}"))).collect::<StringViewArray>();
            let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(texts)];
            RecordBatch::try_new(schema.clone(), columns).expect("a batch")
        };
        let batches: Vec<Vec<RecordBatch>> = partitions.iter().map(|batches| batches.iter().map(batch).collect()).collect();
        let input = MemorySourceConfig::try_new_exec(&batches, schema.clone(), None).expect("a scan");
        let filter = FilterExpr::Compare { op: CompareOp::Gt, field_id: 1, value: json!(2) };
        let mask = Masks::new(&[(2, MaskAction::MaskAlphanum)]).of_column(&columns[1]).expect("it fits");
        let rules = BatchRules {
            table: "n.t".to_owned(),
            filter: Some(RowPredicate::new(&filter, &table, &|_| true)),
            read: vec![0, 1],
            outputs: vec![OutputColumn { place: 1, mask }],
            salt: Salt::fresh(),
        };
        let shown = Arc::new(schema.project(&[1]).expect("a column"));
        Arc::new(RestrictedExec::new(input, rules, shown, 4))
    }

    #[tokio::test]
    async fn batches_are_full_and_partitions_are_as_many_as_usual() {
        let plan = restricted(&[&[&[1, 3], &[2], &[7]], &[&[1, 2]]]);
        let made = collect_partitioned(plan, Arc::new(TaskContext::default())).await.expect("rows");
        let sizes: Vec<Vec<usize>> = made.iter().map(|batches| batches.iter().map(RecordBatch::num_rows).collect()).collect();
        assert_eq!(sizes, [vec![2], vec![], vec![], vec![]], "one batch of what is left of three, and none without rows");
        let texts: Vec<_> = made[0][0].column(0).as_string_view().iter().collect();
        assert_eq!(texts, [Some("-n"), Some("-n")]);
    }

    #[test]
    fn the_plan_shows_nothing_of_what_is_below() {
        let plan = restricted(&[&[&[1]]]);
        assert!(plan.children().is_empty() && plan.metrics().is_none() && plan.fetch().is_none());
        assert_eq!(plan.output_partitioning().partition_count(), 4);
        assert!(plan.equivalence_properties().constants().is_empty() && plan.properties().output_ordering().is_none());
        assert_eq!(displayable(plan.as_ref()).indent(true).to_string().trim(), "RestrictedExec");
        assert_eq!(format!("{plan:?}"), "RestrictedExec { .. }");
        let again = plan.reset_state().expect("reset");
        assert_eq!(again.output_partitioning().partition_count(), 4);
    }
}
