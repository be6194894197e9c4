//! The behaviour of the index of places, which both databases must share: it finds what a plain comparison by segments finds.
//!
//! The functions run on SQLite and PostgreSQL as those of `conformance.rs` do.

use std::collections::BTreeSet;

use esker_types::TableId;
use uuid::Uuid;

use crate::conformance::{row, with_namespace};
use crate::{FoundPlace, NewTabular, Outbox, PlaceClaim, PlaceRange, PointerSwap, SoftDrop, State, TabularRow, Warehouse};

/// Segments whose bytes lie close to those of a slash, that are patterns elsewhere, or that are prefixes of one another.
const SEGMENTS: [&str; 14] = ["a", "a-b", "a.b", "a0", "a b", "A", "%", "_", "__", "*", "ä", "a\u{308}", "日本", "0"];

/// A generator of numbers, the same in each run.
struct Numbers(u64);

impl Numbers {
    /// Returns a number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }

    /// Returns a location of up to four segments.
    fn location(&mut self) -> String {
        let mut location = format!("s3://{}", ["b", "b-c", "bb"][self.below(3)]);
        for _ in 0..self.below(5) {
            location = format!("{location}/{}", SEGMENTS[self.below(SEGMENTS.len())]);
        }
        location
    }
}

/// A new entry in some places, the first of which is its location.
fn placed(row: TabularRow, places: Vec<String>) -> NewTabular {
    let row = TabularRow { location: places[0].clone(), ..row };
    NewTabular { row, recorded_output: None, replaces: None, places, claims: Vec::new(), owner: None }
}

/// Returns a location and those around it.
fn with_those_around(location: &str) -> Vec<String> {
    let segments: Vec<&str> = location.split('/').collect();
    (3..=segments.len()).map(|n| segments[..n].join("/")).collect()
}

/// Returns all places in a range, through all pages.
async fn all_in(state: &State, warehouse: Warehouse, range: PlaceRange) -> Vec<FoundPlace> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (found, next) = state.tables().places_in(warehouse, &range, after.as_ref()).await.expect("read");
        all.extend(found);
        match next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

/// The index finds for each location what a comparison of all pairs by their segments finds.
pub(crate) async fn the_index_of_places_compares_by_segments(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let mut numbers = Numbers(7);
    let new: Vec<NewTabular> = (0..150)
        .map(|i| {
            let mut places: Vec<String> = (0..=numbers.below(3)).map(|_| numbers.location()).collect();
            // As the catalog gives them: each once.
            let mut known = BTreeSet::new();
            places.retain(|place| known.insert(place.clone()));
            placed(row(warehouse, &n, &format!("t{i}")), places)
        })
        .collect();
    assert!(state.tables().publish(warehouse, &[], &new, &Outbox::default()).await.expect("entered"));
    let kept: Vec<(TableId, &str)> =
        new.iter().flat_map(|new| new.places.iter().map(|place| (new.row.id, place.as_str()))).collect();
    let segments = |location: &str| location.split('/').map(str::to_owned).collect::<Vec<String>>();
    let mut asked: BTreeSet<String> = kept.iter().map(|(_, place)| (*place).to_owned()).collect();
    asked.extend((0..100).map(|_| numbers.location()));
    for location in &asked {
        let at = segments(location);
        let those = |is_one: &dyn Fn(&[String]) -> bool| -> BTreeSet<(String, String)> {
            let found = kept.iter().filter(|(_, place)| is_one(&segments(place)));
            found.map(|(id, place)| (id.to_string(), (*place).to_owned())).collect()
        };
        let found = |places: Vec<FoundPlace>| -> BTreeSet<(String, String)> {
            places.into_iter().map(|place| (place.owner.id.to_string(), place.location)).collect()
        };
        let below = all_in(state, warehouse, PlaceRange::below(location)).await;
        assert_eq!(found(below), those(&|place| place.len() > at.len() && place.starts_with(&at)), "below {location}");
        let around = with_those_around(location);
        let mut outer = Vec::new();
        for directory in state.tables().places_among(&around).await.expect("read") {
            let places = all_in(state, warehouse, PlaceRange::at(&directory)).await;
            assert!(!places.is_empty(), "{directory}");
            outer.extend(places);
        }
        assert_eq!(found(outer), those(&|place| at.starts_with(place)), "around {location}");
        let own = new[numbers.below(new.len())].row.id;
        let overlaps = |new: &&NewTabular| {
            let its = segments(&new.row.location);
            new.row.id != own && (its.starts_with(&at) || at.starts_with(&its))
        };
        let other = state.tables().with_location_overlapping(warehouse, location, &around, Some(own)).await.expect("read");
        assert_eq!(other.is_some(), new.iter().any(|new| overlaps(&new)), "a location that overlaps {location}");
        assert!(other.is_none_or(|other| new.iter().filter(overlaps).any(|new| new.row == other)), "{location}");
    }
}

