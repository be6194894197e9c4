//! Branches, tags, rollback and write-audit-publish.
//!
//! Each change becomes a commit of requirements and updates that any REST client could have sent. The commit is computed at the
//! commit point, so that it fits the table as it is then. Only a publish writes files, and only if main has moved since the
//! snapshot was staged: it then cherry-picks the staged snapshot.
//!
//! Start reading at [`Catalog::change_refs`] and `plan`. Spec: "Snapshot References".

use std::collections::HashSet;

use esker_access::{Privilege, Required};
use esker_format::{
    MAIN_BRANCH, ReferenceKind, SnapshotRef, SnapshotReference, TableMetadata, TableRequirement, TableUpdate, branch_at,
};
use esker_table::{ancestors, cherry_pick};
use esker_types::{DurationMillis, Millis, TableName};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{Actor, Catalog, CatalogError, CommitRecords, Committed, LoadedTable, Proposal, Rebase, Result};

/// A change of a table's branches and tags, as the management API takes it.
///
/// Spec: "Snapshot References".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "action", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum RefChange {
    /// Creates a branch.
    #[schema(rename_all = "kebab-case")]
    CreateBranch {
        /// Name of the new branch.
        name: String,
        /// Snapshot at which the branch begins; by default the head of main.
        snapshot_id: Option<i64>,
        /// Time in milliseconds that the branch itself is kept; for ever by default.
        max_ref_age_ms: Option<DurationMillis>,
    },
    /// Creates a tag.
    #[schema(rename_all = "kebab-case")]
    CreateTag {
        /// Name of the new tag.
        name: String,
        /// Snapshot that the tag names; by default the head of main.
        snapshot_id: Option<i64>,
        /// Time in milliseconds that the tag is kept; for ever by default.
        max_ref_age_ms: Option<DurationMillis>,
    },
    /// Removes a branch or tag. Its snapshots stay until they expire.
    Drop {
        /// Name of the branch or tag.
        name: String,
    },
    /// Sets main back to one of its earlier snapshots, by id or by time. Exactly one of the two must be given.
    #[schema(rename_all = "kebab-case")]
    Rollback {
        /// Id of the snapshot.
        snapshot_id: Option<i64>,
        /// Time in milliseconds since the Unix epoch; main's newest snapshot that is not later is taken.
        as_of_ms: Option<Millis>,
    },
    /// Moves a branch to the snapshot of another branch or of a tag, which must descend from the branch's head.
    FastForward {
        /// Branch that moves; it is created if it does not exist.
        branch: String,
        /// Branch or tag to move to.
        to: String,
    },
    /// Publishes on main the snapshots that are staged under a `wap.id`.
    ///
    /// They are one snapshot, or a chain that begins at main's head. If main has moved, a single append is cherry-picked.
    #[schema(rename_all = "kebab-case")]
    Publish {
        /// The `wap.id` that the snapshots were written with.
        wap_id: String,
    },
}

/// Summary key of the write-audit-publish id, which a snapshot has that is staged for a later publish.
const WAP_ID: &str = "wap.id";
/// Summary key of the write-audit-publish id that a snapshot published: Iceberg writes it when it cherry-picks a staged snapshot.
const PUBLISHED_WAP_ID: &str = "published-wap-id";

/// Returns the write-audit-publish ids of the snapshots on main.
fn published_wap_ids(metadata: &TableMetadata) -> HashSet<&str> {
    let main = ancestors(metadata, metadata.current_snapshot());
    main.flat_map(|s| [WAP_ID, PUBLISHED_WAP_ID].into_iter().filter_map(|key| s.summary_value(key))).collect()
}

/// Lists the snapshots that wait to be published, oldest first, each with its write-audit-publish id.
///
/// A snapshot whose id is on main already is left out.
pub fn staged(metadata: &TableMetadata) -> Vec<(&str, &SnapshotRef)> {
    let published = published_wap_ids(metadata);
    let staged = metadata.snapshots.iter().filter_map(|s| Some((s.summary_value(WAP_ID)?, s)));
    let mut staged: Vec<_> = staged.filter(|(id, _)| !published.contains(id)).collect();
    staged.sort_by_key(|(_, s)| (s.sequence_number(), s.timestamp_ms, s.snapshot_id));
    staged
}

