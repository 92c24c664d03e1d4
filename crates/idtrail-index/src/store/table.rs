//! What the index keeps: tables of rows of fixed width, each under a keyed hash or a random id, with the log index that
//! the row is from.
//!
//! ```text
//! row = key (32, or 16 for a customer) ‖ log index (5, big-endian) ‖ value
//! ```

/// Rows of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Events whose content is their id: dedupe key.
    SeenContent,
    /// Events with an id: dedupe key, and the digest of the content as value.
    SeenId,
    /// A client's own customer id: the customer as value. Of several rows of a key the newest counts.
    Customer,
    /// A customer's events: how many came before as value.
    Subject,
    /// An interaction's events.
    Interaction,
    /// Outcomes of shreds, by the hash of the request's id.
    Request,
}

pub(crate) const TABLES: usize = 6;
pub(crate) const KEY_BYTES: usize = 32;
/// As many as the key trees have bits for.
pub(crate) const INDEX_BYTES: usize = 5;
pub(crate) const VALUE_BYTES_MAX: usize = 32;

impl Table {
    pub(crate) const ALL: [Self; TABLES] =
        [Self::SeenContent, Self::SeenId, Self::Customer, Self::Subject, Self::Interaction, Self::Request];

    pub(crate) const fn number(self) -> usize {
        self as usize
    }

    pub(crate) const fn key_bytes(self) -> usize {
        match self {
            Self::Subject => 16,
            _ => KEY_BYTES,
        }
    }

    pub(crate) const fn value_bytes(self) -> usize {
        match self {
            Self::SeenContent | Self::Interaction | Self::Request => 0,
            Self::SeenId => 32,
            Self::Customer => 16,
            Self::Subject => INDEX_BYTES,
        }
    }

    pub(crate) const fn width(self) -> usize {
        self.key_bytes() + INDEX_BYTES + self.value_bytes()
    }
}

/// A row in memory. Shorter keys and values are filled up with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) key: [u8; KEY_BYTES],
    pub(crate) index: u64,
    pub(crate) value: [u8; VALUE_BYTES_MAX],
}

impl Row {
    pub(crate) const fn new(key: [u8; KEY_BYTES], index: u64) -> Self {
        Self { key, index, value: [0; VALUE_BYTES_MAX] }
    }

    pub(crate) fn with_value(mut self, value: &[u8]) -> Self {
        for (to, from) in self.value.iter_mut().zip(value) {
            *to = *from;
        }
        self
    }

    /// Returns a value of 16 bytes: a customer.
    pub(crate) fn customer(&self) -> [u8; 16] {
        self.value.first_chunk().copied().unwrap_or_default()
    }

    /// Returns a value that is a number.
    pub(crate) fn number(&self) -> u64 {
        number(self.value.get(..INDEX_BYTES).unwrap_or_default())
    }

    pub(crate) fn write(&self, table: Table, out: &mut Vec<u8>) {
        out.extend_from_slice(self.key.get(..table.key_bytes()).unwrap_or_default());
        out.extend_from_slice(&number_bytes(self.index));
        out.extend_from_slice(self.value.get(..table.value_bytes()).unwrap_or_default());
    }

    /// Reads a row; `bytes` are as wide as the table's rows.
    pub(crate) fn read(table: Table, bytes: &[u8]) -> Self {
        let (key, rest) = bytes.split_at_checked(table.key_bytes()).unwrap_or_default();
        let (index, value) = rest.split_at_checked(INDEX_BYTES).unwrap_or_default();
        let mut row = Self::new(pad(key), number(index));
        row = row.with_value(value);
        row
    }
}

/// Fills a key up to full length.
pub(crate) fn pad(key: &[u8]) -> [u8; KEY_BYTES] {
    let mut padded = [0; KEY_BYTES];
    for (to, from) in padded.iter_mut().zip(key) {
        *to = *from;
    }
    padded
}

pub(crate) const fn number_bytes(number: u64) -> [u8; INDEX_BYTES] {
    let [_, _, _, a, b, c, d, e] = number.to_be_bytes();
    [a, b, c, d, e]
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
