use std::time::Duration;

use idtrail_port::os::{OsDisk, OsEntropy};

use super::*;

const NOW: i64 = 1_790_000_000_000;

fn store(dir: &Path) -> CredentialStore {
    CredentialStore::open(Arc::new(OsDisk), dir).unwrap()
}

fn new_key(expires_ms: Option<i64>) -> NewKey {
    NewKey { env: "live".to_owned(), name: "crm".to_owned(), roles: Role::Ingest.into(), expires_ms }
}

/// Replaces one character of the secret part and puts a right checksum behind it.
fn with_other_secret(secret: &str) -> String {
    let body = &secret[..secret.len() - CHECKSUM_CHARS];
    let (head, last) = body.split_at(body.len() - 1);
    let body = format!("{head}{}", if last == "a" { "q" } else { "a" });
    format!("{body}{}", checksum(&body))
}

#[test]
fn key_is_accepted_or_refused_with_the_right_reason() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let good = store.create_key(&OsEntropy, NOW, new_key(Some(NOW + 1000))).unwrap();
    let key = good.secret.as_str();
    assert!(key.starts_with(&format!("idt_live_{}_", good.id)), "{}", good.id);

    let accepted = store.check_key(key, NOW).unwrap();
    assert_eq!((accepted.name.as_str(), accepted.roles), ("crm", Role::Ingest.into()));

    let mut flipped = key.to_owned();
    flipped.replace_range(key.len() - 1.., if key.ends_with('a') { "b" } else { "a" });
    let unknown_body = format!("idt_live_{}_{}", "a".repeat(16), "a".repeat(52));
    let unknown = format!("{unknown_body}{}", checksum(&unknown_body));
    let other_env_body = key[..key.len() - CHECKSUM_CHARS].replace("_live_", "_test_");
    let other_env = format!("{other_env_body}{}", checksum(&other_env_body));
    let cases = [
        (with_other_secret(key), NOW, Refusal::WrongSecret),
        (other_env, NOW, Refusal::WrongSecret),
        (flipped, NOW, Refusal::Checksum),
        (key.replace("_live_", "_test_"), NOW, Refusal::Checksum),
        (unknown, NOW, Refusal::Unknown),
        (key.to_owned(), NOW + 1000, Refusal::Expired),
        (key.to_uppercase(), NOW, Refusal::Malformed),
        (format!("{key}a"), NOW, Refusal::Malformed),
        (format!("{key}_a"), NOW, Refusal::Malformed),
        (key[..key.len() - 1].to_owned(), NOW, Refusal::Malformed),
        (String::new(), NOW, Refusal::Malformed),
        ("idt_live".to_owned(), NOW, Refusal::Malformed),
        ("é".repeat(60), NOW, Refusal::Malformed),
        (format!("idt_live_a_{}", "é".repeat(30)), NOW, Refusal::Malformed),
        ("a".repeat(100_000), NOW, Refusal::Malformed),
    ];
    for (presented, now, reason) in cases {
        assert_eq!(store.check_key(&presented, now).unwrap_err(), reason, "{presented}");
    }
    store.revoke(&good.id, NOW + 1).unwrap();
    store.revoke(&good.id, NOW + 2).unwrap();
    assert_eq!(store.check_key(key, NOW).unwrap_err(), Refusal::Revoked);
    assert_eq!(store.keys()[0].revoked_ms, Some(NOW + 1));
    assert!(matches!(store.revoke("nobody", NOW), Err(StoreError::NotFound)));
}

#[test]
fn person_is_accepted_or_refused_with_the_right_reason() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let new = NewPerson { name: "Zoë Example".to_owned(), roles: Role::Dpo.into(), expires_ms: None };
    let good = store.create_person(&OsEntropy, NOW, new).unwrap();
    let secret = good.secret.as_str();
    assert!(good.id.starts_with("person_") && secret.starts_with("ids_"));
    assert_eq!(store.check_person(&good.id, secret, NOW).unwrap().roles, Role::Dpo.into());
    let cases = [
        (good.id.as_str(), with_other_secret(secret), Refusal::WrongSecret),
        ("person_x", secret.to_owned(), Refusal::Unknown),
        (good.id.as_str(), format!("x{secret}"), Refusal::Malformed),
        (good.id.as_str(), secret.replace("ids_", "idt_"), Refusal::Malformed),
        (good.id.as_str(), String::new(), Refusal::Malformed),
    ];
    for (id, presented, reason) in cases {
        assert_eq!(store.check_person(id, &presented, NOW).unwrap_err(), reason, "{presented}");
    }
    store.revoke(&good.id, NOW).unwrap();
    assert_eq!(store.check_person(&good.id, secret, NOW).unwrap_err(), Refusal::Revoked);
    assert_eq!(store.live_person(&good.id, NOW).unwrap_err(), Refusal::Revoked);
}

