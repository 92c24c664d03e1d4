//! The file of the open orders: JSON, and a checksum behind it. It lives from before the first step until after the last
//! one, and is overwritten before its name goes, because its lists link leaves that nothing else links any more.

use std::io;
use std::path::Path;

use idtrail_log::{OriginOrdinal, Reference};
use idtrail_port::{Disk, Privacy, append_extension, read_optional, write_atomic};
use idtrail_tlog::LogIndex;
use idtrail_vault::Sections;
use serde_json::{Value, json};

use super::{Order, ShredError, Task};

/// A million leaves of 20 characters each, and a group of orders.
const BYTES_MAX: u64 = 256 << 20;
const FORMAT: &str = "idtrail/shredding/v2";
/// Before there were several logs, an index alone named a leaf.
const FORMAT_ONE_LOG: &str = "idtrail/shredding/v1";
pub(super) const DONE: &str = "done";

pub(super) fn write(disk: &dyn Disk, path: &Path, orders: &[Order]) -> Result<(), ShredError> {
    let text =
        json!({ "format": FORMAT, "orders": orders.iter().map(order_json).collect::<Vec<_>>() }).to_string();
    let bytes = format!("{text}\n{:08x}\n", crc32c::crc32c(text.as_bytes()));
    write_atomic(disk, path, bytes.as_bytes(), Privacy::Owner).map_err(file("written", path))
}

/// Reads the file; an index without a log is one of `newest`.
pub(super) fn read(disk: &dyn Disk, path: &Path, newest: OriginOrdinal) -> Result<Vec<Order>, ShredError> {
    for left_over in [DONE, "tmp"] {
        wipe(disk, &append_extension(path, left_over))?;
    }
    let bytes = read_optional(disk, path, BYTES_MAX).map_err(file("read", path))?;
    let Some(bytes) = bytes else { return Ok(Vec::new()) };
    parse(&bytes, newest).ok_or_else(|| ShredError::Damaged(path.to_owned()))
}

/// Gives the file another name, so that half of it is never taken for an order, overwrites it and removes it.
pub(super) fn remove(disk: &dyn Disk, path: &Path) -> Result<(), ShredError> {
    let done = append_extension(path, DONE);
    match disk.rename(path, &done) {
        Ok(()) => disk.sync_dir(path.parent().unwrap_or(Path::new("."))).map_err(file("removed", path))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(file("removed", path)(error)),
    }
    wipe(disk, &done)
}

pub(super) fn wipe(disk: &dyn Disk, path: &Path) -> Result<(), ShredError> {
    idtrail_port::wipe(disk, path).map_err(file("removed", path))
}

pub(super) fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ShredError + 'a {
    move |source| ShredError::File { action, path: path.to_owned(), source }
}

fn order_json(order: &Order) -> Value {
    let task = match &order.task {
        Task::Erase { leaves, sections } => {
            json!({ "erase": leaves_json(leaves), "sections": sections_name(*sections) })
        }
        Task::Expire { periods } => {
            let list: Vec<_> = periods
                .iter()
                .map(|(class, months)| [u16::from(*class), *months.start(), *months.end()])
                .collect();
            json!({ "expire": list })
        }
        Task::Release { hold, leaves } => json!({ "release": hold, "leaves": leaves_json(leaves) }),
    };
    json!({ "request": order.request_id, "actor": order.actor, "task": task })
}

fn leaves_json(leaves: &[Reference]) -> Value {
    leaves.iter().map(|leaf| json!([leaf.origin.0, leaf.index.get()])).collect()
}

fn leaf(value: &Value, newest: OriginOrdinal) -> Option<Reference> {
    let (origin, index) = match value.as_array().map(Vec::as_slice) {
        Some([origin, index]) => (OriginOrdinal(u32::try_from(origin.as_u64()?).ok()?), index),
        Some(_) => return None,
        None => (newest, value),
    };
    Some(Reference { origin, index: LogIndex::new(index.as_u64()?) })
}

const SECTIONS: [(&str, Sections); 3] =
    [("both", Sections::Both), ("event", Sections::Event), ("staff", Sections::Staff)];

fn sections_name(sections: Sections) -> &'static str {
    SECTIONS.iter().find(|(_, found)| *found == sections).map_or("both", |(name, _)| name)
}

