use std::path::{Path, PathBuf};

use idtrail_port::os::OsDisk;

use super::*;

const SMALL: &str = "origin = \"example.org/audit\"\ndata_dir = \"data\"\nkek = { env = \"IDTRAIL_KEK\" }\n";

fn parse(text: &str) -> Result<Settings, SettingsError> {
    Settings::parse(text, Path::new("/etc/idtrail"))
}

#[test]
fn defaults_are_the_documented_ones() {
    let settings = parse(SMALL).unwrap();
    let expected = Settings {
        tenant: "default".to_owned(),
        origin: "example.org/audit".to_owned(),
        data_dir: PathBuf::from("/etc/idtrail/data"),
        listen: "127.0.0.1:7070".parse().unwrap(),
        kek: SecretRef::Env("IDTRAIL_KEK".to_owned()),
        vault: VaultSettings { anchors: vec![PathBuf::from("/etc/idtrail/data/anchor")], copies: vec![] },
        limits: LimitSettings {
            body_bytes_max: 49_152,
            queue_events_max: 8192,
            events_per_second: 0,
            reads_per_second: 200,
            request_timeout_ms: 10_000,
            disk_free_bytes_min: 268_435_456,
        },
        validation: ValidationSettings { strict: false, pii: PiiMode::Refuse, custom_types: vec![] },
        issuer: IssuerSettings { audience: "example.org/audit".to_owned(), token_ttl_s: 900 },
        oidc: vec![],
        tls: TlsSettings::Off,
        http: HttpSettings {
            header_bytes_max: 65_536,
            header_timeout_ms: 30_000,
            body_timeout_ms: 30_000,
            connections_max: 10_000,
            drain_timeout_ms: 10_000,
        },
        log_format: LogFormat::Text,
        segment_bytes: 67_108_864,
        rights: RightsSettings {
            grace_ms: 86_400_000,
            copies_ms: 35 * DAY_MS,
            records: None,
            link_ms: 7 * DAY_MS,
            link_fetches: 5,
            retry_ms: 30_000,
            zone: "UTC0".to_owned(),
            calendar: None,
        },
        retention: RetentionSettings { automatic: true, suppression_ms: 35 * 86_400_000 },
        batch: BatchSettings { bytes_max: 16_777_216, events_max: 5000 },
        quarantine: QuarantineSettings { keep_ms: 30 * 86_400_000, entries_max: 100_000 },
        sinks: vec![],
        sink_api: SinkApiSettings::default(),
        identity: IdentitySettings::default(),
    };
    assert_eq!(settings, expected);
}

#[test]
fn every_key_is_taken_from_the_file() {
    let text = r#"
        tenant = "acme"
        origin = "example.org/audit"
        data_dir = "/var/lib/idtrail"
        listen = "[::1]:8080"
        kek = { file = "kek.key" }
        [vault]
        anchors = ["/mnt/a/anchor", "b/anchor"]
        copies = ["/mnt/c"]
        [limits]
        body_bytes_max = 2048
        queue_events_max = 10
        events_per_second = 5
        reads_per_second = 0
        request_timeout_ms = 500
        [validation]
        strict = true
        pii = "mask"
        custom_types = ["CALL_RATED"]
        [issuer]
        audience = "https://audit.example.org"
        token_ttl_s = 60
        [tls]
        cert_file = "cert.pem"
        key_file = "/etc/keys/key.pem"
        [http]
        header_bytes_max = 8192
        header_timeout_ms = 1000
        body_timeout_ms = 2000
        connections_max = 3
        drain_timeout_ms = 0
        [[oidc]]
        issuer = "https://login.example.org/tenant"
        audience = "idtrail"
        algorithms = ["ES256"]
        roles_claim = "realm_access.roles"
        roles = { privacy-team = "dpo", auditors = "auditor" }
        clock_skew_s = 5
        ca_file = "ca.pem"
        [[oidc]]
        issuer = "http://127.0.0.1:9000"
        audience = "idtrail"
        jwks_url = "http://127.0.0.1:9000/keys"
        roles = { all = "auditor" }
        [log]
        format = "json"
        [segments]
        segment_bytes = 1048576
        [retention]
        automatic = false
        suppression_days = 7
    "#;
    let settings = parse(text).unwrap();
    assert_eq!(settings.tenant, "acme");
    assert_eq!(settings.data_dir, PathBuf::from("/var/lib/idtrail"));
    assert_eq!(settings.listen, "[::1]:8080".parse().unwrap());
    assert_eq!(settings.kek, SecretRef::File(PathBuf::from("/etc/idtrail/kek.key")));
    assert_eq!(
        settings.vault.anchors,
        [PathBuf::from("/mnt/a/anchor"), PathBuf::from("/etc/idtrail/b/anchor")]
    );
    assert_eq!(settings.vault.copies, [PathBuf::from("/mnt/c")]);
    assert_eq!((settings.limits.events_per_second, settings.limits.reads_per_second), (5, 0));
    assert_eq!(settings.limits.request_timeout_ms, 500);
    assert_eq!(settings.validation.pii, PiiMode::Mask);
    assert!(settings.validation.strict);
    assert_eq!(settings.issuer.audience, "https://audit.example.org");
    let tls = TlsSettings::Files { cert: "/etc/idtrail/cert.pem".into(), key: "/etc/keys/key.pem".into() };
    assert_eq!(settings.tls, tls);
    let http = settings.http;
    assert_eq!((http.header_bytes_max, http.connections_max, http.drain_timeout_ms), (8192, 3, 0));
    let [first, second] = settings.oidc.as_slice() else { panic!("{:?}", settings.oidc) };
    assert_eq!((first.roles_claim.len(), first.clock_skew_s, first.roles.len()), (2, 5, 2));
    assert_eq!(first.ca_file, Some(PathBuf::from("/etc/idtrail/ca.pem")));
    assert_eq!((second.algorithms.len(), second.clock_skew_s), (3, 30));
    assert_eq!(settings.log_format, LogFormat::Json);
    assert_eq!(settings.segment_bytes, 1_048_576);
    assert_eq!(settings.retention, RetentionSettings { automatic: false, suppression_ms: 7 * 86_400_000 });
}

