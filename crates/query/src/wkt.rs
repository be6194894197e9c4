//! Writes shapes as "Well-Known Text" (OGC "Simple Feature Access", 7), from well-known binary (WKB).

use std::fmt::Write as _;

use esker_read::WkbHeader;

/// Names of the kinds of shapes; WKB numbers them from 1.
const NAMES: [&str; 7] =
    ["POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON", "GEOMETRYCOLLECTION"];

/// Returns the text of a shape; `None` for bytes that [`esker_read::wkb_kind`] classifies as wrong.
pub(crate) fn text(bytes: &[u8]) -> Option<String> {
    let mut reader = WktWriter { bytes, out: String::new() };
    reader.shape(true)?;
    Some(reader.out)
}

/// A reader of WKB with the text that was written so far.
struct WktWriter<'a> {
    bytes: &'a [u8],
    out: String,
}

impl WktWriter<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_at_checked(N)?;
        self.bytes = rest;
        taken.try_into().ok()
    }

    fn count(&mut self, head: WkbHeader) -> Option<u32> {
        let (count, rest) = head.count(self.bytes)?;
        self.bytes = rest;
        Some(count)
    }

    /// Writes parts in parentheses with commas between them; `EMPTY` if there are none.
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

    fn point(&mut self, head: WkbHeader) -> Option<Vec<f64>> {
        let one = |_| {
            let bytes = self.take()?;
            Some(if head.little { f64::from_le_bytes(bytes) } else { f64::from_be_bytes(bytes) })
        };
        (0..head.numbers()).map(one).collect()
    }

    fn coordinates(&mut self, head: WkbHeader) -> Option<()> {
        for (at, number) in self.point(head)?.into_iter().enumerate() {
            if at > 0 {
                self.out.push(' ');
            }
            write!(self.out, "{number}").ok()?;
        }
        Some(())
    }

    fn line(&mut self, head: WkbHeader) -> Option<()> {
        let count = self.count(head)?;
        self.parts(count, |reader| reader.coordinates(head))
    }

    /// Writes a shape with its name, or without it as in a `MULTIPOINT`.
    fn shape(&mut self, named: bool) -> Option<()> {
        let (head, rest) = WkbHeader::read(self.bytes)?;
        self.bytes = rest;
        let mark = match (head.z, head.m) {
            (false, false) => "",
            (true, false) => " Z",
            (false, true) => " M",
            (true, true) => " ZM",
        };
        let start = self.out.len();
        match head.kind {
            1 => {
                let point = self.point(head)?;
                match point.iter().all(|number| number.is_nan()) {
                    true => self.out.push_str("EMPTY"),
                    false => {
                        let texts: Vec<String> = point.iter().map(f64::to_string).collect();
                        write!(self.out, "({})", texts.join(" ")).ok()?;
                    }
                }
            }
            2 => self.line(head)?,
            3 => {
                let count = self.count(head)?;
                self.parts(count, |reader| reader.line(head))?;
            }
            4..=7 => {
                let count = self.count(head)?;
                self.parts(count, |reader| reader.shape(head.kind == 7))?;
            }
            _ => return None,
        }
        if named {
            let blank = if self.out[start..].starts_with("EMPTY") { " " } else { "" };
            let name = NAMES.get(usize::try_from(head.kind).ok()? - 1)?;
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
