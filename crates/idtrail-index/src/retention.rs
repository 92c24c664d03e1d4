//! How long leaves stay readable: what has expired, counted before anything is destroyed.
//!
//! A leaf's class is fixed when it is sealed, and the table of classes stands in the log. A class that is kept for
//! *n* months keeps a leaf through the *n*-th month after the month of its receipt; then the key of (class, month)
//! is destroyed, and with it every leaf of that class and month that no hold keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use idtrail_event::clear::ClassTableItem;
use idtrail_event::{ClassId, ClassTable, LeafHeader, RetentionClass, TypeCode};
use idtrail_log::reader::Reader;
use idtrail_vault::Keyring;

use crate::months::{self, ScanError};

/// Leaves of one class received in one month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The class.
    pub class: ClassId,
    /// The month since 1970-01.
    pub month: u16,
    /// All leaves of it, erased ones included.
    pub leaves: u64,
    /// Those that cannot be read any more.
    pub unreadable: u64,
    /// Those that a hold keeps.
    pub held: u64,
    /// What is to be done.
    pub state: PeriodState,
}

/// What is to be done with a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeriodState {
    /// Its time has not come; it comes with this month since 1970-01, or never.
    Kept(Option<u16>),
    /// Its time has come: the next run destroys its key.
    Due,
    /// Its key was destroyed.
    Expired,
}

/// Counts leaves by class and month.
#[derive(Clone, Debug, Default)]
pub struct Counter(BTreeMap<(u16, u8), [u64; 3]>);

impl Counter {
    /// Counts one leaf.
    pub fn add(&mut self, index: u64, header: &LeafHeader, keyring: &Keyring, is_held: bool) {
        let (class, month) = (header.class.code(), header.month());
        let [leaves, unreadable, held] = self.0.entry((month, class)).or_default();
        *leaves += 1;
        *unreadable += u64::from(!keyring.is_readable(index, class, month));
        *held += u64::from(is_held);
    }

    /// Returns the periods that have leaves, by month and class.
    pub fn periods(&self, table: &ClassTable, keyring: &Keyring, present: u16) -> Vec<Period> {
        let period = |((month, class), [leaves, unreadable, held]): (&(u16, u8), &[u64; 3])| {
            let (class, month) = (ClassId::new(*class), *month);
            let due_from = table.get(class).and_then(|class| due_from(class, month));
            let state = if keyring.is_expired(class.code(), month) {
                PeriodState::Expired
            } else if due_from.is_some_and(|from| from <= present) {
                PeriodState::Due
            } else {
                PeriodState::Kept(due_from)
            };
            Period { class, month, leaves: *leaves, unreadable: *unreadable, held: *held, state }
        };
        self.0.iter().map(period).collect()
    }
}

/// Returns the first month in which leaves of `month` are no longer kept.
fn due_from(class: &RetentionClass, month: u16) -> Option<u16> {
    let kept = class.months.filter(|_| class.id != ClassId::SYSTEM)?;
    month.checked_add(kept)?.checked_add(1)
}

/// Returns what is due in any of an installation's logs, the newest one last; see [`due`].
///
/// # Errors
/// If a leaf cannot be read.
pub fn due_in_all<'a>(
    logs: impl Iterator<Item = (&'a Reader, &'a Keyring)>,
    present: u16,
) -> Result<Vec<(u8, RangeInclusive<u16>)>, ScanError> {
    let logs: Vec<_> = logs.collect();
    let Some((newest, _)) = logs.last() else { return Ok(Vec::new()) };
    let Some(last) = newest.size().get().checked_sub(1) else { return Ok(Vec::new()) };
    let table = newest_table(newest)?;
    // A clock that runs ahead must not expire what the newest log has not gone beyond.
    let present = present.min(months::header(newest, last)?.month());
    let mut periods: BTreeMap<u8, BTreeSet<u16>> = BTreeMap::new();
    for (reader, keyring) in logs {
        for (class, months) in due(reader, keyring, &table, present)? {
            periods.entry(class).or_default().extend(months);
        }
    }
    let single =
        periods.into_iter().flat_map(|(class, months)| months.into_iter().map(move |month| (class, month)));
    Ok(joined(single))
}

/// Returns the classes and months of one log whose time has come in the month `present`, beyond which the newest log has
/// gone, and whose keys are still there, from the log's first month on: what [`crate::shred::Task::Expire`] takes.
///
/// # Errors
/// If the log's first leaf cannot be read.
pub fn due(
    reader: &Reader,
    keyring: &Keyring,
    table: &ClassTable,
    present: u16,
) -> Result<Vec<(u8, RangeInclusive<u16>)>, ScanError> {
    let Some(last) = reader.size().get().checked_sub(1) else { return Ok(Vec::new()) };
    let first = months::header(reader, 0)?.month();
    let end = present.min(months::header(reader, last)?.month().saturating_add(1));
    let mut single = Vec::new();
    for class in &table.classes {
        let is_due = |month: &u16| {
            let due = due_from(class, *month).is_some_and(|from| from <= present);
            due && !keyring.is_expired(class.id.code(), *month)
        };
        single.extend((first..end).filter(is_due).map(|month| (class.id.code(), month)));
    }
    Ok(joined(single.into_iter()))
}

/// Joins successive months of one class.
fn joined(single: impl Iterator<Item = (u8, u16)>) -> Vec<(u8, RangeInclusive<u16>)> {
    let mut periods: Vec<(u8, RangeInclusive<u16>)> = Vec::new();
    for (class, month) in single {
        match periods.last_mut() {
            Some((last, months)) if *last == class && *months.end() + 1 == month => {
                *months = *months.start()..=month;
            }
            _ => periods.push((class, month..=month)),
        }
    }
    periods
}

/// Returns the retention classes as the log states them: its second leaf, or the classes that this version was built
/// with if there is none.
///
/// # Errors
/// If the leaf cannot be read.
pub fn newest_table(reader: &Reader) -> Result<ClassTable, ScanError> {
    if reader.size().get() < 2 {
        return Ok(ClassTable::default());
    }
    Ok(table_of(&months::header(reader, 1)?).unwrap_or_default())
}

/// Returns the table that a leaf holds in clear, if it is one of that type.
pub fn table_of(header: &LeafHeader) -> Option<ClassTable> {
    let clear = header.clear.as_deref().filter(|_| header.event_type == TypeCode::CLASS_TABLE)?;
    ClassTableItem::decode(clear).ok().map(|ClassTableItem(table)| table)
}
