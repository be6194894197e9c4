//! The tables that Esker serves beside those of the catalog, with the meaning of each column: system tables, metadata tables, and
//! the Iceberg table of health.
//!
//! The lists here are what the tables are built from, so `api/system-tables.json` says what is served. All columns are nullable:
//! a value that is not known is null.

use arrow::datatypes::DataType::{self, Boolean, Float64, Int32, Int64, Utf8};
use arrow::datatypes::Field;
use serde_json::{Value, json};

use crate::opaque;
use crate::rows::{column, text_map, time};
use crate::semantics::type_name;

/// A column: its name, its type and its meaning.
pub(crate) type Column = (&'static str, DataType, &'static str);

/// A table that is served beside those of the catalog.
pub(crate) struct ServedTable {
    /// The name of a system table, or the name of a metadata table after the `$`.
    pub(crate) name: &'static str,
    /// The meaning of a row.
    description: &'static str,
    columns: fn() -> Vec<Column>,
}

impl ServedTable {
    /// Returns the columns as Arrow has them.
    pub(crate) fn fields(&self) -> Vec<Field> {
        (self.columns)().into_iter().map(|(name, ty, _)| column(name, ty)).collect()
    }

    /// Describes the table as `api/system-tables.json` does.
    fn json(&self) -> Value {
        let described = |(name, ty, description): Column| {
            let field = column(name, ty);
            json!({
                "name": name, "type": type_name(&field), "arrow-type": field.data_type().to_string(),
                "nullable": opaque::may_be_null(&field), "description": description,
            })
        };
        let columns: Vec<Value> = (self.columns)().into_iter().map(described).collect();
        json!({"name": self.name, "description": self.description, "columns": columns})
    }
}

/// `system.tables`.
pub(crate) const TABLES: ServedTable = ServedTable {
    name: "tables",
    description: "A table of the warehouse, with its facts.",
    columns: || {
        vec![
            ("namespace", Utf8, "The namespace, levels joined by dots."),
            ("table", Utf8, "The name of the table in its namespace."),
            ("owned", Boolean, "True if Esker owns the table, false if it is foreign."),
            ("format_version", Int32, "The version of the table format."),
            ("uuid", Utf8, "The UUID of the table; nil if its metadata has none."),
            ("location", Utf8, "The URI of the table's location."),
            ("metadata_location", Utf8, "The URI of the current metadata file."),
            ("current_snapshot_id", Int64, "The id of the current snapshot; null for an empty table."),
            ("last_commit", time(), "The time of the last change of the metadata."),
            ("data_files", Int64, "The number of data files."),
            ("data_bytes", Int64, "The total size of the data files, in bytes."),
            ("records", Int64, "The number of rows in the data files, deleted ones included."),
            ("partitions", Int64, "The number of partitions that have data files."),
            ("delete_files", Int64, "The number of delete files and deletion vectors."),
            ("snapshots", Int64, "The number of snapshots."),
            ("manifests", Int64, "The number of manifests of the current snapshot."),
            ("error", Utf8, "The reason that the table's facts are not known; null if they are."),
        ]
    },
};

/// `system.health`.
pub(crate) const HEALTH: ServedTable = ServedTable {
    name: "health",
    description: "A finding about a table. A table without findings has one row, whose finding is null.",
    columns: || {
        vec![
            ("namespace", Utf8, "The namespace, levels joined by dots."),
            ("table", Utf8, "The name of the table in its namespace."),
            ("score", Int32, "The score of the table, from 0 to 100; null if its facts are not known."),
            ("finding", Utf8, "The code of the finding, such as `small-files`."),
            ("severity", Utf8, "The severity of the finding: `info`, `warning` or `critical`."),
            ("points", Int32, "The points that the finding takes from the score."),
            ("evidence", Utf8, "What was seen, for people."),
            ("recommendation", Utf8, "What to do, for people."),
            ("error", Utf8, "The reason that the table's facts are not known; null if they are."),
        ]
    },
};

