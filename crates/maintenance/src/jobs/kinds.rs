//! The kinds of jobs, and the one place that lists them.
//!
//! The macro `job_kinds!` turns the list into a request, a plan, and functions that find a kind's implementation by its
//! [`JobKind`]. Each is an exhaustive match, so a kind that is missing here does not compile.

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use esker_catalog::{Catalog, LoadedTable};
use esker_state::Job;
use esker_table::ExpiryPolicy;
use esker_types::schema::Definitions;
use esker_types::{JobKind, Principal};
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::askers::guarded;
use super::schema::JobSchemas;
use crate::check::Verification;
use crate::compact::Compaction;
use crate::context::JobContext;
use crate::erase::Erasure;
use crate::expire::Expiry;
use crate::job_type::{JobReport, JobType, ProgressUnit, TableAccess, Undo, check_access, to_json};
use crate::manifests::ManifestRewrite;
use crate::orphans::OrphanRemoval;
use crate::statistics::StatisticsRun;
use crate::{
    CheckOptions, CompactOptions, EraseOptions, MaintenanceError, ManifestOptions, OrphanOptions, Result, StatisticsOptions,
    UndoOutcome,
};

/// A kind of job, as the management API lists it.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct KindView {
    /// The kind; also the last segment of the route that starts a job.
    pub kind: JobKind,
    /// A sentence that says what jobs of the kind do.
    pub summary: String,
    /// The unit that the progress of a job is counted in.
    pub progress: ProgressUnit,
    /// Jobs of the kind change nothing, so foreign and frozen tables take them.
    pub read_only: bool,
    /// A policy may schedule jobs of the kind.
    pub schedulable: bool,
    /// A job of the kind can be undone.
    pub undoable: bool,
    /// A dry run costs little.
    pub shows_preview: bool,
}

