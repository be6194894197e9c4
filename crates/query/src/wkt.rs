//! Shapes as "Well-Known Text" (OGC "Simple Feature Access", 7), from their bytes.

use std::fmt::Write as _;

const NAMES: [&str; 7] =
    ["POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON", "GEOMETRYCOLLECTION"];

/// The text of a shape; none of bytes that [`esker_read::wkb_kind`] calls wrong.
pub(crate) fn text(bytes: &[u8]) -> Option<String> {
    let mut reader = Reader { bytes, out: String::new() };
    reader.shape(true)?;
    Some(reader.out)
}

struct Reader<'a> {
    bytes: &'a [u8],
    out: String,
}

/// What the numbers of a shape are.
#[derive(Clone, Copy)]
struct Numbers {
    little: bool,
    /// For each point.
    count: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_at_checked(N)?;
        self.bytes = rest;
        taken.try_into().ok()
    }

    fn whole(&mut self, little: bool) -> Option<u32> {
        let bytes = self.take()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    /// Some parts, with a comma between any two; `EMPTY` if there are none.
    fn parts(&mut self, count: u32, mut part: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if count == 0 {
            self.out.push_str("EMPTY");
            return Some(());
        }
        self.out.push('(');
        for at in 0..count {
            if at > 0 {
                self.out.push(',');
            }
            part(self)?;
        }
        self.out.push(')');
        Some(())
    }

    fn point(&mut self, numbers: Numbers) -> Option<Vec<f64>> {
        let one = |_| {
            let bytes = self.take()?;
            Some(if numbers.little { f64::from_le_bytes(bytes) } else { f64::from_be_bytes(bytes) })
        };
        (0..numbers.count).map(one).collect()
    }

    fn coordinates(&mut self, numbers: Numbers) -> Option<()> {
        for (at, number) in self.point(numbers)?.into_iter().enumerate() {
            if at > 0 {
                self.out.push(' ');
            }
            write!(self.out, "{number}").ok()?;
        }
        Some(())
    }

    fn line(&mut self, numbers: Numbers) -> Option<()> {
        let count = self.whole(numbers.little)?;
        self.parts(count, |reader| reader.coordinates(numbers))
    }

    /// A shape with its name, or without it as in a `MULTIPOINT`.
    fn shape(&mut self, named: bool) -> Option<()> {
        let little = self.take::<1>()? == [1];
        let ty = self.whole(little)?;
        // PostGIS's own flags for Z, M and the number of a reference system.
        let flag = |bit: u32| ty & bit != 0;
        if flag(0x2000_0000) {
            self.whole(little)?;
        }
        let (kind, dimensions) = ((ty & 0x1fff_ffff) % 1000, (ty & 0x1fff_ffff) / 1000);
        let (z, m) = (flag(0x8000_0000) || matches!(dimensions, 1 | 3), flag(0x4000_0000) || matches!(dimensions, 2 | 3));
        let numbers = Numbers { little, count: 2 + usize::from(z) + usize::from(m) };
        let mark = match (z, m) {
            (false, false) => "",
            (true, false) => " Z",
            (false, true) => " M",
            (true, true) => " ZM",
        };
        let start = self.out.len();
        match kind {
            1 => {
                let point = self.point(numbers)?;
                match point.iter().all(|number| number.is_nan()) {
                    true => self.out.push_str("EMPTY"),
                    false => {
                        let texts: Vec<String> = point.iter().map(f64::to_string).collect();
                        write!(self.out, "({})", texts.join(" ")).ok()?;
                    }
                }
            }
            2 => self.line(numbers)?,
            3 => {
                let count = self.whole(little)?;
                self.parts(count, |reader| reader.line(numbers))?;
            }
            4..=7 => {
                let count = self.whole(little)?;
                self.parts(count, |reader| reader.shape(kind == 7))?;
            }
            _ => return None,
        }
        if named {
            let blank = if self.out[start..].starts_with("EMPTY") { " " } else { "" };
            let name = NAMES.get(usize::try_from(kind).ok()? - 1)?;
            self.out.insert_str(start, &format!("{name}{mark}{blank}"));
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use wkb::writer::{WriteOptions, write_geometry};

    use super::*;

    fn again(wkt: &str) -> String {
        let shape: wkt::Wkt<f64> = wkt.parse().expect(wkt);
        let mut bytes = Vec::new();
        write_geometry(&mut bytes, &shape, &WriteOptions::default()).expect(wkt);
        text(&bytes).expect(wkt)
    }

    #[test]
    fn texts_come_back() {
        for wkt in [
            "POINT(1 -2.5)",
            "POINT Z(1 2 3)",
            "POINT ZM(1 2 3 4)",
            "POINT EMPTY",
            "LINESTRING(0 0,1 1.5)",
            "LINESTRING EMPTY",
            "POLYGON((0 0,9 0,9 9,0 0),(1 1,2 1,2 2,1 1))",
            "MULTIPOINT((1 2),(3 4))",
            "MULTILINESTRING((0 0,1 1),(2 2,3 3))",
            "MULTIPOLYGON(((0 0,9 0,9 9,0 0)))",
            "MULTIPOLYGON(EMPTY,((0 0,9 0,9 9,0 0)))",
            "MULTILINESTRING(EMPTY,(0 0,9 9))",
            "GEOMETRYCOLLECTION(POINT(1 2),GEOMETRYCOLLECTION(LINESTRING(0 0,1 1)),POINT EMPTY)",
            "GEOMETRYCOLLECTION EMPTY",
        ] {
            assert_eq!(again(wkt), wkt);
        }
        // A multipoint of an empty point, as PostGIS writes it.
        let mut bytes = [&[1][..], &4_u32.to_le_bytes(), &1_u32.to_le_bytes(), &[1], &1_u32.to_le_bytes()].concat();
        bytes.extend([f64::NAN, f64::NAN].iter().flat_map(|nan| nan.to_le_bytes()));
        assert_eq!(text(&bytes).as_deref(), Some("MULTIPOINT(EMPTY)"));
        assert_eq!(text(&bytes[..20]), None);
    }
}
