//! An immutable file of sorted rows: how it is written, and how a key is found in it.
//!
//! ```text
//! block 0        header: magic, id, level, least and highest log index, per table the first block and the count of rows,
//!                where the filter is, CRC
//! blocks 1 …     the tables one after another, each from a new block: as many whole rows as fit, zeros, CRC-32C
//! filter         64-byte lines, then a CRC-32C
//! ```
//!
//! Blocks are 4,096 bytes, numbers big-endian. Keys are spread evenly, so the place of a key is guessed from its first
//! bytes; one read is enough nearly always. A block whose checksum is wrong is damage, never an answer.

use std::path::{Path, PathBuf};

use idtrail_port::{Disk, DiskFile, Open, Privacy};

use super::cache::{Block, Cache};
use super::filter::Filter;
use super::table::{KEY_BYTES, Row, TABLES, Table};
use crate::IndexError;

pub(crate) const BLOCK_BYTES: usize = 4096;
const CRC_BYTES: usize = 4;
const MAGIC: &[u8; 16] = b"idtrail/run/v1\n\0";
/// Bytes that are written at once.
const WRITE_BYTES: usize = 1 << 20;
/// Blocks that a merge reads at once.
const AHEAD_BLOCKS: u64 = 64;
/// Guesses before bisection: a customer with very many events makes guesses worthless.
const GUESSES: u32 = 4;
/// Rows up to which a run gets a filter: 40 MB of it. Larger runs are few, and are asked directly.
const FILTER_ROWS_MAX: u64 = 32_000_000;

/// What a run is, as its header and the manifest say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunInfo {
    pub(crate) id: u64,
    pub(crate) level: u8,
    /// Least and highest log index of any row; `least > highest` if there is no row.
    pub(crate) least: u64,
    pub(crate) highest: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Section {
    first_block: u64,
    rows: u64,
}

/// An open run.
pub(crate) struct Run {
    pub(crate) info: RunInfo,
    pub(crate) path: PathBuf,
    file: Box<dyn DiskFile>,
    sections: [Section; TABLES],
    filter: Option<Filter>,
    /// Of the filter in memory.
    pub(crate) filter_bytes: u64,
    pub(crate) bytes: u64,
}