/// Returns the snapshots that are staged under a write-audit-publish id, newest first.
///
/// Refuses snapshots that are neither a single one nor a chain, in which each was written on the one before.
fn staged_chain<'a>(metadata: &'a TableMetadata, wap_id: &str) -> Result<Vec<&'a SnapshotRef>> {
    let staged: Vec<&SnapshotRef> = staged(metadata).into_iter().filter(|(id, _)| *id == wap_id).map(|(_, s)| s).collect();
    let parents: HashSet<i64> = staged.iter().filter_map(|s| s.parent_snapshot_id).collect();
    let heads: Vec<&SnapshotRef> = staged.iter().copied().filter(|s| !parents.contains(&s.snapshot_id)).collect();
    match heads.as_slice() {
        [end] => Ok(ancestors(metadata, Some(*end)).take_while(|s| s.summary_value(WAP_ID) == Some(wap_id)).collect()),
        [] if published_wap_ids(metadata).contains(wap_id) => {
            Err(CatalogError::Refused(format!("wap id {wap_id} is published already")))
        }
        [] => Err(CatalogError::Refused(format!("no staged snapshot has the wap id {wap_id}"))),
        _ => Err(CatalogError::Refused(format!(
            "the staged snapshots {} all have the wap id {wap_id}, and do not form a chain; create a branch at the one to \
             publish, and fast-forward main to it",
            ids(&staged)
        ))),
    }
}

fn ids(snapshots: &[&SnapshotRef]) -> String {
    snapshots.iter().map(|s| s.snapshot_id.to_string()).collect::<Vec<_>>().join(", ")
}

/// A change of branches and tags that is planned at the commit point.
struct RefCommit {
    catalog: Catalog,
    change: RefChange,
    actor: Actor,
}

impl Rebase for RefCommit {
    type Effect = ();

    fn propose<'a>(&'a self, table: &'a LoadedTable) -> BoxFuture<'a, Result<(Proposal, ())>> {
        async move {
            let metadata = &table.metadata;
            if let RefChange::Publish { wap_id } = &self.change {
                return Ok((self.publish(table, wap_id).await?, ()));
            }
            let (requirements, updates) = plan(metadata, &self.change)?;
            Ok((Proposal { requirements, updates, actor: self.actor.clone(), ..Proposal::default() }, ()))
        }
        .boxed()
    }
}

impl RefCommit {
    /// Proposes to move main to the staged snapshots, or to cherry-pick the only one if main has moved since.
    async fn publish(&self, table: &LoadedTable, wap_id: &str) -> Result<Proposal> {
        let metadata = &table.metadata;
        let chain = staged_chain(metadata, wap_id)?;
        let (Some(newest), Some(oldest)) = (chain.first().copied(), chain.last()) else {
            return Err(CatalogError::Refused(format!("no staged snapshot has the wap id {wap_id}")));
        };
        if oldest.parent_snapshot_id == metadata.current_snapshot_id {
            let (requirements, updates) = move_branch(metadata, MAIN_BRANCH, newest.snapshot_id)?;
            return Ok(Proposal { requirements, updates, actor: self.actor.clone(), ..Proposal::default() });
        }
        if chain.len() > 1 {
            let what = format!(
                "the staged snapshots {} all have the wap id {wap_id}, and main has moved on since; then only a single append \
                 can be published",
                ids(&chain)
            );
            return Err(CatalogError::Refused(what));
        }
        self.catalog.check_snapshot(metadata, newest).await?;
        let record = self.catalog.recorder(table.row.id);
        let picked = cherry_pick(self.catalog.manifests(), metadata, newest, &record).await?;
        Ok(Proposal {
            requirements: picked.requirements,
            updates: picked.updates,
            records: CommitRecords { settled_outputs: picked.written, ..CommitRecords::default() },
            actor: self.actor.clone(),
            ..Proposal::default()
        })
    }
}

impl Catalog {
    /// Changes a table's branches and tags.
    ///
    /// # Errors
    ///
    /// - Returns [`State`](CatalogError::State) if no table has this name or the database fails.
    /// - Returns [`Refused`](CatalogError::Refused) if the change does not fit the table: a name is taken or missing, a tag would
    ///   move, main would be dropped, or a snapshot is missing, not staged, or not an ancestor or descendant where it must be one.
    /// - Returns [`Invalid`](CatalogError::Invalid) if a rollback names both or neither of its targets, or other engines could
    ///   not read the snapshot.
    /// - Returns [`Table`](CatalogError::Table) if a staged snapshot can't be cherry-picked.
    /// - Returns the errors of [`Catalog::commit_rebase`].
    pub async fn change_refs(&self, name: &TableName, change: RefChange, actor: &Actor) -> Result<Committed> {
        let commit = RefCommit { catalog: self.clone(), change, actor: actor.clone() };
        let required = Required::privilege(Privilege::ManageRefs);
        let row = self.permitted_table(name, required, &actor.authority).await?;
        let (committed, ()) = self.commit_rebase(row.id, commit).await?;
        Ok(committed)
    }
}

/// The requirements and updates of the commit that makes a change.
type PlannedCommit = (Vec<TableRequirement>, Vec<TableUpdate>);

