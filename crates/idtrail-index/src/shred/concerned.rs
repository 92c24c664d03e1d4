//! Who is concerned by an order, kept on disk until the same has been done to the access log.
//!
//! An order names leaves, and once they are destroyed nobody can tell whose they were. So the customers are noted
//! before: JSON with a checksum, written before the order begins, overwritten and removed when the leaves of the access
//! log about those of them that have nothing left are destroyed as well.

use std::collections::BTreeSet;
use std::path::Path;

use idtrail_event::GlobalCustomerId;
use idtrail_port::{Disk, Privacy, append_extension, read_optional, write_atomic};
use idtrail_vault::Sections;
use serde_json::{Value, json};

use super::{LEAVES_MAX, ShredError, Shredder, Task, Writer, pending};
use crate::seal::{self, OpenError};

const BYTES_MAX: u64 = 256 << 20;
const FORMAT: &str = "idtrail/concerned/v1";

impl<W: Writer> Shredder<W> {
    /// Returns the customers of the leaves that an order names and that can still be read; of an expiry none, and none if
    /// only what staff did goes.
    ///
    /// # Errors
    /// `Unavailable` or `Damaged` if a leaf cannot be read; a leaf that is not there is passed over.
    pub fn concerned(&self, task: &Task) -> Result<Vec<GlobalCustomerId>, ShredError> {
        let held;
        let leaves = match task {
            Task::Erase { leaves, sections: Sections::Both | Sections::Event } => leaves,
            Task::Release { hold, .. } => {
                held = self.works.held_by(&self.vault(), hold);
                &held
            }
            Task::Expire { .. } | Task::Erase { sections: Sections::Staff, .. } => return Ok(Vec::new()),
        };
        let mut subjects = BTreeSet::new();
        for leaf in leaves.iter().take(LEAVES_MAX) {
            let index = leaf.index;
            let log = self.works.logs().find(|log| log.ordinal == leaf.origin);
            let Some(log) = log.filter(|log| index.get() < log.reader.size().get()) else { continue };
            match seal::open(&log.keyring, index, &log.reader.entry(index)?) {
                Ok(disclosed) => subjects.extend(disclosed.leaf.subject),
                Err(OpenError::Key(_)) => {}
                Err(source) => return Err(ShredError::Open { index, source }),
            }
        }
        Ok(subjects.into_iter().collect())
    }
}

/// The customers of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concerned {
    /// The request that the order belongs to.
    pub request_id: String,
    /// Who asked for it.
    pub actor: Option<String>,
    /// The customers.
    pub subjects: Vec<GlobalCustomerId>,
    /// What else is kept of them, by name, to go with the last event of its customer.
    pub belongings: Vec<(GlobalCustomerId, String)>,
}

/// Writes the file.
///
/// # Errors
/// `Unavailable` if the disk refuses.
pub fn write(disk: &dyn Disk, path: &Path, all: &[Concerned]) -> Result<(), ShredError> {
    let one = |one: &Concerned| {
        let subjects: Vec<String> = one.subjects.iter().map(ToString::to_string).collect();
        let belongings: Vec<[String; 2]> =
            one.belongings.iter().map(|(subject, name)| [subject.to_string(), name.clone()]).collect();
        json!({ "request": one.request_id, "actor": one.actor, "subjects": subjects, "belongings": belongings })
    };
    let text = json!({ "format": FORMAT, "orders": all.iter().map(one).collect::<Vec<_>>() }).to_string();
    let bytes = format!("{text}\n{:08x}\n", crc32c::crc32c(text.as_bytes()));
    write_atomic(disk, path, bytes.as_bytes(), Privacy::Owner).map_err(pending::file("written", path))
}

/// Reads the file; empty if there is none.
///
/// # Errors
/// `Unavailable` if the disk refuses, `Damaged` if it is not what was written.
pub fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<Concerned>, ShredError> {
    for left_over in [pending::DONE, "tmp"] {
        pending::wipe(disk, &append_extension(path, left_over))?;
    }
    let bytes = read_optional(disk, path, BYTES_MAX).map_err(pending::file("read", path))?;
    let Some(bytes) = bytes else { return Ok(Vec::new()) };
    parse(&bytes).ok_or_else(|| ShredError::Damaged(path.to_owned()))
}

/// Overwrites the file and removes it.
///
/// # Errors
/// `Unavailable` if the disk refuses.
pub fn remove(disk: &dyn Disk, path: &Path) -> Result<(), ShredError> {
    pending::remove(disk, path)
}

fn parse(bytes: &[u8]) -> Option<Vec<Concerned>> {
    let (text, crc) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
    if crc != format!("{:08x}\n", crc32c::crc32c(text.as_bytes())) {
        return None;
    }
    let value: Value = serde_json::from_str(text).ok()?;
    if value.get("format")?.as_str()? != FORMAT {
        return None;
    }
    let belonging = |value: &Value| {
        let subject = GlobalCustomerId::try_from(value.get(0)?.as_str()?).ok()?;
        Some((subject, value.get(1)?.as_str()?.to_owned()))
    };
    let one = |value: &Value| {
        let subject = |value: &Value| GlobalCustomerId::try_from(value.as_str()?).ok();
        Some(Concerned {
            request_id: value.get("request")?.as_str()?.to_owned(),
            actor: value.get("actor")?.as_str().map(str::to_owned),
            subjects: value.get("subjects")?.as_array()?.iter().map(subject).collect::<Option<_>>()?,
            belongings: match value.get("belongings") {
                Some(list) => list.as_array()?.iter().map(belonging).collect::<Option<_>>()?,
                None => Vec::new(),
            },
        })
    };
    value.get("orders")?.as_array()?.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use idtrail_sim::SimDisk;

    use super::*;

    #[test]
    fn customers_come_back_as_they_were_and_a_flipped_bit_is_found() {
        let disk = SimDisk::default();
        idtrail_port::create_dir_durable(&disk, Path::new("/d")).unwrap();
        let path = Path::new("/d/concerned");
        assert_eq!(read(&disk, path).unwrap(), []);
        let subjects = vec![GlobalCustomerId::new([7; 16]), GlobalCustomerId::new([9; 16])];
        let belongings = vec![(subjects[1], "q_1".to_owned())];
        let of = |request: &str, actor, subjects, belongings| Concerned {
            request_id: request.to_owned(),
            actor,
            subjects,
            belongings,
        };
        let all = [
            of("r-1", Some("a \"b\"\n".to_owned()), subjects, belongings),
            of("r-2", None, Vec::new(), Vec::new()),
        ];
        write(&disk, path, &all).unwrap();
        assert_eq!(read(&disk, path).unwrap(), all);
        for at in 0..disk.read_durable(path).unwrap().len() {
            disk.flip_bit(path, at as u64, 0).unwrap();
            assert!(read(&disk, path).is_err(), "byte {at}");
            disk.flip_bit(path, at as u64, 0).unwrap();
        }
        remove(&disk, path).unwrap();
        assert!(!disk.exists(path).unwrap());
    }
}
