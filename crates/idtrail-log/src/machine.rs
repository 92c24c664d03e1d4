//! What the log asks of the code that uses it: to decide, to seal, and to read back.

use idtrail_tlog::{Hash, LogIndex, leaf_hash};

/// The moment of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The index that the next entry will have.
    pub next: LogIndex,
    /// Receipt time in milliseconds since 1970; never decreases from one decision to the next.
    pub received_ms: u64,
}

/// One entry that was decided upon: what is needed to make its bytes, and what followers learn from it.
#[derive(Debug)]
pub struct Planned<D, F> {
    /// Enough to make the entry's bytes once its index is known.
    pub draft: D,
    /// What followers derive from the entry; the same as they derive from its bytes when the log is replayed.
    pub facts: F,
}

/// The outcome of a decision.
#[derive(Debug)]
pub enum Decision<D, F, R> {
    /// Append these entries, in this order, in one frame. Not empty.
    Append(Vec<Planned<D, F>>),
    /// The same request was decided before: this is its entry, which may not be durable yet.
    Existing(LogIndex),
    /// Nothing is appended; the answer still waits for what the decision rests upon to be durable.
    Refuse(R),
}

/// The deterministic state machine that decides, run by one thread per log.
///
/// Its state includes decisions that are not durable yet. It is rebuilt by reading the log, never patched.
pub trait Machine: Send + 'static {
    /// A request that passed every check which needs no order.
    type Command: Send + 'static;
    /// See [`Planned::draft`].
    type Draft: Send + Sync + 'static;
    /// See [`Planned::facts`].
    type Facts: Send + 'static;
    /// The answer to a request that appends nothing.
    type Refusal: Send + 'static;

    /// Decides one request.
    fn decide(
        &mut self,
        command: Self::Command,
        at: Moment,
    ) -> Decision<Self::Draft, Self::Facts, Self::Refusal>;

    /// Returns an upper bound of the bytes that the entries of this request will have.
    fn bytes_max(command: &Self::Command) -> usize;
}

/// What sealing code may say when it fails; the log stops then, because the order was fixed already.
pub type SealFailure = Box<dyn std::error::Error + Send + Sync>;

/// The bytes of an entry, and their leaf hash.
#[derive(Debug)]
pub struct Entry {
    pub(crate) bytes: Vec<u8>,
    pub(crate) leaf_hash: Hash,
}

impl Entry {
    /// Hashes the bytes of an entry.
    pub fn new(bytes: Vec<u8>) -> Self {
        let leaf_hash = leaf_hash(&bytes);
        Self { bytes, leaf_hash }
    }
}

/// Makes entries once their indices are known.
pub trait Sealer<D>: Send + 'static {
    /// Returns the entries of `drafts`, whose indices start at `first` and are contiguous.
    ///
    /// # Errors
    /// Only for causes that make the whole log unable to go on.
    fn seal(&mut self, first: LogIndex, drafts: &[&D]) -> Result<Vec<Entry>, SealFailure>;
}
