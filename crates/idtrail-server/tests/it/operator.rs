//! The commands of an operator: send, dsar, doctor, config check, token, completions, and the pages they write.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::rig::{Installation, Running, idtrail, sample};

/// Runs a command with variables and standard input.
fn run(arguments: &[&str], variables: &[(&str, &str)], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_idtrail"))
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn events(count: usize) -> Vec<Value> {
    (0..count)
        .map(|number| {
            let mut event = sample();
            event["auditEvent"]["number"] = json!(number);
            event
        })
        .collect()
}

fn ndjson(events: &[Value]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}

fn send(server: &Running, installation: &Installation, file: &str, more: &[&str], input: &str) -> Output {
    let url = format!("http://{}", server.address);
    let mut arguments = vec!["send", file, "--url", &url, "--json"];
    arguments.extend(more);
    run(&arguments, &[("IDTRAIL_KEY", &installation.key)], input)
}

#[test]
fn a_file_is_sent_once_however_often_it_is_sent() {
    let installation = Installation::new();
    let server = installation.start();
    let path = installation.dir.path().join("events.ndjson");
    let file = path.to_str().unwrap();
    let mut all = events(40);
    // Two equal lines are two events.
    all.push(all[0].clone());
    let mut bad = sample();
    bad["auditEvent"]["note"] = json!("canary@example.com");
    all.push(bad);
    std::fs::write(&path, ndjson(&all)).unwrap();
    let refused = installation.dir.path().join("refused.ndjson");
    let first = send(&server, &installation, file, &["--refused", refused.to_str().unwrap()], "");
    assert_eq!(first.status.code(), Some(3), "{first:?}");
    let summary = json_of(&first);
    assert_eq!((&summary["accepted"], &summary["duplicate"]), (&json!(41), &json!(0)), "{summary}");
    let line: Value = serde_json::from_str(&std::fs::read_to_string(&refused).unwrap()).unwrap();
    assert_eq!((&line["event"], &line["status"]), (&json!(41), &json!(422)));
    assert_eq!(line["errors"][0]["pointer"], "/auditEvent/note");
    assert!(
        !line.to_string().contains("canary") && !String::from_utf8_lossy(&first.stdout).contains("canary")
    );
    // Again, from the beginning: everything is there already.
    let again = json_of(&send(&server, &installation, file, &["--again"], ""));
    assert_eq!((&again["accepted"], &again["duplicate"]), (&json!(0), &json!(41)), "{again}");
    // More was added: only that is sent.
    all.extend(events(45).split_off(40));
    std::fs::write(&path, ndjson(&all)).unwrap();
    let more = send(&server, &installation, file, &[], "");
    assert_eq!(more.status.code(), Some(0), "{more:?}");
    let more = json_of(&more);
    assert_eq!((&more["skipped"], &more["accepted"]), (&json!(42), &json!(5)), "{more}");
    // Something else under the same name is not skipped.
    all[3] = sample();
    std::fs::write(&path, ndjson(&all)).unwrap();
    let changed = send(&server, &installation, file, &[], "");
    assert_eq!(changed.status.code(), Some(2), "{changed:?}");
    assert!(String::from_utf8_lossy(&changed.stderr).contains("--again"));
}

#[test]
fn a_pipe_and_an_array_are_sent_and_refusals_have_their_exit_codes() {
    let installation = Installation::new();
    let other = installation.credential(&["--name", "auditor", "--role", "auditor"]).1;
    let server = installation.start();
    let array = Value::from(events(3)).to_string();
    let sent = send(&server, &installation, "-", &[], &array);
    assert_eq!((sent.status.code(), &json_of(&sent)["accepted"]), (Some(0), &json!(3)), "{sent:?}");
    let empty = send(&server, &installation, "-", &[], "");
    assert_eq!((empty.status.code(), &json_of(&empty)["accepted"]), (Some(0), &json!(0)));
    let broken = send(&server, &installation, "-", &[], "[{},");
    assert_eq!(broken.status.code(), Some(2), "{broken:?}");
    let garbage = send(&server, &installation, "-", &[], "{\"a\nnot json\n");
    assert_eq!(garbage.status.code(), Some(3));
    assert_eq!(json_of(&garbage)["refused"].as_array().unwrap().len(), 2);
    let url = format!("http://{}", server.address);
    let lines = ndjson(&events(2));
    let wrong = run(&["send", "-", "--url", &url], &[("IDTRAIL_KEY", &other)], &lines);
    assert_eq!(wrong.status.code(), Some(5), "{wrong:?}");
    let none = run(&["send", "-", "--url", &url], &[], &lines);
    assert_eq!(none.status.code(), Some(2));
    let clear = run(&["send", "-", "--url", "http://192.0.2.1"], &[("IDTRAIL_KEY", &other)], &lines);
    assert_eq!(clear.status.code(), Some(2), "a key must not go over a network in the clear");
    server.stop();
    let gone = run(&["send", "-", "--url", &url, "--retries", "1"], &[("IDTRAIL_KEY", &other)], &lines);
    assert_eq!(gone.status.code(), Some(74), "{gone:?}");
    assert!(String::from_utf8_lossy(&gone.stdout).contains("Run the same command again"));
}

#[test]
fn sending_goes_on_after_the_server_was_killed() {
    let installation = Installation::new();
    let server = installation.start();
    let path = installation.dir.path().join("events.ndjson");
    std::fs::write(&path, ndjson(&events(3000))).unwrap();
    let url = format!("http://{}", server.address);
    let child = Command::new(env!("CARGO_BIN_EXE_idtrail"))
        .args(["send", path.to_str().unwrap(), "--url", &url, "--retries", "0", "--json"])
        .env("IDTRAIL_KEY", &installation.key)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Somewhere in the middle: when the first have arrived.
    loop {
        let checkpoint = server.get("/checkpoint");
        let text = String::from_utf8_lossy(checkpoint.body()).into_owned();
        if text.lines().nth(1).unwrap().parse::<u64>().unwrap() > 300 {
            break;
        }
    }
    server.kill();
    let first = json_of(&child.wait_with_output().unwrap());
    let server = installation.start();
    let second = send(&server, &installation, path.to_str().unwrap(), &[], "");
    assert_eq!(second.status.code(), Some(0), "{second:?}");
    let second = json_of(&second);
    let number = |of: &Value, name: &str| of[name].as_u64().unwrap();
    assert_eq!(number(&second, "skipped") + number(&second, "accepted") + number(&second, "duplicate"), 3000);
    assert!(number(&first, "accepted") + number(&second, "accepted") <= 3000, "{first} {second}");
    let checkpoint = server.get("/checkpoint");
    let text = String::from_utf8_lossy(checkpoint.body()).into_owned();
    assert_eq!(text.lines().nth(1), Some("3002"), "each event once, after the log's own two entries");
}

#[test]
fn a_request_for_access_is_asked_kept_and_verified() {
    let installation = Installation::new();
    let server = installation.start();
    server.post_event(&installation, &sample());
    let url = format!("http://{}", server.address);
    let out = installation.dir.path().join("answer.json");
    let policy = installation.home().join("policy.txt");
    let (id, secret) = (installation.person.0.as_str(), installation.person.1.as_str());
    let base =
        ["dsar", "--customer", "cust_hash_9f86d08", "--url", &url, "--out", out.to_str().unwrap(), "--json"];
    let person = ["--client-id", id, "--policy", policy.to_str().unwrap()];
    let arguments = [base.as_slice(), &person].concat();
    let key = ("IDTRAIL_KEY", installation.key.as_str());
    let good = run(&arguments, &[key, ("IDTRAIL_CLIENT_SECRET", secret)], "");
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    let said = json_of(&good);
    assert_eq!((&said["events"], &said["verdict"]), (&json!(1), &json!("verified")));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o077, 0);
    let token = server.token(&installation.person);
    let by_token = run(&base, &[key, ("IDTRAIL_TOKEN", &token)], "");
    assert_eq!(by_token.status.code(), Some(0), "{by_token:?}");
    let refused = run(&arguments, &[key, ("IDTRAIL_CLIENT_SECRET", "ids_wrong")], "");
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    let nobody = run(&base, &[key], "");
    assert_eq!(nobody.status.code(), Some(2));
}

