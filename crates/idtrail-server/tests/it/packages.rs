//! Answers to requests for access in pages, and as files whose download can be taken up again.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use idtrail_verify::{Package, Verdict};
use serde_json::{Value, json};

use crate::rig::{ACCESS, Installation, Running, idtrail, query, sample};

const CUSTOMER: &str = "cust_hash_9f86d08";

fn event(number: usize) -> Value {
    let mut event = sample();
    event["auditEvent"]["interactionId"] = json!(format!("i-{number}"));
    event["auditEvent"]["resolvedCustomerId"] = json!(CUSTOMER);
    event["auditEvent"]["number"] = json!(number);
    event
}

/// Reads without a budget.
const FREE: &str = "[limits]\nreads_per_second = 0\n";

fn filled(count: usize) -> (Installation, Running) {
    let installation = Installation::with(FREE);
    let server = started(&installation, count);
    (installation, server)
}

fn started(installation: &Installation, count: usize) -> Running {
    let server = installation.start();
    for number in 0..count {
        assert_eq!(server.post_event(installation, &event(number)).0, StatusCode::CREATED);
    }
    server
}

fn ask(server: &Running, key: &str, token: &str, path: &str) -> Response<Bytes> {
    server.post(path, &[("x-api-key", key), ("authorization", token)], query(CUSTOMER).to_string())
}

fn fetch(server: &Running, key: &str, token: &str, path: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
    let mut request = Request::get(server.url(path)).header("x-api-key", key).header("authorization", token);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.send(request.body(Bytes::new()).unwrap())
}

fn text(response: &Response<Bytes>, name: &str) -> Option<String> {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}

fn next_page(response: &Response<Bytes>) -> Option<String> {
    let link = text(response, "link")?;
    let (address, rest) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
    assert_eq!(rest, "; rel=\"next\"");
    Some(address.to_owned())
}

#[test]
fn pages_together_are_the_whole_answer_and_each_of_them_holds() {
    let (installation, server) = filled(23);
    let token = format!("Bearer {}", server.token(&installation.person));
    let (key, policy) = (&installation.key, installation.policy());
    let whole: Package = serde_json::from_slice(ask(&server, key, &token, ACCESS).body()).unwrap();
    let (mut seen, mut pages) = (Vec::new(), 0);
    let mut path = Some(format!("{ACCESS}?limit=10"));
    while let Some(at) = path {
        let response = ask(&server, key, &token, &at);
        assert_eq!(response.status(), StatusCode::OK, "{:?}", response.body());
        let report = idtrail_verify::verify(response.body(), &policy);
        assert_eq!(report.verdict, Verdict::Incomplete, "{report:?}");
        assert!(report.first_bad.is_none(), "what is there holds: {report:?}");
        let page: Package = serde_json::from_slice(response.body()).unwrap();
        assert!(!page.coverage.complete && page.events.len() <= 10);
        assert_eq!(page.access_log.is_some(), pages == 0);
        seen.extend(page.events);
        pages += 1;
        path = next_page(&response);
    }
    assert_eq!(pages, 3);
    let places = |events: &[idtrail_verify::EvidenceEvent]| -> Vec<(u64, Value)> {
        events.iter().map(|event| (event.index, event.audit_event["number"].clone())).collect()
    };
    assert_eq!(places(&seen), places(&whole.events));
    // One that fits on one page is whole.
    let response = ask(&server, key, &token, &format!("{ACCESS}?limit=23"));
    assert_eq!(
        (next_page(&response), idtrail_verify::verify(response.body(), &policy).verdict),
        (None, Verdict::Verified)
    );
    for bad in
        ["limit=0", "limit=1001", "limit=x", "after=x", "format=zip", "format=package&limit=5", "nonsense=1"]
    {
        assert_eq!(ask(&server, key, &token, &format!("{ACCESS}?{bad}")).status(), 400, "{bad}");
    }
}

#[test]
fn a_cursor_is_refused_when_more_may_have_become_the_persons() {
    let (installation, server) = filled(5);
    let token = format!("Bearer {}", server.token(&installation.person));
    let key = &installation.key;
    let next = next_page(&ask(&server, key, &token, &format!("{ACCESS}?limit=2"))).unwrap();
    // Later events of the same customer are behind the cursor in any case.
    assert_eq!(server.post_event(&installation, &event(5)).0, StatusCode::CREATED);
    assert_eq!(ask(&server, key, &token, &next).status(), StatusCode::OK);
    // Another customer, who turns out to be the same person.
    let mut other = event(6);
    other["auditEvent"]["resolvedCustomerId"] = json!("cust_hash_other");
    other["auditEvent"]["piiContext"] = json!({ "accountNumberHash": "ab".repeat(32) });
    assert_eq!(server.post_event(&installation, &other).0, StatusCode::CREATED);
    assert_eq!(ask(&server, key, &token, &next).status(), StatusCode::OK);
    let mut both = event(7);
    both["auditEvent"]["piiContext"] = json!({ "accountNumberHash": "ab".repeat(32) });
    assert_eq!(server.post_event(&installation, &both).0, StatusCode::CREATED);
    let refused = ask(&server, key, &token, &next);
    assert_eq!(refused.status(), StatusCode::CONFLICT, "{:?}", refused.body());
    // Nor does it fit another question.
    let elsewhere = server.post(
        &next,
        &[("x-api-key", key), ("authorization", &token)],
        query("cust_hash_nobody").to_string(),
    );
    assert_eq!(elsewhere.status(), StatusCode::CONFLICT);
}

