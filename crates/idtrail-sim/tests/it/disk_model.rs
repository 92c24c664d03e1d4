//! The simulated disk against a real one and against a plain vector of bytes.

use std::io;
use std::path::Path;

use idtrail_port::os::OsDisk;
use idtrail_port::{Disk, Open, Privacy};
use idtrail_sim::{Seed, SimDisk};
use proptest::prelude::*;

use crate::{create, open};

#[derive(Clone, Debug)]
enum Op {
    Create(String),
    CreateDir(String),
    Rename(String, String),
    Remove(String),
    Write(String, u64, Vec<u8>),
    Read(String),
    List(String),
    Exists(String),
    SyncDir(String),
}

/// Does `op` below `root` and shows what came of it; of an error, what code decides by: its kind.
fn outcome(disk: &dyn Disk, root: &Path, op: &Op) -> Result<String, io::ErrorKind> {
    let at = |name: &String| root.join(name);
    let done = match op {
        Op::Create(name) => disk.open(&at(name), Open::CreateNew(Privacy::Owner)).map(|_| String::new()),
        Op::CreateDir(name) => disk.create_dir(&at(name)).map(|()| String::new()),
        Op::Rename(from, to) => disk.rename(&at(from), &at(to)).map(|()| String::new()),
        Op::Remove(name) => disk.remove(&at(name)).map(|()| String::new()),
        Op::Write(name, offset, bytes) => disk.open(&at(name), Open::Write).and_then(|file| {
            file.write_all_at(bytes, *offset)?;
            file.sync_data()?;
            file.len().map(|length| length.to_string())
        }),
        Op::Read(name) => {
            idtrail_port::read_optional(disk, &at(name), 1 << 20).map(|bytes| format!("{bytes:?}"))
        }
        Op::List(name) => disk.list(&at(name)).map(|names| names.join(" ")),
        Op::Exists(name) => disk.exists(&at(name)).map(|exists| exists.to_string()),
        // The real disk also syncs a file by this call; here that is a mistake, so only directories are compared.
        Op::SyncDir(name) => {
            disk.list(&at(name)).and_then(|_| disk.sync_dir(&at(name))).map(|()| String::new())
        }
    };
    done.map_err(|error| error.kind())
}

fn path() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d", "d/a", "d/b", "d/d", "d/d/a", "e/a"])
        .prop_map(str::to_owned)
}

/// Offsets around the borders of sectors and pages.
fn offset() -> impl Strategy<Value = u64> {
    (prop::sample::select(vec![0_u64, 512, 1024, 4096, 8192, 12_288]), 0..3_u64)
        .prop_map(|(border, by)| border.saturating_sub(1) + by)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let length = prop::sample::select(vec![0_usize, 1, 2, 511, 512, 513, 4096, 5000, 9000]);
    // Zeros often: the disk stores those by not storing them.
    (length, prop::sample::select(vec![0_u8, 0, 1, 2])).prop_map(|(length, byte)| vec![byte; length])
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        path().prop_map(Op::Create),
        path().prop_map(Op::CreateDir),
        (path(), path()).prop_map(|(from, to)| Op::Rename(from, to)),
        path().prop_map(Op::Remove),
        (path(), offset(), bytes()).prop_map(|(path, offset, bytes)| Op::Write(path, offset, bytes)),
        path().prop_map(Op::Read),
        path().prop_map(Op::List),
        path().prop_map(Op::Exists),
        path().prop_map(Op::SyncDir),
    ]
}

#[derive(Clone, Debug)]
enum FileOp {
    Write(u64, Vec<u8>),
    Sync,
    DropCache,
    Crash,
    Truncate(u64),
    Flip(u64, u8),
}

fn file_op() -> impl Strategy<Value = FileOp> {
    prop_oneof![
        6 => (offset(), bytes()).prop_map(|(offset, bytes)| FileOp::Write(offset, bytes)),
        2 => Just(FileOp::Sync),
        1 => Just(FileOp::DropCache),
        1 => Just(FileOp::Crash),
        1 => offset().prop_map(FileOp::Truncate),
        1 => (offset(), 0..8_u8).prop_map(|(byte, bit)| FileOp::Flip(byte, bit)),
    ]
}

fn write(bytes: &mut Vec<u8>, offset: u64, new: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + new.len());
    if !new.is_empty() {
        bytes.resize(bytes.len().max(end), 0);
        bytes[start..end].copy_from_slice(new);
    }
}

fn flip(bytes: &mut [u8], byte: u64, bit: u8) {
    if let Some(byte) = bytes.get_mut(byte as usize) {
        *byte ^= 1 << bit;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Without a crash nobody can tell it from the operating system's disk.
    #[test]
    fn it_behaves_like_a_real_disk(ops in prop::collection::vec(op(), 1..40)) {
        let real_root = tempfile::tempdir().unwrap();
        let disk = SimDisk::default();
        for op in ops {
            let simulated = outcome(&disk, Path::new("/"), &op);
            prop_assert_eq!(simulated, outcome(&OsDisk, real_root.path(), &op), "{:?}", op);
        }
    }

    /// Sparse pages, shared pages and dirty sectors come out as two plain vectors would, the one copied by a sync.
    #[test]
    fn a_file_is_two_plain_vectors(ops in prop::collection::vec(file_op(), 1..30)) {
        let disk = SimDisk::new(Seed::new(1));
        drop(create(&disk, "/f"));
        disk.sync_dir(Path::new("/")).unwrap();
        let (mut cached, mut durable) = (Vec::new(), Vec::new());
        for op in ops {
            let file = open(&disk, "/f");
            match &op {
                FileOp::Write(offset, bytes) => {
                    file.write_all_at(bytes, *offset).unwrap();
                    write(&mut cached, *offset, bytes);
                }
                FileOp::Sync => {
                    file.sync_data().unwrap();
                    durable.clone_from(&cached);
                }
                FileOp::DropCache => file.drop_cache().unwrap(),
                FileOp::Crash => {
                    disk.crash_losing_all();
                    cached.clone_from(&durable);
                }
                FileOp::Truncate(length) => {
                    disk.truncate("/f", *length).unwrap();
                    cached.truncate(*length as usize);
                    durable.truncate(*length as usize);
                }
                FileOp::Flip(byte, bit) => {
                    let _beyond_the_end = disk.flip_bit("/f", *byte, *bit);
                    flip(&mut cached, *byte, *bit);
                    flip(&mut durable, *byte, *bit);
                }
            }
            prop_assert!(disk.read_cached("/f").unwrap() == cached, "cached after {:?}", op);
            prop_assert!(disk.read_durable("/f").unwrap() == durable, "durable after {:?}", op);
        }
    }
}
