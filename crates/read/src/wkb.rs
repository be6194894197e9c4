//! The structure of shapes in "Well-Known Binary" (ISO 19125; OGC "Simple Feature Access", 8.2), before libraries go into it: they call
//! themselves for each shape within another.

/// Shapes within one another, at most.
pub const SHAPE_DEPTH: usize = 100;

/// What comes before the numbers of a shape.
#[derive(Debug, Clone, Copy)]
pub struct ShapeHead {
    /// Whether the lowest byte of a number is the first.
    pub little: bool,
    /// 1 is a point, 7 a collection of any.
    pub kind: u32,
    pub z: bool,
    pub m: bool,
    /// Whether it has none of PostGIS's own flags ("EWKB"): for Z, for M, and for a number of the reference system.
    pub is_standard: bool,
}

impl ShapeHead {
    /// The head of a shape, and the bytes behind it; none of bytes that begin no shape.
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

    /// The numbers of a point.
    pub fn numbers(self) -> usize {
        2 + usize::from(self.z) + usize::from(self.m)
    }

    /// A count, and the bytes behind it.
    pub fn count(self, bytes: &[u8]) -> Option<(u32, &[u8])> {
        whole(bytes, self.little)
    }
}

fn whole(bytes: &[u8], little: bool) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((if little { u32::from_le_bytes(*number) } else { u32::from_be_bytes(*number) }, rest))
}

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
    match shape(bytes, SHAPE_DEPTH, None) {
        Some(([], true)) => WkbKind::Standard,
        Some(_) => WkbKind::Loose,
        None => WkbKind::Wrong,
    }
}

/// Goes through a shape, of one kind if that is told. The bytes behind it, and whether it has none of PostGIS's flags.
fn shape(bytes: &[u8], depth: usize, of: Option<u32>) -> Option<(&[u8], bool)> {
    let depth = depth.checked_sub(1)?;
    let (head, mut rest) = ShapeHead::read(bytes)?;
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