impl Run {
    /// Opens a run and checks its header; the filter is taken into memory if it is not larger than `filter_bytes_max`.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        expected: RunInfo,
        filter_bytes_max: u64,
    ) -> Result<Self, IndexError> {
        let file = disk.open(path, Open::Read).map_err(failed("opened", path))?;
        let mut head = vec![0; BLOCK_BYTES];
        file.read_exact_at(&mut head, 0).map_err(|_| damaged("a run has no header", path, 0))?;
        let parsed = parse_header(&head).filter(|parsed| parsed.info == expected);
        let Header { info, sections, filter_block, filter_bytes } =
            parsed.ok_or_else(|| damaged("a run's header is not the one that belongs here", path, 0))?;
        let bytes = file.len().map_err(failed("measured", path))?;
        let filter_at = filter_block * BLOCK_BYTES as u64;
        if bytes != filter_at + filter_bytes + if filter_bytes > 0 { CRC_BYTES as u64 } else { 0 } {
            return Err(damaged("a run has another length than it was written with", path, bytes));
        }
        let mut filter = None;
        if filter_bytes > 0 && filter_bytes <= filter_bytes_max {
            let mut stored = vec![0; usize::try_from(filter_bytes).unwrap_or(0) + CRC_BYTES];
            file.read_exact_at(&mut stored, filter_at).map_err(failed("read", path))?;
            let whole = checked(&stored).and_then(Filter::from_bytes);
            filter = Some(whole.ok_or_else(|| damaged("a run's filter is damaged", path, filter_at))?);
        }
        let filter_bytes = if filter.is_some() { filter_bytes } else { 0 };
        Ok(Self { info, path: path.to_owned(), file, sections, filter, filter_bytes, bytes })
    }

    pub(crate) fn rows(&self, table: Table) -> u64 {
        self.section(table).rows
    }

    pub(crate) fn rows_of_all(&self) -> u64 {
        self.sections.iter().map(|section| section.rows).sum()
    }

    /// Tells whether the key may be in this run, without reading.
    pub(crate) fn may_hold(&self, table: Table, key: &[u8; KEY_BYTES]) -> bool {
        self.rows(table) > 0 && self.filter.as_ref().is_none_or(|filter| filter.may_hold(table, key))
    }

    /// Returns the newest row of a key that `wanted` takes.
    pub(crate) fn last(
        &self,
        cache: &Cache,
        table: Table,
        key: &[u8; KEY_BYTES],
        wanted: impl Fn(&Row) -> bool,
    ) -> Result<Option<Row>, IndexError> {
        if !self.may_hold(table, key) {
            return Ok(None);
        }
        let mut at = self.lower_bound(cache, table, key, u64::MAX)?;
        while let Some(before) = at.checked_sub(1) {
            let row = self.row(cache, table, before)?;
            if row.key != *key {
                break;
            }
            if wanted(&row) {
                return Ok(Some(row));
            }
            at = before;
        }
        Ok(None)
    }

    /// Hands the rows of a key from `from` on to `take`, rising, until it says no.
    pub(crate) fn each(
        &self,
        cache: &Cache,
        table: Table,
        key: &[u8; KEY_BYTES],
        from: u64,
        mut take: impl FnMut(Row) -> bool,
    ) -> Result<(), IndexError> {
        if !self.may_hold(table, key) {
            return Ok(());
        }
        let mut at = self.lower_bound(cache, table, key, from)?;
        while at < self.rows(table) {
            let row = self.row(cache, table, at)?;
            if row.key != *key || !take(row) {
                break;
            }
            at += 1;
        }
        Ok(())
    }

    /// Reads every block and checks order and checksums; for the full check.
    pub(crate) fn check(&self) -> Result<(), IndexError> {
        for table in Table::ALL {
            let mut before: Option<Row> = None;
            let mut reader = self.reader(table);
            while let Some(row) = reader.next()? {
                let rising = before.is_none_or(|before| (before.key, before.index) < (row.key, row.index));
                let inside = (self.info.least..=self.info.highest).contains(&row.index);
                if !rising || !inside {
                    return Err(damaged("the rows of a run are not in order", &self.path, 0));
                }
                before = Some(row);
            }
        }
        Ok(())
    }

    /// Reads a table from its start, past the cache.
    pub(crate) fn reader(&self, table: Table) -> TableReader<'_> {
        TableReader { run: self, table, at: 0, blocks: Vec::new(), first_block: 0 }
    }

    fn section(&self, table: Table) -> Section {
        self.sections.get(table.number()).copied().unwrap_or_default()
    }

    /// Returns the first place whose row is not below (key, index).
    fn lower_bound(
        &self,
        cache: &Cache,
        table: Table,
        key: &[u8; KEY_BYTES],
        index: u64,
    ) -> Result<u64, IndexError> {
        let per_block = rows_per_block(table);
        let (mut low, mut high) = (0, self.rows(table));
        let (mut low_key, mut high_key) = (0, u64::MAX);
        let (wanted, mut guesses) = (leading(key), 0);
        while low < high {
            let guess = if guesses < GUESSES {
                guesses += 1;
                let spread = u128::from(high_key.saturating_sub(low_key)).max(1);
                let offset = u128::from(wanted.saturating_sub(low_key)) * u128::from(high - low) / spread;
                low + u64::try_from(offset).unwrap_or(u64::MAX).min(high - low - 1)
            } else {
                low + (high - low) / 2
            };
            let number = guess / per_block;
            let block = self.block(cache, table, number)?;
            let first = number * per_block;
            let end = (first + per_block).min(self.rows(table));
            let row = |at: u64| row_in(table, &block, at - first);
            let is_below = |row: &Row| (&row.key, row.index) < (key, index);
            let (top, bottom) = (row(first), row(end - 1));
            if !is_below(&top) {
                // Nothing before `low` can be meant, so the block's start is an upper bound of the answer.
                if first <= low {
                    return Ok(low.max(first));
                }
                (high, high_key) = (first, leading(&top.key));
            } else if is_below(&bottom) {
                (low, low_key) = (end, leading(&bottom.key));
            } else {
                let (mut left, mut right) = (first, end);
                while left < right {
                    let middle = left + (right - left) / 2;
                    if is_below(&row(middle)) { left = middle + 1 } else { right = middle }
                }
                return Ok(left);
            }
        }
        Ok(low)
    }

    fn row(&self, cache: &Cache, table: Table, at: u64) -> Result<Row, IndexError> {
        let per_block = rows_per_block(table);
        let block = self.block(cache, table, at / per_block)?;
        Ok(row_in(table, &block, at % per_block))
    }

    fn block(&self, cache: &Cache, table: Table, number: u64) -> Result<Block, IndexError> {
        let number = self.section(table).first_block + number;
        if let Some(block) = cache.get(self.info.id, number) {
            return Ok(block);
        }
        let mut bytes = vec![0; BLOCK_BYTES];
        let offset = number * BLOCK_BYTES as u64;
        self.file.read_exact_at(&mut bytes, offset).map_err(failed("read", &self.path))?;
        checked(&bytes).ok_or_else(|| damaged("a block's checksum is wrong", &self.path, offset))?;
        let block: Block = bytes.into();
        cache.put(self.info.id, number, &block);
        Ok(block)
    }
}