/// Each text is added to [`SMALL`], which has three lines, unless it is whole.
#[test]
fn errors_name_key_and_line() {
    let added: &[(&str, &str, Option<usize>)] = &[
        ("listen = \"0.0.0.0:7070\"", "listen", Some(4)),
        ("listen = \"localhost:7070\"", "listen", Some(4)),
        ("[tls]\nupstream = false\ncert_file = \"c\"", "tls.key_file", None),
        ("[tls]\nkey_file = \"k\"", "tls.cert_file", None),
        ("[tls]\nupstream = true\ncert_file = \"c\"\nkey_file = \"k\"", "tls.upstream", Some(5)),
        ("[http]\nheader_bytes_max = 1", "http.header_bytes_max", Some(5)),
        (
            "[[oidc]]\nissuer = \"http://example.org\"\naudience = \"a\"\nroles = { a = \"dpo\" }",
            "oidc.issuer",
            None,
        ),
        ("[[oidc]]\nissuer = \"https://e.org\"\nroles = { a = \"dpo\" }", "oidc.audience", None),
        (
            "[[oidc]]\nissuer = \"https://e.org\"\naudience = \"a\"\nroles = { a = \"root\" }",
            "oidc.roles",
            None,
        ),
        ("[[oidc]]\nissuer = \"https://e.org\"\naudience = \"a\"", "oidc.roles", None),
        ("[[oidc]]\nalgorithms = [\"HS256\"]", "oidc.algorithms", None),
        ("[[oidc]]\nalgorithms = [\"none\"]", "oidc.algorithms", None),
        ("listen = 7070", "listen", Some(4)),
        ("tenant = \"a b\"", "tenant", Some(4)),
        ("colour = 1", "colour", Some(4)),
        ("[limits]\nbody_bytes_max = 50000", "limits.body_bytes_max", Some(5)),
        ("[limits]\nbody_bytes_max = -1", "limits.body_bytes_max", Some(5)),
        ("[limits]\nbody_bytes_max = \"many\"", "limits.body_bytes_max", Some(5)),
        ("[limits]\n\nevents = 1", "limits.events", Some(6)),
        ("[vault]\nanchors = []", "vault.anchors", Some(5)),
        ("[vault]\nanchors = [\"a\",\n \"a\"]", "vault.anchors", Some(5)),
        ("[vault]\nanchors = [\"a\",\n 3]", "vault.anchors", Some(6)),
        ("[validation]\npii = \"ignore\"", "validation.pii", Some(5)),
        ("[validation]\ncustom_types = [\"DSR_X\"]", "validation.custom_types", Some(5)),
        ("[validation]\ncustom_types = [\"lower\"]", "validation.custom_types", Some(5)),
        ("[issuer]\ntoken_ttl_s = 86400", "issuer.token_ttl_s", Some(5)),
        ("[log]\nformat = \"xml\"", "log.format", Some(5)),
        ("[segments]\nsegment_bytes = 1", "segments.segment_bytes", Some(5)),
    ];
    for (text, key, line) in added {
        match parse(&format!("{SMALL}{text}\n")) {
            Err(SettingsError::Key { key: found_key, line: found_line, .. }) => {
                assert_eq!((found_key.as_str(), found_line), (*key, *line), "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let whole: &[(&str, &str)] = &[
        ("data_dir = \"d\"\nkek = { env = \"A\" }", "origin"),
        ("origin = \"o\"\nkek = { env = \"A\" }", "data_dir"),
        ("origin = \"o\"\ndata_dir = \"d\"", "kek"),
        ("origin = \"o\"\ndata_dir = \"d\"\nkek = {}", "kek"),
        ("origin = \"o\"\ndata_dir = \"d\"\nkek = { env = \"A\", file = \"b\" }", "kek"),
        ("origin = \"a+b\"\ndata_dir = \"d\"\nkek = { env = \"A\" }", "origin"),
        ("origin = \"https://a\"\ndata_dir = \"d\"\nkek = { env = \"A\" }", "origin"),
    ];
    for (text, key) in whole {
        match parse(text) {
            Err(SettingsError::Key { key: found, .. }) => assert_eq!(found, *key, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    assert!(matches!(parse("origin = \"a\"\n\nkek = {"), Err(SettingsError::Syntax { line: 3 })));
}

#[test]
fn no_error_shows_a_value() {
    let canary = "hunter2-canary";
    let texts = [
        format!("{SMALL}listen = \"{canary}\""),
        format!("origin = \"o\"\ndata_dir = \"d\"\nkek = \"{canary}\""),
        format!("origin = \"o\"\ndata_dir = \"d\"\nkek = [\"{canary}\"]"),
        format!("origin = \"o\"\ndata_dir = \"d\"\nkek = {{ file = [\"{canary}\"] }}"),
        format!("origin = \"o\"\ndata_dir = \"d\"\nkek = {canary}"),
        format!("{SMALL}tenant = \"{canary} \""),
        format!("{SMALL}[limits]\nbody_bytes_max = \"{canary}, expected {canary}\""),
        format!("{SMALL}[log]\nformat = \"{canary}\""),
        format!("{SMALL}[validation]\npii = \"{canary}\"\ncustom_types = [\"{canary}\"]"),
        format!("{SMALL}{canary}"),
    ];
    for text in texts {
        let error = parse(&text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(canary), "{text}: {error:?}");
    }
}

#[test]
fn secret_is_read_from_its_place_and_errors_name_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kek.key");
    idtrail_port::write_atomic(&OsDisk, &path, b"0123", idtrail_port::Privacy::Owner).unwrap();
    let env = |name: &str| (name == "SET").then(|| "value".to_owned());
    assert_eq!(*SecretRef::File(path).read(&OsDisk, &env).unwrap(), b"0123");
    assert_eq!(*SecretRef::Env("SET".to_owned()).read(&OsDisk, &env).unwrap(), b"value");
    let error = SecretRef::Env("UNSET".to_owned()).read(&OsDisk, &env).unwrap_err();
    assert_eq!(error.to_string(), "secret cannot be read. place=environment variable UNSET");
    let missing = SecretRef::File(dir.path().join("none")).read(&OsDisk, &env).unwrap_err();
    assert!(missing.to_string().ends_with("none"), "{missing}");
}

#[test]
fn file_that_is_missing_is_named() {
    let error = Settings::load(&OsDisk, Path::new("/nonexistent/idtrail.toml")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/idtrail.toml"), "{error}");
}

#[test]
fn what_is_in_force_is_written_back_as_a_configuration() {
    let whole = "[tls]\ncert_file = \"c\"\nkey_file = \"k\"\n[vault]\nanchors = [\"a\", \"/b\"]\ncopies = [\"d\"]\n\
                 [validation]\npii = \"mask\"\ncustom_types = [\"X\"]\n[log]\nformat = \"json\"\n\
                 [[oidc]]\nissuer = \"https://e.org\"\naudience = \"a\"\nroles_claim = \"x.y\"\n\
                 jwks_url = \"https://e.org/k\"\nroles = { a = \"dpo\" }\nca_file = \"ca\"\n";
    for text in [SMALL.to_owned(), format!("{SMALL}{whole}"), format!("{SMALL}[tls]\nupstream = true\n")] {
        let settings = parse(&text).unwrap();
        let written = toml::to_string(&settings.effective()).unwrap();
        assert_eq!(parse(&written).unwrap(), settings, "{written}");
    }
}

#[test]
fn an_address_that_others_reach_needs_tls() {
    let open = "listen = \"0.0.0.0:7070\"\n";
    for tls in ["[tls]\nupstream = true\n", "[tls]\ncert_file = \"c\"\nkey_file = \"k\"\n"] {
        parse(&format!("{SMALL}{open}{tls}")).unwrap();
    }
    for tls in ["", "[tls]\n", "[tls]\nupstream = false\n"] {
        let error = parse(&format!("{SMALL}{open}{tls}")).unwrap_err();
        assert!(error.to_string().contains("in the clear"), "{error}");
    }
}

#[test]
fn sinks_are_read_and_written_back() {
    let text = format!(
        "{SMALL}[sinks.lake]\nerase = \"none\"\n[sinks.lake.target]\nkind = \"files\"\nformat = \"parquet\"\ndir = \"lake\"\n\
         [sinks.dwh]\npii = \"tokens\"\nerase = \"delete\"\nfilter = \"{{{{auditEvent.channelType}}}} = 'VOICE'\"\n\
         [sinks.dwh.target]\nkind = \"postgres\"\nhost = \"db\"\ndatabase = \"d\"\nuser = \"w\"\ntable = \"a.b\"\n\
         password = {{ file = \"pw\" }}\nca = {{ env = \"CA\" }}\n[sink_api]\nhosts = [\"db:5432\"]\n"
    );
    let settings = parse(&text).unwrap();
    let names: Vec<&str> = settings.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, ["dwh", "lake"]);
    let written = toml::to_string(&settings.effective()).unwrap();
    assert!(written.contains("/etc/idtrail/lake") && written.contains("/etc/idtrail/pw"), "{written}");
    assert_eq!(parse(&written).unwrap(), settings);
}

#[test]
fn what_is_wrong_with_a_sink_is_named_with_its_line() {
    let files = "[sinks.x.target]\nkind = \"files\"\nformat = \"jsonl\"\ndir = \"out\"\n";
    let cases = [
        (
            format!("[sinks.x]\nerase = \"none\"\nfilter = \"{{{{auditEvent}}}} ==\"\n{files}"),
            "sinks.x.filter",
            Some(6),
            "cannot be read at byte",
        ),
        (
            format!("[sinks.x]\nerase = \"none\"\nmapping = [\"a.b.c → target.x\"]\n{files}"),
            "sinks.x.mapping",
            Some(6),
            "line=1",
        ),
        (
            format!("[sinks.x]\nerase = \"none\"\npii = \"tokens\"\n{files}"),
            "sinks.x.pii",
            Some(6),
            "could never forget",
        ),
        (format!("[sinks.x]\nerase = \"delete\"\n{files}"), "sinks.x.erase", Some(5), "choose erase"),
        (format!("[sinks.x]\nerase = \"never\"\n{files}"), "sinks.x.erase", Some(5), "must be one of"),
        (format!("[sinks.x]\n{files}"), "sinks.x.erase", None, "is missing"),
        (
            format!("[sinks.X]\nerase = \"none\"\n{}", files.replace(".x.", ".X.")),
            "sinks.X.name",
            None,
            "lower-case",
        ),
        (
            format!("[sinks.x]\nerase = \"none\"\ncolour = 1\n{files}"),
            "sinks.x.colour",
            Some(6),
            "not a known key",
        ),
        (
            format!("[sinks.x]\nerase = \"none\"\n{files}hots = 1\n"),
            "sinks.x.target.hots",
            Some(10),
            "not a known key",
        ),
        (
            format!("[sinks.x]\nerase = \"none\"\n{}", files.replace("files", "ftp")),
            "sinks.x.target.kind",
            Some(7),
            "must be one of",
        ),
        (
            format!("[sinks.x]\nerase = \"none\"\n{}", files.replace("\"out\"", "\"data/vault\"")),
            "sinks.x.target.dir",
            Some(9),
            "inside `data_dir`",
        ),
        ("[sinks.x]\nerase = \"none\"\n".to_owned(), "sinks.x.target", None, "is missing"),
        (
            format!(
                "[sinks.x]\nerase = \"none\"\n{files}[sinks.y]\nerase = \"none\"\n{}",
                files.replace(".x.", ".y.")
            ),
            "sinks.y.target",
            Some(12),
            "writes where the sink `x` writes",
        ),
        ("[sink_api]\nhosts = [\"db\"]\n".to_owned(), "sink_api.hosts", Some(5), "host:port"),
    ];
    for (text, key, line, part) in cases {
        match parse(&format!("{SMALL}{text}")) {
            Err(SettingsError::Key { key: found, problem, line: at }) => {
                assert_eq!((found.as_str(), at), (key, line), "{text}: {problem}");
                assert!(problem.contains(part), "{text}: {problem}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn identity_is_read_and_written_back() {
    let text = format!(
        "{SMALL}[identity]\nown_numbers = [\"+4930999*\"]\nblocked = [\"desk@example.com\"]\nissuers = [\"crm\"]\n\
         event_salt_file = \"salt\"\n[[identity.legacy_hash]]\nid = \"flow-2024\"\ntype = \"phone\"\n\
         formats = [\"tel_uri\", \"digits\"]\nsalt_file = \"/etc/salt\"\n\
         [[identity.legacy_hash]]\nid = \"crm\"\ntype = \"email\"\nalgorithm = \"sha512\"\nencoding = \"base64\"\n\
         salt = {{ env = \"CRM_SALT\" }}\n"
    );
    let settings = parse(&text).unwrap();
    assert_eq!(settings.identity.normaliser.own_numbers, ["+4930999*"]);
    assert_eq!(settings.identity.event_salt, Some(SecretRef::File("/etc/idtrail/salt".into())));
    assert_eq!(settings.identity.legacy_hashes[1].salt, Some(SecretRef::Env("CRM_SALT".to_owned())));
    assert_eq!(settings.identity.legacy_hashes.len(), 2);
    let again = parse(&toml::to_string(&settings.effective()).unwrap()).unwrap();
    assert_eq!(again, settings);
}

#[test]
fn identity_that_makes_no_sense_is_refused_by_its_key() {
    let hash = "[[identity.legacy_hash]]\nid = \"x\"\ntype = \"phone\"\n";
    for (section, key) in [
        ("[identity]\nown_numbers = [\"030999\"]\n".to_owned(), "identity.own_numbers"),
        ("[identity]\nblocked = [\"*\"]\n".to_owned(), "identity.blocked"),
        ("[identity]\nissuers = [\"C R M\"]\n".to_owned(), "identity.issuers"),
        (
            "[[identity.legacy_hash]]\nid = \"event-phone\"\ntype = \"phone\"\n".to_owned(),
            "identity.legacy_hash.id",
        ),
        ("[[identity.legacy_hash]]\nid = \"x\"\ntype = \"device\"\n".to_owned(), "identity.legacy_hash.type"),
        (format!("{hash}algorithm = \"md5\"\n"), "identity.legacy_hash.algorithm"),
        (format!("{hash}template = \"{{salt}}\"\n"), "identity.legacy_hash.template"),
        (format!("{hash}template = \"{{value}}\"\nsalt_file = \"s\"\n"), "identity.legacy_hash.salt_file"),
        (format!("{hash}salt_file = \"s\"\nsalt = {{ env = \"S\" }}\n"), "identity.legacy_hash.salt"),
        (format!("{hash}salt = {{ }}\n"), "identity.legacy_hash.salt"),
        (format!("{hash}salt = {{ file = \"s\", env = \"S\" }}\n"), "identity.legacy_hash.salt"),
        (format!("{hash}template = \"{{value}}\"\nsalt = {{ env = \"S\" }}\n"), "identity.legacy_hash.salt"),
        (
            "[identity]\nevent_salt_file = \"s\"\nevent_salt = { file = \"s\" }\n".to_owned(),
            "identity.event_salt",
        ),
        (format!("{hash}formats = []\n"), "identity.legacy_hash.formats"),
        (format!("{hash}formats = [\"e164\"]\n"), "identity.legacy_hash.formats"),
        (format!("{hash}encoding = \"base58\"\n"), "identity.legacy_hash.encoding"),
        (format!("{hash}{hash}"), "identity.legacy_hash.id"),
    ] {
        match parse(&format!("{SMALL}{section}")) {
            Err(SettingsError::Key { key: found, .. }) => assert_eq!(found, key, "{section}"),
            other => panic!("{section}: {other:?}"),
        }
    }
}
