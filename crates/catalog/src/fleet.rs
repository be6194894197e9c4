//! The facts about the shape of all tables, kept in the state database.
//!
//! A commit costs one assessment of its table, and a view of the whole fleet reads one row per table. An observer assesses
//! tables after they changed ([`Catalog::keep_facts_current`]); a request assesses the few that have changed since.
//!
//! Start reading at [`Catalog::assessed_table`] for one table, and at [`Catalog::fleet`] for all.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use esker_health::{Assessment, Damage, assess};
use esker_state::{AssessmentFailure, TableUsage, TabularRow};
use esker_table::TableFacts;
use esker_types::{Coded, DAY_MS, DurationMillis, Millis, TableId, catch_panic, now_ms};
use futures::stream::{StreamExt, TryStreamExt};

use crate::damage::to_health_damage;
use crate::{Catalog, CatalogError, Result};

/// Number of tables that are assessed at the same time.
const CONCURRENCY: usize = 4;
/// Maximum number of tables that one request for the fleet assesses; the others are returned as last assessed.
const MAX_ASSESSED_PER_REQUEST: usize = 200;
/// Maximum number of tables whose parsed facts are kept in memory: a few kilobytes each.
const MAX_PARSED_FACTS: usize = 20_000;
/// Maximum number of tables that the observer takes from the database at once.
const MAX_TABLES_PER_ROUND: u32 = 256;
/// Time in milliseconds after which a table that could not be assessed is assessed again.
///
/// The table need not have changed: its storage may answer again.
const RETRY_MS: DurationMillis = 60 * 1000;
/// Time between searches for tables that other servers changed.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Time between a commit and the assessment of its table: the writer's next commits often follow closely.
const SETTLE_DELAY: Duration = Duration::from_millis(200);

/// Time in milliseconds that the clocks of servers may differ by: tables that changed this long before a search are looked at again.
const CLOCK_SLACK_MS: DurationMillis = 10 * 60 * 1000;

/// The searches for changed tables that found all there were, by their times in milliseconds since the Unix epoch.
///
/// A table keeps the time of its last change, by the clock of the server that changed it. So a search looks at what changed since the
/// search before, and once a day at all tables.
#[derive(Debug, Default, Clone, Copy)]
struct Searches {
    /// Time of the last search.
    last: Option<Millis>,
    /// Time of the last search among all tables.
    last_of_all: Option<Millis>,
}

impl Searches {
    /// Returns the time from which on changes count, in a search at the time `now`: 0 for all tables.
    fn changed_since(&self, now: Millis) -> Millis {
        match (self.last, self.last_of_all) {
            (Some(last), Some(all)) if now - all < DAY_MS => last - CLOCK_SLACK_MS,
            _ => 0,
        }
    }

    /// Records that a search at the time `now` found every table that changed from `since` on.
    fn done(&mut self, since: Millis, now: Millis) {
        self.last = Some(now);
        if since == 0 {
            self.last_of_all = Some(now);
        }
    }
}

/// A table with its facts, or the reason why there are none.
#[derive(Debug, Clone)]
pub struct AssessedTable {
    /// Row of the table.
    pub row: TabularRow,
    /// Facts about the table, or the reason why there are none.
    pub facts: FactsResult,
    /// Files of the table that a job or query could not read.
    pub damage: Vec<Damage>,
}

impl AssessedTable {
    /// Assesses the table at the time `now`, in milliseconds since the Unix epoch.
    pub fn assess(&self, now: Millis) -> Assessment {
        let facts = match &self.facts {
            Ok(facts) => Ok(facts.as_ref()),
            Err(NotAssessed::NotYet) => Err(None),
            Err(NotAssessed::Unreadable(AssessmentFailure { why, passing })) => Err(Some((why.as_str(), *passing))),
        };
        assess(facts, &self.damage, now)
    }
}

/// The reason why Esker has no facts about a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAssessed {
    /// The table waits for its first assessment.
    #[error("it has not been assessed yet")]
    NotYet,
    /// The table's metadata file or a manifest can't be read.
    #[error("{}{}", .0.why, if .0.passing { "; it may pass, and is tried again" } else { "" })]
    Unreadable(AssessmentFailure),
}

