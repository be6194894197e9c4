//! The structure of shapes in "Well-Known Binary" (ISO 19125; OGC "Simple Feature Access", 8.2), before libraries go into it: they call
//! themselves for each shape within another.

/// Shapes within one another, at most.
pub const SHAPE_DEPTH: usize = 100;

/// PostGIS's own flags in a type ("EWKB"), which are no part of the standard: Z, M, and a number for the reference system.
const FLAGS: u32 = 0xe000_0000;
const FLAG_Z: u32 = 0x8000_0000;
const FLAG_M: u32 = 0x4000_0000;
const FLAG_SRID: u32 = 0x2000_0000;

/// What some bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WkbKind {
    /// A shape, as the standard has it.
    Standard,
    /// A shape with flags of PostGIS's, or with more bytes behind it. Libraries read it.
    Loose,
    /// No shape, or one with more than [`SHAPE_DEPTH`] others within one another.
    Wrong,
}

/// What some bytes are. Whether lines have two points, and rings an end, is not asked.
pub fn wkb_kind(bytes: &[u8]) -> WkbKind {
    let mut walk = Walk { bytes, at: 0, is_standard: true };
    match walk.shape(SHAPE_DEPTH, None) {
        Some(()) if walk.is_standard && walk.at == bytes.len() => WkbKind::Standard,
        Some(()) => WkbKind::Loose,
        None => WkbKind::Wrong,
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    is_standard: bool,
}

impl Walk<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(N)?)?.try_into().ok()?;
        self.at += N;
        Some(taken)
    }

    fn number(&mut self, little: bool) -> Option<u32> {
        let bytes = self.take()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn points(&mut self, count: u32, size: usize) -> Option<()> {
        self.at = self.at.checked_add(usize::try_from(count).ok()?.checked_mul(size)?)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    /// Goes through a shape, of one kind if that is told.
    fn shape(&mut self, depth: usize, of: Option<u32>) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let [order] = self.take()?;
        let little = match order {
            0 => false,
            1 => true,
            _ => return None,
        };
        let ty = self.number(little)?;
        self.is_standard &= ty & FLAGS == 0;
        if ty & FLAG_SRID != 0 {
            self.number(little)?;
        }
        let (kind, dimensions) = ((ty & !FLAGS) % 1000, (ty & !FLAGS) / 1000);
        if of.is_some_and(|of| of != kind) {
            return None;
        }
        let more = match dimensions {
            0 => usize::from(ty & FLAG_Z != 0) + usize::from(ty & FLAG_M != 0),
            1 | 2 => 1,
            3 => 2,
            _ => return None,
        };
        let size = 8 * (2 + more);
        match kind {
            1 => self.points(1, size),
            2 => {
                let count = self.number(little)?;
                self.points(count, size)
            }
            3 => {
                for _ in 0..self.number(little)? {
                    let count = self.number(little)?;
                    self.points(count, size)?;
                }
                Some(())
            }
            4..=7 => {
                // Points, lines and polygons; a collection has any.
                let of = (kind < 7).then(|| kind - 3);
                for _ in 0..self.number(little)? {
                    self.shape(depth, of)?;
                }
                Some(())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(ty: u32, numbers: usize) -> Vec<u8> {
        [&[1][..], &ty.to_le_bytes(), &vec![0; 8 * numbers]].concat()
    }

    /// Collections within one another, with a point in the innermost.
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
            (nested(SHAPE_DEPTH - 1), WkbKind::Standard),
            (nested(SHAPE_DEPTH), WkbKind::Wrong),
            (nested(1_000_000), WkbKind::Wrong),
        ] {
            assert_eq!(wkb_kind(&bytes), expected, "{:?}", &bytes[..bytes.len().min(40)]);
        }
    }
}
