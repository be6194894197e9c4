//! Checks the structure of geometries in Well-Known Binary.
//!
//! Libraries recurse for each geometry inside another. So bytes are checked here first, with a bounded depth. Spec: OGC "Simple
//! Feature Access", 8.2 (ISO 19125); Iceberg, Appendix G.

/// Greatest number of geometries inside one another, the outermost included.
pub const MAX_WKB_DEPTH: usize = 100;

/// The header of a geometry: byte order, kind and dimensions.
#[derive(Debug, Clone, Copy)]
pub struct WkbHeader {
    /// True if numbers are little-endian.
    pub little: bool,
    /// The kind: 1 point, 2 line string, 3 polygon, 4 to 6 the multi kinds, 7 collection.
    pub kind: u32,
    /// True if points have a z coordinate.
    pub z: bool,
    /// True if points have an m coordinate.
    pub m: bool,
    /// False if the header has flags of PostGIS's own EWKB.
    ///
    /// Those flags mark z, m and a reference system number.
    pub is_standard: bool,
}

impl WkbHeader {
    /// Reads a header, and returns it with the bytes after it; none if the bytes begin no geometry.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        const FLAGS: u32 = 0xe000_0000;
        const FLAG_Z: u32 = 0x8000_0000;
        const FLAG_M: u32 = 0x4000_0000;
        const FLAG_SRID: u32 = 0x2000_0000;
        let (order, rest) = bytes.split_first()?;
        let little = match order {
            0 => false,
            1 => true,
            _ => return None,
        };
        let (ty, mut rest) = whole(rest, little)?;
        if ty & FLAG_SRID != 0 {
            (_, rest) = whole(rest, little)?;
        }
        let (kind, dimensions) = ((ty & !FLAGS) % 1000, (ty & !FLAGS) / 1000);
        let z = ty & FLAG_Z != 0 || matches!(dimensions, 1 | 3);
        let m = ty & FLAG_M != 0 || matches!(dimensions, 2 | 3);
        let made = Self { little, kind, z, m, is_standard: ty & FLAGS == 0 };
        (dimensions <= 3).then_some((made, rest))
    }

    /// Returns the number of coordinates of a point, two to four.
    pub fn numbers(self) -> usize {
        2 + usize::from(self.z) + usize::from(self.m)
    }

    /// Reads a count, and returns it with the bytes after it.
    pub fn count(self, bytes: &[u8]) -> Option<(u32, &[u8])> {
        whole(bytes, self.little)
    }
}

/// Reads an unsigned 32-bit number, and returns it with the bytes after it.
fn whole(bytes: &[u8], little: bool) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((if little { u32::from_le_bytes(*number) } else { u32::from_be_bytes(*number) }, rest))
}

/// The conformance of some bytes to Well-Known Binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WkbKind {
    /// A geometry as the standard defines it.
    Standard,
    /// A geometry with flags of PostGIS's EWKB, or with more bytes after it. Libraries read it.
    Loose,
    /// No geometry, or one nested more than [`MAX_WKB_DEPTH`] deep.
    Wrong,
}

/// Returns the conformance of some bytes to Well-Known Binary.
///
/// Checks structure only, not that lines have two points or that rings are closed. Spec: OGC "Simple Feature Access", 8.2.
pub fn wkb_kind(bytes: &[u8]) -> WkbKind {
    match shape(bytes, MAX_WKB_DEPTH, None) {
        Some(([], true)) => WkbKind::Standard,
        Some(_) => WkbKind::Loose,
        None => WkbKind::Wrong,
    }
}

