//! Lists a location with many requests at once.
//!
//! A store lists keys in their order, one page a request, and each page begins where the last one ended. So one listing is as slow
//! as all its requests in a row. [`split`] cuts a location into [`ListingPart`]s that don't overlap and are listed at the same
//! time: the directories of a partitioned table, and ranges of the alphabet in a directory whose first key is a file. Start reading
//! with [`list_concurrently`].

use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::{DELIMITER, Path};
use object_store::{ObjectMeta, ObjectStore};
use serde::{Deserialize, Serialize};

/// The number of parts that are listed at the same time.
const CONCURRENCY: usize = 32;

/// The number of parts from which on no further directory is opened to find more.
const ENOUGH_PARTS: usize = 64;
/// The number of levels of directories that are opened at most to find parts.
const MAX_DEPTH: usize = 4;

/// The first characters at which the names of one directory's files are cut. Names mostly begin with a number or a UUID.
const CUT_CHARACTERS: &str = "0123456789abcdefg";

/// One entry of a listing, or the error that ends it.
type FoundObject = object_store::Result<ObjectMeta>;

/// A part of a listing, which can be stored and listed later.
///
/// It holds the keys below a directory, at any depth, that come after `after` (exclusive) and not after `upto` (inclusive).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingPart {
    dir: String,
    after: Option<String>,
    upto: Option<String>,
}

impl ListingPart {
    /// Returns the part that holds everything below a directory.
    fn below(dir: &Path) -> Self {
        Self { dir: dir.to_string(), after: None, upto: None }
    }

    /// Checks that the part lies in a directory. A part that was stored may be of another listing.
    pub(crate) fn is_in(&self, dir: &Path) -> bool {
        Path::parse(&self.dir).is_ok_and(|own| own.prefix_matches(dir))
    }

    /// Returns the part of a directory between two keys. `None` is no bound.
    fn between(dir: &Path, after: Option<&Path>, upto: Option<&Path>) -> Self {
        Self { dir: dir.to_string(), after: after.map(Path::to_string), upto: upto.map(Path::to_string) }
    }
}

/// Lists everything below a prefix, in no particular order, with up to [`CONCURRENCY`] requests at once.
///
/// The store must list keys in their order.
pub(crate) fn list_concurrently(store: Arc<dyn ObjectStore>, prefix: Path) -> BoxStream<'static, FoundObject> {
    let parts = {
        let (store, prefix) = (store.clone(), prefix.clone());
        async move {
            let (parts, files) = split(store.as_ref(), prefix).await?;
            let listed = futures::stream::iter(parts).map(move |part| list_part(&store, part)).flatten_unordered(CONCURRENCY);
            Ok::<_, object_store::Error>(futures::stream::iter(files.into_iter().map(Ok)).chain(listed))
        }
    };
    futures::stream::once(parts).try_flatten().boxed()
}

/// Lists one part, in the order of the store.
pub(crate) fn list_part(store: &Arc<dyn ObjectStore>, part: ListingPart) -> BoxStream<'static, FoundObject> {
    let path = |text: &str| Path::parse(text).map_err(object_store::Error::from);
    let (dir, after) = match (path(&part.dir), part.after.as_deref().map(path).transpose()) {
        (Ok(dir), Ok(after)) => (dir, after),
        (Err(e), _) | (_, Err(e)) => return futures::stream::once(async { Err(e) }).boxed(),
    };
    let keys = match &after {
        Some(after) => store.list_with_offset(Some(&dir), after),
        None => store.list(Some(&dir)),
    };
    let Some(upto) = part.upto else { return keys };
    let inside = move |found: &FoundObject| {
        let past = |meta: &ObjectMeta| meta.location.as_ref() > upto.as_str();
        futures::future::ready(!found.as_ref().is_ok_and(past))
    };
    keys.take_while(inside).boxed()
}

/// Returns the directories directly below a prefix of a file system as parts, and the files between them.
///
/// A file system lists names in no order, so a directory can't be cut into ranges of names.
pub(crate) async fn directories(
    store: &dyn ObjectStore,
    prefix: &Path,
) -> object_store::Result<(Vec<ListingPart>, Vec<ObjectMeta>)> {
    let found = store.list_with_delimiter(Some(prefix)).await?;
    Ok((found.common_prefixes.iter().map(ListingPart::below).collect(), found.objects))
}

/// Cuts everything below a prefix into parts. Files that are listed on the way are returned separately, in no part.
pub(crate) async fn split(store: &dyn ObjectStore, prefix: Path) -> object_store::Result<(Vec<ListingPart>, Vec<ObjectMeta>)> {
    let (mut files, mut done, mut open) = (Vec::new(), Vec::new(), vec![prefix]);
    for _ in 0..MAX_DEPTH {
        if open.is_empty() || done.len() + open.len() >= ENOUGH_PARTS {
            break;
        }
        let looks = open.into_iter().map(|dir| inspect_directory(store, dir));
        let mut looks = futures::stream::iter(looks).buffer_unordered(CONCURRENCY);
        let mut next = Vec::new();
        while let Some((parts, below, here)) = looks.try_next().await? {
            done.extend(parts);
            next.extend(below);
            files.extend(here);
        }
        open = next;
    }
    done.extend(open.iter().map(ListingPart::below));
    Ok((done, files))
}

/// Inspects one directory by its first key: returns its parts, its subdirectories, and the files that lie next to those.
///
/// If the first key is a file, the directory is cut into ranges of names. Else its subdirectories are to be inspected in turn.
async fn inspect_directory(
    store: &dyn ObjectStore,
    dir: Path,
) -> object_store::Result<(Vec<ListingPart>, Vec<Path>, Vec<ObjectMeta>)> {
    let Some(first) = store.list(Some(&dir)).try_next().await? else { return Ok(Default::default()) };
    let name = first.location.as_ref().strip_prefix(dir.as_ref()).unwrap_or_default().trim_start_matches(DELIMITER);
    if name.contains(DELIMITER) {
        let found = store.list_with_delimiter(Some(&dir)).await?;
        return Ok((Vec::new(), found.common_prefixes, found.objects));
    }
    let cuts: Vec<Path> = CUT_CHARACTERS.chars().map(|c| dir.clone().join(c.to_string())).collect();
    let mut parts = vec![ListingPart::between(&dir, None, cuts.first())];
    parts.extend(cuts.windows(2).map(|w| ListingPart::between(&dir, Some(&w[0]), Some(&w[1]))));
    parts.push(ListingPart::between(&dir, cuts.last(), None));
    Ok((parts, Vec::new(), Vec::new()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        /// Every key below the prefix is listed exactly once.
        #[test]
        fn the_parts_are_the_whole(keys in proptest::collection::btree_set("(data/)?([a-c0-2]/){0,3}[0-9a-hzA_]{1,2}", 0..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let listed = runtime.block_on(async {
                let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
                for key in &keys {
                    store.put(&Path::from(format!("t/{key}")), "x".into()).await.expect("put");
                }
                store.put(&Path::from("t2/no"), "x".into()).await.expect("put");
                list_concurrently(store, Path::from("t")).try_collect::<Vec<_>>().await.expect("listed")
            });
            let names: Vec<String> = listed.into_iter().map(|m| m.location.as_ref()[2..].to_owned()).collect();
            proptest::prop_assert_eq!(names.len(), keys.len());
            proptest::prop_assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), keys);
        }
    }
}
