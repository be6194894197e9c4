use std::collections::HashSet;

use esker_state::Doom;
use esker_table::reachable;
use esker_types::{TableName, now_ms};

use crate::{Catalog, LoadedTable, Result};

impl Catalog {
    /// Drops a table. With `purge` its files go into quarantine, unless the table is foreign or says `gc.enabled=false`.
    pub async fn drop_table(&self, name: &TableName, purge: bool) -> Result<()> {
        let row = self.state().table(self.warehouse(), name).await?;
        let dooms = match purge && row.owned {
            // A table whose metadata can't be read is dropped all the same; its files are left in place.
            true => match self.load_row(row.clone()).await {
                Ok(table) => self.purge_list(&table).await.unwrap_or_else(|error| {
                    tracing::warn!(table = %name, %error, "purge left the files in place");
                    Vec::new()
                }),
                Err(error) => {
                    tracing::warn!(table = %name, %error, "purge left the files in place");
                    Vec::new()
                }
            },
            false => Vec::new(),
        };
        self.state().drop_table(row.id, &dooms).await?;
        Ok(())
    }

    async fn purge_list(&self, table: &LoadedTable) -> Result<Vec<Doom>> {
        let metadata = &table.metadata;
        if metadata.properties().get("gc.enabled").is_some_and(|v| v == "false") {
            return Ok(Vec::new());
        }
        let snapshots: Vec<_> = metadata.snapshots().cloned().collect();
        let found = reachable(self.manifests(), metadata, &snapshots, &HashSet::new()).await?;
        let logged = metadata.metadata_log().iter().map(|log| (log.metadata_file.clone(), None));
        let current = (table.row.metadata_location.clone(), Some(table.metadata_bytes));
        let files = found.files.into_iter().map(|(path, (_, bytes))| (path, bytes));
        let due_ms = now_ms().saturating_add(self.options().grace_ms);
        let doom = |(path, bytes)| table.row.doom(path, bytes, "the table was dropped with purge", None, due_ms);
        Ok(files.chain(logged).chain([current]).map(doom).collect())
    }
}
