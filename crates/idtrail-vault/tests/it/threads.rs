//! One keyring in many threads while keys are destroyed.

use std::sync::atomic::{AtomicU64, Ordering};

use idtrail_vault::{KeyError, Section, Sections};

use crate::rig::{ORIGIN, Rig};

const INDICES: u64 = 64;

#[test]
fn no_thread_gets_a_key_after_its_puncture_has_returned() {
    let rig = Rig::created();
    let mut vault = rig.open().unwrap();
    let keyring = vault.keyring(ORIGIN).unwrap();
    let expected = keyring.index_secrets(0..INDICES).unwrap();
    // All indices below it have been destroyed.
    let (destroyed, running) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (keyring, expected, destroyed, running) = (keyring.clone(), &expected, &destroyed, &running);
            scope.spawn(move || {
                let mut cursor = keyring.cursor();
                running.fetch_add(1, Ordering::SeqCst);
                while destroyed.load(Ordering::SeqCst) < INDICES {
                    for (index, secrets) in (0..).zip(expected) {
                        let gone = destroyed.load(Ordering::SeqCst);
                        let found = match thread % 2 {
                            0 => cursor.secret(index, Section::Staff),
                            _ => keyring.index_secret(index, Section::Staff),
                        };
                        match found {
                            Ok(secret) => assert!(index >= gone && secret == secrets.staff, "index {index}"),
                            Err(error) => assert_eq!(error, KeyError::Punctured),
                        }
                    }
                    assert!(keyring.class_secret(1, 0).is_ok());
                }
            });
        }
        while running.load(Ordering::SeqCst) < 4 {
            std::thread::yield_now();
        }
        let mut outcome = Ok(());
        for index in 0..INDICES {
            outcome = outcome.and(vault.puncture_indices(ORIGIN, &[index], Sections::Both).map(drop));
            // Also after a failure, or the readers would never end.
            destroyed.store(index + 1, Ordering::SeqCst);
        }
        outcome.unwrap();
    });
    assert!(
        (0..INDICES).all(|index| keyring.index_secret(index, Section::Event) == Err(KeyError::Punctured))
    );
}