/// Walks a geometry, which must be of kind `of` if that is given.
///
/// Returns the bytes after it, and true if it has no flags of PostGIS's EWKB.
fn shape(bytes: &[u8], depth: usize, of: Option<u32>) -> Option<(&[u8], bool)> {
    let depth = depth.checked_sub(1)?;
    let (head, mut rest) = WkbHeader::read(bytes)?;
    if of.is_some_and(|of| of != head.kind) {
        return None;
    }
    let mut is_standard = head.is_standard;
    let points = |rest: &'_ [u8], count: u32| -> Option<usize> {
        let length = usize::try_from(count).ok()?.checked_mul(8 * head.numbers())?;
        (length <= rest.len()).then_some(length)
    };
    match head.kind {
        1 => rest = &rest[points(rest, 1)?..],
        2 => {
            let (count, behind) = head.count(rest)?;
            rest = &behind[points(behind, count)?..];
        }
        3 => {
            let (rings, behind) = head.count(rest)?;
            rest = behind;
            for _ in 0..rings {
                let (count, behind) = head.count(rest)?;
                rest = &behind[points(behind, count)?..];
            }
        }
        4..=7 => {
            // Points, lines and polygons; a collection has any.
            let of = (head.kind < 7).then(|| head.kind - 3);
            let (shapes, behind) = head.count(rest)?;
            rest = behind;
            for _ in 0..shapes {
                let (behind, own) = shape(rest, depth, of)?;
                (rest, is_standard) = (behind, is_standard && own);
            }
        }
        _ => return None,
    }
    Some((rest, is_standard))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAG_Z: u32 = 0x8000_0000;
    const FLAG_SRID: u32 = 0x2000_0000;

    fn point(ty: u32, numbers: usize) -> Vec<u8> {
        [&[1][..], &ty.to_le_bytes(), &vec![0; 8 * numbers]].concat()
    }

    /// Collections inside one another, with a point in the innermost.
    fn nested(depth: usize) -> Vec<u8> {
        let head = [&[1][..], &7_u32.to_le_bytes(), &1_u32.to_le_bytes()].concat();
        [head.repeat(depth), point(1, 2)].concat()
    }

    #[test]
    fn shapes_are_told_from_what_is_nearly_one() {
        for (bytes, expected) in [
            (point(1, 2), WkbKind::Standard),
            (point(1001, 3), WkbKind::Standard),
            (point(3001, 4), WkbKind::Standard),
            ([&[0][..], &2_u32.to_be_bytes(), &0_u32.to_be_bytes()].concat(), WkbKind::Standard),
            ([point(1, 2), vec![0]].concat(), WkbKind::Loose),
            // SELECT ST_AsEWKB('SRID=4326;POINT(0 0)'::geometry) in PostGIS.
            ([&[1][..], &(1 | FLAG_SRID).to_le_bytes(), &4326_u32.to_le_bytes(), &[0; 16]].concat(), WkbKind::Loose),
            (point(1 | FLAG_Z, 3), WkbKind::Loose),
            (point(1001, 2), WkbKind::Wrong),
            (point(17, 2), WkbKind::Wrong),
            ([&[1][..], &2_u32.to_le_bytes(), &u32::MAX.to_le_bytes()].concat(), WkbKind::Wrong),
            ([&[1][..], &3_u32.to_le_bytes(), &u32::MAX.to_le_bytes()].concat(), WkbKind::Wrong),
            // A multipoint of a line, and one of a point.
            (
                [&[1][..], &4_u32.to_le_bytes(), &1_u32.to_le_bytes(), &[1], &2_u32.to_le_bytes(), &[0; 4]].concat(),
                WkbKind::Wrong,
            ),
            ([&[1][..], &4_u32.to_le_bytes(), &1_u32.to_le_bytes(), &point(1, 2)].concat(), WkbKind::Standard),
            (vec![2], WkbKind::Wrong),
            (vec![], WkbKind::Wrong),
            (nested(MAX_WKB_DEPTH - 1), WkbKind::Standard),
            (nested(MAX_WKB_DEPTH), WkbKind::Wrong),
            (nested(1_000_000), WkbKind::Wrong),
        ] {
            assert_eq!(wkb_kind(&bytes), expected, "{:?}", &bytes[..bytes.len().min(40)]);
        }
    }
}
