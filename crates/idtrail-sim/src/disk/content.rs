//! The bytes of one file, twice: as reads see them and as a power cut would leave them.
//!
//! Both copies are sparse maps of shared 4 KiB pages in which an absent page is all zeros, so that 64 MiB of zeros
//! cost nothing and a synced page is stored once. The unit that a crash keeps, loses or tears is a 512-byte sector.
//!
//! The one invariant: a page in which the two copies differ has an entry in `stale`, whose bits are the sectors that
//! are still dirty. A differing sector without its bit is *clean but lost*: a failed sync dropped it, as Linux does
//! after it has reported the error once, and only a new write makes it dirty again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Rng;

/// What a disk writes at once, in bytes.
pub const SECTOR_BYTES: usize = 512;
const PAGE_BYTES: usize = 4096;

type Page = [u8; PAGE_BYTES];
static ZERO_PAGE: Page = [0; PAGE_BYTES];

/// Sparse bytes. Pages beyond `length` are absent, and bytes beyond it are zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pages: BTreeMap<u64, Arc<Page>>,
    length: u64,
}

impl Content {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let available = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = available.min(buffer.len());
        let Some(mut rest) = buffer.get_mut(..count) else { return 0 };
        let mut offset = offset;
        while !rest.is_empty() {
            let (page, start) = locate(offset);
            let take = rest.len().min(PAGE_BYTES - start);
            let (now, later) = rest.split_at_mut(take);
            now.copy_from_slice(part(self.page(page), start, take));
            rest = later;
            offset += take as u64;
        }
        count
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.length).expect("simulated files fit in memory")];
        self.read(&mut bytes, 0);
        bytes
    }

    fn page(&self, number: u64) -> &Page {
        self.pages.get(&number).map_or(&ZERO_PAGE, AsRef::as_ref)
    }

    fn page_mut(&mut self, number: u64) -> &mut Page {
        Arc::make_mut(self.pages.entry(number).or_insert_with(|| Arc::new(ZERO_PAGE)))
    }

    /// Takes over the other copy's page, sharing it.
    fn share_page(&mut self, number: u64, other: &Content) {
        match other.pages.get(&number) {
            Some(page) => self.pages.insert(number, Arc::clone(page)),
            None => self.pages.remove(&number),
        };
    }

    fn put_page(&mut self, number: u64, page: Page) {
        if page == ZERO_PAGE {
            self.pages.remove(&number);
        } else {
            self.pages.insert(number, Arc::new(page));
        }
    }

    /// Makes everything from `length` on zero.
    fn cut(&mut self, length: u64) {
        self.length = length;
        let (page, start) = locate(length);
        let _beyond = self.pages.split_off(&(page + u64::from(start > 0)));
        if start > 0 && self.pages.contains_key(&page) {
            let mut cut = *self.page(page);
            cut.iter_mut().skip(start).for_each(|byte| *byte = 0);
            self.put_page(page, cut);
        }
    }
}

fn locate(offset: u64) -> (u64, usize) {
    let page_bytes = PAGE_BYTES as u64;
    (offset / page_bytes, usize::try_from(offset % page_bytes).expect("it is below the page size"))
}

fn part(page: &[u8], start: usize, length: usize) -> &[u8] {
    page.get(start..start + length).expect("callers stay within one page")
}

fn part_mut(page: &mut [u8], start: usize, length: usize) -> &mut [u8] {
    page.get_mut(start..start + length).expect("callers stay within one page")
}

/// One file's two copies.
#[derive(Clone, Debug, Default)]
pub(super) struct FileData {
    cached: Content,
    durable: Content,
    stale: BTreeMap<u64, u8>,
    /// Whether a sync would make the cached length durable.
    length_dirty: bool,
}

impl FileData {
    pub(super) fn cached(&self) -> &Content {
        &self.cached
    }

    pub(super) fn durable(&self) -> &Content {
        &self.durable
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let end = offset + bytes.len() as u64;
        let (mut rest, mut at) = (bytes, offset);
        while !rest.is_empty() {
            let (page, start) = locate(at);
            let (now, later) = rest.split_at(rest.len().min(PAGE_BYTES - start));
            self.write_page(page, start, now);
            rest = later;
            at += now.len() as u64;
        }
        if !bytes.is_empty() {
            self.cached.length = self.cached.length.max(end);
            self.length_dirty |= end > self.durable.length;
        }
    }

    fn write_page(&mut self, number: u64, start: usize, bytes: &[u8]) {
        let zeros = bytes == part(&ZERO_PAGE, 0, bytes.len());
        let absent = !self.cached.pages.contains_key(&number) && !self.durable.pages.contains_key(&number);
        if zeros && absent {
            return;
        }
        let cached = self.cached.page_mut(number);
        part_mut(cached, start, bytes.len()).copy_from_slice(bytes);
        let durable = self.durable.page(number);
        let mut mask = 0;
        for sector in start / SECTOR_BYTES..=(start + bytes.len() - 1) / SECTOR_BYTES {
            // A sector that holds what the medium holds cannot be lost, so it need not be dirty.
            let from = sector * SECTOR_BYTES;
            if part(cached, from, SECTOR_BYTES) != part(durable, from, SECTOR_BYTES) {
                mask |= 1_u8 << sector;
            }
        }
        if zeros && *cached == ZERO_PAGE {
            self.cached.pages.remove(&number);
        }
        if mask != 0 {
            *self.stale.entry(number).or_default() |= mask;
        }
    }

