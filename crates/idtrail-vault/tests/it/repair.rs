//! Loss, damage and theft of single files while the vault is closed.

use idtrail_port::Disk;
use idtrail_sim::{Seed, SimDisk};
use idtrail_vault::{Epoch, ErrorKind, Kek, Vault, VaultError};

use crate::rig::{ANCHORS, BODY_DIRS, Rig, State, body, kek, shred};

/// A vault at epoch 2, its state, and the files of both epochs.
struct Shredded {
    rig: Rig,
    state: State,
    old: Vec<(std::path::PathBuf, Vec<u8>)>,
}

impl Shredded {
    fn new() -> Self {
        let rig = Rig::created();
        let old = rig.dump();
        let mut vault = rig.open().unwrap();
        shred(&mut vault).unwrap();
        let state = State::of(&vault);
        drop(vault);
        Self { rig, state, old }
    }

    /// Checks that the vault opens at epoch 2 and that every file is as it should be afterwards.
    fn check_repaired(&self, what: &str) {
        let vault = self.rig.open().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((vault.epoch(), State::of(&vault)), (Epoch::new(2), self.state.clone()), "{what}");
        drop(vault);
        self.rig.disk.crash_losing_all();
        let bodies = BODY_DIRS.map(|dir| self.rig.read(body(dir, 2)));
        assert_eq!(bodies[0], bodies[1], "{what}");
        assert!(self.rig.dump().len() == 4, "{what}: two bodies and two cells: {:?}", self.rig.disk.files());
        // Each cell alone is enough.
        for lost in ANCHORS {
            let cell = self.rig.read(lost);
            assert_eq!(
                cell.chunks(4096).filter(|slot| slot.iter().any(|byte| *byte != 0)).count(),
                1,
                "{what}"
            );
            let snapshot = self.rig.disk.snapshot();
            self.rig.remove(lost);
            assert_eq!(State::of(&self.rig.open().unwrap()), self.state, "{what}");
            self.rig.disk.restore(&snapshot);
        }
    }

    fn restore_old(&self, path: &str) {
        let (_, bytes) = self.old.iter().find(|(old, _)| old.as_os_str() == path).unwrap();
        self.rig.put(path, bytes);
    }
}

