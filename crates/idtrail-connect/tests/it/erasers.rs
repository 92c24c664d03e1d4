//! The second principal of a sink: what its section must hold, and that it is never the writer.

use idtrail_connect::Position;
use idtrail_connect::engine::Command;
use idtrail_connect::settings::{SettingsError, SinkSettings};
use idtrail_connect::store::StoreError;

use crate::support::{FixedSecrets, MemoryFeed, caught_up, samples, start, try_start};

const KEY: &str = "key = { env = \"k\" }";

fn target(kind: &str) -> &'static str {
    match kind {
        "postgres" => "host = \"h\"\ndatabase = \"d\"\nuser = \"Writer\"\ntable = \"a.b\"",
        "azure" => {
            "host = \"h\"\ndatabase = \"d\"\nuser = \"writer\"\npassword = { env = \"p\" }\ntable = \"a.b\""
        }
        "bigquery" => "table = \"p.d.t\"\nkey = { env = \"writer\" }",
        "snowflake" => {
            "account = \"o-a\"\nuser = \"writer\"\nkey = { env = \"k\" }\nrole = \"r\"\nwarehouse = \"w\"\ntable = \"a.b.c\""
        }
        _ => "dir = \"/d\"\nformat = \"jsonl\"",
    }
}

fn settings(kind: &str, erase: &str, mapping: &str, rights: &str) -> SinkSettings {
    let text = format!(
        "name = \"s\"\nerase = \"{erase}\"\n{mapping}\n[rights]\n{rights}\n[target]\nkind = \"{kind}\"\n{}",
        target(kind)
    );
    toml::from_str(&text).unwrap()
}

#[test]
fn the_section_fits_the_target_and_does_not_name_the_writer() {
    let cases = [
        ("postgres", "user = \"eraser\"", true),
        ("postgres", "user = \"eraser\"\npassword = { env = \"p\" }", true),
        ("postgres", "user = \"writer\"", false),
        ("postgres", "", false),
        ("postgres", "user = \"eraser\"\nkey = { env = \"k\" }", false),
        ("azure", "user = \"eraser\"\npassword = { env = \"p\" }", true),
        ("azure", "user = \"eraser\"", false),
        ("azure", "user = \"WRITER\"\npassword = { env = \"p\" }", false),
        ("bigquery", KEY, true),
        ("bigquery", "", true),
        ("bigquery", "key = { env = \"writer\" }", false),
        ("bigquery", "user = \"eraser\"\nkey = { env = \"k\" }", false),
        ("snowflake", "user = \"eraser\"\nrole = \"e\"\nkey = { env = \"k\" }", true),
        ("snowflake", "user = \"eraser\"\nrole = \"e\"\nwarehouse = \"w\"\nkey = { env = \"k\" }", true),
        ("snowflake", "user = \"eraser\"\nkey = { env = \"k\" }", false),
        ("snowflake", "user = \"writer\"\nrole = \"e\"\nkey = { env = \"k\" }", false),
    ];
    for (kind, rights, fits) in cases {
        let plan = settings(kind, "delete", "", rights).plan([0; 32]);
        match (fits, &plan) {
            (true, Ok(_)) | (false, Err(SettingsError::Eraser(_))) => {}
            _ => panic!("{kind} {rights}: {plan:?}"),
        }
    }
    let useless = settings("postgres", "none", "", "user = \"eraser\"").plan([0; 32]);
    assert!(matches!(useless, Err(SettingsError::Eraser(_))), "{useless:?}");
}

#[test]
fn rows_that_nobody_could_find_are_said_so() {
    let ports = idtrail_connect::settings::Ports {
        disk: std::sync::Arc::new(idtrail_port::os::OsDisk),
        clock: std::sync::Arc::new(idtrail_port::os::OsClock::default()),
    };
    let task = |settings: &SinkSettings| {
        let plan = settings.plan([0; 32]).unwrap();
        settings.rights_task(&plan, &FixedSecrets, &ports).map(|task| task.is_some())
    };
    let mapped = "mapping = [\"interaction.id → target.interaction_id\"]";
    let nameless = settings("postgres", "delete", mapped, "user = \"eraser\"");
    assert!(matches!(task(&nameless), Err(SettingsError::NoCustomer)));
    let mut missing = settings("postgres", "delete", "", "user = \"eraser\"");
    assert!(matches!(task(&missing), Ok(true)));
    missing.rights = None;
    assert!(matches!(task(&missing), Err(SettingsError::NoEraser)));
    missing.erase = idtrail_connect::personal::Erase::None;
    assert!(matches!(task(&missing), Ok(false)));
}

/// The places of the rows in a directory of JSON Lines.
fn rows(dir: &std::path::Path) -> Vec<u64> {
    let mut all = Vec::new();
    for file in std::fs::read_dir(dir).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let seq =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap();
        all.extend(text.lines().map(seq));
    }
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_brings_a_closed_person_back() {
    let home = tempfile::tempdir().unwrap();
    let lake = home.path().join("files");
    let toml = format!(
        "name = \"lake\"\nerase = \"none\"\n[target]\nkind = \"files\"\nformat = \"jsonl\"\nlinger_ms = 0\ndir = \"{}\"\n",
        lake.display()
    );
    let feed = MemoryFeed::new(samples(0, 0..70));
    let mut worker = start(&toml, home.path(), feed.clone());
    caught_up(&worker).await;
    assert_eq!(rows(&lake), (0..70).collect::<Vec<_>>());
    // The sample's customers are the indices modulo seven.
    let person = [format!("gc_{:032x}", 3), "gc_of_an_alias".to_owned()];
    let freeze = Position::new(0, 40);
    assert!(worker.close(&person, freeze).await.unwrap());
    assert!(!worker.close(&person, Position::new(0, 70)).await.unwrap(), "the cursor has not passed that");
    // What the target forgot is sent again, by the running sink and by a restarted one; the person is not.
    let kept: Vec<u64> = (0..75).filter(|seq| seq % 7 != 3 || *seq > 70).collect();
    feed.push(samples(0, 70..75));
    for restart in [false, true] {
        if restart {
            worker.stop().await;
            worker = start(&toml, home.path(), feed.clone());
        }
        caught_up(&worker).await;
        std::fs::remove_dir_all(&lake).unwrap();
        std::fs::create_dir(&lake).unwrap();
        worker.command(Command::ReplayFrom(Position::START)).await.unwrap();
        caught_up(&worker).await;
        assert_eq!(rows(&lake), kept, "restart: {restart}");
    }
    worker.stop().await;
    // A file that does not read keeps the sink from starting: nobody would know who is closed.
    std::fs::write(home.path().join("lake").join(idtrail_connect::CLOSED), "{").unwrap();
    assert!(matches!(try_start(&toml, home.path(), feed), Err(StoreError::Damaged { .. })));
}
