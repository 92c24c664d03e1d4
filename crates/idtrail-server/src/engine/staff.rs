//! Which leaves name a member of staff, so that what they did can be taken out of them while the events stay.
//!
//! Staff stands in a section of its own in each leaf, under a key of its own, and in no index: an index of who worked when
//! would be one more thing to protect. So the leaves are found by opening all of them, which takes about ten microseconds
//! for each.

use idtrail_index::seal::OpenError;
use idtrail_index::shred::{LEAVES_MAX, ShredError};
use idtrail_log::Reference;
use idtrail_tlog::LogIndex;
use serde_json::Value;

use super::Engine;

/// The members of an event that name staff (docs/spec/leaf.md, §4.1).
const MEMBERS: [&str; 4] = ["agentId", "agentName", "supervisorId", "staffId"];

impl Engine {
    /// Returns the leaves of all logs whose staff section can be read and names `staff` in any of its members, at most a
    /// million of them. Reads every log.
    ///
    /// # Errors
    /// `Unavailable` or `Damaged` if a leaf cannot be read.
    pub fn leaves_of_staff(&self, staff: &str) -> Result<Vec<Reference>, ShredError> {
        let mut found = Vec::new();
        for log in self.logs() {
            for index in (0..log.reader.size().get()).map(LogIndex::new) {
                let bytes = log.reader.entry(index)?;
                let disclosed = match log.open_leaf(index, &bytes) {
                    Ok(disclosed) if disclosed.staff_key.is_some() => disclosed,
                    Ok(_) | Err(OpenError::Key(_)) => continue,
                    Err(source) => return Err(ShredError::Open { index, source }),
                };
                let event = disclosed.leaf.body.get("auditEvent");
                let names = |member: &&str| event.and_then(|event| event.get(member)).and_then(Value::as_str);
                if MEMBERS.iter().filter_map(names).any(|name| name == staff) {
                    found.push(Reference { origin: log.ordinal, index });
                    if found.len() == LEAVES_MAX {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(found)
    }
}