impl NotAssessed {
    /// Checks whether facts may be there a little later without any intervention.
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::NotYet => true,
            Self::Unreadable(error) => error.passing,
        }
    }
}

/// Facts about a table, or the reason why there are none.
type FactsResult = std::result::Result<Arc<TableFacts>, NotAssessed>;

/// Converts an error to the reason that is stored.
fn no_facts(error: &impl Coded) -> AssessmentFailure {
    AssessmentFailure { why: error.to_string(), passing: error.code().is_transient() }
}

/// Parses stored facts.
///
/// Another version of Esker may have stored facts that this one can't parse. The table is readable all the same, so it counts as
/// not yet assessed.
fn facts_of(kept: std::result::Result<String, AssessmentFailure>) -> FactsResult {
    let json = kept.map_err(NotAssessed::Unreadable)?;
    serde_json::from_str(&json).map(Arc::new).map_err(|_| NotAssessed::NotYet)
}

impl Catalog {
    /// Returns a table with its facts.
    ///
    /// Stored facts are taken if they are about the table's current metadata file; otherwise the table is assessed now.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails, and [`Encode`](crate::CatalogError::Encode) if new
    /// facts can't be written as JSON. A table that can't be assessed is no error.
    pub async fn assessed_table(&self, row: TabularRow) -> Result<AssessedTable> {
        let stored =
            self.state().fleet().health(row.id).await?.filter(|health| health.metadata_location == row.metadata_location);
        match stored.map(|health| facts_of(health.facts)) {
            Some(facts @ Ok(_)) => {
                let damage = self.damage_of(row.id).await?;
                Ok(AssessedTable { row, facts, damage })
            }
            _ => self.assess(row).await,
        }
    }

    /// Returns the damaged files of a table.
    async fn damage_of(&self, table: TableId) -> Result<Vec<Damage>> {
        Ok(self.state().fleet().damage_of(table).await?.into_iter().map(to_health_damage).collect())
    }

    /// Assesses a table as it is now, and stores the result.
    async fn assess(&self, row: TabularRow) -> Result<AssessedTable> {
        // One failing table must not stop the others, even if it causes a panic.
        let facts = catch_panic(async { self.facts(&self.load_row(row.clone()).await?).await }).await;
        let facts = facts.map_err(|panic| no_facts(&panic)).and_then(|facts| facts.map_err(|e| no_facts(&e)));
        if let Err(AssessmentFailure { why, passing }) = &facts {
            tracing::warn!(table = %row.name, error = why, passing, "a table can't be assessed");
        }
        let facts = facts.map(Arc::new).map_err(NotAssessed::Unreadable);
        let json = |value: serde_json::Result<String>| value.map_err(|source| CatalogError::Encode { what: "facts", source });
        let damage = self.damage_of(row.id).await?;
        let assessed = AssessedTable { row, facts, damage };
        let (state, id, at) = (self.state(), assessed.row.id, &assessed.row.metadata_location);
        match &assessed.facts {
            Err(NotAssessed::NotYet) => {}
            Ok(facts) => {
                let (score, shape) = (assessed.assess(now_ms()).score, json(serde_json::to_string(&facts.file_counts()))?);
                state.fleet().record_health(id, at, Ok((&json(serde_json::to_string(facts.as_ref()))?, score, &shape))).await?;
            }
            Err(NotAssessed::Unreadable(error)) => state.fleet().record_health(id, at, Err(error)).await?,
        }
        Ok(assessed)
    }

    /// Returns every table with its facts.
    ///
    /// Up to 200 tables that changed since they were last assessed are assessed now.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails, and [`Encode`](crate::CatalogError::Encode) if new
    /// facts can't be written as JSON. A table that can't be assessed is no error.
    pub async fn fleet(&self) -> Result<Vec<AssessedTable>> {
        self.with_facts(self.state().fleet().tables(self.warehouse()).await?).await
    }

