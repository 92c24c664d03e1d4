use axum::Router;
use axum::extract::Path;
use axum::routing::post;
use http::StatusCode;
use idtrail_port::os::OsClock;
use tokio::net::TcpListener;

use super::*;

/// Answers `/n` with 201 and a body of n bytes, or 503 where n is divisible by 10.
async fn server() -> SocketAddr {
    let app = Router::new().route(
        "/{n}",
        post(|Path(n): Path<usize>, body: String| async move {
            let status =
                if n.is_multiple_of(10) { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::CREATED };
            assert_eq!(body, "{}");
            (status, "x".repeat(n))
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn requests(path: impl Fn(u64) -> u64 + Send + Sync + 'static) -> MakeRequest {
    Arc::new(move |n, request| {
        let text = format!("POST /{} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{{}}", path(n));
        request.extend_from_slice(text.as_bytes());
    })
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(OsClock::default())
}

#[tokio::test]
async fn every_request_is_sent_once_and_counted() {
    let address = server().await;
    let plan = Plan { address, connections: 7, end: End::Requests(1000) };
    let report = run(plan, requests(|n| n), clock()).await.unwrap();
    assert_eq!(report.count(), 1000);
    assert_eq!(report.statuses, BTreeMap::from([(201, 900), (503, 100)]));
    assert_eq!(report.successes(), 900);
    assert!(report.rate() > 0.0 && report.p50_us() > 0 && report.p50_us() <= report.p99_us());
}

#[tokio::test]
async fn long_answers_are_read_whole() {
    let address = server().await;
    let plan = Plan { address, connections: 2, end: End::Requests(6) };
    let report = run(plan, requests(|_| 1_000_001), clock()).await.unwrap();
    assert_eq!(report.successes(), 6);
}

#[tokio::test]
async fn run_ends_with_its_time() {
    let address = server().await;
    let plan = Plan { address, connections: 3, end: End::After(Duration::from_millis(50)) };
    let report = run(plan, requests(|_| 1), clock()).await.unwrap();
    assert!(report.count() > 0 && report.elapsed_ns >= 50_000_000, "{report:?}");
    let plan = Plan { address, connections: 3, end: End::Requests(0) };
    assert_eq!(run(plan, requests(|_| 1), clock()).await.unwrap().rate(), 0.0);
}

/// Answers every connection with the same bytes and closes it.
async fn answering(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    address
}

#[tokio::test]
async fn answer_that_cannot_be_counted_makes_the_run_void() {
    let cases: [(&[u8], &str); 7] = [
        (b"", "lost"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", "lost"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "no content length"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "no content length"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", "too long"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", "behind the answer"),
        (b"nonsense\r\n\r\n", "not HTTP"),
    ];
    for (bytes, expected) in cases {
        let plan = Plan { address: answering(bytes).await, connections: 1, end: End::Requests(1) };
        let error = run(plan, requests(|n| n), clock()).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let plan = Plan { address, connections: 1, end: End::Requests(1) };
    assert!(matches!(run(plan, requests(|n| n), clock()).await, Err(LoadError::Connect { .. })));
}
