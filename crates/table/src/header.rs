//! What a manifest is written under: the schema in its header, which says of what types its entries' partition values and bounds are.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::spec::{
    DataFile, Datum, ManifestFile, NestedField, NestedFieldRef, PartitionSpec, Schema, SchemaRef, TableMetadata, Transform,
};

use crate::bounds::bound_of;
use crate::partition::{last_field, of_types};
use crate::producer::incomplete;
use crate::{Manifests, PartitionTypes, Result, TableError, copy_of, partition_types};

/// A schema and a partition spec, with the types that partition values under them have.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) schema: SchemaRef,
    pub(crate) spec: PartitionSpec,
    types: PartitionTypes,
}

impl Header {
    /// For manifests of a spec of a table as it is now: the table's schema, and the source columns of the spec that it has no more. What
    /// neither the table nor its earlier schemas know is taken from one of the `manifests` of the spec.
    pub(crate) async fn of(
        source: &Manifests,
        metadata: &TableMetadata,
        spec_id: i32,
        manifests: &[ManifestFile],
    ) -> Result<Self> {
        let spec = metadata.partition_spec_by_id(spec_id);
        let spec = spec.ok_or_else(|| TableError::Invalid(format!("partition spec {spec_id} does not exist")))?.as_ref().clone();
        let mut types = partition_types(metadata, spec_id);
        let mut earlier = None;
        if types.contains(&None)
            && let Some(manifest) = manifests.iter().find(|m| m.partition_spec_id == spec_id)
        {
            let manifest = source.as_written(manifest).await?;
            let own = spec.partition_type(manifest.metadata().schema())?;
            let own = own.fields().iter().map(|f| f.field_type.as_primitive_type().cloned());
            types = types.into_iter().zip(own).map(|(ty, own)| ty.or(own)).collect();
            earlier = Some(manifest.metadata().schema().clone());
        }
        let schema = schema_for(metadata, &spec, earlier.as_deref())?;
        Ok(Self { schema, spec, types })
    }

    /// A file's entry with its partition and its bounds of the types that the header says, and its first row id written out.
    pub(crate) fn entry(&self, file: DataFile, first_row_id: Option<i64>) -> Result<DataFile> {
        let partition = of_types(file.partition(), &self.types);
        let (lower, upper) = (self.bounds(file.lower_bounds()), self.bounds(file.upper_bounds()));
        if partition.is_none() && lower.is_none() && upper.is_none() && file.first_row_id() == first_row_id {
            return Ok(file);
        }
        let mut entry = copy_of(&file);
        entry.first_row_id(first_row_id);
        partition.map(|values| entry.partition(values));
        lower.map(|bounds| entry.lower_bounds(bounds));
        upper.map(|bounds| entry.upper_bounds(bounds));
        entry.build().map_err(incomplete)
    }

    /// Bounds as the header's schema has their columns; none if they are so already. Those of dropped columns stay.
    fn bounds(&self, bounds: &HashMap<i32, Datum>) -> Option<HashMap<i32, Datum>> {
        let ty = |id: &i32| self.schema.field_by_id(*id).and_then(|f| f.field_type.as_primitive_type());
        if bounds.iter().all(|(id, bound)| ty(id).is_none_or(|ty| ty == bound.data_type())) {
            return None;
        }
        let of = |(id, bound): (&i32, &Datum)| Some((*id, ty(id).map_or_else(|| Some(bound.clone()), |ty| bound_of(bound, ty))?));
        Some(bounds.iter().filter_map(of).collect())
    }
}

/// The table's schema with every source column of a spec, and without names that a reader of the header would find ambiguous: it takes
/// a partition field for the column of that name. Columns are found by their ids, so names in a header mean nothing else.
fn schema_for(metadata: &TableMetadata, spec: &PartitionSpec, earlier: Option<&Schema>) -> Result<SchemaRef> {
    let current = metadata.current_schema();
    let clashes = |field: &NestedFieldRef| {
        spec.fields().iter().any(|f| f.name == field.name && (f.transform != Transform::Identity || f.source_id != field.id))
    };
    let dropped: Vec<i32> = spec.fields().iter().map(|f| f.source_id).filter(|id| current.field_by_id(*id).is_none()).collect();
    if dropped.is_empty() && !current.as_struct().fields().iter().any(clashes) {
        return Ok(current.clone());
    }
    let free = |mut name: String| {
        while current.field_by_name(&name).is_some() || spec.fields().iter().any(|f| f.name == name) {
            name.push('_');
        }
        name
    };
    let kept = |field: &NestedFieldRef| match clashes(field) {
        true => Arc::new(NestedField { name: free(format!("{}_{}", field.name, field.id)), ..field.as_ref().clone() }),
        false => field.clone(),
    };
    let mut fields: Vec<NestedFieldRef> = current.as_struct().fields().iter().map(kept).collect();
    for id in dropped {
        let field = last_field(metadata, id).or_else(|| earlier?.field_by_id(id)).ok_or_else(|| {
            let name = spec.fields().iter().find(|f| f.source_id == id).map_or("", |f| f.name.as_str());
            TableError::Invalid(format!(
                "partition field {name} of spec {} is of column {id}, whose type is not known",
                spec.spec_id()
            ))
        })?;
        if !fields.iter().any(|f| f.id == id) {
            fields.push(Arc::new(NestedField::optional(id, free(format!("dropped_{id}")), field.field_type.as_ref().clone())));
        }
    }
    let schema = Schema::builder().with_schema_id(current.schema_id()).with_fields(fields);
    Ok(Arc::new(schema.with_identifier_field_ids(current.identifier_field_ids()).build()?))
}
