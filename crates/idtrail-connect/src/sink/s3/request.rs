//! Names of objects. Pure.

use crate::position::Position;

/// The name of an object: `events-<first>.jsonl`, or `again-<first>-<n>.jsonl` for rows that were sent again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectName {
    pub(super) first: Position,
    pub(super) again: Option<u32>,
}

pub(super) const LIVE: &str = "events-";
const AGAIN: &str = "again-";
/// Length of a place in a name.
const TOKEN: usize = 31;

impl ObjectName {
    pub(super) fn write(self, extension: &str) -> String {
        let first = self.first.to_token();
        match self.again {
            None => format!("{LIVE}{first}.{extension}"),
            Some(again) => format!("{AGAIN}{first}-{again}.{extension}"),
        }
    }

    /// Reads a name; `None` if the object is not one of ours.
    pub(super) fn read(name: &str, extension: &str) -> Option<Self> {
        let body = name.strip_suffix(extension)?.strip_suffix('.')?;
        if let Some(first) = body.strip_prefix(LIVE) {
            return Some(Self { first: Position::from_token(first)?, again: None });
        }
        let body = body.strip_prefix(AGAIN)?;
        let first = Position::from_token(body.get(..TOKEN)?)?;
        let again = body.get(TOKEN..)?.strip_prefix('-')?.parse().ok()?;
        Some(Self { first, again: Some(again) })
    }
}

/// Returns the objects that may hold rows from `first` to `last`: live ones stand one behind the other, so of those only the
/// ones that begin in between and the one before them; of the others, which may be of any length, all that begin before.
pub(super) fn near(all: &[ObjectName], first: Position, last: Position) -> Vec<ObjectName> {
    let live = || all.iter().filter(|name| name.again.is_none());
    let begin = live().map(|name| name.first).filter(|begin| *begin <= first).max().unwrap_or(first);
    all.iter()
        .filter(|name| name.first <= last && (name.again.is_some() || name.first >= begin))
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let name = ObjectName { first: Position::new(1, 9), again: None };
        for name in [name, ObjectName { again: Some(12), ..name }] {
            assert_eq!(ObjectName::read(&name.write("jsonl"), "jsonl"), Some(name));
            assert_eq!(ObjectName::read(&name.write("jsonl"), "parquet"), None);
        }
        for other in ["events-.jsonl", "x.jsonl", "again-1-2.jsonl", "_idtrail"] {
            assert_eq!(ObjectName::read(other, "jsonl"), None);
        }
    }

    #[test]
    fn only_objects_that_may_hold_the_rows_are_read() {
        let live = |seq| ObjectName { first: Position::new(0, seq), again: None };
        let again = |seq| ObjectName { first: Position::new(0, seq), again: Some(0) };
        let all = [live(0), live(50), live(100), live(150), again(10), again(120)];
        let found = near(&all, Position::new(0, 60), Position::new(0, 110));
        assert_eq!(found, [live(50), live(100), again(10)]);
    }
}
