//! The high-water marks beside the anchors: for each origin a size that its log is known to have had.
//!
//! They tell that a machine was rolled back although nobody else watches: a log that is shorter than its mark has
//! lost entries. A mark is a lower bound, written off the acknowledgement path, so it may be behind; it is never
//! ahead, and never goes down. The file `<anchor>.high-water` stands beside the anchor and not in it, so that
//! writing it every second cannot harm the one cell that must not be harmed.
//!
//! ```text
//! idtrail/high-water/v1
//! <size> <origin>            one line each, sorted by origin
//! <CRC-32C of all lines before, 8 lower-case hexadecimal digits>
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use idtrail_port::{Disk, Privacy, append_extension, read_optional, write_atomic};

use crate::VaultError;
use crate::files::during;

const HEADER: &str = "idtrail/high-water/v1\n";
const BYTES_MAX: u64 = 1 << 20;

/// The marks of all origins, kept in a file beside each anchor.
pub struct HighWater {
    disk: Arc<dyn Disk>,
    files: Vec<PathBuf>,
    sizes: BTreeMap<String, u64>,
    /// Every file is known to hold `sizes`.
    written: bool,
}

impl HighWater {
    /// Reads the files beside `anchors`; of each origin the highest mark in any of them counts. A missing file counts
    /// as empty: a lower bound that is lost is only weaker.
    ///
    /// # Errors
    /// `Damaged` if a file is not what was written, `Unavailable` if it cannot be read.
    pub fn open(disk: Arc<dyn Disk>, anchors: &[PathBuf]) -> Result<Self, VaultError> {
        let files: Vec<PathBuf> = anchors.iter().map(|anchor| high_water_path(anchor)).collect();
        let mut found = Vec::with_capacity(files.len());
        for path in &files {
            let bytes = during("read", path, read_optional(&*disk, path, BYTES_MAX))?;
            found.push(match bytes {
                Some(bytes) => parse(&bytes).ok_or_else(|| VaultError::HighWater(path.clone()))?,
                None => BTreeMap::new(),
            });
        }
        let mut sizes = BTreeMap::new();
        for (origin, size) in found.iter().flatten() {
            let mark: &mut u64 = sizes.entry(origin.clone()).or_default();
            *mark = (*size).max(*mark);
        }
        let written = found.iter().all(|found| *found == sizes);
        Ok(Self { disk, files, sizes, written })
    }

    /// Returns a tree size that `origin` is known to have had; 0 if nothing is known.
    pub fn size(&self, origin: &str) -> u64 {
        self.sizes.get(origin).copied().unwrap_or(0)
    }

    /// Records tree sizes that origins have had, in every file and with one write each. A size that is not above the
    /// present mark changes nothing; without any change nothing is written.
    ///
    /// # Errors
    /// `Unavailable`; the marks are in some of the files then, and the next call writes all of them again.
    pub fn raise(&mut self, marks: &[(&str, u64)]) -> Result<(), VaultError> {
        for (origin, size) in marks {
            if *size > self.size(origin) {
                self.sizes.insert((*origin).to_owned(), *size);
                self.written = false;
            }
        }
        if self.written {
            return Ok(());
        }
        let bytes = format(&self.sizes);
        for path in &self.files {
            during("written", path, write_atomic(&*self.disk, path, bytes.as_bytes(), Privacy::Owner))?;
        }
        self.written = true;
        Ok(())
    }
}

impl std::fmt::Debug for HighWater {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("HighWater").field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

/// Returns the path of the high-water file that stands beside an anchor.
pub fn high_water_path(anchor: &Path) -> PathBuf {
    append_extension(anchor, "high-water")
}

fn format(sizes: &BTreeMap<String, u64>) -> String {
    let mut text = HEADER.to_owned();
    for (origin, size) in sizes {
        writeln!(text, "{size} {origin}").expect("a string takes every write");
    }
    let crc = crc32c::crc32c(text.as_bytes());
    writeln!(text, "{crc:08x}").expect("a string takes every write");
    text
}

fn parse(bytes: &[u8]) -> Option<BTreeMap<String, u64>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let lines = text.strip_prefix(HEADER)?.lines();
    // The last line is the checksum; the comparison below checks it with everything else.
    let marks = lines.filter_map(|line| line.split_once(' '));
    let sizes: BTreeMap<String, u64> =
        marks.map(|(size, origin)| Some((origin.to_owned(), size.parse().ok()?))).collect::<Option<_>>()?;
    (format(&sizes) == text).then_some(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_read() {
        let sizes = BTreeMap::from([("a/log".to_owned(), 0), ("b/log".to_owned(), u64::MAX)]);
        let text = format(&sizes);
        assert_eq!(parse(text.as_bytes()), Some(sizes));
        assert_eq!(parse(format(&BTreeMap::new()).as_bytes()), Some(BTreeMap::new()));
        for at in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..at]), None, "cut at {at}");
            for bit in 0..8 {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= 1 << bit;
                assert_eq!(parse(&changed), None, "bit {bit} of byte {at}");
            }
        }
    }
}