    /// Returns the wanted ones among at most `limit` tables with their facts, after the table `after`, ordered by their identifiers.
    ///
    /// Nothing is read of the others. The second value is the table after which the next page begins; `None` at the end. Up to 200
    /// tables that changed since they were last assessed are assessed now.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Catalog::fleet`].
    pub async fn fleet_page(
        &self,
        after: Option<TableId>,
        limit: u32,
        is_wanted: impl Fn(&TabularRow) -> bool + Send,
    ) -> Result<(Vec<AssessedTable>, Option<TableId>)> {
        let mut rows = self.state().fleet().tables_page(self.warehouse(), after, limit).await?;
        let next = rows.last().filter(|_| rows.len() == limit as usize).map(|(last, _)| last.id);
        rows.retain(|(row, _)| is_wanted(row));
        Ok((self.with_facts(rows).await?, next))
    }

    /// Returns those of some entries that are tables of the warehouse, with their facts, in no order.
    ///
    /// Up to 200 tables that changed since they were last assessed are assessed now.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Catalog::fleet`].
    pub async fn assessed_among(&self, ids: &[TableId]) -> Result<Vec<AssessedTable>> {
        self.with_facts(self.state().fleet().tables_among(self.warehouse(), ids).await?).await
    }

    /// Returns the tables with the lowest score at their last assessment, at most `limit`, with their facts, the worst first.
    ///
    /// Tables without facts come before all others. Those that were never assessed are left out.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Catalog::fleet`].
    pub async fn worst_tables(&self, limit: u32) -> Result<Vec<AssessedTable>> {
        self.with_facts(self.state().fleet().worst_tables(self.warehouse(), limit).await?).await
    }