/// Many tables that share a data path come page by page; what is dropped is told apart, and other warehouses are left out.
pub(crate) async fn places_come_in_pages_with_their_owners(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let (other, _) = state.warehouses().ensure("other", "file:///other", false).await.expect("made");
    let long = "x".repeat(250);
    let shared = format!("file:///w/{long}/{long}/100%_/ü");
    let new: Vec<NewTabular> = (0..600)
        .map(|i| placed(row(warehouse, &n, &format!("t{i:03}")), vec![format!("file:///w/n/t{i:03}"), shared.clone()]))
        .collect();
    assert!(state.tables().publish(warehouse, &[], &new, &Outbox::default()).await.expect("entered"));
    let keep = SoftDrop { purge: false, principal: "p".into(), expires_ms: 5 };
    assert!(state.tables().drop(&new[7].row, None, &[], Some(&keep), &Outbox::default()).await.expect("dropped"));
    assert!(state.tables().drop(&new[8].row, None, &[], None, &Outbox::default()).await.expect("dropped"));
    let found = all_in(state, warehouse, PlaceRange::at(&shared)).await;
    assert_eq!(found.len(), 599, "one is gone for good");
    let ids: BTreeSet<String> = found.iter().map(|place| place.owner.id.to_string()).collect();
    assert_eq!(ids.len(), 599, "none comes twice");
    let dropped: Vec<TableId> = found.iter().filter(|place| place.dropped).map(|place| place.owner.id).collect();
    assert_eq!(dropped, [new[7].row.id]);
    assert!(all_in(state, other, PlaceRange::below("file:///w")).await.is_empty(), "of another warehouse");
    let around = with_those_around(&shared);
    let taken = state.tables().with_location_overlapping(warehouse, &shared, &around, None).await.expect("read");
    assert_eq!(taken, None, "it is the location of none");

    let due = state.tables().dropped_until(warehouse, 4, None, 9).await.expect("read");
    assert!(due.is_empty(), "{due:?}");
    let due = state.tables().dropped_until(warehouse, 5, None, 9).await.expect("read");
    assert_eq!(due.iter().map(|dropped| dropped.row.id).collect::<Vec<_>>(), [new[7].row.id]);
    let after = Some((due[0].expires_ms, due[0].row.id));
    assert!(state.tables().dropped_until(warehouse, 5, after, 9).await.expect("read").is_empty());

    let uuid = |at: usize| new[at].row.table_uuid;
    for (uuid, expected) in [(uuid(7), Some(new[7].row.id)), (uuid(9), Some(new[9].row.id)), (uuid(8), None), (Uuid::nil(), None)]
    {
        let found = state.tables().with_uuid(warehouse, uuid, None).await.expect("read");
        assert_eq!(found.first().map(|row| row.id), expected);
        assert_eq!(state.tables().with_uuid(warehouse, uuid, expected).await.expect("read"), []);
    }
}

