//! The command line as people use it.

use crate::rig::{Installation, idtrail};

#[test]
fn the_demo_shows_everything_and_exits() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("demo");
    let home = home.to_str().unwrap();
    let output = idtrail(&["demo", "--exit", "--port", "0", "--events", "400", "--dir", home]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "verified offline",
        "TAMPERED, entry",
        "One byte flipped in a copy of the log: found, entry 202",
        "A sink wrote all 407 events into a warehouse",
        "IDENTITY_RESOLUTION",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let whole = idtrail(&["fsck", "--dir", &format!("{home}/data")]);
    assert_eq!(whole.status.code(), Some(0), "{}", String::from_utf8_lossy(&whole.stdout));
    let copy = idtrail(&["fsck", "--json", "--dir", &format!("{home}/copy")]);
    assert_eq!(copy.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&copy.stdout).unwrap();
    assert_eq!(report["findings"][0]["index"], 202);
}

#[test]
fn nothing_is_overwritten_and_errors_say_what_to_do() {
    let installation = Installation::new();
    let home = installation.home();
    let again = idtrail(&["init", "--dir", home.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("choose another --dir"));
    let bad_name = idtrail(&["init", "--dir", "x", "--origin", "has space"]);
    assert_eq!(bad_name.status.code(), Some(6));
    let server = installation.start();
    let second = idtrail(&["serve", "--config", installation.config().to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(74), "one process per data directory");
    assert!(String::from_utf8_lossy(&second.stderr).contains("another process"));
    server.stop();
}

#[test]
fn the_commands_of_the_readme_exist() {
    let readme = include_str!("../../../../README.md");
    let lines: Vec<&str> = readme.lines().filter(|line| line.starts_with("idtrail ")).collect();
    assert!(lines.len() >= 8, "{lines:?}");
    for line in lines {
        let command = line.split('#').next().unwrap();
        let mut arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
        // Everything before it is parsed first, so an unknown command or flag fails.
        arguments.push("--help");
        let output = idtrail(&arguments);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for needed in ["cargo run --release --bin idtrail -- demo", "scripts/test"] {
        assert_eq!(readme.lines().filter(|line| *line == needed).count(), 1, "{needed}");
    }
}