#[test]
fn the_doctor_names_what_could_hurt() {
    let installation = Installation::new();
    let config = installation.config();
    let config = config.to_str().unwrap();
    let look = |more: &[&str]| {
        let output = idtrail(&[&["doctor", "--json", "--config", config], more].concat());
        let findings = json_of(&output);
        let of = |check: &str, health: &str| {
            let all = findings["findings"].as_array().unwrap();
            all.iter().any(|one| one["check"] == check && one["health"] == health)
        };
        let bits =
            ["sync", "space", "anchors", "copies", "kek", "data", "credentials", "origin", "tls", "clock"]
                .map(|check| (check, of(check, "good"), of(check, "warning"), of(check, "fault")));
        (output.status.code(), findings.to_string(), bits)
    };
    let (code, text, bits) = look(&[]);
    let get = |bits: &[(&str, bool, bool, bool)], check: &str| {
        let (_, good, warning, fault) = *bits.iter().find(|(name, ..)| *name == check).unwrap();
        (good, warning, fault)
    };
    // Where tests run, the temporary directory may be in memory: then saying so is right.
    let honest = get(&bits, "sync").0;
    assert_eq!(code, Some(if honest { 0 } else { 7 }), "{text}");
    assert_eq!(get(&bits, "kek"), (true, false, false), "{text}");
    assert_eq!(get(&bits, "data"), (true, false, false), "{text}");
    assert!(get(&bits, "anchors").1 && get(&bits, "copies").1 && get(&bits, "origin").1, "{text}");
    assert_eq!(look(&["--strict"]).0, Some(7));
    assert!(
        std::fs::read_dir(installation.home().join("data"))
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().starts_with("doctor") })
    );
    // A key that others can read, and one that is gone.
    use std::os::unix::fs::PermissionsExt as _;
    let kek = installation.home().join("kek.key");
    std::fs::set_permissions(&kek, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, text, bits) = look(&[]);
    assert!(code == Some(7) && get(&bits, "kek").2, "{text}");
    let key = std::fs::read_to_string(&kek).unwrap();
    assert!(!text.contains(key.trim()));
    std::fs::remove_file(&kek).unwrap();
    std::fs::remove_file(installation.home().join("anchor/cell")).unwrap();
    let (code, text, bits) = look(&[]);
    assert!(code == Some(7) && get(&bits, "kek").2 && get(&bits, "anchors").2, "{text}");
    let people = idtrail(&["doctor", "--config", config]);
    assert!(String::from_utf8_lossy(&people.stdout).contains("RESULT"), "{people:?}");
    assert_eq!(idtrail(&["doctor", "--config", "/nonexistent.toml"]).status.code(), Some(6));
}