/// Locations that an earlier release entered as they were spelled are found by their normal spelling, also after a kill.
pub(crate) async fn locations_of_earlier_releases_are_normalised_once(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let new: Vec<NewTabular> =
        (0..510).map(|i| placed(row(warehouse, &n, &format!("t{i}")), vec![format!("s3a://b/t{i}")])).collect();
    assert!(state.tables().publish(warehouse, &[], &new, &Outbox::default()).await.expect("entered"));
    let normalize = |location: &str| location.replace("s3a://", "s3://");
    let keep = SoftDrop { purge: false, principal: "p".into(), expires_ms: 99 };
    let gone = &new[509].row;
    state.tables().drop(gone, None, &[], Some(&keep), &Outbox::default()).await.expect("dropped");
    // A server that was killed had done a part.
    let part = "INSERT INTO place (table_id, location) SELECT table_id, 's3://b/t0' FROM place WHERE location = 's3a://b/t0'";
    sqlx::query(part).execute(&state.writer).await.expect("inserted");
    state.tables().normalize_locations(normalize).await.expect("normalised");
    let found = all_in(state, warehouse, PlaceRange::below("s3://b")).await;
    assert_eq!(found.len(), 510);
    assert!(found.iter().all(|place| place.owner.location == place.location), "that of the dropped table too");
    assert!(all_in(state, warehouse, PlaceRange::below("s3a://b")).await.is_empty());
    // It is done once for a database: later rows are normal.
    state.tables().normalize_locations(|_| "s3://elsewhere".to_owned()).await.expect("nothing to do");
    assert_eq!(all_in(state, warehouse, PlaceRange::below("s3://b")).await, found);
}

/// A claim to a location.
fn claim(directory: &str, is_shared: bool) -> PlaceClaim {
    PlaceClaim { directory: directory.to_owned(), around: with_those_around(directory), is_shared }
}

/// Of two entries that were both checked while a place was free, one gets it, and nothing of the other is entered.
pub(crate) async fn a_claimed_place_is_entered_once(state: &State) {
    let (warehouse, n) = with_namespace(state).await;
    let claiming = |name: &str, claims: &[PlaceClaim]| {
        let places = claims.iter().map(|claim| claim.directory.clone()).collect();
        NewTabular { claims: claims.to_vec(), ..placed(row(warehouse, &n, name), places) }
    };
    let first = claiming("first", &[claim("s3://b/x/t", false), claim("s3://b/data", false)]);
    let publish =
        async |new: &[NewTabular]| state.tables().publish(warehouse, &[], new, &Outbox::default()).await.expect("answered");
    assert!(publish(std::slice::from_ref(&first)).await, "its own places are no others");
    let refused = [
        vec![claim("s3://b/x/t", false)],
        vec![claim("s3://b/x/t/deeper/still", false)],
        vec![claim("s3://b/x", false)],
        vec![claim("s3://b/data", false)],
        vec![claim("s3://b/free", false), claim("s3://b/x/t/data", true)],
        vec![claim("s3://b/free", false), claim("s3://b", true)],
    ];
    for claims in refused {
        let new = claiming("refused", &claims);
        assert!(!publish(std::slice::from_ref(&new)).await, "{claims:?}");
        assert_eq!(state.tables().by_id(new.row.id).await.expect("read"), None, "{claims:?}");
        assert!(state.tables().places_of(new.row.id).await.expect("read").is_empty());
    }
    let allowed = [vec![claim("s3://b/x/t-1", false)], vec![claim("s3://b/other", false), claim("s3://b/data", true)]];
    for (i, claims) in allowed.iter().enumerate() {
        assert!(publish(&[claiming(&format!("allowed{i}"), claims)]).await, "{claims:?}");
    }
    let both = ["one", "two"].map(|name| claiming(name, &[claim("s3://b/same", false)]));
    assert!(!publish(&both).await, "neither is first");
    let moved = PointerSwap {
        id: first.row.id,
        from: first.row.metadata_location.clone(),
        to: "s3://b/x/t/metadata/1.json".to_owned(),
        location: "s3://b/x/t-1/inner".to_owned(),
        places: vec!["s3://b/x/t-1/inner".to_owned()],
        claims: vec![claim("s3://b/x/t-1/inner", false)],
        quarantine: Vec::new(),
        settled_outputs: Vec::new(),
        restored: Vec::new(),
        merged: Vec::new(),
        term: None,
    };
    assert!(!state.tables().publish(warehouse, &[moved], &[], &Outbox::default()).await.expect("answered"));
    assert_eq!(state.tables().by_id(first.row.id).await.expect("read").expect("there"), first.row);
    let keep = SoftDrop { purge: false, principal: "p".into(), expires_ms: 99 };
    state.tables().drop(&first.row, None, &[], Some(&keep), &Outbox::default()).await.expect("dropped");
    assert!(publish(&[claiming("next", &[claim("s3://b/x/t", false)])]).await, "places of a dropped table are free");
}
