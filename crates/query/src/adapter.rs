//! Expressions on a table's columns as expressions on a file's: columns are found by field id, in whatever order, under whatever name
//! and with whatever older type the file has them.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, lit};
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};
use esker_read::{convert_column, field_id};
use iceberg::spec::{MappedField, NameMapping};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

/// Adapts expressions to the files of one scan.
#[derive(Debug)]
pub(crate) struct ByFieldId {
    /// What a column is where a file lacks it: its initial default.
    pub(crate) defaults: Arc<HashMap<i32, ScalarValue>>,
    /// Ids for the columns of files that have none.
    pub(crate) names: Option<Arc<NameMapping>>,
}

impl PhysicalExprAdapterFactory for ByFieldId {
    fn create(&self, logical: SchemaRef, physical: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let file = match physical.fields().iter().any(|f| field_id(f).is_some()) || physical.fields().is_empty() {
            true => physical,
            false => match &self.names {
                Some(names) => Arc::new(Schema::new(named(physical.fields(), &names.fields().iter().collect::<Vec<_>>()))),
                None => {
                    let what = "a Parquet file without field ids, in a table without schema.name-mapping.default, can't be read";
                    return Err(DataFusionError::NotImplemented(what.to_owned()));
                }
            },
        };
        Ok(Arc::new(Adapter { table: logical, file, defaults: self.defaults.clone() }))
    }
}

/// A file's fields with the ids that a name mapping gives them (spec, "Column Projection").
fn named(fields: &Fields, mapped: &[&MappedField]) -> Fields {
    let one = |field: &FieldRef| {
        let Some(found) = mapped.iter().find(|m| m.names().contains(field.name())) else { return field.clone() };
        let children: Vec<&MappedField> = found.fields().iter().map(|f| &**f).collect();
        let ty = match field.data_type() {
            DataType::Struct(inner) => DataType::Struct(named(inner, &children)),
            DataType::List(item) => match named(&Fields::from(vec![item.clone()]), &children).first() {
                Some(item) => DataType::List(item.clone()),
                None => field.data_type().clone(),
            },
            DataType::Map(entries, sorted) => match entries.data_type() {
                DataType::Struct(pair) => {
                    let pair = DataType::Struct(named(pair, &children));
                    DataType::Map(Arc::new(Field::clone(entries).with_data_type(pair)), *sorted)
                }
                _ => field.data_type().clone(),
            },
            other => other.clone(),
        };
        let mut metadata = field.metadata().clone();
        if let Some(id) = found.field_id() {
            metadata.insert(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
        }
        Arc::new(Field::clone(field).with_data_type(ty).with_metadata(metadata))
    };
    fields.iter().map(one).collect()
}

#[derive(Debug)]
struct Adapter {
    table: SchemaRef,
    file: SchemaRef,
    defaults: Arc<HashMap<i32, ScalarValue>>,
}

impl PhysicalExprAdapter for Adapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        expr.transform(|expr| match expr.downcast_ref::<Column>() {
            Some(column) => Ok(Transformed::yes(self.column(column)?)),
            None => Ok(Transformed::no(expr)),
        })
        .data()
    }
}

impl Adapter {
    fn column(&self, column: &Column) -> Result<Arc<dyn PhysicalExpr>> {
        let to = self.table.field_with_name(column.name())?;
        let id = field_id(to);
        let found = self.file.fields().iter().position(|f| id.is_some() && field_id(f) == id);
        let Some(at) = found else {
            let default = id.and_then(|id| self.defaults.get(&id).cloned());
            return Ok(lit(default.map_or_else(|| ScalarValue::try_from(to.data_type()), Ok)?));
        };
        let from = &self.file.fields()[at];
        let own: Arc<dyn PhysicalExpr> = Arc::new(Column::new(from.name(), at));
        Ok(match (from.data_type(), to.data_type()) {
            (from, to) if from == to => own,
            (_, ty) if !ty.is_nested() => Arc::new(CastExpr::new(own, ty.clone(), None)),
            _ => Arc::new(Adapted { column: own, from: from.clone(), to: Arc::new(to.clone()) }),
        })
    }
}

/// A nested column brought into the shape that the table has for it.
#[derive(Debug, Eq)]
struct Adapted {
    column: Arc<dyn PhysicalExpr>,
    from: FieldRef,
    to: FieldRef,
}

impl PartialEq for Adapted {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column) && self.from == other.from && self.to == other.to
    }
}

impl Hash for Adapted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
        self.to.hash(state);
    }
}

impl fmt::Display for Adapted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as the table has it", self.column)
    }
}

impl PhysicalExpr for Adapted {
    fn return_field(&self, _input: &Schema) -> Result<FieldRef> {
        Ok(self.to.clone())
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(convert_column(&array, &self.from, &self.to)?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let column = children.pop().ok_or_else(|| DataFusionError::Internal("an adapted column without a column".to_owned()))?;
        Ok(Arc::new(Self { column, from: self.from.clone(), to: self.to.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.column.fmt_sql(f)
    }
}
