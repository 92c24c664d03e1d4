//! An installation that an earlier version left on disk is opened, checked and continued by this one.
//!
//! `vectors/installation/` holds one data directory for each version whose files differ. Whoever changes a format adds
//! one and changes none.

use data_encoding::BASE64;
use http::StatusCode;
use serde_json::{Value, json};

use crate::rig::{Installation, idtrail, query, sample};

const VERSIONS: [&str; 1] = [include_str!("../../../../vectors/installation/0.1.json")];

#[test]
fn data_of_every_earlier_version_is_opened_and_continued() {
    for text in VERSIONS {
        let kept: Value = serde_json::from_str(text).unwrap();
        let installation = Installation::unpacked(&kept);
        let config = installation.config();
        let fsck = idtrail(&["fsck", "--json", "--config", config.to_str().unwrap()]);
        assert!(fsck.status.success(), "{fsck:?}");
        let report: Value = serde_json::from_slice(&fsck.stdout).unwrap();
        assert_eq!((&report["treeSize"], &report["findingsCount"]), (&json!(8), &json!(0)), "{report}");
        let server = installation.start();
        let (status, receipt) = server.post_event(&installation, &sample());
        assert_eq!((status, &receipt["index"]), (StatusCode::OK, &json!(2)), "the event is known: {receipt}");
        let mut erased = sample();
        erased["auditEvent"]["interactionId"] = json!("i-32345678-90ab-cdef-1234-567890abcdef");
        erased["auditEvent"]["resolvedCustomerId"] = json!("cust_hash_other");
        let (status, answer) = server.post_event(&installation, &erased);
        assert_eq!((status, &answer["status"]), (StatusCode::OK, &json!("erased")), "{answer}");
        let mut more = sample();
        more["auditEvent"]["interactionId"] = json!("i-92345678-90ab-cdef-1234-567890abcdef");
        assert_eq!(server.post_event(&installation, &more).0, StatusCode::CREATED);
        let answer = server.access(&installation, &query("cust_hash_9f86d08"));
        assert_eq!(answer.status(), StatusCode::OK);
        let package: Value = serde_json::from_slice(answer.body()).unwrap();
        let file = installation.home().join("package.json");
        std::fs::write(&file, answer.body()).unwrap();
        server.stop();
        let policy = installation.home().join("policy.txt");
        let verified =
            idtrail(&["verify", file.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "--json"]);
        assert!(verified.status.success(), "{verified:?}\n{package}");
        let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
        assert_eq!(
            (&report["verdict"], &report["checkedEvents"]),
            (&json!("VERIFIED"), &json!(4)),
            "{report}"
        );
    }
}

impl Installation {
    /// Puts the files of a kept installation into a new directory.
    fn unpacked(kept: &Value) -> Self {
        let person = |name: &str| kept["person"][name].as_str().unwrap().to_owned();
        let new = Self::empty(kept["apiKey"].as_str().unwrap(), (person("clientId"), person("clientSecret")));
        for file in kept["files"].as_array().unwrap() {
            let path = new.home().join(file["path"].as_str().unwrap());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, BASE64.decode(file["base64"].as_str().unwrap().as_bytes()).unwrap())
                .unwrap();
            // The zero bytes at the end are not kept.
            let open = std::fs::File::options().write(true).open(&path).unwrap();
            open.set_len(file["bytes"].as_u64().unwrap()).unwrap();
        }
        new
    }
}
