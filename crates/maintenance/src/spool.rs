use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use esker_types::Millis;

use crate::Result;

/// A file of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) modified_ms: Millis,
}

/// A listing on disk, in an unnamed file that is gone when it is dropped: written once, then read once.
#[derive(Debug)]
pub(crate) struct Spool {
    writer: BufWriter<File>,
    reader: Option<BufReader<File>>,
    left: u64,
}

impl Spool {
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self { writer: BufWriter::new(tempfile::tempfile_in(dir)?), reader: None, left: 0 })
    }

    pub(crate) fn push(&mut self, file: &Found) -> Result<()> {
        let length = u32::try_from(file.path.len()).map_err(std::io::Error::other)?;
        self.writer.write_all(&length.to_le_bytes())?;
        self.writer.write_all(file.path.as_bytes())?;
        self.writer.write_all(&file.bytes.to_le_bytes())?;
        self.writer.write_all(&file.modified_ms.to_le_bytes())?;
        self.left += 1;
        Ok(())
    }

    /// Ends writing.
    pub(crate) fn rewind(&mut self) -> Result<()> {
        self.writer.flush()?;
        let mut file = self.writer.get_ref().try_clone()?;
        file.rewind()?;
        self.reader = Some(BufReader::new(file));
        Ok(())
    }

    pub(crate) fn next(&mut self) -> Result<Option<Found>> {
        let Some(reader) = self.reader.as_mut().filter(|_| self.left > 0) else { return Ok(None) };
        self.left -= 1;
        let mut length = [0; 4];
        reader.read_exact(&mut length)?;
        let mut path = vec![0; u32::from_le_bytes(length) as usize];
        reader.read_exact(&mut path)?;
        let path = String::from_utf8(path).map_err(std::io::Error::other)?;
        let (mut bytes, mut modified) = ([0; 8], [0; 8]);
        reader.read_exact(&mut bytes)?;
        reader.read_exact(&mut modified)?;
        Ok(Some(Found { path, bytes: u64::from_le_bytes(bytes), modified_ms: Millis::from_le_bytes(modified) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_comes_back_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spool = Spool::create(dir.path()).expect("created");
        let file = |i: i64| Found { path: format!("s3://é/{i}"), bytes: i.unsigned_abs() * 7, modified_ms: -i };
        (0..1000).for_each(|i| spool.push(&file(i)).expect("pushed"));
        assert_eq!(spool.next().expect("nothing yet"), None);
        spool.rewind().expect("rewound");
        (0..1000).for_each(|i| assert_eq!(spool.next().expect("read"), Some(file(i))));
        assert_eq!(spool.next().expect("read"), None);
    }
}
