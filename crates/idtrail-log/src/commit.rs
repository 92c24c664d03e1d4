//! Makes groups durable and answers them: leaf hashes into the tree, one frame, one write, one sync, one signed
//! checkpoint, then the answers. The order of these steps is the promise of the log.

use std::sync::Arc;

use idtrail_tlog::{Batch, Checkpoint, Frontier, Hash, LogIndex, Signer, TlogProof, TreeSize};

use crate::LogError;
use crate::frame;
use crate::journal::Journal;
use crate::machine::Machine;
use crate::reader::{Head, Offsets, Reader, SegmentIndex};
use crate::sequence::{Reply, Sealed};

/// Whole tiles that may wait in memory before they are written.
const TILES_WAITING: usize = 4;

/// What a request waits for.
#[derive(Debug)]
pub enum Pending<R> {
    /// Its own entries.
    Appended {
        /// Index of the first one.
        first: LogIndex,
        /// How many.
        count: u32,
        /// Receipt time, milliseconds since 1970.
        received_ms: u64,
    },
    /// An entry that an earlier request made.
    Existing(LogIndex),
    /// That the state on which the refusal rests is durable.
    Refused(R),
}

/// The outcome of a request, given only once it is durable.
#[derive(Debug)]
pub enum Answer<R> {
    /// Entries were appended.
    Appended {
        /// The commit that holds them.
        commit: Arc<Commit>,
        /// Index of the first one.
        first: LogIndex,
        /// How many.
        count: u32,
        /// Receipt time, milliseconds since 1970.
        received_ms: u64,
    },
    /// The same request was appended before.
    Existing(LogIndex),
    /// Nothing was appended.
    Refused(R),
}

/// One commit: enough to prove each of its entries without reading anything.
#[derive(Debug)]
pub struct Commit {
    batch: Batch,
    checkpoint: Arc<str>,
}

impl Commit {
    /// Returns the size of the tree after the commit.
    pub fn size(&self) -> TreeSize {
        self.batch.size()
    }

    /// Returns the leaf hash of an entry of this commit.
    pub fn leaf_hash(&self, index: LogIndex) -> Option<Hash> {
        let position = index.get().checked_sub(self.batch.old_size().get())?;
        self.batch.leaf_hashes().get(usize::try_from(position).ok()?).copied()
    }

    /// Returns the proof of an entry of this commit against the commit's own checkpoint (C2SP tlog-proof).
    pub fn proof(&self, index: LogIndex) -> Option<TlogProof> {
        let hashes = self.batch.inclusion_proof(index)?;
        Some(TlogProof { extra: None, index, hashes, checkpoint: self.checkpoint.to_string() })
    }
}

impl Commit {
    /// Returns the text of [`Commit::proof`], written without copies: this is done for every acknowledged entry.
    pub fn proof_text(&self, index: LogIndex) -> Option<String> {
        let hashes = self.batch.inclusion_proof(index)?;
        let mut text = String::new();
        TlogProof::write_text(&mut text, None, index, &hashes, &self.checkpoint);
        Some(text)
    }
}

/// What followers are told after a commit.
#[derive(Debug)]
pub struct Told<F> {
    /// Index of the first entry.
    pub first: LogIndex,
    /// One per entry.
    pub facts: Vec<F>,
}

/// The one place where entries become durable.
pub struct Committer {
    journal: Journal,
    frontier: Frontier,
    origin: String,
    signer: Box<dyn Signer + Send>,
    reader: Arc<Reader>,
    disk: Arc<dyn idtrail_port::Disk>,
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer").field("journal", &self.journal).finish_non_exhaustive()
    }
}

impl Committer {
    pub(crate) fn new(
        disk: Arc<dyn idtrail_port::Disk>,
        journal: Journal,
        frontier: Frontier,
        origin: &str,
        signer: Box<dyn Signer + Send>,
        reader: Arc<Reader>,
    ) -> Self {
        Self { journal, frontier, origin: origin.to_owned(), signer, reader, disk }
    }