/// Plans every change but a publish on the table as it is now.
fn plan(metadata: &TableMetadata, change: &RefChange) -> Result<PlannedCommit> {
    let refused = |what: String| Err(CatalogError::Refused(what));
    let snapshot = |id: Option<i64>| match id.or(metadata.current_snapshot_id) {
        Some(id) if metadata.snapshots.get(id).is_some() => Ok(id),
        Some(id) => Err(CatalogError::Refused(format!("the table has no snapshot {id}"))),
        None => Err(CatalogError::Refused("the table has no snapshot yet".to_owned())),
    };
    let create = |name: &String, snapshot_id: Option<i64>, kind: ReferenceKind, max_ref_age_ms: Option<DurationMillis>| {
        if metadata.refs.contains_key(name) {
            return refused(format!("branch or tag {name} exists already"));
        }
        let reference = SnapshotReference { kind, max_ref_age_ms, ..branch_at(snapshot(snapshot_id)?) };
        let requirement = TableRequirement::AssertRefSnapshotId { name: name.clone(), snapshot_id: None };
        Ok((vec![requirement], vec![TableUpdate::SetSnapshotRef { ref_name: name.clone(), reference }]))
    };
    match change {
        RefChange::CreateBranch { name, snapshot_id, max_ref_age_ms } => {
            create(name, *snapshot_id, ReferenceKind::Branch, *max_ref_age_ms)
        }
        RefChange::CreateTag { name, snapshot_id, max_ref_age_ms } => {
            create(name, *snapshot_id, ReferenceKind::Tag, *max_ref_age_ms)
        }
        RefChange::Drop { name } if name == MAIN_BRANCH => refused("main can't be dropped".to_owned()),
        RefChange::Drop { name } => match metadata.refs.get(name) {
            None => refused(format!("the table has no branch or tag {name}")),
            Some(reference) => {
                let requirement =
                    TableRequirement::AssertRefSnapshotId { name: name.clone(), snapshot_id: Some(reference.snapshot_id) };
                Ok((vec![requirement], vec![TableUpdate::RemoveSnapshotRef { ref_name: name.clone() }]))
            }
        },
        RefChange::Rollback { snapshot_id, as_of_ms } => {
            let wanted = |s: &&SnapshotRef| match (snapshot_id, as_of_ms) {
                (Some(id), None) => s.snapshot_id == *id,
                (None, Some(ms)) => s.timestamp_ms <= *ms,
                _ => false,
            };
            if snapshot_id.is_some() == as_of_ms.is_some() {
                return Err(CatalogError::Invalid("a rollback needs either snapshot-id or as-of-ms".to_owned()));
            }
            match ancestors(metadata, metadata.current_snapshot()).find(wanted) {
                Some(target) => move_branch(metadata, MAIN_BRANCH, target.snapshot_id),
                None => refused(never_there(*snapshot_id, as_of_ms.unwrap_or_default())),
            }
        }
        RefChange::FastForward { branch, to } => {
            let Some(target) = metadata.snapshot_for_ref(to) else {
                return refused(format!("the table has no branch or tag {to}"));
            };
            let head = metadata.snapshot_for_ref(branch).map(|s| s.snapshot_id);
            if head.is_some_and(|head| !ancestors(metadata, Some(target)).any(|s| s.snapshot_id == head)) {
                return refused(format!("{to} does not lie ahead of {branch}: both have snapshots since they parted"));
            }
            move_branch(metadata, branch, target.snapshot_id)
        }
        RefChange::Publish { .. } => refused("publishing needs the table's manifests".to_owned()),
    }
}

/// Returns the reason why main can't be rolled back to a snapshot, or to a time in milliseconds since the Unix epoch.
fn never_there(snapshot_id: Option<i64>, as_of_ms: Millis) -> String {
    match snapshot_id {
        Some(id) => format!("main was never at snapshot {id}, which is no ancestor of its head"),
        None => format!("main had no snapshot yet at {as_of_ms} ms since the Unix epoch: its head has no ancestor of that age"),
    }
}

/// Plans to set a branch to a snapshot. The branch is created if it is not there; other settings stay.
fn move_branch(metadata: &TableMetadata, branch: &str, to: i64) -> Result<PlannedCommit> {
    let current = metadata.refs.get(branch);
    if current.is_some_and(|reference| !reference.is_branch()) {
        return Err(CatalogError::Refused(format!("{branch} is a tag; tags don't move")));
    }
    let current_snapshot_id = current.map(|reference| reference.snapshot_id);
    let requirement = TableRequirement::AssertRefSnapshotId { name: branch.to_owned(), snapshot_id: current_snapshot_id };
    let reference = current.map_or_else(|| branch_at(to), |there| SnapshotReference { snapshot_id: to, ..there.clone() });
    Ok((vec![requirement], vec![TableUpdate::SetSnapshotRef { ref_name: branch.to_owned(), reference }]))
}