#[test]
fn change_by_another_process_is_seen_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (store(dir.path()), store(dir.path()));
    let first = one.create_key(&OsEntropy, NOW, new_key(None)).unwrap();
    assert_eq!(two.check_key(&first.secret, NOW).unwrap_err(), Refusal::Unknown);
    assert!(two.reload_if_changed().unwrap());
    assert!(!two.reload_if_changed().unwrap());
    assert!(two.check_key(&first.secret, NOW).is_ok());

    let second = two.create_key(&OsEntropy, NOW, new_key(None)).unwrap();
    one.revoke(&first.id, NOW).unwrap();
    assert!(one.check_key(&second.secret, NOW).is_ok());
    assert_eq!(one.keys().len(), 2);
}

#[test]
fn third_live_key_of_a_system_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let first = store.create_key(&OsEntropy, NOW, new_key(None)).unwrap();
    store.create_key(&OsEntropy, NOW, new_key(Some(NOW + 10))).unwrap();
    assert!(matches!(store.create_key(&OsEntropy, NOW, new_key(None)), Err(StoreError::TooManyLive)));
    assert!(store.create_key(&OsEntropy, NOW + 10, new_key(None)).is_ok());
    store.revoke(&first.id, NOW + 10).unwrap();
    assert!(store.create_key(&OsEntropy, NOW + 10, new_key(None)).is_ok());
}

#[test]
fn wrong_wishes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let wrong: [fn(&mut NewKey); 6] = [
        |new| new.env = "LIVE".to_owned(),
        |new| new.env = "li_ve".to_owned(),
        |new| new.name = String::new(),
        |new| new.name = "a b".to_owned(),
        |new| new.roles = RoleSet::default(),
        |new| new.expires_ms = Some(NOW),
    ];
    for (case, spoil) in wrong.iter().enumerate() {
        let mut new = new_key(None);
        spoil(&mut new);
        assert!(matches!(store.create_key(&OsEntropy, NOW, new), Err(StoreError::Invalid(_))), "{case}");
    }
    let person = NewPerson { name: "a\nb".to_owned(), roles: Role::Dpo.into(), expires_ms: None };
    assert!(matches!(store.create_person(&OsEntropy, NOW, person), Err(StoreError::Invalid(_))));
    assert!(store.keys().is_empty() && store.persons().is_empty());
}

#[test]
fn file_is_private_and_holds_no_secret() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let created = store.create_key(&OsEntropy, NOW, new_key(None)).unwrap();
    let path = dir.path().join("credentials.json");
    let text = String::from_utf8(idtrail_port::read_whole(&OsDisk, &path, 100_000).unwrap()).unwrap();
    let (_, secret) = created.secret.rsplit_once('_').unwrap();
    assert!(text.contains(&created.id) && !text.contains(&secret[..20]), "{text}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!format!("{:?}", store.keys()).contains(&HEXLOWER.encode(&digest(&created.secret).0)));
}

#[test]
fn damaged_file_is_refused_and_the_last_good_state_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let created = store.create_key(&OsEntropy, NOW, new_key(None)).unwrap();
    let path = dir.path().join("credentials.json");
    for text in [
        "",
        "{",
        "{\"version\":2,\"keys\":[],\"persons\":[]}",
        "{\"version\":1,\"keys\":[],\"persons\":[],\"x\":1}",
    ] {
        write_atomic(&OsDisk, &path, text.as_bytes(), Privacy::Owner).unwrap();
        assert!(matches!(store.reload_if_changed(), Err(StoreError::Damaged { .. })), "{text}");
        assert!(store.check_key(&created.secret, NOW).is_ok());
        assert!(CredentialStore::open(Arc::new(OsDisk), dir.path()).is_err());
    }
}

#[tokio::test]
async fn watcher_adopts_changes_until_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (serving, other) = (Arc::new(store(dir.path())), store(dir.path()));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let watcher = tokio::spawn(watch(Arc::clone(&serving), Duration::from_millis(1), async move {
        let _ = stopped.await;
    }));
    let created = other.create_key(&OsEntropy, NOW, new_key(None)).unwrap();
    while serving.check_key(&created.secret, NOW).is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.send(()).unwrap();
    watcher.await.unwrap();
}