fn parse(bytes: &[u8], newest: OriginOrdinal) -> Option<Vec<Order>> {
    let (text, crc) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
    if crc != format!("{:08x}\n", crc32c::crc32c(text.as_bytes())) {
        return None;
    }
    let value: Value = serde_json::from_str(text).ok()?;
    if ![FORMAT, FORMAT_ONE_LOG].contains(&value.get("format")?.as_str()?) {
        return None;
    }
    value.get("orders")?.as_array()?.iter().map(|order| parse_order(order, newest)).collect()
}

fn parse_order(value: &Value, newest: OriginOrdinal) -> Option<Order> {
    let task = value.get("task")?;
    let numbers = |value: &Value| value.as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>();
    let leaves =
        |value: &Value| value.as_array()?.iter().map(|one| leaf(one, newest)).collect::<Option<Vec<_>>>();
    let task = if let Some(erase) = task.get("erase") {
        let name = task.get("sections").map_or(Some("both"), Value::as_str)?;
        let (_, sections) = SECTIONS.into_iter().find(|(found, _)| *found == name)?;
        Task::Erase { leaves: leaves(erase)?, sections }
    } else if let Some(hold) = task.get("release") {
        let named = task.get("leaves").or_else(|| task.get("indices"))?;
        Task::Release { hold: hold.as_str()?.to_owned(), leaves: leaves(named)? }
    } else {
        let period = |value: &Value| match numbers(value)?.as_slice() {
            [class, first, last] => {
                let months = u16::try_from(*first).ok()?..=u16::try_from(*last).ok()?;
                Some((u8::try_from(*class).ok()?, months))
            }
            _ => None,
        };
        Task::Expire { periods: task.get("expire")?.as_array()?.iter().map(period).collect::<Option<_>>()? }
    };
    let actor = value.get("actor")?.as_str().map(str::to_owned);
    Some(Order { request_id: value.get("request")?.as_str()?.to_owned(), actor, task })
}

#[cfg(test)]
mod tests {
    use idtrail_sim::SimDisk;

    use super::*;

    const NEWEST: OriginOrdinal = OriginOrdinal(7);

    #[test]
    fn orders_come_back_as_they_were_and_leave_no_byte_behind() {
        let disk = SimDisk::default();
        idtrail_port::create_dir_durable(&disk, Path::new("/d")).unwrap();
        let path = Path::new("/d/shredding");
        let order =
            |request: &str, task| Order { request_id: request.into(), actor: Some("a \"b\"\n".into()), task };
        let orders = [
            order("r-1", Task::erase(OriginOrdinal(3), [1, 1 << 39])),
            order("r-4", Task::Erase { leaves: vec![], sections: Sections::Staff }),
            order("r-2", Task::Expire { periods: vec![(1, 600..=601), (200, 7..=7)] }),
            order("r-3", Task::Release { hold: "h".into(), leaves: vec![] }),
        ];
        assert_eq!(read(&disk, path, NEWEST).unwrap(), []);
        write(&disk, path, &orders).unwrap();
        assert_eq!(read(&disk, path, NEWEST).unwrap(), orders);
        let bytes = disk.read_durable(path).unwrap();
        for at in 0..bytes.len() {
            disk.flip_bit(path, at as u64, 0).unwrap();
            assert!(read(&disk, path, NEWEST).is_err(), "byte {at}");
            disk.flip_bit(path, at as u64, 0).unwrap();
        }
        remove(&disk, path).unwrap();
        assert!(!disk.exists(path).unwrap());
        remove(&disk, path).unwrap();
    }

    #[test]
    fn orders_of_before_there_were_several_logs_are_of_the_newest_one() {
        let disk = SimDisk::default();
        idtrail_port::create_dir_durable(&disk, Path::new("/d")).unwrap();
        let path = Path::new("/d/shredding");
        let task = |task: &str| format!(r#"{{"request":"r","actor":null,"task":{task}}}"#);
        let orders = [task(r#"{"erase":[1,5]}"#), task(r#"{"release":"h","indices":[2]}"#)].join(",");
        let text = format!(r#"{{"format":"idtrail/shredding/v1","orders":[{orders}]}}"#);
        let bytes = format!("{text}\n{:08x}\n", crc32c::crc32c(text.as_bytes()));
        write_atomic(&disk, path, bytes.as_bytes(), Privacy::Owner).unwrap();
        let Task::Erase { leaves, .. } = Task::erase(NEWEST, [2]) else { unreachable!() };
        let tasks: Vec<Task> =
            read(&disk, path, NEWEST).unwrap().into_iter().map(|order| order.task).collect();
        assert_eq!(tasks, [Task::erase(NEWEST, [1, 5]), Task::Release { hold: "h".into(), leaves }]);
    }
}
