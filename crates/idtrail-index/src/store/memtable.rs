//! The newest rows, in memory, until there are enough of them for a run.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher as StdHasher};

use idtrail_event::clear::ShredIntentItem;

use super::table::{KEY_BYTES, Row, TABLES, Table, number_bytes, pad};
use crate::facts::{Facts, ShredStep};
use crate::lookup::request_key;
use crate::set::IndexSet;

/// What is known of the log up to a place, beside the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Up to where leaves were taken over.
    pub(crate) applied: u64,
    /// The newest receipt time.
    pub(crate) received_ms: u64,
    /// The newest epoch of the vault that a leaf names.
    pub(crate) epoch_in_log: u64,
    /// Shreds without an outcome.
    pub(crate) open: BTreeMap<String, ShredIntentItem>,
}

impl Meta {
    pub(crate) fn fold(&mut self, index: u64, facts: &Facts) {
        self.applied = index + 1;
        self.received_ms = self.received_ms.max(facts.received_ms);
        match &facts.step {
            Some(ShredStep::Intent(item)) => {
                self.open.insert(item.request_id.clone(), item.clone());
            }
            Some(ShredStep::Done(item)) => {
                self.open.remove(&item.request_id);
                self.epoch_in_log = self.epoch_in_log.max(item.epoch);
            }
            None => {}
        }
    }
}

/// Keys are keyed hashes or random, so their first bytes are a hash already.
#[derive(Default)]
pub(crate) struct FirstBytes(u64);

impl StdHasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 ^= u64::from_be_bytes(*first);
        }
    }

    fn finish(&self) -> u64 {
        // The table takes the lowest and the highest bits; the first bytes of a key are the highest.
        self.0.rotate_left(20)
    }
}

type Keys<V> = HashMap<[u8; KEY_BYTES], V, BuildHasherDefault<FirstBytes>>;

/// One row a key nearly always, so that nothing has to be allocated.
enum Rows {
    One(Row),
    Many(Vec<Row>),
}

impl Rows {
    fn as_slice(&self) -> &[Row] {
        match self {
            Self::One(row) => std::slice::from_ref(row),
            Self::Many(rows) => rows,
        }
    }

    fn push(&mut self, row: Row) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, row]),
            Self::Many(rows) => rows.push(row),
        }
    }
}

/// Rows by table and key.
pub(crate) struct Memtable {
    tables: [Keys<Rows>; TABLES],
    rows: usize,
    pub(crate) meta: Meta,
}

impl Memtable {
    pub(crate) fn new(meta: Meta) -> Self {
        Self { tables: std::array::from_fn(|_| Keys::default()), rows: 0, meta }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn fold(&mut self, index: u64, facts: &Facts) {
        self.meta.fold(index, facts);
        if let Some(ShredStep::Done(item)) = &facts.step {
            self.push(Table::Request, Row::new(request_key(&item.request_id), index));
        }
        let Some(event) = &facts.event else { return };
        let dedupe = Row::new(*event.dedupe.as_bytes(), index);
        if event.content_is_id {
            self.push(Table::SeenContent, dedupe);
        } else {
            self.push(Table::SeenId, dedupe.with_value(event.content.as_bytes()));
        }
        if let Some(customer) = event.customer {
            let row = Row::new(*customer.as_bytes(), index).with_value(event.subject.as_bytes());
            self.replace(Table::Customer, row);
        }
        let sequence = number_bytes(event.subject_sequence);
        self.push(Table::Subject, Row::new(pad(event.subject.as_bytes()), index).with_value(&sequence));
        if let Some(interaction) = event.interaction {
            self.push(Table::Interaction, Row::new(*interaction.as_bytes(), index));
        }
    }

    /// Returns the rows of a key, rising by index.
    pub(crate) fn get(&self, table: Table, key: &[u8; KEY_BYTES]) -> &[Row] {
        let rows = self.tables.get(table.number()).and_then(|keys| keys.get(key));
        rows.map(Rows::as_slice).unwrap_or_default()
    }

    /// Drops the rows of leaves. A customer's own id that names one of them is handed to `other`, which returns the leaf
    /// that it is to name instead, if there is one.
    pub(crate) fn forget(&mut self, dead: &IndexSet, other: impl Fn(&Self, &Row) -> Option<u64>) {
        let subjects = Table::Customer.number();
        let mut left = 0;
        for (_, keys) in self.tables.iter_mut().enumerate().filter(|(number, _)| *number != subjects) {
            keys.retain(|_, rows| {
                match rows {
                    Rows::One(row) if dead.contains(row.index) => return false,
                    Rows::One(_) => {}
                    Rows::Many(many) => many.retain(|row| !dead.contains(row.index)),
                }
                !rows.as_slice().is_empty()
            });
        }
        let mut customers = self.tables.get_mut(subjects).map(std::mem::take).unwrap_or_default();
        customers.retain(|_, rows| {
            let Some(row) = rows.as_slice().last().filter(|row| dead.contains(row.index)) else {
                return true;
            };
            let Some(index) = other(self, row) else { return false };
            *rows = Rows::One(Row { index, ..*row });
            true
        });
        if let Some(table) = self.tables.get_mut(subjects) {
            *table = customers;
        }
        for keys in &self.tables {
            left += keys.values().map(|rows| rows.as_slice().len()).sum::<usize>();
        }
        self.rows = left;
    }

    /// Returns the rows of a table, sorted.
    pub(crate) fn sorted(&self, table: Table) -> Vec<Row> {
        let keys = self.tables.get(table.number());
        let mut rows: Vec<Row> =
            keys.into_iter().flat_map(HashMap::values).flat_map(Rows::as_slice).copied().collect();
        rows.sort_unstable();
        rows
    }

    fn push(&mut self, table: Table, row: Row) {
        self.rows += 1;
        if let Some(keys) = self.tables.get_mut(table.number()) {
            keys.entry(row.key).and_modify(|rows| rows.push(row)).or_insert(Rows::One(row));
        }
    }

    /// The newest row of a key takes the place of the others.
    fn replace(&mut self, table: Table, row: Row) {
        if let Some(keys) = self.tables.get_mut(table.number())
            && keys.insert(row.key, Rows::One(row)).is_none()
        {
            self.rows += 1;
        }
    }
}