#[test]
fn a_configuration_is_checked_and_shown_without_secrets() {
    let installation = Installation::new();
    let config = installation.config();
    let shown = idtrail(&["config", "check", "--config", config.to_str().unwrap()]);
    assert_eq!(shown.status.code(), Some(0));
    let text = String::from_utf8(shown.stdout).unwrap();
    let kek = std::fs::read_to_string(installation.home().join("kek.key")).unwrap();
    assert!(
        text.contains("reads_per_second = 200") && text.contains("kek.key") && !text.contains(kek.trim())
    );
    // What is shown is a configuration.
    let again = installation.dir.path().join("again.toml");
    std::fs::write(&again, &text).unwrap();
    let same = idtrail(&["config", "check", "--json", "--config", again.to_str().unwrap()]);
    let first = idtrail(&["config", "check", "--json", "--config", config.to_str().unwrap()]);
    assert_eq!(json_of(&same), json_of(&first));
    std::fs::write(&again, format!("{text}\n[nonsense]\n")).unwrap();
    let bad = idtrail(&["config", "check", "--config", again.to_str().unwrap()]);
    assert_eq!(bad.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("nonsense: is not a known key"));
}

#[test]
fn tokens_are_made_by_the_vaults_pepper_and_from_standard_input_only() {
    let installation = Installation::new();
    let config = installation.config();
    let config = config.to_str().unwrap();
    let make = |kind: &str, value: &str| run(&["token", "--config", config, "--type", kind], &[], value);
    let first = make("phone", "+14155552671\n");
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let token = String::from_utf8(first.stdout.clone()).unwrap();
    assert!(token.trim().len() == 64 && make("phone", "+14155552671").stdout == first.stdout);
    assert_ne!(make("phone", "+14155552672").stdout, first.stdout);
    let wrong = make("phone", "0415 555 2671");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(!String::from_utf8_lossy(&wrong.stderr).contains("555"));
    // The example's pepper is not the vault's.
    let explained = idtrail(&["token", "--explain"]);
    assert!(!String::from_utf8_lossy(&explained.stdout).contains(token.trim()));
    // A running server has the vault.
    let server = installation.start();
    assert_eq!(make("phone", "+14155552671").status.code(), Some(74));
    server.stop();
}

#[test]
fn pages_and_completions_come_from_the_program() {
    for (page, file) in [("cli", "docs/cli.md"), ("configuration", "docs/configuration.md")] {
        let written = idtrail(&["reference", page]);
        let path = format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"));
        let committed = std::fs::read(&path).unwrap_or_default();
        assert!(written.stdout == committed, "{file} is old: write it again with `idtrail reference {page}`");
    }
    let configuration = String::from_utf8(idtrail(&["reference", "configuration"]).stdout).unwrap();
    // Every key that the program knows is on the page, with its default or that there is none.
    for key in ["tenant", "[limits]", "reads_per_second", "drain_timeout_ms", "roles_claim", "anchors", "env"]
    {
        assert!(configuration.contains(&format!("| `{key}` |")), "{key}");
    }
    let rows = configuration.lines().filter(|line| line.starts_with("| `") && !line.starts_with("| `["));
    for row in rows.filter(|row| !row.starts_with("| `file` |") && !row.starts_with("| `env` |")) {
        assert!(row.contains("Default: ") || row.contains("No default"), "no default told: {row}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = idtrail(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("doctor") && text.contains("overlap-days"), "{shell}");
    }
}
