//! What a build without a kind says to a sink of that kind; runs with any features.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use idtrail_connect::settings::{SettingsError, SinkSettings};

#[test]
fn a_kind_that_was_left_out_is_refused_by_its_name() {
    let secret = "{ env = \"X\" }";
    let kinds = [
        (
            "azure",
            format!("host = \"h\"\ndatabase = \"d\"\nuser = \"u\"\npassword = {secret}\ntable = \"a.t\""),
            cfg!(feature = "azure"),
        ),
        ("bigquery", "table = \"p.d.t\"".to_owned(), cfg!(feature = "bigquery")),
        (
            "s3",
            format!("bucket = \"bucket\"\nformat = \"jsonl\"\naccess_key = {secret}\nsecret_key = {secret}"),
            cfg!(feature = "s3"),
        ),
        ("files", "dir = \"x\"\nformat = \"jsonl\"".to_owned(), true),
    ];
    for (kind, keys, is_built) in kinds {
        let toml = format!("name = \"x\"\nerase = \"none\"\n[target]\nkind = \"{kind}\"\n{keys}");
        // The configuration reads in every build, so that what is wrong is named and not merely unknown.
        let settings: SinkSettings = toml::from_str(&toml).unwrap();
        match settings.plan([1; 32]) {
            Ok(_) => assert!(is_built, "{kind}"),
            Err(SettingsError::NotBuilt(named)) => {
                assert!(!is_built, "{kind}");
                assert_eq!(named, kind);
            }
            Err(other) => panic!("{kind}: {other}"),
        }
    }
}