/// `system.jobs`.
pub(crate) const JOBS: ServedTable = ServedTable {
    name: "jobs",
    description: "A job on a table of the warehouse, the newest first.",
    columns: || {
        vec![
            ("id", Utf8, "The identifier of the job, a UUID."),
            ("table", Utf8, "The full name of the table when the job was enqueued."),
            ("kind", Utf8, "The kind of the job: `compact`, `expire`, …, or `undo`."),
            ("principal", Utf8, "The principal that asked for the job."),
            ("state", Utf8, "The state: `queued`, `running`, `succeeded`, `failed` or `cancelled`."),
            ("reason", Utf8, "The reason for the job, for people."),
            ("attempts", Int64, "The number of attempts that were started."),
            ("engine", Utf8, "The other engine that the job is delegated to; null for a job of Esker."),
            ("worker", Utf8, "The worker of that engine that has the job or had it."),
            ("asked", time(), "The time at which the job was enqueued."),
            ("started", time(), "The time at which the first attempt started."),
            ("finished", time(), "The time at which the job ended."),
            ("seconds", Float64, "The time from the first start to the end, in seconds."),
            ("plan", Utf8, "The plan of the last attempt, as JSON: see `jobs.schema.json`."),
            ("outcome", Utf8, "The outcome of a job that succeeded, as JSON: see `jobs.schema.json`."),
            ("error", Utf8, "The error of a failed job, or of the last attempt of one that is queued again."),
            ("measured", Utf8, "The measured cost and gain, as JSON."),
            ("undone_by", Utf8, "The identifier of the undo that took the job back."),
        ]
    },
};

/// `system.queries`.
pub(crate) const QUERIES: ServedTable = ServedTable {
    name: "queries",
    description: "A query that runs on this server, or one of the newest that ended.",
    columns: || {
        vec![
            ("id", Int64, "The number of the query in this process."),
            ("state", Utf8, "The state: `waiting`, `running`, `finished` or `failed`."),
            ("sql", Utf8, "The text of the statement."),
            ("principal", Utf8, "The principal that sent the statement."),
            ("started", time(), "The time at which the query started."),
            ("seconds", Float64, "The duration in seconds: so far, or until the last row was returned."),
            ("rows", Int64, "The number of rows returned."),
            ("files_considered", Int64, "The number of data files in the snapshots scanned."),
            ("files_pruned", Int64, "The number of data files that were ruled out before they were opened."),
            ("files_opened", Int64, "The number of files opened, delete files included."),
            ("rows_deleted", Int64, "The number of rows that deletes left out."),
            ("bytes_read", Int64, "The number of bytes read from storage."),
            ("bytes_cached", Int64, "The number of bytes found in the block cache."),
            ("requests", Int64, "The number of requests for bytes of files."),
            ("error", Utf8, "The error with which the query failed."),
        ]
    },
};

/// `system.table_health`, which is an Iceberg table.
pub(crate) const TABLE_HEALTH: ServedTable = ServedTable {
    name: "table_health",
    description: "The health of a table at a time. It is an Iceberg table: other engines read it through the catalog.",
    columns: || {
        vec![
            ("time", time(), "The time at which the row was written."),
            ("warehouse", Utf8, "The name of the warehouse."),
            ("namespace", Utf8, "The namespace, levels joined by dots."),
            ("table", Utf8, "The name of the table in its namespace."),
            ("owned", Boolean, "True if Esker owns the table, false if it is foreign."),
            ("score", Int32, "The score, from 0 to 100; null if the table's facts are not known."),
            ("findings", Utf8, "The codes of the findings, the worst first, with commas between."),
            ("worst_finding", Utf8, "The code of the worst finding."),
            ("worst_severity", Utf8, "The severity of the worst finding: `info`, `warning` or `critical`."),
            ("data_files", Int64, "The number of data files."),
            ("data_bytes", Int64, "The total size of the data files, in bytes."),
            ("records", Int64, "The number of rows in the data files, deleted ones included."),
            ("small_files", Int64, "The number of data files under three quarters of the target size."),
            (
                "excess_files",
                Int64,
                "The number of data files beyond those that partitions written at the target size would have.",
            ),
            ("partitions", Int64, "The number of partitions that have data files."),
            ("position_deletes", Int64, "The number of rows in position delete files."),
            ("equality_deletes", Int64, "The number of rows in equality delete files."),
            ("deletion_vectors", Int64, "The number of positions in deletion vectors."),
            ("files_with_deletes", Int64, "The number of data files that deletes apply to."),
            ("snapshots", Int64, "The number of snapshots."),
            ("manifests", Int64, "The number of manifests of the current snapshot."),
            ("metadata_bytes", Int64, "The size of the current metadata file, in bytes."),
            ("last_commit", time(), "The time of the last change of the metadata."),
            ("oldest_snapshot", time(), "The time of the oldest snapshot."),
            ("reported_scans", Int64, "The number of scans that engines reported, with those of Esker's own queries."),
            ("reported_commits", Int64, "The number of commits that engines reported."),
            ("error", Utf8, "The reason that the table's facts are not known; null if they are."),
        ]
    },
};

