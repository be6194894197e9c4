//! Rewrites expressions on a table's columns into expressions on a file's columns.
//!
//! A file may have a column at another place, under another name or with an older type, so columns are found by field id. A
//! column that the file lacks becomes a constant: its default or its partition's value. Spec: "Column Projection".

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, lit};
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};
use esker_read::{Defaults, FieldNames, field_id};

use crate::semantics::extracted_part;
use crate::variant::ShreddedPart;

/// The factory of expression adapters for the files of one scan, or of one partition.
#[derive(Debug)]
pub(crate) struct FieldIdAdapterFactory {
    /// The values of columns that a file lacks.
    pub(crate) defaults: Arc<Defaults>,
    /// The table's columns, with field ids at every depth.
    pub(crate) target: SchemaRef,
    /// The field ids of columns in files that store none (name mapping).
    pub(crate) names: Arc<FieldNames>,
}

impl PhysicalExprAdapterFactory for FieldIdAdapterFactory {
    fn create(&self, logical: SchemaRef, physical: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let file = self.names.identify(physical.fields()).map_err(DataFusionError::NotImplemented)?;
        Ok(Arc::new(FieldIdAdapter {
            table: logical,
            target: self.target.clone(),
            physical,
            file,
            defaults: self.defaults.clone(),
        }))
    }
}

/// The expression adapter for one file.
#[derive(Debug)]
struct FieldIdAdapter {
    table: SchemaRef,
    target: SchemaRef,
    physical: SchemaRef,
    /// The file's fields with field ids; the types in `physical` may lack them.
    file: Fields,
    defaults: Arc<Defaults>,
}

impl PhysicalExprAdapter for FieldIdAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        // Top-down, because an expression that extracts a part of a variant is replaced as a whole.
        expr.transform_down(|expr| {
            if let Some(made) = self.part(&expr)? {
                return Ok(Transformed::new(made, true, TreeNodeRecursion::Jump));
            }
            match expr.downcast_ref::<Column>() {
                Some(column) => Ok(Transformed::new(self.column(column)?, true, TreeNodeRecursion::Jump)),
                None => Ok(Transformed::no(expr)),
            }
        })
        .data()
    }
}

impl FieldIdAdapter {
    /// Returns an expression that reads an extracted part of a variant from the file's own column for it.
    ///
    /// Returns `None` if the expression extracts nothing, or if the file has no such column.
    fn part(&self, expr: &Arc<dyn PhysicalExpr>) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let Some((column, extract)) = extracted_part(expr.as_ref()) else { return Ok(None) };
        let Some(column) = column.downcast_ref::<Column>() else { return Ok(None) };
        let id = field_id(self.target.field_with_name(column.name())?);
        let Some(at) = self.file.iter().position(|f| id.is_some() && field_id(f) == id) else { return Ok(None) };
        let own = Column::new(self.file[at].name(), at);
        Ok(ShreddedPart::of(extract, &own, &self.physical)?.map(|part| Arc::new(part) as _))
    }

    /// Returns the file's expression for a column: the column itself, a conversion of it, or a constant.
    fn column(&self, column: &Column) -> Result<Arc<dyn PhysicalExpr>> {
        let (to, target) = (self.table.field_with_name(column.name())?, self.target.field_with_name(column.name())?);
        let id = field_id(target);
        // A column of type `unknown` is in no file: a file's column under its field id is another one.
        let found = self.file.iter().position(|f| id.is_some() && field_id(f) == id).filter(|_| !to.data_type().is_null());
        let Some(at) = found else {
            let one = cast(&self.defaults.of(target)?, to.data_type())?;
            return Ok(lit(ScalarValue::try_from_array(&one, 0)?));
        };
        let from = &self.file[at];
        let own: Arc<dyn PhysicalExpr> = Arc::new(Column::new(from.name(), at));
        Ok(match (self.physical.field(at).data_type(), to.data_type()) {
            (own_type, ty) if own_type == ty => own,
            (_, ty) if !ty.is_nested() => Arc::new(CastExpr::new(own, ty.clone(), None)),
            _ => {
                let (target, to) = (Arc::new(target.clone()), Arc::new(to.clone()));
                Arc::new(ConvertedColumn { column: own, from: from.clone(), target, to, defaults: self.defaults.clone() })
            }
        })
    }
}

/// An expression that converts a nested column of a file to the table's type for it.
#[derive(Debug)]
struct ConvertedColumn {
    column: Arc<dyn PhysicalExpr>,
    from: FieldRef,
    /// The table's field, with field ids at every depth.
    target: FieldRef,
    /// The table's field as queries see it. It differs from `target` only in the names of nested fields.
    to: FieldRef,
    defaults: Arc<Defaults>,
}

impl Eq for ConvertedColumn {}

impl PartialEq for ConvertedColumn {
    fn eq(&self, other: &Self) -> bool {
        let fields = self.from == other.from && self.to == other.to;
        self.column.eq(&other.column) && fields && Arc::ptr_eq(&self.defaults, &other.defaults)
    }
}

impl Hash for ConvertedColumn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
        self.to.hash(state);
    }
}

impl fmt::Display for ConvertedColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as the table has it", self.column)
    }
}

impl PhysicalExpr for ConvertedColumn {
    fn return_field(&self, _input: &Schema) -> Result<FieldRef> {
        Ok(self.to.clone())
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        let converted = self.defaults.convert(&array, &self.from, &self.target)?;
        Ok(ColumnarValue::Array(cast(&converted, self.to.data_type())?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let column =
            children.pop().ok_or_else(|| DataFusionError::Internal("an adapted column has no input column".to_owned()))?;
        let (from, target, to) = (self.from.clone(), self.target.clone(), self.to.clone());
        Ok(Arc::new(Self { column, from, target, to, defaults: self.defaults.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.column.fmt_sql(f)
    }
}