    /// Returns what reads this log.
    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// Returns the writing end of the segments.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Makes groups durable in one frame, answers their requests, and returns what followers must be told.
    ///
    /// # Errors
    /// Nobody can know whether the frame is durable: the log must stop. Every waiting request was told so.
    pub fn commit<M: Machine>(&mut self, groups: Vec<Sealed<M>>) -> Result<Vec<Told<M::Facts>>, LogError> {
        match self.make_durable(&groups) {
            Ok(commit) => Ok(answer(groups, &commit)),
            Err(error) => {
                for reply in groups.into_iter().flat_map(Sealed::into_replies) {
                    reply(Err(LogError::Stopped));
                }
                Err(error)
            }
        }
    }

    /// Writes tiles that wait, off the acknowledgement path; with `tails` the incomplete ones too.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses; no entry is concerned.
    pub fn flush_tiles(&self, tails: bool) -> Result<(), LogError> {
        self.reader.tiles().flush(TILES_WAITING)?;
        if tails { self.reader.tiles().write_tails() } else { Ok(()) }
    }

    fn make_durable<M: Machine>(&mut self, groups: &[Sealed<M>]) -> Result<Option<Arc<Commit>>, LogError> {
        let old_size = self.frontier.size();
        let old_root = self.frontier.root();
        let leaves: Vec<Hash> = groups.iter().flat_map(|group| group.leaf_hashes.iter().copied()).collect();
        if leaves.is_empty() {
            return Ok(None);
        }
        let mut expected = old_size.get();
        for group in groups {
            // An index given twice, or one left out, would break every later proof: stop before it is written.
            assert!(group.entries.is_empty() || group.first.get() == expected, "indices are contiguous");
            expected += group.entries.len() as u64;
        }
        let first = LogIndex::new(old_size.get());
        let batch = self.frontier.append_batch(&leaves);
        let entries = groups.iter().flat_map(|group| group.entries.iter().map(Vec::as_slice));
        let (bytes, hash) = frame::encode(first, entries.clone(), batch.root(), self.journal.previous());
        let written = self.journal.append(&bytes, hash, first, old_root)?;
        // Only now may the world learn of the new size.
        let checkpoint = Checkpoint { origin: self.origin.clone(), size: batch.size(), root: batch.root() };
        let checkpoint: Arc<str> = checkpoint.sign(&*self.signer).into();
        if let Some(segment) = written.new_segment {
            let offsets = Offsets::Memory(Vec::new());
            let index =
                SegmentIndex { first: segment.first, file: segment.file, path: segment.path, offsets };
            self.reader.open_segment(&*self.disk, index)?;
        }
        let offsets = offsets(entries, written.offset)?;
        let head = Head { size: batch.size(), root: batch.root(), checkpoint: Arc::clone(&checkpoint) };
        assert!(head.size > old_size, "a log only grows");
        self.reader.publish(&leaves, &offsets, head)?;
        Ok(Some(Arc::new(Commit { batch, checkpoint })))
    }
}

fn offsets<'a>(entries: impl Iterator<Item = &'a [u8]>, frame_offset: u64) -> Result<Vec<u32>, LogError> {
    let overflow = |_| LogError::Bug { what: "a segment is limited to 4 GiB" };
    let mut at = u32::try_from(frame_offset).map_err(overflow)? + frame::HEADER_BYTES as u32;
    let mut offsets = Vec::new();
    for entry in entries {
        offsets.push(at);
        at += 2 + u32::try_from(entry.len()).map_err(overflow)?;
    }
    Ok(offsets)
}

fn answer<M: Machine>(groups: Vec<Sealed<M>>, commit: &Option<Arc<Commit>>) -> Vec<Told<M::Facts>> {
    let mut told = Vec::with_capacity(groups.len());
    for group in groups {
        for (pending, reply) in group.waiting {
            answer_one(pending, reply, commit);
        }
        if !group.facts.is_empty() {
            told.push(Told { first: group.first, facts: group.facts });
        }
    }
    told
}

fn answer_one<R>(pending: Pending<R>, reply: Reply<R>, commit: &Option<Arc<Commit>>) {
    reply(match (pending, commit) {
        (Pending::Appended { first, count, received_ms }, Some(commit)) => {
            Ok(Answer::Appended { commit: Arc::clone(commit), first, count, received_ms })
        }
        (Pending::Appended { .. }, None) => {
            Err(LogError::Bug { what: "entries were appended without a commit" })
        }
        (Pending::Existing(index), _) => Ok(Answer::Existing(index)),
        (Pending::Refused(refusal), _) => Ok(Answer::Refused(refusal)),
    });
}
