//! Tests of the doubles: they must be as unkind as they claim, and repeat exactly.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which clippy does not know as such"
)]

mod disk_durability;
mod disk_faults;
mod disk_model;
mod network;
mod replay;
mod sweep;

use std::path::Path;

use idtrail_port::{Disk, DiskFile, Open, Privacy};
use idtrail_sim::SimDisk;

fn create(disk: &SimDisk, path: &str) -> Box<dyn DiskFile> {
    disk.open(Path::new(path), Open::CreateNew(Privacy::Owner)).unwrap()
}

fn open(disk: &SimDisk, path: &str) -> Box<dyn DiskFile> {
    disk.open(Path::new(path), Open::Write).unwrap()
}

/// Makes a file whose bytes and name survive every crash.
fn create_durable(disk: &SimDisk, path: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
    let file = create(disk, path);
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new(path).parent().unwrap()).unwrap();
    file
}