    /// Makes dirty sectors and the length durable. What an earlier failed sync lost stays lost.
    pub(super) fn sync(&mut self) {
        for (number, mask) in std::mem::take(&mut self.stale) {
            self.settle(number, mask, |_| SECTOR_BYTES);
            self.keep_stale(number, 0);
        }
        if std::mem::take(&mut self.length_dirty) {
            self.durable.length = self.cached.length;
        }
    }

    /// A sync that reported an error: some of it may have reached the medium, and all of it counts as clean.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        self.flush_some(Some(rng));
        for number in std::mem::take(&mut self.stale).into_keys() {
            self.keep_stale(number, 0);
        }
        self.length_dirty = false;
    }

    /// Makes reads see the medium, except where a write is still waiting to be synced.
    pub(super) fn drop_cache(&mut self) {
        for (number, mask) in std::mem::take(&mut self.stale) {
            if mask == 0 {
                self.cached.share_page(number, &self.durable);
                continue;
            }
            let mut page = *self.durable.page(number);
            for from in dirty_sectors(mask) {
                part_mut(&mut page, from, SECTOR_BYTES).copy_from_slice(part(
                    self.cached.page(number),
                    from,
                    SECTOR_BYTES,
                ));
            }
            self.cached.put_page(number, page);
            self.stale.insert(number, mask);
        }
    }

    /// Power cut: unsynced sectors survive or not, and nothing is left of the cache.
    pub(super) fn crash(&mut self, rng: Option<&mut Rng>) {
        self.flush_some(rng);
        for number in std::mem::take(&mut self.stale).into_keys() {
            self.cached.share_page(number, &self.durable);
        }
        self.cached.length = self.durable.length;
        self.length_dirty = false;
    }

    /// Flips a bit on the medium, and in the cache, which was read from it; false beyond the end.
    pub(super) fn flip_bit(&mut self, byte: u64, bit: u8) -> bool {
        let mut flipped = [0];
        if self.cached.read(&mut flipped, byte) == 0 {
            return false;
        }
        flipped = flipped.map(|byte| byte ^ 1 << (bit % 8));
        let (number, at) = locate(byte);
        if byte >= self.durable.length {
            // Not on the medium yet: only the cache can have gone bad, and will be written as it is.
            self.write_page(number, at, &flipped);
            return true;
        }
        for content in [&mut self.cached, &mut self.durable] {
            let mut page = *content.page(number);
            part_mut(&mut page, at, 1).iter_mut().for_each(|byte| *byte ^= 1 << (bit % 8));
            content.put_page(number, page);
        }
        true
    }

    /// Cuts the file on the medium and in the cache, as damage and not as an operation.
    pub(super) fn truncate(&mut self, length: u64) {
        if length < self.cached.length {
            self.cached.cut(length);
        }
        if length < self.durable.length {
            self.durable.cut(length);
        }
        for (number, mask) in std::mem::take(&mut self.stale) {
            self.keep_stale(number, mask);
        }
        self.length_dirty &= self.cached.length > self.durable.length;
    }

    fn keep_stale(&mut self, number: u64, mask: u8) {
        if mask != 0 || self.cached.page(number) != self.durable.page(number) {
            self.stale.insert(number, mask);
        }
    }

    /// Makes a random part of what is dirty durable, or without a generator nothing.
    fn flush_some(&mut self, rng: Option<&mut Rng>) {
        let stale: Vec<(u64, u8)> = self.stale.iter().map(|(number, mask)| (*number, *mask)).collect();
        let mut length = self.durable.length;
        if let Some(rng) = rng {
            // With many sectors a fair coin for each would never show all of them kept or all lost.
            let mood = rng.below(8);
            for (number, mask) in stale {
                self.settle(number, mask, |_| match mood {
                    0 => 0,
                    1 => SECTOR_BYTES,
                    _ => survivor_bytes(rng),
                });
            }
            if self.length_dirty {
                length = match rng.below(3) {
                    0 => length,
                    1 => self.cached.length,
                    _ => rng.range(length..self.cached.length + 1),
                };
            }
        }
        // Sectors beyond the length are on the medium, but nothing leads to them.
        self.durable.cut(length);
    }

    /// Writes to the medium, for each sector in `mask`, as many of its first bytes as `kept` says.
    fn settle(&mut self, number: u64, mask: u8, mut kept: impl FnMut(usize) -> usize) {
        if mask == 0 {
            return;
        }
        let cached = self.cached.page(number);
        let mut page = *self.durable.page(number);
        for from in dirty_sectors(mask) {
            let length = kept(from).min(SECTOR_BYTES);
            part_mut(&mut page, from, length).copy_from_slice(part(cached, from, length));
        }
        if page == *cached {
            self.durable.share_page(number, &self.cached);
        } else {
            self.durable.put_page(number, page);
        }
    }
}

/// Returns where each sector in `mask` starts in its page.
fn dirty_sectors(mask: u8) -> impl Iterator<Item = usize> {
    (0..PAGE_BYTES / SECTOR_BYTES)
        .filter(move |sector| mask >> sector & 1 == 1)
        .map(|sector| sector * SECTOR_BYTES)
}

fn survivor_bytes(rng: &mut Rng) -> usize {
    match rng.below(3) {
        0 => 0,
        1 => SECTOR_BYTES,
        _ => 1 + rng.index(SECTOR_BYTES - 1),
    }
}