/// `system.audit`, which is an Iceberg table of one warehouse.
pub(crate) const AUDIT: ServedTable = ServedTable {
    name: "audit",
    description: "A record of the audit trail. It is an Iceberg table of the warehouse `audit.warehouse`, read with READ_AUDIT.",
    columns: || {
        vec![
            ("time", time(), "The time of the record."),
            ("id", Utf8, "The identifier of the record, a UUID."),
            ("phase", Utf8, "`attempt` before a change is tried, `outcome` when a request was answered."),
            ("request_id", Utf8, "The identifier of the request, as the answer has it in `x-request-id`."),
            ("protocol", Utf8, "`rest`, `flight-sql`, or `command` for a command on the server's machine."),
            (
                "principal_kind",
                Utf8,
                "The kind of the principal: `client`, `user`, `anonymous`, `machine`, or `unknown` for a refused log-in.",
            ),
            ("principal", Utf8, "The name of the principal, as events have it."),
            ("operation", Utf8, "The id of the operation in the OpenAPI documents, or the kind of the SQL statement."),
            ("is_change", Boolean, "True if the request is to change something."),
            ("decision", Utf8, "`allowed`, `refused`, `reported`, or `none` if nothing was decided."),
            ("rule", Utf8, "The rule that allowed the request: the id of a grant, or the name of a built-in rule."),
            ("privileges", Utf8, "The privileges that were asked for on the object."),
            ("warehouse", Utf8, "The name of the warehouse."),
            ("object_kind", Utf8, "The kind of the object, such as `table` or `namespace`."),
            ("object", Utf8, "The name of the object, levels joined by dots."),
            ("object_id", Utf8, "The identifier of the table or view."),
            ("objects", Utf8, "Kinds and names of all objects that the request named, if there are several."),
            ("status", Int32, "The HTTP status of the answer; for SQL, the one that the error stands for."),
            ("source_ip", Utf8, "The address of the client."),
            ("engine", Utf8, "The engine, as its header `user-agent` says."),
        ]
    },
};

/// `"t$snapshots"`.
pub(crate) const SNAPSHOTS: ServedTable = ServedTable {
    name: "snapshots",
    description: "A snapshot of the table, the oldest first.",
    columns: || {
        vec![
            ("committed_at", time(), "The time of the snapshot."),
            ("snapshot_id", Int64, "The id of the snapshot."),
            ("parent_id", Int64, "The id of the snapshot before it."),
            ("sequence_number", Int64, "The sequence number; 0 in format version 1."),
            ("schema_id", Int32, "The id of the schema that was current then."),
            ("operation", Utf8, "The operation of the summary: `append`, `replace`, `overwrite` or `delete`."),
            ("manifest_list", Utf8, "The URI of the manifest list."),
            ("summary", text_map(), "The other entries of the summary."),
        ]
    },
};

/// `"t$history"`.
pub(crate) const HISTORY: ServedTable = ServedTable {
    name: "history",
    description: "An entry of the snapshot log: a snapshot became current.",
    columns: || {
        vec![
            ("made_current_at", time(), "The time at which the snapshot became current."),
            ("snapshot_id", Int64, "The id of the snapshot."),
            ("parent_id", Int64, "The id of the snapshot before it; null if that or the snapshot was expired."),
            ("is_current_ancestor", Boolean, "True if the current snapshot descends from it."),
        ]
    },
};