#[test]
fn a_download_is_taken_up_again_by_whoever_began_it_until_a_key_is_destroyed() {
    let installation = Installation::with(FREE);
    let admin = ["--name", "keeper", "--role", "dpo", "--role", "admin"];
    let other_key = installation.credential(&admin).1;
    let other_person = installation.credential(&[&["--person"], &admin[..]].concat());
    let server = started(&installation, 12);
    let token = format!("Bearer {}", server.token(&installation.person));
    let other_token = format!("Bearer {}", server.token(&other_person));
    let key = &installation.key;
    let first = ask(&server, key, &token, &format!("{ACCESS}?format=package"));
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(text(&first, "accept-ranges").unwrap(), "bytes");
    assert_eq!(text(&first, "cache-control").unwrap(), "no-store");
    let (path, tag) = (text(&first, "content-location").unwrap(), text(&first, "etag").unwrap());
    let whole = first.body().clone();
    assert_eq!(idtrail_verify::verify(&whole, &installation.policy()).verdict, Verdict::Verified);
    let size = |path: &str| {
        let checkpoint = server.get(path);
        std::str::from_utf8(checkpoint.body()).unwrap().lines().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = size("/access/checkpoint");
    let rest = fetch(&server, key, &token, &path, &[("range", "bytes=1000-"), ("if-range", &tag)]);
    assert_eq!((rest.status(), rest.body().as_ref()), (StatusCode::PARTIAL_CONTENT, &whole[1000..]));
    assert_eq!(
        text(&rest, "content-range").unwrap(),
        format!("bytes 1000-{}/{}", whole.len() - 1, whole.len())
    );
    assert_eq!(text(&rest, "content-length").unwrap(), (whole.len() - 1000).to_string());
    assert_eq!(size("/access/checkpoint"), before + 1, "each fetch is an access");
    let again = fetch(&server, key, &token, &path, &[]);
    assert_eq!((again.status(), again.body()), (StatusCode::OK, &whole));
    let part = fetch(&server, key, &token, &path, &[("range", "bytes=0-9")]);
    assert_eq!((part.status(), part.body().as_ref()), (StatusCode::PARTIAL_CONTENT, &whole[..10]));
    let other = fetch(&server, key, &token, &path, &[("range", "bytes=0-9"), ("if-range", "\"x\"")]);
    assert_eq!((other.status(), other.body()), (StatusCode::OK, &whole), "of another file no part is given");
    let behind = fetch(&server, key, &token, &path, &[("range", &format!("bytes={}-", whole.len()))]);
    assert_eq!(behind.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(text(&behind, "content-range").unwrap(), format!("bytes */{}", whole.len()));
    for (key, token) in [(key, &other_token), (&other_key, &token)] {
        assert_eq!(fetch(&server, key, token, &path, &[]).status(), StatusCode::NOT_FOUND);
    }
    let unknown = path[..path.len() - 1].to_owned() + if path.ends_with('0') { "1" } else { "0" };
    assert_eq!(fetch(&server, key, &token, &unknown, &[]).status(), StatusCode::NOT_FOUND);
    // Whoever it is that is erased: the package might hold it.
    let index = serde_json::from_slice::<Package>(&whole).unwrap().events[3].index;
    let order = json!({ "requestId": "r-1", "indices": [index], "confirm": "shred 1 leaf" });
    let shredded = server.post(
        "/api/v1/admin/shred",
        &[("x-api-key", &other_key), ("authorization", &other_token)],
        order.to_string(),
    );
    assert!(shredded.status().is_success(), "{:?}", shredded.body());
    assert_eq!(fetch(&server, key, &token, &path, &[]).status(), StatusCode::NOT_FOUND);
}

/// Passes bytes on between clients and a server, and cuts the first long answers off in the middle.
fn cutting(server: SocketAddr, cuts: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let left = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(cuts));
        for client in listener.incoming() {
            let (mut client, mut upstream) = (client.unwrap(), TcpStream::connect(server).unwrap());
            let (mut asking, mut asked) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut asking, &mut asked));
            let left = std::sync::Arc::clone(&left);
            std::thread::spawn(move || {
                let (mut buffer, mut passed) = ([0; 4096], 0);
                while let Ok(count @ 1..) = upstream.read(&mut buffer) {
                    passed += count;
                    let cut = std::sync::atomic::Ordering::SeqCst;
                    if passed > 20_000 && left.fetch_update(cut, cut, |left| left.checked_sub(1)).is_ok() {
                        let _ = client.shutdown(Shutdown::Both);
                        return;
                    }
                    if client.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn the_command_goes_on_where_the_connection_broke() {
    let (installation, server) = filled(40);
    let proxy = cutting(server.address, 3);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (key, secret) = (file("key", &installation.key), file("secret", &installation.person.1));
    let (out, policy) = (dir.path().join("a.json"), installation.home().join("policy.txt"));
    let url = format!("http://{proxy}");
    let output = idtrail(&[
        "dsar",
        "--customer",
        CUSTOMER,
        "--out",
        out.to_str().unwrap(),
        "--policy",
        policy.to_str().unwrap(),
        "--client-id",
        &installation.person.0,
        "--secret-file",
        &secret,
        "--key-file",
        &key,
        "--url",
        &url,
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["events"], &said["verdict"]), (&json!(40), &json!("verified")));
    let package: Package = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    let indices: BTreeSet<u64> = package.events.iter().map(|event| event.index).collect();
    assert_eq!(indices.len(), 40);
}
