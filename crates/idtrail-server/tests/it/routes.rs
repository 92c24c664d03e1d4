//! Receipts, repetitions, and what everybody may read.

use http::{Request, StatusCode};
use idtrail_tlog::{Hash, TreeSize, leaf_hash, tiles};
use serde_json::json;

use crate::rig::{EVENTS, Installation, sample};

#[test]
fn new_again_and_conflicting() {
    let installation = Installation::new();
    let server = installation.start();
    let headers = [("x-api-key", installation.key.as_str()), ("idempotency-key", "call-1")];
    let post = |body: &serde_json::Value| {
        let response = server.post(EVENTS, &headers, body.to_string());
        let answer: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        (response.status().as_u16(), answer)
    };
    let (status, first) = post(&sample());
    assert_eq!((status, &first["status"]), (201, &json!("created")));
    let (status, again) = post(&sample());
    assert_eq!((status, &again["status"]), (200, &json!("duplicate")));
    assert_eq!((&first["index"], &first["leafHash"]), (&again["index"], &again["leafHash"]));
    let verdict = idtrail_verify::verify(again.to_string().as_bytes(), &installation.policy()).verdict;
    assert_eq!(verdict, idtrail_verify::Verdict::Verified);
    let mut other = sample();
    other["auditEvent"]["queueId"] = json!("q-2");
    let (status, problem) = post(&other);
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));
    // The same holds after a restart: the log is what is remembered by.
    server.kill();
    let server = installation.start();
    let response = server.post(EVENTS, &headers, sample().to_string());
    assert_eq!(response.status(), StatusCode::OK);
}

#[test]
fn the_tree_can_be_rebuilt_from_what_is_published() {
    let installation = Installation::new();
    let server = installation.start();
    for number in 0..300 {
        let mut event = sample();
        event["auditEvent"]["number"] = json!(number);
        assert_eq!(server.post_event(&installation, &event).0, StatusCode::CREATED);
    }
    let checkpoint = server.get("/checkpoint");
    let verified = installation.policy().open_checkpoint(checkpoint.body()).unwrap().checkpoint;
    assert_eq!(verified.size, TreeSize::new(302));
    for tile in tiles(verified.size) {
        let response = server.get(&format!("/{}", tile.path()));
        assert_eq!(response.status(), StatusCode::OK, "{tile}");
        assert_eq!(response.body().len(), 32 * usize::from(tile.width()));
    }
    let bundle = |path: &str, key: Option<&str>| {
        let mut request = Request::get(server.url(path));
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        server.send(request.body(bytes::Bytes::new()).unwrap())
    };
    let key = Some(installation.key.as_str());
    assert_eq!(bundle("/tile/entries/000", None).status(), StatusCode::UNAUTHORIZED);
    let mut tree = idtrail_tlog::Frontier::empty();
    for path in ["/tile/entries/000", "/tile/entries/001.p/46"] {
        let response = bundle(path, key);
        let entries = idtrail_tlog::bundle::decode(response.body()).unwrap();
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        tree.append_batch(&leaves);
    }
    assert_eq!((tree.size(), tree.root()), (verified.size, verified.root));
    for path in ["/tile/0/002", "/tile/0/001.p/47", "/tile/9/000", "/tile/0/1", "/tile/x/000", "/nothing"] {
        assert_eq!(server.get(path).status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(bundle("/tile/entries/001.p/47", key).status(), StatusCode::NOT_FOUND);
    assert_eq!(server.get("/healthz").status(), StatusCode::OK);
    assert_eq!(server.get("/readyz").status(), StatusCode::OK);
    assert_eq!(server.get("/oauth/token").status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn budgets_are_kept_per_key() {
    let installation = Installation::with("[limits]\nevents_per_second = 5\n");
    let other = installation.credential(&["--name", "crm", "--role", "ingest"]).1;
    let server = installation.start();
    let statuses: Vec<u16> = (0..12)
        .map(|_| {
            server.post(EVENTS, &[("x-api-key", &installation.key)], sample().to_string()).status().as_u16()
        })
        .collect();
    assert!(statuses.contains(&429), "{statuses:?}");
    let refused = server.post(EVENTS, &[("x-api-key", &installation.key)], sample().to_string());
    if refused.status().as_u16() == 429 {
        assert!(refused.headers().contains_key("retry-after"));
    }
    assert_eq!(server.post(EVENTS, &[("x-api-key", &other)], sample().to_string()).status().as_u16(), 201);
}