/// `"t$refs"`.
pub(crate) const REFS: ServedTable = ServedTable {
    name: "refs",
    description: "A branch or a tag.",
    columns: || {
        vec![
            ("name", Utf8, "The name of the branch or tag."),
            ("type", Utf8, "`BRANCH` or `TAG`."),
            ("snapshot_id", Int64, "The id of the snapshot that it refers to."),
            ("max_reference_age_in_ms", Int64, "The age in milliseconds over which an expiry removes the reference."),
            ("min_snapshots_to_keep", Int32, "The number of snapshots that an expiry keeps on the branch."),
            ("max_snapshot_age_in_ms", Int64, "The age in milliseconds over which an expiry removes snapshots of the branch."),
        ]
    },
};

/// `"t$metadata_log_entries"`.
pub(crate) const METADATA_LOG: ServedTable = ServedTable {
    name: "metadata_log_entries",
    description: "A metadata file of the table, the oldest first; the last one is the current file.",
    columns: || {
        vec![
            ("timestamp", time(), "The time from which the file was current."),
            ("file", Utf8, "The URI of the metadata file."),
            ("latest_snapshot_id", Int64, "The id of the snapshot that was current then."),
            ("latest_schema_id", Int32, "The id of that snapshot's schema."),
            ("latest_sequence_number", Int64, "The sequence number of that snapshot."),
        ]
    },
};

/// `"t$properties"`.
pub(crate) const PROPERTIES: ServedTable = ServedTable {
    name: "properties",
    description: "A property of the table.",
    columns: || vec![("key", Utf8, "The key of the property."), ("value", Utf8, "The value of the property.")],
};

/// `"t$manifests"`.
pub(crate) const MANIFESTS: ServedTable = ServedTable {
    name: "manifests",
    description: "A manifest of the snapshot.",
    columns: || {
        vec![
            ("content", Int32, "0 for a manifest of data files, 1 for one of delete files."),
            ("path", Utf8, "The URI of the manifest."),
            ("length", Int64, "The size of the manifest, in bytes."),
            ("partition_spec_id", Int32, "The id of the partition spec of its files."),
            ("added_snapshot_id", Int64, "The id of the snapshot that added the manifest."),
            ("sequence_number", Int64, "The sequence number of the commit that added the manifest."),
            ("added_files_count", Int32, "The number of files that its snapshot added."),
            ("existing_files_count", Int32, "The number of files that earlier snapshots added."),
            ("deleted_files_count", Int32, "The number of files that its snapshot removed."),
            ("added_rows_count", Int64, "The number of rows of the added files."),
            ("existing_rows_count", Int64, "The number of rows of the existing files."),
            ("deleted_rows_count", Int64, "The number of rows of the removed files."),
            ("first_row_id", Int64, "The row id from which its files' row ids are assigned."),
        ]
    },
};

/// Returns the columns of `"t$files"`, `"t$data_files"` and `"t$delete_files"`.
fn file_columns() -> Vec<Column> {
    vec![
        ("content", Int32, "0 for a data file, 1 for position deletes or a deletion vector, 2 for equality deletes."),
        ("file_path", Utf8, "The URI of the file."),
        ("file_format", Utf8, "The format of the file: `PARQUET`, `AVRO`, `ORC` or `PUFFIN`."),
        ("spec_id", Int32, "The id of the file's partition spec."),
        ("partition", Utf8, "The label of the partition, `field=value/…`; `all` without partitions."),
        ("record_count", Int64, "The number of rows, deleted ones included."),
        ("file_size_in_bytes", Int64, "The size of the file, in bytes."),
        ("sequence_number", Int64, "The data sequence number."),
        ("snapshot_id", Int64, "The id of the snapshot that added the file."),
        ("first_row_id", Int64, "The row id of the file's first row."),
        ("sort_order_id", Int32, "The id of the sort order of the file's rows."),
        ("split_offsets", DataType::new_list(Int64, true), "The offsets in bytes at which the file may be split."),
        ("equality_ids", DataType::new_list(Int32, true), "The ids of the fields that equality deletes compare."),
        ("referenced_data_file", Utf8, "The URI of the only data file that the deletes are about."),
        ("content_offset", Int64, "The offset in bytes of a deletion vector in its file."),
        ("content_size_in_bytes", Int64, "The size of a deletion vector, in bytes."),
        ("lower_bounds", text_map(), "Lower bounds as text, by the full names of columns."),
        ("upper_bounds", text_map(), "Upper bounds as text, by the full names of columns."),
    ]
}

