//! Listing a location with many requests at once.
//!
//! A store lists keys in their order, a page a request, each page begun where the last one ended: one listing is as slow as its
//! requests are one after the other. Parts that don't overlap can be listed beside one another: the directories of a partitioned
//! table, and stretches of the alphabet where a directory holds files only.

use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::{DELIMITER, Path};
use object_store::{ObjectMeta, ObjectStore};

/// Parts that are listed at the same time.
const CONCURRENCY: usize = 32;

/// Directories are looked into while there are fewer parts, so far down at most.
const PARTS: usize = 64;
const DEPTH: usize = 4;

/// Where the names of one directory's files are cut: they mostly begin with a number or a UUID.
const CUTS: &str = "0123456789abcdefg";

type Found = object_store::Result<ObjectMeta>;

/// A part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// Everything below a directory.
    Below(Path),
    /// Of what is in a directory and below it, the keys after the first and up to the second.
    Between(Path, Option<Path>, Option<Path>),
}

/// Everything below a prefix, in no particular order, of a store that lists keys in their order.
pub(crate) fn list_beside(store: Arc<dyn ObjectStore>, prefix: Path) -> BoxStream<'static, Found> {
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

fn list_part(store: &Arc<dyn ObjectStore>, part: Part) -> BoxStream<'static, Found> {
    match part {
        Part::Below(path) => store.list(Some(&path)),
        Part::Between(dir, after, upto) => {
            let keys = match &after {
                Some(after) => store.list_with_offset(Some(&dir), after),
                None => store.list(Some(&dir)),
            };
            let inside = move |found: &Found| {
                let past = |meta: &ObjectMeta| upto.as_ref().is_some_and(|upto| meta.location.as_ref() > upto.as_ref());
                futures::future::ready(!found.as_ref().is_ok_and(past))
            };
            keys.take_while(inside).boxed()
        }
    }
}

/// Cuts what is below a prefix into parts; files met on the way are returned by themselves.
async fn split(store: &dyn ObjectStore, prefix: Path) -> object_store::Result<(Vec<Part>, Vec<ObjectMeta>)> {
    let (mut files, mut done, mut open) = (Vec::new(), Vec::new(), vec![prefix]);
    for _ in 0..DEPTH {
        if open.is_empty() || done.len() + open.len() >= PARTS {
            break;
        }
        let looks = open.into_iter().map(|dir| look(store, dir));
        let mut looks = futures::stream::iter(looks).buffer_unordered(CONCURRENCY);
        let mut next = Vec::new();
        while let Some((parts, below, here)) = looks.try_next().await? {
            done.extend(parts);
            next.extend(below);
            files.extend(here);
        }
        open = next;
    }
    done.extend(open.into_iter().map(Part::Below));
    Ok((done, files))
}

/// What a directory consists of: of files, to be listed in stretches, or of directories, with files that lie beside them.
async fn look(store: &dyn ObjectStore, dir: Path) -> object_store::Result<(Vec<Part>, Vec<Path>, Vec<ObjectMeta>)> {
    let Some(first) = store.list(Some(&dir)).try_next().await? else { return Ok(Default::default()) };
    let name = first.location.as_ref().strip_prefix(dir.as_ref()).unwrap_or_default().trim_start_matches(DELIMITER);
    if name.contains(DELIMITER) {
        let found = store.list_with_delimiter(Some(&dir)).await?;
        return Ok((Vec::new(), found.common_prefixes, found.objects));
    }
    let cuts: Vec<Path> = CUTS.chars().map(|c| dir.clone().join(c.to_string())).collect();
    let mut parts = vec![Part::Between(dir.clone(), None, cuts.first().cloned())];
    parts.extend(cuts.windows(2).map(|w| Part::Between(dir.clone(), Some(w[0].clone()), Some(w[1].clone()))));
    parts.push(Part::Between(dir, cuts.last().cloned(), None));
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
        /// Everything is listed, and once.
        #[test]
        fn the_parts_are_the_whole(keys in proptest::collection::btree_set("(data/)?([a-c0-2]/){0,3}[0-9a-hzA_]{1,2}", 0..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let listed = runtime.block_on(async {
                let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
                for key in &keys {
                    store.put(&Path::from(format!("t/{key}")), "x".into()).await.expect("put");
                }
                store.put(&Path::from("t2/no"), "x".into()).await.expect("put");
                list_beside(store, Path::from("t")).try_collect::<Vec<_>>().await.expect("listed")
            });
            let names: Vec<String> = listed.into_iter().map(|m| m.location.as_ref()[2..].to_owned()).collect();
            proptest::prop_assert_eq!(names.len(), keys.len());
            proptest::prop_assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), keys);
        }
    }
}