/// Reads the rows of one table in order.
pub(crate) struct TableReader<'a> {
    run: &'a Run,
    table: Table,
    at: u64,
    blocks: Vec<u8>,
    /// Number within the table of the first block in `blocks`.
    first_block: u64,
}

impl TableReader<'_> {
    pub(crate) fn next(&mut self) -> Result<Option<Row>, IndexError> {
        let rows = self.run.rows(self.table);
        if self.at >= rows {
            return Ok(None);
        }
        let per_block = rows_per_block(self.table);
        let number = self.at / per_block;
        if (number - self.first_block) * BLOCK_BYTES as u64 >= self.blocks.len() as u64 {
            let count = (rows.div_ceil(per_block) - number).min(AHEAD_BLOCKS);
            self.blocks.resize(usize::try_from(count).unwrap_or(0) * BLOCK_BYTES, 0);
            let offset = (self.run.section(self.table).first_block + number) * BLOCK_BYTES as u64;
            let (file, path) = (&self.run.file, &self.run.path);
            file.read_exact_at(&mut self.blocks, offset).map_err(failed("read", path))?;
            for (block, at) in self.blocks.chunks(BLOCK_BYTES).zip((offset..).step_by(BLOCK_BYTES)) {
                checked(block).ok_or_else(|| damaged("a block's checksum is wrong", path, at))?;
            }
            self.first_block = number;
        }
        let start = usize::try_from(number - self.first_block).unwrap_or(0) * BLOCK_BYTES;
        let block = self.blocks.get(start..start + BLOCK_BYTES).unwrap_or_default();
        let row = row_in(self.table, block, self.at % per_block);
        self.at += 1;
        Ok(Some(row))
    }
}

/// Writes a run: rows of one table after the other, each table's rising.
pub(crate) struct RunWriter {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    info: RunInfo,
    sections: [Section; TABLES],
    table: Table,
    block: Vec<u8>,
    blocks: Vec<u8>,
    written_blocks: u64,
    filter: Option<Filter>,
    last_key: Option<[u8; KEY_BYTES]>,
}