/// `"t$files"`.
pub(crate) const FILES: ServedTable =
    ServedTable { name: "files", description: "A data or delete file of the snapshot.", columns: file_columns };

/// `"t$data_files"`.
pub(crate) const DATA_FILES: ServedTable =
    ServedTable { name: "data_files", description: "A data file of the snapshot.", columns: file_columns };

/// `"t$delete_files"`.
pub(crate) const DELETE_FILES: ServedTable =
    ServedTable { name: "delete_files", description: "A delete file of the snapshot.", columns: file_columns };

/// `"t$partitions"`.
pub(crate) const PARTITIONS: ServedTable = ServedTable {
    name: "partitions",
    description: "A partition of the snapshot.",
    columns: || {
        vec![
            ("partition", Utf8, "The label of the partition, `field=value/…`; `all` without partitions."),
            ("spec_id", Int32, "The id of the partition spec."),
            ("record_count", Int64, "The number of rows in the data files, deleted ones included."),
            ("file_count", Int64, "The number of data files."),
            ("total_data_file_size_in_bytes", Int64, "The total size of the data files, in bytes."),
            ("position_delete_record_count", Int64, "The number of rows in position deletes and deletion vectors."),
            ("position_delete_file_count", Int64, "The number of position delete files and deletion vectors."),
            ("equality_delete_record_count", Int64, "The number of rows in equality delete files."),
            ("equality_delete_file_count", Int64, "The number of equality delete files."),
        ]
    },
};

/// The system tables that are computed for a query.
pub(crate) const SYSTEM_TABLES: [ServedTable; 4] = [HEALTH, JOBS, QUERIES, TABLES];

/// The metadata tables, in the order in which a message names them.
pub(crate) const METADATA_TABLES: [ServedTable; 10] =
    [SNAPSHOTS, HISTORY, REFS, METADATA_LOG, PROPERTIES, MANIFESTS, FILES, DATA_FILES, DELETE_FILES, PARTITIONS];

/// Describes the system tables and the metadata tables, with the type and the meaning of each column.
pub fn system_tables() -> Value {
    let described = |tables: &[ServedTable]| tables.iter().map(ServedTable::json).collect::<Vec<_>>();
    json!({
        "title": "System tables",
        "description": "Tables that Esker serves over SQL beside those of the catalog. `type` is the type in SQL, \
            `arrow-type` the type in results over Flight. New columns may appear at the end of a table in any \
            release.",
        "system": {"description": "Tables of the namespace `system` of each warehouse.", "tables": described(&SYSTEM_TABLES)},
        "iceberg": {
            "description": "Iceberg tables that Esker writes in that namespace. Times have microseconds there.",
            "tables": described(&[AUDIT, TABLE_HEALTH]),
        },
        "metadata": {
            "description": "Metadata tables of each table, such as \"t$snapshots\"; `name` follows the `$`.",
            "tables": described(&METADATA_TABLES),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_in_api_is_what_the_code_says() {
        esker_types::schema::assert_contract_file("system-tables.json", &system_tables());
    }

    #[test]
    fn every_column_has_one_name_and_a_meaning() {
        for table in SYSTEM_TABLES.iter().chain(&METADATA_TABLES).chain([&AUDIT, &TABLE_HEALTH]) {
            let columns = (table.columns)();
            for (name, _, description) in &columns {
                assert!(description.ends_with('.'), "{}.{name}: {description}", table.name);
                assert_eq!(columns.iter().filter(|column| column.0 == *name).count(), 1, "{}.{name}", table.name);
            }
        }
    }
}
