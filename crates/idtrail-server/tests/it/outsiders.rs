//! What somebody finds who trusts nobody and kept something outside: a checkpoint, a proof, a leaf.

use std::path::Path;
use std::process::Output;

use bytes::Bytes;
use data_encoding::BASE64;
use http::Request;
use serde_json::Value;

use crate::rig::{Installation, Running, idtrail, sample};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn post(server: &Running, installation: &Installation, number: u32) -> Value {
    let mut event = sample();
    event["auditEvent"]["interactionId"] = format!("i-{number}").into();
    let (status, receipt) = server.post_event(installation, &event);
    assert_eq!(status, 201, "{receipt}");
    receipt
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn a_kept_checkpoint_finds_a_log_that_was_rolled_back_although_it_is_whole() {
    let installation = Installation::new();
    let home = installation.home();
    let server = installation.start();
    post(&server, &installation, 1);
    server.stop();
    copy(&home.join("data"), &home.join("early"));
    let server = installation.start();
    post(&server, &installation, 2);
    // Reading leaves a leaf in the access log.
    let read = Request::get(server.url("/api/v1/events/2")).header("x-api-key", &installation.key);
    assert_eq!(server.send(read.body(Bytes::new()).unwrap()).status(), 200);
    let kept = |name: &str, path: &str| {
        let file = home.join(name);
        std::fs::write(&file, server.get(path).body()).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (events, accesses) = (kept("events", "/checkpoint"), kept("accesses", "/access/checkpoint"));
    post(&server, &installation, 3);
    server.stop();
    let policy = home.join("policy.txt");
    let fsck = |dir: &str, checkpoints: &[&str]| {
        let dir = home.join(dir);
        let mut all = vec!["fsck", "--dir", dir.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
        all.extend(checkpoints.iter().flat_map(|file| ["--checkpoint", file]));
        said(&idtrail(&all))
    };
    let (code, text) = fsck("data", &[&events, &accesses]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(fsck("early", &[]).0, Some(0), "in itself it is whole");
    for checkpoint in [&events, &accesses] {
        let (code, text) = fsck("early", &[checkpoint]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("cut off or rolled back"), "{text}");
    }
    // One that nobody signed says nothing.
    let forged = std::fs::read_to_string(&events).unwrap().replacen("\n3\n", "\n2\n", 1);
    let forged = forged.replacen("\n4\n", "\n3\n", 1);
    std::fs::write(&events, forged).unwrap();
    assert_eq!(fsck("data", &[&events]).0, Some(4));
}

#[test]
fn leaves_that_do_not_open_with_their_keys_are_found() {
    let real = Installation::new();
    let server = real.start();
    post(&server, &real, 1);
    server.stop();
    let fsck = |config: &Path| said(&idtrail(&["fsck", "--config", config.to_str().unwrap()]));
    let (code, text) = fsck(&real.config());
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("not opened"), "{text}");
    // A log of the same name whose keys are elsewhere: every hash is right.
    let name = real.policy().logs()[0].key.name().to_owned();
    let other = real.home().join("other");
    let made = idtrail(&["init", "--dir", other.to_str().unwrap(), "--origin", &name]);
    assert!(made.status.success(), "{made:?}");
    std::fs::remove_dir_all(other.join("data/log")).unwrap();
    copy(&real.home().join("data/log"), &other.join("data/log"));
    let (code, text) = fsck(&other.join("idtrail.toml"));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("does not open with its key"), "{text}");
    // Without the keys nothing can be said of what the leaves hold, and that is said.
    let (code, text) = said(&idtrail(&["fsck", "--dir", other.join("data").to_str().unwrap()]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("not opened"), "{text}");
}

#[test]
fn a_bare_proof_is_verified_with_its_leaf() {
    let installation = Installation::new();
    let home = installation.home();
    let server = installation.start();
    let receipt = post(&server, &installation, 1);
    let path = format!("/api/v1/events/{}", receipt["index"]);
    let request = Request::get(server.url(&path)).header("x-api-key", &installation.key);
    let event: Value =
        serde_json::from_slice(server.send(request.body(Bytes::new()).unwrap()).body()).unwrap();
    server.stop();
    let file = |name: &str, bytes: &[u8]| {
        let path = home.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut leaf = BASE64.decode(event["leaf"].as_str().unwrap().as_bytes()).unwrap();
    let good = file("leaf", &leaf);
    *leaf.last_mut().unwrap() ^= 1;
    let bad = file("other", &leaf);
    let proof = file("a.tlog-proof", receipt["proof"].as_str().unwrap().as_bytes());
    let whole = file("receipt.json", receipt.to_string().as_bytes());
    let policy = home.join("policy.txt");
    let verify = |what: &str, leaf: &[&str]| {
        let mut all = vec!["verify", what, "--policy", policy.to_str().unwrap()];
        all.extend(leaf.iter().flat_map(|leaf| ["--leaf", leaf]));
        said(&idtrail(&all))
    };
    for (what, leaf, expected) in [
        (&proof, &[][..], 3),
        (&proof, &[good.as_str()], 0),
        (&proof, &[bad.as_str()], 1),
        (&whole, &[], 0),
        (&whole, &[good.as_str()], 0),
        (&whole, &[bad.as_str()], 1),
    ] {
        let (code, text) = verify(what, leaf);
        assert_eq!(code, Some(expected), "{what} {leaf:?}: {text}");
    }
    let cut = file("cut", &receipt["proof"].as_str().unwrap().as_bytes()[..100]);
    assert_eq!(verify(&cut, &[&good]).0, Some(1));
    let newer = receipt["proof"].as_str().unwrap().replacen("tlog-proof@v1", "tlog-proof@v2", 1);
    assert_eq!(verify(&file("newer", newer.as_bytes()), &[&good]).0, Some(4));
}