macro_rules! job_kinds {
    ($($(#[$doc:meta])* $kind:ident($options:ty): $ty:ty,)*) => {
        /// A request for a job: its kind and its options, as it waits in the queue.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum JobRequest {
            $($(#[$doc])* $kind(Box<$options>),)*
        }

        impl JobRequest {
            /// Returns the kind of the job.
            pub const fn kind(&self) -> JobKind {
                match self {
                    $(Self::$kind(_) => JobKind::$kind,)*
                }
            }

            /// Reads the options of a kind.
            ///
            /// # Errors
            ///
            /// Returns the deserializer's error for an option that is unknown, missing or of another type.
            pub fn read<'de, D: Deserializer<'de>>(kind: JobKind, options: D) -> std::result::Result<Self, D::Error> {
                match kind {
                    $(JobKind::$kind => Deserialize::deserialize(options).map(Self::$kind),)*
                }
            }

            /// Reads the options of a kind from the arguments of its [`command`].
            ///
            /// # Errors
            ///
            /// Returns an error that names the argument that makes no sense.
            pub fn of_arguments(kind: JobKind, arguments: &ArgMatches) -> std::result::Result<Self, clap::Error> {
                match kind {
                    $(JobKind::$kind => options_of::<$ty>(arguments).map(|options| Self::$kind(Box::new(options))),)*
                }
            }
        }

        /// The schema of the options of a job, whose kind is beside them, such as in the path of a route.
        ///
        /// An enum would be described as `oneOf`, but an empty object has the form of the options of every kind.
        #[derive(Debug)]
        pub enum JobOptions {}

        impl PartialSchema for JobOptions {
            fn schema() -> RefOr<Schema> {
                let options = AnyOfBuilder::new().description(Some("The options of a job, by the kind in the path."));
                options$(.item(Ref::from_schema_name(<$options>::name())))*.into()
            }
        }

        impl ToSchema for JobOptions {
            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                $(schemas.push((<$options>::name().into(), <$options>::schema()));
                <$options>::schemas(schemas);)*
            }
        }

        /// A planned job.
        pub(crate) enum PlannedJob {
            $($kind(Box<<$ty as JobType>::Plan>),)*
        }

        impl std::fmt::Debug for PlannedJob {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "PlannedJob {:?}", self.record())
            }
        }

        impl PlannedJob {
            /// Plans a job on a table as it is, if the table takes jobs of the kind.
            pub(crate) async fn plan(context: &JobContext, table: &LoadedTable, request: &JobRequest) -> Result<Self> {
                check_access(access_of(request.kind()), &context.catalog, table)?;
                let context = &guarded(context, table).await?;
                Ok(match request {
                    $(JobRequest::$kind(options) => Self::$kind(Box::new(<$ty>::plan(context, table, options).await?)),)*
                })
            }

            /// Returns the part of the plan that the job's record keeps.
            pub(crate) fn record(&self) -> Result<Value> {
                match self {
                    $(Self::$kind(plan) => to_json(<$ty>::record(plan)),)*
                }
            }

            /// Returns the engine that has to run the plan; `None` if Esker runs it.
            pub(crate) fn engine(&self, table: &LoadedTable) -> Result<Option<&'static str>> {
                match self {
                    $(Self::$kind(plan) => <$ty>::engine(plan, table),)*
                }
            }

            /// Runs the plan and returns the outcome as JSON.
            pub(crate) async fn run(&self, context: &JobContext, table: &LoadedTable) -> Result<Value> {
                let context = &guarded(context, table).await?;
                match self {
                    $(Self::$kind(plan) => to_json(&<$ty>::run(context, table, plan).await?),)*
                }
            }
        }

        /// Shows what a job would do, as JSON.
        pub(crate) async fn preview(context: &JobContext, table: &LoadedTable, request: &JobRequest) -> Result<Value> {
            let context = &guarded(context, table).await?;
            match request {
                $(JobRequest::$kind(options) => to_json(&<$ty>::preview(context, table, options).await?),)*
            }
        }

        /// Adds the types of a kind to a document.
        pub(super) fn schemas_of(kind: JobKind, definitions: &mut Definitions) -> JobSchemas {
            match kind {
                $(JobKind::$kind => JobSchemas::of::<$ty>(definitions),)*
            }
        }

        fn access_of(kind: JobKind) -> TableAccess {
            match kind {
                $(JobKind::$kind => <$ty>::ACCESS,)*
            }
        }

        fn undo_of(kind: JobKind) -> Option<Undo> {
            match kind {
                $(JobKind::$kind => <$ty>::UNDO,)*
            }
        }

        /// Returns what the management API lists about a kind.
        pub fn kind_view(kind: JobKind) -> KindView {
            match kind {
                $(JobKind::$kind => view_of::<$ty>(),)*
            }
        }

        /// Returns the command line of a kind, without the options that all kinds share.
        pub fn command(kind: JobKind) -> Command {
            match kind {
                $(JobKind::$kind => <$ty as JobType>::Args::augment_args(Command::new(kind.as_str()).about(<$ty>::SUMMARY)),)*
            }
        }

        /// Describes the answer of a dry run for people.
        ///
        /// # Errors
        ///
        /// Returns the deserializer's error if the JSON is not the preview of the kind, which a server of another version may have
        /// sent.
        pub fn describe_preview(kind: JobKind, preview: &Value) -> std::result::Result<JobReport, serde_json::Error> {
            match kind {
                $(JobKind::$kind => <$ty as JobType>::Preview::deserialize(preview).map(|preview| <$ty>::describe_preview(&preview)),)*
            }
        }

        /// Describes the outcome of a job on a table for people.
        ///
        /// # Errors
        ///
        /// Returns the deserializer's error if the JSON is not the outcome of the kind, which a server of another version may have
        /// sent.
        pub fn describe_outcome(kind: JobKind, table: &str, outcome: &Value) -> std::result::Result<JobReport, serde_json::Error> {
            match kind {
                $(JobKind::$kind => <$ty as JobType>::Outcome::deserialize(outcome).map(|outcome| <$ty>::describe_outcome(table, &outcome)),)*
            }
        }
    };
}

job_kinds! {
    /// Rewrite data files or deletes.
    Compact(CompactOptions): Compaction,
    /// Expire snapshots.
    Expire(ExpiryPolicy): Expiry,
    /// Quarantine orphan files.
    Orphans(OrphanOptions): OrphanRemoval,
    /// Rewrite manifests.
    Manifests(ManifestOptions): ManifestRewrite,
    /// Count distinct values.
    Statistics(StatisticsOptions): StatisticsRun,
    /// Remove deleted rows from storage.
    Erase(EraseOptions): Erasure,
    /// Verify a table's metadata and files.
    Check(CheckOptions): Verification,
}