#[test]
fn a_lost_or_damaged_file_is_made_again_from_the_others() {
    let [cell, _] = ANCHORS;
    let [main, copy] = BODY_DIRS.map(|dir| body(dir, 2));
    type Damage<'a> = &'a dyn Fn(&Shredded);
    let cases: [(&str, Damage<'_>); 15] = [
        ("nothing", &|_| {}),
        ("cell lost", &|vault| vault.rig.remove(cell)),
        ("cell empty", &|vault| vault.rig.put(cell, &[])),
        ("cell of zeros", &|vault| vault.rig.put(cell, &[0; 8192])),
        ("cell of noise", &|vault| vault.rig.put(cell, &[0xa5; 8192])),
        ("cell cut in a slot", &|vault| vault.rig.disk.truncate(cell, 4096 + 50).unwrap()),
        ("cell with a flipped bit", &|vault| vault.rig.disk.flip_bit(cell, 4096 + 70, 3).unwrap()),
        ("cell rolled back", &|vault| vault.restore_old(cell)),
        ("rest of an erasure", &|vault| vault.rig.disk.flip_bit(cell, 511, 3).unwrap()),
        ("body lost", &|vault| vault.rig.remove(&main)),
        ("body empty", &|vault| vault.rig.put(&main, &[])),
        ("body with a flipped bit", &|vault| vault.rig.disk.flip_bit(&main, 60, 0).unwrap()),
        ("body cut", &|vault| vault.rig.disk.truncate(&main, 100).unwrap()),
        ("copy lost", &|vault| vault.rig.remove(&copy)),
        ("copy with a flipped bit", &|vault| vault.rig.disk.flip_bit(&copy, 51, 0).unwrap()),
    ];
    for (what, damage) in cases {
        let vault = Shredded::new();
        damage(&vault);
        vault.check_repaired(what);
    }
}

#[test]
fn cell_body_and_left_over_files_are_repaired_together() {
    let vault = Shredded::new();
    vault.restore_old(ANCHORS[1]);
    vault.rig.remove(body(BODY_DIRS[0], 2));
    for dir in BODY_DIRS {
        vault.rig.put(body(dir, 1), b"an old body that was not removed");
        vault.rig.put(body(dir, 3), b"a write that was cut short");
        vault.rig.put(format!("{dir}/body-00000000000000000002.tmp"), b"a repair that was cut short");
    }
    vault.check_repaired("everything at once");
}

#[test]
fn a_lost_disk_is_restored_from_copy_and_the_other_anchor() {
    let vault = Shredded::new();
    // The data device and one anchor are gone, right after the shred.
    let mut paths = vault.rig.paths.clone();
    paths.body_dir = "/new/vault".into();
    paths.anchors[0] = "/new/cell".into();
    let rig = Rig { disk: vault.rig.disk.clone(), entropy: vault.rig.entropy.clone(), paths };
    assert_eq!(State::of(&rig.open().unwrap()), vault.state);
    assert_eq!(rig.read(body("/new/vault", 2)), rig.read(body(BODY_DIRS[1], 2)));
}

/// What cannot be opened stays as it is, for whoever comes to repair it.
fn check_refused(rig: &Rig, kind: ErrorKind, what: &str) -> VaultError {
    let before = rig.dump();
    let error = rig.open().map(drop).unwrap_err();
    assert_eq!(error.kind(), kind, "{what}: {error}");
    assert_eq!(rig.dump(), before, "{what}");
    error
}

#[test]
fn what_is_lost_is_not_replaced_by_what_is_old() {
    let vault = Shredded::new();
    for dir in BODY_DIRS {
        vault.rig.remove(body(dir, 2));
        vault.restore_old(body(dir, 1).to_str().unwrap());
    }
    let error = check_refused(&vault.rig, ErrorKind::Damaged, "only the old body is left");
    assert!(matches!(error, VaultError::BodyMissing(epoch) if epoch == Epoch::new(2)));
    vault.restore_old(ANCHORS[0]);
    check_refused(&vault.rig, ErrorKind::Damaged, "and one old anchor");

    let vault = Shredded::new();
    ANCHORS.iter().for_each(|anchor| vault.rig.remove(anchor));
    let error = check_refused(&vault.rig, ErrorKind::Damaged, "all anchors are lost");
    assert!(matches!(error, VaultError::NoAnchor(_)));
    let created = vault.rig.create().map(drop).unwrap_err();
    assert_eq!(created.kind(), ErrorKind::Conflict, "a vault that lost its anchors is not written over");
}

#[test]
fn a_vault_that_was_rolled_back_whole_is_refused_by_whoever_knows_a_newer_epoch() {
    let vault = Shredded::new();
    vault.rig.dump().iter().for_each(|(path, _)| vault.rig.remove(path));
    vault.old.iter().for_each(|(path, bytes)| vault.rig.put(path, bytes));
    let before = vault.rig.dump();
    let error = vault.rig.open_with(kek(), Some(Epoch::new(2))).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(matches!(error, VaultError::RolledBack { epoch: Epoch::FIRST, .. }));
    assert_eq!(vault.rig.dump(), before);
    // A body two epochs on tells the same; one epoch on could be a write that was cut short.
    vault.rig.put(body(BODY_DIRS[1], 3), b"newer");
    check_refused(&vault.rig, ErrorKind::Damaged, "a newer body");
    vault.rig.remove(body(BODY_DIRS[1], 3));
    assert_eq!(vault.rig.open_with(kek(), Some(Epoch::FIRST)).unwrap().epoch(), Epoch::FIRST);
}

#[test]
fn other_keys_and_other_vaults_are_never_written_over() {
    let vault = Shredded::new();
    let before = vault.rig.dump();
    let error = vault.rig.open_with(Kek::new([1; 32]).unwrap(), None).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(vault.rig.dump(), before);

    let other = Rig::new(SimDisk::default(), Seed::new(99));
    other.create().unwrap();
    vault.rig.put(ANCHORS[1], &other.read(ANCHORS[1]));
    check_refused(&vault.rig, ErrorKind::Conflict, "another vault's cell");

    let vault = Shredded::new();
    vault.rig.put(ANCHORS[1], &vec![b'#'; 9000]);
    check_refused(&vault.rig, ErrorKind::Conflict, "a file that is no cell");

    let vault = Shredded::new();
    for dir in BODY_DIRS {
        vault.rig.put(body(dir, 2), &other.read(body(dir, 1)));
    }
    check_refused(&vault.rig, ErrorKind::Damaged, "another vault's body");
}

#[test]
fn creation_refuses_every_trace_of_a_vault() {
    let vault = Rig::created();
    let files = vault.dump();
    for (path, bytes) in &files {
        let rig = Rig::new(SimDisk::default(), Seed::new(5));
        rig.put(path, bytes);
        assert_eq!(rig.create().map(drop).unwrap_err().kind(), ErrorKind::Conflict, "{path:?}");
        assert_eq!(rig.dump(), [(path.clone(), bytes.clone())]);
    }
}

#[test]
fn a_marker_of_creation_that_came_back_harms_no_vault() {
    // The marker was removed, but a power cut brought it back while keys were in use already.
    let marker = format!("{}/creating", BODY_DIRS[0]);
    let finished = Rig::created();
    let id = finished.read(ANCHORS[0])[16..32].to_vec();
    let state = State::of(&finished.open().unwrap());
    for again in [true, false] {
        finished.put(&marker, &id);
        if again {
            assert_eq!(finished.create().map(drop).unwrap_err().kind(), ErrorKind::Conflict);
        }
        assert_eq!(State::of(&finished.open().unwrap()), state);
        assert!(!finished.disk.exists(marker.as_ref()).unwrap());
    }
    // A creation that is repeated with another vault's cell in its paths.
    let other = Rig::new(SimDisk::default(), Seed::new(6));
    other.put(&marker, &[0; 16]);
    other.put(ANCHORS[0], &finished.read(ANCHORS[0]));
    let before = other.dump();
    assert!(other.create().is_err());
    assert_eq!(other.dump(), before);
}

#[test]
fn a_cell_that_vanishes_while_the_vault_is_open_blocks_the_next_write_only() {
    let rig = Rig::created();
    let mut vault = rig.open().unwrap();
    let state = State::of(&vault);
    rig.remove(ANCHORS[1]);
    let error = shred(&mut vault).unwrap_err();
    assert!(matches!(&error, VaultError::AnchorChanged(path) if path.as_os_str() == ANCHORS[1]));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(State::of(&vault), state, "the keys stay in use");
    // The next one repairs the cell first.
    shred(&mut vault).unwrap();
    assert_eq!(State::of(&vault), state.shredded());
    drop(vault);
    rig.remove(ANCHORS[0]);
    assert_eq!(State::of(&rig.open().unwrap()), state.shredded());
}

#[test]
fn a_copy_that_cannot_be_written_blocks_a_write_but_not_the_opening() {
    let rig = Rig::created();
    // A file stands where the directory of the copy should be.
    let mut paths = rig.paths.clone();
    paths.copies.push("/copy/vault/lost".into());
    rig.put("/copy/vault/lost", b"");
    let rig = Rig { paths, ..rig };
    let mut vault: Vault = rig.open().unwrap();
    let state = State::of(&vault);
    assert_eq!(shred(&mut vault).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(vault.probe().unwrap(), Epoch::FIRST);
    assert_eq!(State::of(&vault), state);
}

#[test]
fn cells_are_overwritten_in_place() {
    // A cell that were replaced by another file would leave the old key in freed blocks.
    let rig = Rig::created();
    let handle = rig.disk.open(ANCHORS[0].as_ref(), idtrail_port::Open::Read).unwrap();
    let mut vault = rig.open().unwrap();
    shred(&mut vault).unwrap();
    let mut cell = vec![0; 8192];
    handle.read_exact_at(&mut cell, 0).unwrap();
    assert_eq!(cell, rig.read(ANCHORS[0]));
}
