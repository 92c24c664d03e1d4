//! Suppression entries, holds, and looking into a vault that another process has open.

use idtrail_sim::{Count, Seed};
use idtrail_vault::{
    Change, ErasedEvent, ErrorKind, KeptKey, NewHold, Puncture, Secret32, Section, Sections, Suppressed,
    Vault,
};

use crate::rig::{ORIGIN, Rig, State};

const CLASS: u8 = 1;
const MONTH: u16 = 681;

fn erased(id: u8) -> ErasedEvent {
    ErasedEvent { dedupe: [id; 32], content: [id; 32], expires_ms: 1_000 }
}

fn apply(vault: &mut Vault, change: &Change<'_>) -> Result<(), idtrail_vault::VaultError> {
    let target = vault.next_epoch()?;
    vault.apply(change, target).map(drop)
}

fn hold(vault: &mut Vault, id: &str, indices: &[u64]) -> Result<(), idtrail_vault::VaultError> {
    apply(vault, &Change { set: &[NewHold { id, origin: ORIGIN, indices }], now_ms: 5, ..Change::default() })
}

fn kept(index: u64) -> KeptKey {
    KeptKey { index, section: Section::Event, key: Secret32::new([index as u8 + 1; 32]) }
}

#[test]
fn what_is_suppressed_comes_back_from_the_files_and_goes_when_it_has_expired() {
    let rig = Rig::created();
    let mut vault = rig.open().unwrap();
    let list = vault.suppression().clone();
    let indices = Puncture::Indices { origin: ORIGIN, indices: &[7], sections: Sections::Both };
    apply(
        &mut vault,
        &Change { punctures: &[indices], erased: &[erased(1), erased(2)], ..Change::default() },
    )
    .unwrap();
    drop(vault);
    let mut vault = rig.open().unwrap();
    for list in [&list, vault.suppression()] {
        assert_eq!(list.find(&[1; 32], &[1; 32], 999), Some(Suppressed::Same));
        assert_eq!(list.find(&[2; 32], &[1; 32], 999), Some(Suppressed::Other));
        assert_eq!(list.find(&[2; 32], &[2; 32], 1_000), None);
    }
    apply(&mut vault, &Change { now_ms: 1_000, ..Change::default() }).unwrap();
    assert!(vault.suppression().is_empty());
    drop(vault);
    assert!(rig.open().unwrap().suppression().is_empty());
}

