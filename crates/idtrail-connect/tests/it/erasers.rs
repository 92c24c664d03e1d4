//! The second principal of a sink: what its section must hold, and that it is never the writer.

use idtrail_connect::settings::{SettingsError, SinkSettings};

use crate::support::FixedSecrets;

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
