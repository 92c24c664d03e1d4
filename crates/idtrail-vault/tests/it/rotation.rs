//! Other keys in the place of old ones: whatever happens on the way, exactly one key opens the vault.

use idtrail_sim::{Count, Seed, SimDisk};
use idtrail_vault::{Epoch, ErrorKind, Kek, RetiredKey, Secret32, VaultError};

use crate::rig::{ORIGIN, Rig, State};

fn new_kek() -> Kek {
    Kek::new([0x5a; 32]).unwrap()
}

fn is_wrong(opened: Result<idtrail_vault::Vault, VaultError>) -> bool {
    matches!(opened, Err(VaultError::WrongKek(_)))
}

#[test]
fn another_kek_opens_the_vault_and_the_old_one_does_not() {
    let rig = Rig::created();
    let mut vault = rig.open().unwrap();
    let before = State::of(&vault);
    assert_eq!(vault.rotate_kek(new_kek()).unwrap(), Epoch::FIRST.next());
    assert_eq!(State::of(&vault), before);
    // The open vault goes on under the new key.
    vault.add_pepper().unwrap();
    let before = State::of(&vault);
    drop(vault);
    assert!(is_wrong(rig.open()));
    let vault = rig.open_with(new_kek(), None).unwrap();
    assert_eq!(State::of(&vault), before);
}

#[test]
fn a_crash_at_any_step_of_a_change_of_the_kek_leaves_one_key_that_opens_all() {
    let rig = Rig::created();
    let snapshot = rig.disk.snapshot();
    let state = State::of(&rig.open().unwrap());
    let mut vault = rig.open().unwrap();
    rig.disk.reset_counts();
    vault.rotate_kek(new_kek()).unwrap();
    let steps = rig.disk.count(Count::Mutating);
    assert!(steps > 10, "{steps}");
    let (mut old, mut new) = (0, 0);
    for step in 0..steps {
        for seed in 0..4 {
            let disk = SimDisk::from_snapshot(&snapshot, Seed::new(seed));
            let rig = Rig::new(disk, Seed::new(seed).derive("keys"));
            let mut vault = rig.open().unwrap();
            rig.disk.reset_counts();
            rig.disk.crash_at(Count::Mutating, step);
            let done = vault.rotate_kek(new_kek()).is_ok();
            drop(vault);
            rig.disk.crash(&mut Seed::new(seed).rng());
            let context = format!("step {step} of {steps}, seed {seed}");
            let by_new = rig.open_with(new_kek(), None);
            match by_new {
                Ok(vault) => {
                    new += 1;
                    assert_eq!(State::of(&vault), state, "{context}");
                    drop(vault);
                    assert!(
                        is_wrong(rig.open()),
                        "{context}: the old key is worthless once the new one opened it"
                    );
                    rig.open_with(new_kek(), None).unwrap();
                }
                Err(error) => {
                    old += 1;
                    assert!(matches!(error, VaultError::WrongKek(_)), "{context}: {error}");
                    assert!(!done, "{context}: it was said to be done");
                    let mut vault = rig.open().unwrap_or_else(|error| panic!("{context}: {error}"));
                    assert_eq!(State::of(&vault), state, "{context}");
                    // It can be done again, to the end.
                    vault.rotate_kek(new_kek()).unwrap();
                    drop(vault);
                    assert!(is_wrong(rig.open()), "{context}");
                }
            }
        }
    }
    assert!(old > 0 && new > 0, "old {old}, new {new}");
}

#[test]
fn a_write_that_failed_before_anything_was_changed_goes_on_under_the_old_kek() {
    let rig = Rig::created();
    let mut vault = rig.open().unwrap();
    let cell = rig.read(crate::rig::ANCHORS[0]);
    rig.remove(crate::rig::ANCHORS[0]);
    assert_eq!(vault.rotate_kek(new_kek()).unwrap_err().kind(), ErrorKind::Unavailable);
    rig.put(crate::rig::ANCHORS[0], &cell);
    vault.add_pepper().unwrap();
    drop(vault);
    assert!(rig.open().is_ok());
}

#[test]
fn a_signing_key_is_replaced_and_the_public_part_of_the_old_one_stays() {
    let rig = Rig::created();
    let mut vault = rig.open().unwrap();
    let old = vault.signing_seed(ORIGIN).unwrap();
    assert_eq!(vault.retired_keys(ORIGIN), []);
    let retired = [RetiredKey { public: [7; 32], size: 12 }, RetiredKey { public: [8; 32], size: 1 << 39 }];
    for (number, key) in (1..).zip(retired) {
        vault.rotate_signing_key(ORIGIN, Secret32::new([number; 32]), key).unwrap();
    }
    let unknown = vault.rotate_signing_key("other", Secret32::new([9; 32]), retired[0]).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    drop(vault);
    let vault = rig.open().unwrap();
    assert_eq!(vault.retired_keys(ORIGIN), retired);
    assert_eq!(vault.signing_seed(ORIGIN), Some(Secret32::new([2; 32])));
    assert_ne!(vault.signing_seed(ORIGIN), Some(old));
}