#[test]
fn a_hold_keeps_keys_past_their_expiry_and_its_release_ends_them() {
    let rig = Rig::created();
    let mut vault = rig.open().unwrap();
    hold(&mut vault, "case-1", &[9, 4, 9]).unwrap();
    hold(&mut vault, "case-2", &[4]).unwrap();
    assert_eq!(hold(&mut vault, "case-2", &[5]).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(hold(&mut vault, "", &[5]).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(hold(&mut vault, "case-3", &[]).unwrap_err().kind(), ErrorKind::Invalid);
    let error = vault.puncture_indices(ORIGIN, &[3, 4], Sections::Both).unwrap_err();
    assert_eq!(
        (error.kind(), vault.keyring(ORIGIN).unwrap().is_readable(3, CLASS, MONTH)),
        (ErrorKind::Conflict, true)
    );

    let months = Puncture::Months { origin: ORIGIN, class: CLASS, months: MONTH..=MONTH };
    // The key of 5 is not held, so it is not kept whatever the caller says.
    let keys = [kept(4), kept(9), kept(5)];
    apply(&mut vault, &Change { punctures: &[months], kept: &[(ORIGIN, &keys)], ..Change::default() })
        .unwrap();
    // Set after the expiry: what another hold keeps readable can be held again.
    hold(&mut vault, "case-3", &[9]).unwrap();
    drop(vault);

    let mut vault = rig.open().unwrap();
    let keyring = vault.keyring(ORIGIN).unwrap();
    assert!(keyring.is_expired(CLASS, MONTH) && !keyring.is_expired(CLASS, MONTH + 1));
    let readable = |index| keyring.is_readable(index, CLASS, MONTH);
    assert_eq!([3, 4, 5, 9].map(readable), [false, true, false, true]);
    assert_eq!(keyring.held_key(4, Section::Event), Some(kept(4).key));
    assert_eq!(keyring.held_key(4, Section::Staff), None);
    let names: Vec<_> = vault.holds().map(|hold| (hold.id, hold.indices, hold.kept_keys)).collect();
    assert_eq!(
        names,
        [
            ("case-1".to_owned(), vec![4, 9], 2),
            ("case-2".to_owned(), vec![4], 1),
            ("case-3".to_owned(), vec![9], 1)
        ]
    );

    apply(&mut vault, &Change { released: &["case-1"], ..Change::default() }).unwrap();
    assert_eq!([4, 9].map(readable), [true, true], "each is held once more");
    apply(&mut vault, &Change { released: &["case-2", "case-3"], ..Change::default() }).unwrap();
    assert_eq!([4, 9].map(readable), [false, false]);
    let error = apply(&mut vault, &Change { released: &["case-2"], ..Change::default() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    drop(vault);
    assert_eq!(rig.open().unwrap().holds().count(), 0);
}

#[test]
fn a_crash_at_any_step_of_a_change_leaves_all_of_it_or_nothing() {
    let change = |vault: &mut Vault| {
        let months = Puncture::Months { origin: ORIGIN, class: CLASS, months: MONTH..=MONTH };
        let keys = [kept(4)];
        let kept = &[(ORIGIN, &keys[..])];
        apply(vault, &Change { punctures: &[months], erased: &[erased(1)], kept, ..Change::default() })
    };
    let prepared = |seed| {
        let rig = Rig::new(idtrail_sim::SimDisk::new(seed), Seed::new(1));
        hold(&mut rig.create().unwrap(), "case-1", &[4]).unwrap();
        rig
    };
    let rig = prepared(Seed::new(0));
    let mut vault = rig.open().unwrap();
    rig.disk.reset_counts();
    change(&mut vault).unwrap();
    let steps = rig.disk.count(Count::Mutating);
    assert!(steps > 10);
    let (mut before, mut after) = (0, 0);
    for step in 0..steps {
        for seed in 0..4 {
            let rig = prepared(Seed::new(seed));
            let mut vault = rig.open().unwrap();
            rig.disk.reset_counts();
            rig.disk.crash_at(Count::Mutating, step);
            let done = change(&mut vault).is_ok();
            drop(vault);
            rig.disk.crash(&mut Seed::new(seed).rng());
            let vault = rig.open().unwrap();
            let expired = vault.keyring(ORIGIN).unwrap().is_expired(CLASS, MONTH);
            let suppressed = vault.suppression().len() == 1;
            let kept = vault.holds().next().unwrap().kept_keys == 1;
            assert_eq!((expired, expired), (suppressed, kept), "step {step}, seed {seed}");
            assert!(expired || !done, "step {step}, seed {seed}: reported and lost");
            if expired { after += 1 } else { before += 1 }
        }
    }
    assert!(before > 0 && after > 0);
}

#[test]
fn a_vault_can_be_looked_into_while_it_is_open_and_then_takes_no_write() {
    let rig = Rig::created();
    let mut vault = rig.open().unwrap();
    hold(&mut vault, "case-1", &[4]).unwrap();
    let files = rig.dump();
    rig.disk.reset_counts();
    let looker = || {
        let (disk, entropy) =
            (std::sync::Arc::new(rig.disk.clone()), std::sync::Arc::new(rig.entropy.clone()));
        Vault::open_read_only(disk, entropy, rig.paths.clone(), crate::rig::kek(), None)
    };
    let mut looking = looker().unwrap();
    assert_eq!((looking.epoch(), State::of(&looking)), (vault.epoch(), State::of(&vault)));
    assert_eq!(looking.holds().collect::<Vec<_>>(), vault.holds().collect::<Vec<_>>());
    assert_eq!(hold(&mut looking, "case-2", &[4]).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(
        looking.puncture_indices(ORIGIN, &[1], Sections::Both).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    assert_eq!((rig.disk.count(Count::Mutating), rig.dump()), (0, files), "nothing was touched");
    drop(vault);
    rig.remove("/anchor-a/cell");
    rig.remove("/anchor-b/cell");
    assert_eq!(looker().unwrap_err().kind(), ErrorKind::Damaged);
}