    /// Counts the tables of the warehouse, up to a number beyond which they need not be counted.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn count_tables(&self, up_to: u32) -> Result<u64> {
        Ok(self.state().fleet().count_tables(self.warehouse(), up_to).await?.try_into().unwrap_or_default())
    }

    /// Adds the facts to some tables, each given with the metadata file that its stored facts are about.
    async fn with_facts(&self, rows: Vec<(TabularRow, Option<String>)>) -> Result<Vec<AssessedTable>> {
        let mut kept = self.stored_facts(&rows).await?;
        let mut damaged = self.state().fleet().damage(self.warehouse()).await?;
        let mut assessed = 0;
        let mut work = Vec::new();
        for (row, at) in rows {
            let facts = kept.remove(&row.id).unwrap_or(Err(NotAssessed::NotYet));
            let is_stale = at.as_ref() != Some(&row.metadata_location) || matches!(facts, Err(NotAssessed::NotYet));
            let assesses = is_stale && assessed < MAX_ASSESSED_PER_REQUEST;
            assessed += usize::from(assesses);
            let damage = damaged.remove(&row.id).unwrap_or_default().into_iter().map(to_health_damage).collect();
            work.push(async move { if assesses { self.assess(row).await } else { Ok(AssessedTable { row, facts, damage }) } });
        }
        futures::stream::iter(work).buffered(CONCURRENCY).try_collect().await
    }

    /// Returns the stored facts of some tables, each given with the metadata file that its facts are about.
    ///
    /// Facts that are parsed already are not read again.
    async fn stored_facts(&self, rows: &[(TabularRow, Option<String>)]) -> Result<HashMap<TableId, FactsResult>> {
        let parsed = || self.inner.parsed_facts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = HashMap::with_capacity(rows.len());
        let mut missing = Vec::new();
        {
            let parsed = parsed();
            for (row, at) in rows {
                match (at, parsed.get(&row.id)) {
                    (Some(at), Some((of, facts))) if at == of => drop(found.insert(row.id, Ok(facts.clone()))),
                    (Some(_), _) => missing.push(row.id),
                    (None, _) => {}
                }
            }
        }
        let news = self.state().fleet().healths_of(&missing).await?;
        let mut parsed = parsed();
        if parsed.len() + news.len() > MAX_PARSED_FACTS {
            // Those of dropped tables go too. In a larger fleet, each page parses its own.
            parsed.clear();
        }
        for (id, health) in news {
            let facts = facts_of(health.facts);
            if let Ok(facts) = &facts
                && parsed.len() < MAX_PARSED_FACTS
            {
                parsed.insert(id, (health.metadata_location, facts.clone()));
            }
            found.insert(id, facts);
        }
        Ok(found)
    }

    /// Assesses every table that has changed since it was last assessed. Looks only at tables that changed after the last search.
    async fn assess_changed(&self, searches: &mut Searches) -> Result<()> {
        let (mut all, began, fleet) = (0, now_ms(), self.state().fleet());
        let since = searches.changed_since(began);
        loop {
            let stale = fleet.stale_tables(self.warehouse(), since, now_ms() - RETRY_MS, MAX_TABLES_PER_ROUND).await?;
            let n = stale.len();
            let work: Vec<_> = stale.into_iter().map(|row| self.assess(row)).collect();
            futures::stream::iter(work).buffer_unordered(CONCURRENCY).try_collect::<Vec<_>>().await?;
            all += n;
            // Tables that change faster than they are assessed must not keep this loop busy for ever.
            if n < MAX_TABLES_PER_ROUND as usize {
                searches.done(since, began);
                return Ok(());
            }
            if all > 100_000 {
                return Ok(());
            }
        }
    }

    /// Counts the use that a query of this server made of a table. Other engines report theirs.
    pub fn record_use(&self, table: TableId, used: &TableUsage) {
        self.inner.uncounted_uses.lock().unwrap_or_else(PoisonError::into_inner).entry(table).or_default().add(used);
    }

    /// Stores the report of an engine about a scan of a table or a commit to it, as JSON, and adds its counts to the table's use.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn record_report(&self, table: TableId, principal: &str, body: &str, used: Option<&TableUsage>) -> Result<()> {
        Ok(self.state().fleet().insert_report(table, principal, body, used).await?)
    }

    /// Stores the decisions of the autopilot about some tables: the table, the verdict, and the whole decision as JSON.
    ///
    /// A decision replaces the one before.
    ///
    /// # Errors
    ///
    /// Returns [`State`](crate::CatalogError::State) if the database fails.
    pub async fn record_decisions(&self, decisions: &[(TableId, &'static str, String)]) -> Result<()> {
        Ok(self.state().fleet().record_decisions(decisions).await?)
    }

    /// Adds the counted uses to the database.
    async fn flush_uses(&self) -> Result<()> {
        let used = std::mem::take(&mut *self.inner.uncounted_uses.lock().unwrap_or_else(PoisonError::into_inner));
        if !used.is_empty() {
            self.state().fleet().add_usages(&used).await?;
        }
        Ok(())
    }

    /// Keeps the facts about the fleet up to date. Never returns.
    pub async fn keep_facts_current(&self) {
        let mut searches = Searches::default();
        loop {
            if let Err(error) = self.flush_uses().await {
                tracing::warn!(warehouse = self.options().warehouse, %error, "the use of tables by queries could not be counted");
            }
            if let Err(error) = self.assess_changed(&mut searches).await {
                tracing::warn!(warehouse = self.options().warehouse, %error, "tables could not be assessed; it is tried again");
            }
            if let Err(error) = self.recheck_damage().await {
                tracing::warn!(warehouse = self.options().warehouse, %error, "damaged files could not be checked again");
            }
            tokio::select! {
                () = self.wait_for_change() => tokio::time::sleep(SETTLE_DELAY).await,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_looks_at_what_changed_since_the_last_whole_one_and_once_a_day_at_all() {
        let (mut searches, start) = (Searches::default(), 1_000 * DAY_MS);
        assert_eq!(searches.changed_since(start), 0, "nothing was searched yet");
        searches.done(0, start);
        assert_eq!(searches.changed_since(start + 5), start - CLOCK_SLACK_MS);
        searches.done(start - CLOCK_SLACK_MS, start + 5);
        assert_eq!(searches.changed_since(start + 9), start + 5 - CLOCK_SLACK_MS, "a search that was not finished moves nothing");
        assert_eq!(searches.changed_since(start + DAY_MS), 0);
    }
}
