//! Computes the bounding boxes of geometry and geography columns while Parquet writes them.
//!
//! Parquet's writer asks a process-wide factory for an accumulator for each column chunk. Spec: "Bounds for Geometry and
//! Geography"; Parquet, `GeospatialStatistics`.

use std::sync::{Arc, Once};

use esker_read::{LONGITUDES, WkbKind, wkb_kind};
use parquet::basic::LogicalType;
use parquet::geospatial::accumulator::{
    GeoStatsAccumulator, GeoStatsAccumulatorFactory, ParquetGeoStatsAccumulator, VoidGeoStatsAccumulator,
    init_geo_stats_accumulator_factory,
};
use parquet::geospatial::bounding_box::BoundingBox;
use parquet::geospatial::statistics::GeospatialStatistics;
use parquet::schema::types::ColumnDescPtr;
use parquet_geospatial::bounding::GeometryBounder;
use parquet_geospatial::interval::{Interval, IntervalTrait};

/// Registers accumulators that bound geographies too, which Parquet's writer leaves to its users. Idempotent.
pub(crate) fn register_bounders() {
    static ONCE: Once = Once::new();
    // An error means that another factory is registered already; geographies have no bounds then.
    ONCE.call_once(|| drop(init_geo_stats_accumulator_factory(Arc::new(Bounders))));
}

/// The factory of accumulators.
#[derive(Debug)]
struct Bounders;

impl GeoStatsAccumulatorFactory for Bounders {
    fn new_accumulator(&self, column: &ColumnDescPtr) -> Box<dyn GeoStatsAccumulator> {
        match column.logical_type_ref() {
            Some(LogicalType::Geometry(_)) => Box::new(PlanarBounder::default()),
            Some(LogicalType::Geography(_)) => Box::new(GlobePointBounder::default()),
            _ => Box::new(VoidGeoStatsAccumulator::default()),
        }
    }
}

/// Bounds geometries on a plane. A column chunk with one that can't be walked has no bounds.
#[derive(Debug, Default)]
struct PlanarBounder {
    inner: ParquetGeoStatsAccumulator,
    invalid: bool,
}

impl GeoStatsAccumulator for PlanarBounder {
    fn is_valid(&self) -> bool {
        !self.invalid && self.inner.is_valid()
    }

    fn update_wkb(&mut self, bytes: &[u8]) {
        match wkb_kind(bytes) {
            WkbKind::Wrong => self.invalid = true,
            WkbKind::Standard | WkbKind::Loose => self.inner.update_wkb(bytes),
        }
    }

    fn finish(&mut self) -> Option<Box<GeospatialStatistics>> {
        let found = self.inner.finish();
        found.filter(|_| !std::mem::take(&mut self.invalid))
    }
}

/// Bounds points on a globe, across the 180th meridian if that box is smaller.
///
/// An edge between two points can leave the box around them. So a column chunk with lines or polygons has no bounds.
#[derive(Debug, Default)]
struct GlobePointBounder {
    bounder: Option<GeometryBounder>,
    invalid: bool,
}

impl GeoStatsAccumulator for GlobePointBounder {
    fn is_valid(&self) -> bool {
        !self.invalid
    }

    fn update_wkb(&mut self, bytes: &[u8]) {
        let bounder = self.bounder.get_or_insert_with(|| GeometryBounder::empty().with_wraparound_hint(LONGITUDES));
        self.invalid |= wkb_kind(bytes) == WkbKind::Wrong
            || bounder.update_wkb(bytes).is_err()
            || !bounder.geometry_types().iter().all(|ty| matches!(ty % 1000, 1 | 4));
    }

    fn finish(&mut self) -> Option<Box<GeospatialStatistics>> {
        let (bounder, invalid) = (self.bounder.take()?, std::mem::take(&mut self.invalid));
        if invalid {
            return None;
        }
        let (x, y) = (bounder.x(), bounder.y());
        let within = (-180.0..=180.0).contains(&x.lo()) && (-180.0..=180.0).contains(&x.hi());
        if x.is_empty() || y.is_empty() || !within {
            return None;
        }
        let some = |interval: Interval| (!interval.is_empty()).then(|| (interval.lo(), interval.hi()));
        let mut bounds = BoundingBox::new(x.lo(), x.hi(), y.lo(), y.hi());
        if let Some((low, high)) = some(bounder.z()) {
            bounds = bounds.with_zrange(low, high);
        }
        if let Some((low, high)) = some(bounder.m()) {
            bounds = bounds.with_mrange(low, high);
        }
        Some(Box::new(GeospatialStatistics::new(Some(bounds), Some(bounder.geometry_types()))))
    }
}
