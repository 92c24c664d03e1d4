//! Lists, filters, waiting, the stream, and interactions.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use crate::rig::{Installation, Running, sample};

fn get(server: &Running, installation: &Installation, path: &str) -> (u16, Value) {
    let request = Request::get(server.url(path)).header("x-api-key", &installation.key);
    let response = server.send(request.body(Bytes::new()).unwrap());
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or_default())
}

fn event(number: u64) -> Value {
    let mut event = sample();
    event["auditEvent"]["interactionId"] = json!(format!("i-{}", number / 2));
    event["auditEvent"]["channelType"] = json!(if number.is_multiple_of(3) { "CHAT" } else { "VOICE" });
    event["auditEvent"]["queueId"] = json!(format!("q-{}", number % 2));
    event["auditEvent"]["step"] = json!(number);
    event
}

fn steps(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|e| e["auditEvent"]["step"].as_u64().unwrap()).collect()
}

#[test]
fn pages_filters_and_cursors_show_each_event_once() {
    let installation = Installation::new();
    let server = installation.start();
    for number in 0..20 {
        assert_eq!(server.post_event(&installation, &event(number)).0.as_u16(), 201);
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/events?limit=7".to_owned();
    loop {
        let (status, page) = get(&server, &installation, &path);
        assert_eq!(status, 200, "{page}");
        seen.extend(steps(&page));
        assert!(page["events"].as_array().unwrap().iter().all(|event| event.get("keys").is_none()));
        path = format!("/api/v1/events?limit=7&after={}", page["next"].as_str().unwrap());
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
    // The last cursor goes on when the log has grown; a waiting reader is answered then.
    assert_eq!(server.post_event(&installation, &event(20)).0.as_u16(), 201);
    assert_eq!(steps(&get(&server, &installation, &path).1), [20]);
    let filtered = |filter: &str| steps(&get(&server, &installation, &format!("/api/v1/events?{filter}")).1);
    assert_eq!(filtered("channel=CHAT"), (0..21).filter(|n| n % 3 == 0).collect::<Vec<_>>());
    assert_eq!(filtered("queue=q-1&channel=VOICE&limit=3"), [1, 5, 7]);
    assert_eq!(filtered("type=IDENTITY_RESOLUTION").len(), 21);
    assert_eq!(filtered("type=ANONYMOUS").len(), 0);
    assert_eq!(filtered("system=contact-centre").len(), 21);
    assert_eq!(filtered("system=somebody").len(), 0);
    assert_eq!(filtered("from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z").len(), 21);
    assert_eq!(filtered("from=2100-01-01T00:00:00Z").len(), 0);
    for bad in ["limit=0", "limit=1001", "after=x", "wait=31", "from=x", "channel=x", "nonsense=1"] {
        assert_eq!(get(&server, &installation, &format!("/api/v1/events?{bad}")).0, 400, "{bad}");
    }
    let (_, interaction) = get(&server, &installation, "/api/v1/interactions/i-4/events");
    assert_eq!(steps(&interaction), [8, 9]);
    let (_, one) = get(&server, &installation, "/api/v1/events/5");
    assert_eq!((&one["auditEvent"]["step"], one["proof"].is_array()), (&json!(3), true));
    assert_eq!(get(&server, &installation, "/api/v1/events/999").0, 404);
    assert_eq!(get(&server, &installation, "/api/v1/events/x").0, 400);
}

#[test]
fn who_waits_is_told_at_once() {
    let installation = Installation::new();
    let server = installation.start();
    let (_, page) = get(&server, &installation, "/api/v1/events");
    let path = format!("/api/v1/events?wait=20&after={}", page["next"].as_str().unwrap());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| get(&server, &installation, &path));
        assert_eq!(server.post_event(&installation, &event(1)).0.as_u16(), 201);
        assert_eq!(steps(&waiting.join().unwrap().1), [1]);
    });
}

#[test]
fn the_stream_gives_events_as_they_come_and_goes_on_after_a_break() {
    let installation = Installation::new();
    let server = installation.start();
    let connect = |last: Option<&str>| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let head = format!(
            "GET /api/v1/events/stream?queue=q-1 HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\n{last}\r\n",
            installation.key
        );
        stream.write_all(head.as_bytes()).unwrap();
        BufReader::new(stream).lines().map(Result::unwrap)
    };
    let mut lines = connect(None);
    assert!(lines.next().unwrap().contains("200"));
    let next = |lines: &mut dyn Iterator<Item = String>| {
        let (mut id, mut step) = (None, None);
        while id.is_none() || step.is_none() {
            let line = lines.next().unwrap();
            if let Some(text) = line.strip_prefix("id: ") {
                id = Some(text.to_owned());
            }
            if let Some(text) = line.strip_prefix("data: ") {
                let event: Value = serde_json::from_str(text).unwrap();
                step = event["auditEvent"]["step"].as_u64();
            }
        }
        (id.unwrap(), step.unwrap())
    };
    for number in 0..6 {
        assert_eq!(server.post_event(&installation, &event(number)).0.as_u16(), 201);
    }
    let (_, first) = next(&mut lines);
    let (id, second) = next(&mut lines);
    assert_eq!((first, second), (1, 3));
    drop(lines);
    let mut lines = connect(Some(&id));
    assert_eq!(next(&mut lines).1, 5);
}