impl JobRequest {
    /// Reads the request of a job's record.
    ///
    /// # Errors
    ///
    /// Returns [`MaintenanceError::Refused`] if another version wrote a request that this one cannot read.
    pub(crate) fn of(job: &Job) -> Result<Self> {
        serde_json::from_value(job.request.clone())
            .map_err(|e| MaintenanceError::Refused(format!("job {}: its request can't be read: {e}", job.id)))
    }

    /// Returns the options as the body of the route that starts the job. Options that are not set are left out.
    pub fn options(&self) -> Value {
        let mut json = self.json();
        json.get_mut(self.kind().as_str()).map(without_nulls).unwrap_or_default()
    }

    /// Returns the request as the record of its job has it.
    pub fn json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// Undoes the work of a job, by the undo of its kind.
///
/// # Errors
///
/// Returns [`MaintenanceError::Refused`] if jobs of the kind cannot be undone, and the errors of the kind's undo.
pub(crate) async fn undo_work(catalog: &Catalog, job: &Job, principal: &Principal) -> Result<UndoOutcome> {
    match job.kind.parse().ok().and_then(undo_of) {
        Some(undo) => undo(catalog, job, principal).await,
        None => Err(MaintenanceError::Refused(format!("job {} is of the kind {}, which can't be undone", job.id, job.kind))),
    }
}

fn view_of<T: JobType>() -> KindView {
    KindView {
        kind: T::KIND,
        summary: T::SUMMARY.to_owned(),
        progress: T::UNIT,
        read_only: T::ACCESS == TableAccess::Read,
        schedulable: T::SCHEDULABLE,
        undoable: T::UNDO.is_some(),
        shows_preview: T::SHOWS_PREVIEW,
    }
}

fn options_of<T: JobType>(arguments: &ArgMatches) -> std::result::Result<T::Options, clap::Error> {
    let invalid = |why| clap::Error::raw(ErrorKind::ValueValidation, format!("{why}\n"));
    T::options(T::Args::from_arg_matches(arguments)?).map_err(invalid)
}

fn without_nulls(value: &mut Value) -> Value {
    if let Value::Object(fields) = value {
        fields.retain(|_, field| !field.is_null());
    }
    value.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_name_a_summary_and_a_command() {
        for kind in JobKind::ALL {
            let view = kind_view(kind);
            assert_eq!(view.kind, kind, "the list pairs a kind with the implementation of another");
            assert!(view.summary.ends_with('.') && view.summary.len() > 20, "{view:?}");
            command(kind).debug_assert();
        }
    }

    /// Without the attribute of the type, a misspelt option would be ignored, and an old request could not be read.
    #[test]
    fn the_options_of_every_kind_are_optional_in_kebab_case_and_no_other_is_taken() {
        let attribute = "#[serde(default, deny_unknown_fields, rename_all = \"kebab-case\")]";
        for kind in JobKind::ALL {
            let hint = format!("the type of the options of {kind} needs {attribute}");
            JobRequest::read(kind, serde_json::json!({})).unwrap_or_else(|e| panic!("{hint}: {e}"));
            let unknown = serde_json::json!({"no-such-option": 1});
            let error = JobRequest::read(kind, unknown).map(drop).expect_err(&hint).to_string();
            assert!(error.contains("no-such-option"), "{hint}: {error}");
            let mut definitions = Definitions::default();
            let name = schemas_of(kind, &mut definitions).options["$ref"].as_str().map(str::to_owned).expect("a reference");
            let name = name.rsplit('/').next().expect("a name");
            let schema = definitions.get(name).expect("a schema");
            let names = schema["properties"].as_object().expect("properties").keys();
            names.for_each(|name| assert!(!name.contains('_'), "{hint}: {name}"));
        }
    }

    #[test]
    fn a_kind_that_changes_nothing_has_nothing_to_undo_and_no_schedule() {
        for view in JobKind::ALL.map(kind_view).into_iter().filter(|view| view.read_only) {
            assert!(!view.undoable && !view.schedulable, "{view:?}");
        }
    }

    #[test]
    fn options_of_another_kind_are_refused_by_name() {
        let options = serde_json::json!({"retain-last": 3});
        assert_eq!(JobRequest::read(JobKind::Expire, &options).map(|r| r.kind()).ok(), Some(JobKind::Expire));
        let error = JobRequest::read(JobKind::Check, &options).expect_err("no option of a check").to_string();
        assert!(error.contains("retain-last"), "{error}");
    }
}
