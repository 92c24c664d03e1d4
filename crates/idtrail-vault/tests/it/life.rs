//! What a vault does while nothing goes wrong.

use std::sync::Arc;

use idtrail_port::os::{OsDisk, OsEntropy};
use idtrail_port::{Disk, Privacy};
use idtrail_sim::{Seed, SimDisk};
use idtrail_vault::{
    Epoch, ErrorKind, HighWater, INDEX_END, INDICES_MAX, KeyError, Puncture, Section, Sections, Vault,
    VaultPaths,
};

use crate::rig::{ANCHORS, BODY_DIRS, ORIGIN, Rig, State, body, kek, shred};

const OTHER: &str = "localhost/idtrail/access";

#[test]
fn what_was_created_is_opened() {
    let rig = Rig::new(SimDisk::default(), Seed::new(2));
    let vault = rig.create().unwrap();
    let state = State::of(&vault);
    assert_eq!((vault.epoch(), vault.tenant()), (Epoch::FIRST, "tenant-a"));
    assert_eq!(vault.origins().collect::<Vec<_>>(), [ORIGIN]);
    assert_eq!(vault.pepper().0, 1);
    assert!(vault.keyring("other").is_none() && vault.signing_seed("other").is_none());
    let mut secrets: Vec<_> = state.secrets().collect();
    secrets.sort_unstable();
    assert!(secrets.windows(2).all(|pair| pair[0] != pair[1]), "no two secrets are the same");

    assert_eq!(rig.open().unwrap_err().kind(), ErrorKind::Busy);
    drop(vault);
    assert_eq!(State::of(&rig.open().unwrap()), state);
    assert_eq!(rig.create().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(State::of(&rig.open().unwrap()), state);
    for (path, bytes) in rig.dump() {
        assert_eq!(rig.disk.privacy(&path).unwrap(), Privacy::Owner);
        for secret in state.secrets() {
            let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            let found = bytes.windows(32).any(|window| window == secret)
                || bytes.windows(64).any(|window| window == hex.as_bytes());
            assert!(!found, "a secret in clear in {path:?}");
        }
    }
}

#[test]
fn every_write_is_a_new_epoch_in_one_slot_of_each_cell_and_one_body() {
    let rig = Rig::created();
    let mut vault = rig.open().unwrap();
    let before = State::of(&vault);
    for (epoch, write) in [
        (2, shred as fn(&mut Vault) -> _),
        (3, |vault| vault.add_pepper()),
        (4, |vault| vault.add_origin(OTHER)),
        (5, |vault| vault.puncture_months(ORIGIN, 1, 0..=681)),
    ] {
        assert_eq!(vault.next_epoch().unwrap(), Epoch::new(epoch));
        assert_eq!(write(&mut vault).unwrap(), Epoch::new(epoch));
        assert_eq!(vault.epoch(), Epoch::new(epoch));
        for anchor in ANCHORS {
            let cell = rig.read(anchor);
            assert_eq!(cell.len(), 8192);
            let used: Vec<bool> = cell.chunks(4096).map(|slot| slot.iter().any(|byte| *byte != 0)).collect();
            // The places take turns, so the one that was written first is erased by now.
            assert_eq!(used, [epoch % 2 == 1, epoch % 2 == 0]);
        }
        for dir in BODY_DIRS {
            let names = rig.disk.list(dir.as_ref()).unwrap();
            let bodies: Vec<_> = names.iter().filter(|name| *name != "lock").collect();
            assert_eq!(bodies, [body("", epoch).to_str().unwrap()]);
        }
        assert_eq!(rig.read(body(BODY_DIRS[0], epoch)), rig.read(body(BODY_DIRS[1], epoch)));
    }
    assert_eq!(vault.pepper().0, 2);
    assert_eq!(vault.origins().collect::<Vec<_>>(), [ORIGIN, OTHER]);
    let keyring = vault.keyring(ORIGIN).unwrap();
    assert_eq!(keyring.class_secret(1, 681), Err(KeyError::Punctured));
    assert!(keyring.class_secret(1, 682).is_ok() && keyring.class_secret(2, 681).is_ok());
    assert!(
        vault.keyring(OTHER).unwrap().class_secret(1, 681).is_ok(),
        "another origin has trees of its own"
    );
    assert_ne!(vault.signing_seed(ORIGIN), vault.signing_seed(OTHER));
    let state = State::of(&vault);
    assert_ne!(state, before);
    drop(vault);
    assert_eq!(State::of(&rig.open().unwrap()), state);
}

#[test]
fn a_shred_destroys_exactly_what_it_names() {
    let rig = Rig::created();
    let mut vault = rig.open().unwrap();
    let before = State::of(&vault);
    shred(&mut vault).unwrap();
    assert_eq!(State::of(&vault), before.shredded());
    // Again, which changes nothing but the epoch.
    shred(&mut vault).unwrap();
    assert_eq!(State::of(&vault), before.shredded());
    drop(vault);
    assert_eq!(State::of(&rig.open().unwrap()), before.shredded());
}

#[test]
fn sections_ranges_and_origins_are_punctured_in_one_epoch() {
    let rig = Rig::created();
    let mut vault = rig.open().unwrap();
    vault.add_origin(OTHER).unwrap();
    let [main, other] = [ORIGIN, OTHER].map(|origin| vault.keyring(origin).unwrap());
    let target = vault.next_epoch().unwrap();
    let punctures = [
        Puncture::Indices { origin: ORIGIN, indices: &[20, 10, 20], sections: Sections::Staff },
        Puncture::Indices { origin: OTHER, indices: &[30], sections: Sections::Event },
        Puncture::IndexRange { origin: ORIGIN, indices: 0..5 },
        Puncture::IndexRange { origin: ORIGIN, indices: 7..7 },
        Puncture::Months { origin: OTHER, class: 3, months: 600..=601 },
    ];
    assert_eq!(vault.puncture(&punctures, target).unwrap(), target);
    let gone =
        |keyring: &idtrail_vault::Keyring, index, section| keyring.index_secret(index, section).is_err();
    for index in 0..40 {
        for section in [Section::Event, Section::Staff] {
            let staff = section == Section::Staff;
            assert_eq!(gone(&main, index, section), index < 5 || staff && [10, 20].contains(&index));
            assert_eq!(gone(&other, index, section), index == 30 && !staff);
        }
    }
    assert_eq!(main.epoch(), target);
    assert!(main.class_secret(3, 600).is_ok() && other.class_secret(3, 600).is_err());
    assert!(other.class_secret(3, 599).is_ok() && other.class_secret(3, 602).is_ok());
    assert!(main.index_secrets(5..10).is_ok_and(|secrets| secrets.len() == 5));
    assert_eq!(main.index_secrets(4..10), Err(KeyError::Punctured));
}

#[test]
fn a_refused_puncture_changes_nothing() {
    let rig = Rig::created();
    let mut vault = rig.open().unwrap();
    let (state, files) = (State::of(&vault), rig.dump());
    let target = vault.next_epoch().unwrap();
    let good = Puncture::Indices { origin: ORIGIN, indices: &[1], sections: Sections::Both };
    let indices = |indices| Puncture::Indices { origin: ORIGIN, indices, sections: Sections::Both };
    for (puncture, kind) in [
        (indices(&[INDEX_END]), ErrorKind::Invalid),
        (indices(&[u64::MAX]), ErrorKind::Invalid),
        (indices(&[1 << 63]), ErrorKind::Invalid),
        (Puncture::IndexRange { origin: ORIGIN, indices: 0..INDEX_END + 1 }, ErrorKind::Invalid),
        (Puncture::Months { origin: "other", class: 0, months: 0..=0 }, ErrorKind::NotFound),
    ] {
        assert_eq!(vault.puncture(&[good.clone(), puncture], target).unwrap_err().kind(), kind);
    }
    for target in [Epoch::FIRST, target.next()] {
        assert_eq!(
            vault.puncture(std::slice::from_ref(&good), target).unwrap_err().kind(),
            ErrorKind::Conflict
        );
    }
    assert_eq!(vault.add_origin(ORIGIN).unwrap_err().kind(), ErrorKind::Conflict);
    for name in ["", "two words", "a+b", "ä", &"a".repeat(129)] {
        assert_eq!(vault.add_origin(name).unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!((State::of(&vault), rig.dump()), (state, files));
}

#[test]
fn keys_outside_of_the_trees_are_refused() {
    let keyring = Rig::created().open().unwrap().keyring(ORIGIN).unwrap();
    assert!(keyring.index_secret(INDEX_END - 1, Section::Staff).is_ok());
    for index in [INDEX_END, 1 << 63, u64::MAX] {
        assert_eq!(keyring.index_secret(index, Section::Event), Err(KeyError::OutOfRange));
        assert_eq!(keyring.cursor().secrets(index), Err(KeyError::OutOfRange));
        assert_eq!(
            keyring.index_secrets(index..u64::MAX).map(|secrets| secrets.len()),
            Err(KeyError::OutOfRange)
        );
    }
    assert_eq!(keyring.index_secrets(0..INDICES_MAX + 1), Err(KeyError::OutOfRange));
    assert_eq!(keyring.index_secrets(INDEX_END - 1..INDEX_END + 1), Err(KeyError::OutOfRange));
    assert!(keyring.index_secrets(INDEX_END - 2..INDEX_END).is_ok_and(|secrets| secrets.len() == 2));
    // A batch, a cursor and random access agree.
    let (batch, mut cursor) = (keyring.index_secrets(1_000..1_100).unwrap(), keyring.cursor());
    for (index, secrets) in (1_000..).zip(&batch) {
        assert_eq!(cursor.secrets(index).as_ref(), Ok(secrets));
        assert_eq!(keyring.index_secret(index, Section::Event).as_ref(), Ok(&secrets.event));
        assert_eq!(keyring.index_secret(index, Section::Staff).as_ref(), Ok(&secrets.staff));
    }
}

#[test]
fn unusable_paths_and_names_are_refused_before_anything_is_written() {
    let rig = Rig::new(SimDisk::default(), Seed::new(3));
    let create = |paths: &VaultPaths, tenant: &str| {
        let (disk, entropy) = (Arc::new(rig.disk.clone()), Arc::new(rig.entropy.clone()));
        Vault::create(disk, entropy, paths.clone(), kek(), tenant, ORIGIN)
    };
    let good = rig.paths.clone();
    for paths in [
        VaultPaths { anchors: vec![], ..good.clone() },
        VaultPaths { anchors: vec![ANCHORS[0].into(), ANCHORS[0].into()], ..good.clone() },
        VaultPaths { copies: vec![good.body_dir.clone()], ..good.clone() },
        VaultPaths { copies: vec!["".into()], ..good.clone() },
    ] {
        assert_eq!(create(&paths, "tenant-a").unwrap_err().kind(), ErrorKind::Invalid);
    }
    for tenant in ["", "line\nbreak", &"a".repeat(129)] {
        assert_eq!(create(&good, tenant).unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(rig.open().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(rig.dump().is_empty());
    create(&good, "Tenant A, Zürich").unwrap();
}

#[test]
fn debug_output_holds_no_secret() {
    let vault = Rig::created().open().unwrap();
    let keyring = vault.keyring(ORIGIN).unwrap();
    let shown = format!("{vault:?} {keyring:?} {:?} {:?}", keyring.cursor(), keyring.index_secrets(0..2));
    for secret in State::of(&vault).secrets() {
        let decimal = format!("{:?}", &secret[..4]);
        assert!(!shown.contains(decimal.trim_matches(['[', ']'])));
    }
    assert!(shown.contains("Secret32(..)"));
}

#[test]
fn high_water_marks_only_rise_and_survive_the_loss_of_one_file() {
    let rig = Rig::created();
    let disk: Arc<dyn Disk> = Arc::new(rig.disk.clone());
    let open = || HighWater::open(Arc::clone(&disk), &rig.paths.anchors).unwrap();
    let mut marks = open();
    assert_eq!(marks.size(ORIGIN), 0);
    marks.raise(&[(ORIGIN, 10), (OTHER, 3)]).unwrap();
    marks.raise(&[(ORIGIN, 9)]).unwrap();
    assert_eq!((marks.size(ORIGIN), open().size(ORIGIN), open().size(OTHER)), (10, 10, 3));

    // Every operation fails once: the next call makes up for it, and no file ever goes below what it had.
    for index in 0..40 {
        rig.disk.reset_counts();
        rig.disk.fail(idtrail_sim::Fault::once(index));
        let (before, size) = (open().size(ORIGIN), 100 + index);
        let first = marks.raise(&[(ORIGIN, size)]);
        assert!(open().size(ORIGIN) >= before);
        rig.disk.clear_faults();
        if first.is_err() {
            marks.raise(&[]).unwrap();
        }
        rig.disk.crash_losing_all();
        assert_eq!(open().size(ORIGIN), size);
    }
    let path = idtrail_vault::high_water_path(ANCHORS[0].as_ref());
    rig.remove(&path);
    let mut marks = open();
    assert_eq!(marks.size(ORIGIN), 139);
    marks.raise(&[]).unwrap();
    assert_eq!(rig.read(&path), rig.read(idtrail_vault::high_water_path(ANCHORS[1].as_ref())));
    rig.disk.flip_bit(&path, 30, 0).unwrap();
    assert_eq!(HighWater::open(disk, &rig.paths.anchors).unwrap_err().kind(), ErrorKind::Damaged);
}

/// On the real file system and at the size that the vault is made for.
#[test]
fn a_vault_with_two_hundred_thousand_scattered_erasures_is_written_and_opened() {
    let dir = tempfile::tempdir().unwrap();
    let paths = VaultPaths {
        body_dir: dir.path().join("vault"),
        copies: vec![dir.path().join("copy")],
        anchors: vec![dir.path().join("anchor")],
    };
    let (disk, entropy): (Arc<OsDisk>, Arc<OsEntropy>) = Default::default();
    let mut vault =
        Vault::create(disk.clone(), entropy.clone(), paths.clone(), kek(), "default", ORIGIN).unwrap();
    let kept = vault.keyring(ORIGIN).unwrap().index_secret(3, Section::Event);
    // 100 apart on average, at places that a multiplication scatters.
    let indices: Vec<u64> =
        (0..200_000_u64).map(|at| at * 100 + 4 + at.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 96).collect();
    let epoch = vault.puncture_indices(ORIGIN, &indices, Sections::Both).unwrap();
    drop(vault);
    let path = body(paths.body_dir.to_str().unwrap(), epoch.get());
    let bytes = disk.open(&path, idtrail_port::Open::Read).unwrap().len().unwrap();
    assert!((30_000_000..48_000_000).contains(&bytes), "{bytes}");
    let vault = Vault::open(disk, entropy, paths, kek(), Some(epoch)).unwrap();
    let keyring = vault.keyring(ORIGIN).unwrap();
    assert!(indices.iter().all(|index| keyring.index_secret(*index, Section::Staff).is_err()));
    assert_eq!(keyring.index_secret(3, Section::Event), kept);
}
