//! The file of the open orders: JSON, and a checksum behind it. It lives from before the first step until after the last
//! one, and is overwritten before its name goes, because its lists link leaves that nothing else links any more.

use std::io;
use std::path::Path;

use idtrail_port::{Disk, Privacy, append_extension, read_optional, write_atomic};
use serde_json::{Value, json};

use super::{Order, ShredError, Task};

/// A million indices of 13 characters each, and a group of orders.
const BYTES_MAX: u64 = 256 << 20;
const FORMAT: &str = "idtrail/shredding/v1";
pub(super) const DONE: &str = "done";

pub(super) fn write(disk: &dyn Disk, path: &Path, orders: &[Order]) -> Result<(), ShredError> {
    let text =
        json!({ "format": FORMAT, "orders": orders.iter().map(order_json).collect::<Vec<_>>() }).to_string();
    let bytes = format!("{text}\n{:08x}\n", crc32c::crc32c(text.as_bytes()));
    write_atomic(disk, path, bytes.as_bytes(), Privacy::Owner).map_err(file("written", path))
}

pub(super) fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<Order>, ShredError> {
    for left_over in [DONE, "tmp"] {
        wipe(disk, &append_extension(path, left_over))?;
    }
    let bytes = read_optional(disk, path, BYTES_MAX).map_err(file("read", path))?;
    let Some(bytes) = bytes else { return Ok(Vec::new()) };
    parse(&bytes).ok_or_else(|| ShredError::Damaged(path.to_owned()))
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
    crate::wipe::remove(disk, path).map_err(file("removed", path))
}

pub(super) fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ShredError + 'a {
    move |source| ShredError::File { action, path: path.to_owned(), source }
}

fn order_json(order: &Order) -> Value {
    let task = match &order.task {
        Task::Erase { indices } => json!({ "erase": indices }),
        Task::Expire { periods } => {
            let list: Vec<_> = periods
                .iter()
                .map(|(class, months)| [u16::from(*class), *months.start(), *months.end()])
                .collect();
            json!({ "expire": list })
        }
        Task::Release { hold, indices } => json!({ "release": hold, "indices": indices }),
    };
    json!({ "request": order.request_id, "actor": order.actor, "task": task })
}

fn parse(bytes: &[u8]) -> Option<Vec<Order>> {
    let (text, crc) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
    if crc != format!("{:08x}\n", crc32c::crc32c(text.as_bytes())) {
        return None;
    }
    let value: Value = serde_json::from_str(text).ok()?;
    if value.get("format")?.as_str()? != FORMAT {
        return None;
    }
    value.get("orders")?.as_array()?.iter().map(parse_order).collect()
}

fn parse_order(value: &Value) -> Option<Order> {
    let task = value.get("task")?;
    let numbers = |value: &Value| value.as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>();
    let task = if let Some(indices) = task.get("erase") {
        Task::Erase { indices: numbers(indices)? }
    } else if let Some(hold) = task.get("release") {
        Task::Release { hold: hold.as_str()?.to_owned(), indices: numbers(task.get("indices")?)? }
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

    #[test]
    fn orders_come_back_as_they_were_and_leave_no_byte_behind() {
        let disk = SimDisk::default();
        idtrail_port::create_dir_durable(&disk, Path::new("/d")).unwrap();
        let path = Path::new("/d/shredding");
        let order =
            |request: &str, task| Order { request_id: request.into(), actor: Some("a \"b\"\n".into()), task };
        let orders = [
            order("r-1", Task::Erase { indices: vec![1, 1 << 39] }),
            order("r-2", Task::Expire { periods: vec![(1, 600..=601), (200, 7..=7)] }),
            order("r-3", Task::Release { hold: "h".into(), indices: vec![] }),
        ];
        assert_eq!(read(&disk, path).unwrap(), []);
        write(&disk, path, &orders).unwrap();
        assert_eq!(read(&disk, path).unwrap(), orders);
        let bytes = disk.read_durable(path).unwrap();
        for at in 0..bytes.len() {
            disk.flip_bit(path, at as u64, 0).unwrap();
            assert!(read(&disk, path).is_err(), "byte {at}");
            disk.flip_bit(path, at as u64, 0).unwrap();
        }
        remove(&disk, path).unwrap();
        assert!(!disk.exists(path).unwrap());
        remove(&disk, path).unwrap();
    }
}