impl RunWriter {
    /// Begins a file for at most `rows_max` rows.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        (id, level): (u64, u8),
        rows_max: u64,
    ) -> Result<Self, IndexError> {
        let file = disk.open(path, Open::CreateNew(Privacy::Owner)).map_err(failed("created", path))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            info: RunInfo { id, level, least: u64::MAX, highest: 0 },
            sections: [Section::default(); TABLES],
            table: Table::SeenContent,
            block: Vec::with_capacity(BLOCK_BYTES),
            blocks: Vec::with_capacity(WRITE_BYTES + BLOCK_BYTES),
            // The header's.
            written_blocks: 1,
            filter: (rows_max <= FILTER_ROWS_MAX).then(|| Filter::new(rows_max)),
            last_key: None,
        })
    }

    /// Goes to the next table. Tables come in the order of [`Table::ALL`].
    pub(crate) fn begin(&mut self, table: Table) -> Result<(), IndexError> {
        self.end_block()?;
        self.table = table;
        self.last_key = None;
        let first_block = self.written_blocks + (self.blocks.len() / BLOCK_BYTES) as u64;
        if let Some(section) = self.sections.get_mut(table.number()) {
            *section = Section { first_block, rows: 0 };
        }
        Ok(())
    }

    pub(crate) fn push(&mut self, row: &Row) -> Result<(), IndexError> {
        if self.block.len() + self.table.width() > BLOCK_BYTES - CRC_BYTES {
            self.end_block()?;
        }
        row.write(self.table, &mut self.block);
        if self.last_key != Some(row.key) {
            self.last_key = Some(row.key);
            if let Some(filter) = &mut self.filter {
                filter.insert(self.table, &row.key);
            }
        }
        self.info.least = self.info.least.min(row.index);
        self.info.highest = self.info.highest.max(row.index);
        if let Some(section) = self.sections.get_mut(self.table.number()) {
            section.rows += 1;
        }
        Ok(())
    }

    /// Makes the file durable and returns what it is; its name is durable once the directory is synced.
    pub(crate) fn finish(mut self) -> Result<RunInfo, IndexError> {
        self.end_block()?;
        self.write_blocks()?;
        let filter = self.filter.take().map(|filter| filter.to_bytes()).unwrap_or_default();
        let (filter_block, filter_bytes) = (self.written_blocks, filter.len() as u64);
        if !filter.is_empty() {
            self.write(&with_checksum(filter), filter_block * BLOCK_BYTES as u64)?;
        }
        let header = Header { info: self.info, sections: self.sections, filter_block, filter_bytes };
        self.write(&header.to_bytes(), 0)?;
        self.file.sync_data().map_err(failed("synced", &self.path))?;
        Ok(self.info)
    }

    fn end_block(&mut self) -> Result<(), IndexError> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.block.resize(BLOCK_BYTES - CRC_BYTES, 0);
        let crc = crc32c::crc32c(&self.block);
        self.blocks.append(&mut self.block);
        self.blocks.extend_from_slice(&crc.to_be_bytes());
        if self.blocks.len() >= WRITE_BYTES { self.write_blocks() } else { Ok(()) }
    }

    fn write_blocks(&mut self) -> Result<(), IndexError> {
        let blocks = std::mem::take(&mut self.blocks);
        self.write(&blocks, self.written_blocks * BLOCK_BYTES as u64)?;
        self.written_blocks += (blocks.len() / BLOCK_BYTES) as u64;
        self.blocks = blocks;
        self.blocks.clear();
        Ok(())
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<(), IndexError> {
        self.file.write_all_at(bytes, at).map_err(failed("written", &self.path))
    }
}

struct Header {
    info: RunInfo,
    sections: [Section; TABLES],
    filter_block: u64,
    filter_bytes: u64,
}

impl Header {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let RunInfo { id, level, least, highest } = self.info;
        let mut numbers = vec![id, u64::from(level), least, highest, self.filter_block, self.filter_bytes];
        numbers.extend(self.sections.iter().flat_map(|section| [section.first_block, section.rows]));
        bytes.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
        bytes.resize(BLOCK_BYTES - CRC_BYTES, 0);
        with_checksum(bytes)
    }
}

fn parse_header(bytes: &[u8]) -> Option<Header> {
    let (words, _) = checked(bytes)?.strip_prefix(MAGIC)?.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_be_bytes(*word));
    let (id, level) = (words.next()?, u8::try_from(words.next()?).ok()?);
    let info = RunInfo { id, level, least: words.next()?, highest: words.next()? };
    let (filter_block, filter_bytes) = (words.next()?, words.next()?);
    let mut sections = [Section::default(); TABLES];
    for section in &mut sections {
        *section = Section { first_block: words.next()?, rows: words.next()? };
    }
    Some(Header { info, sections, filter_block, filter_bytes })
}

/// Returns the bytes before the checksum, if it is right.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (covered, crc) = bytes.split_last_chunk::<CRC_BYTES>()?;
    (crc32c::crc32c(covered) == u32::from_be_bytes(*crc)).then_some(covered)
}

fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

const fn rows_per_block(table: Table) -> u64 {
    ((BLOCK_BYTES - CRC_BYTES) / table.width()) as u64
}

fn row_in(table: Table, block: &[u8], at: u64) -> Row {
    let start = usize::try_from(at).unwrap_or(0) * table.width();
    Row::read(table, block.get(start..start + table.width()).unwrap_or_default())
}

/// The first bytes of a key as a number, by which its place is guessed.
fn leading(key: &[u8; KEY_BYTES]) -> u64 {
    u64::from_be_bytes(key.first_chunk().copied().unwrap_or_default())
}

pub(crate) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> IndexError + 'a {
    move |source| IndexError::Disk { action, path: path.to_owned(), source }
}

pub(crate) fn damaged(what: &'static str, path: &Path, offset: u64) -> IndexError {
    IndexError::Damaged { what, path: path.to_owned(), offset }
}
