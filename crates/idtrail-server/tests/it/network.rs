//! The edge of the network: TLS and its renewal, what is refused in the clear, bounds on connections, an ordered stop.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::rig::{EVENTS, Installation, Running, idtrail, sample};

/// Makes a certificate for localhost and returns it in PEM.
fn renew(dir: &Path) -> String {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    made.cert.pem()
}

fn client(trusted: &str) -> reqwest::blocking::Client {
    let certificate = reqwest::Certificate::from_pem(trusted.as_bytes()).unwrap();
    reqwest::blocking::Client::builder()
        .tls_certs_only([certificate])
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap()
}

/// Waits for something that has to come; a test that waits in vain fails after a while.
fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_there() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn hang_up(server: &Running) {
    let pid = server.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
}

#[test]
fn tls_is_spoken_and_renewed_without_a_restart() {
    let installation = Installation::with("[tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n");
    let first = renew(&installation.home());
    let server = installation.start();
    let port = server.address.port();
    let post = |trusted: &str| {
        client(trusted)
            .post(format!("https://localhost:{port}{EVENTS}"))
            .header("x-api-key", &installation.key)
            .header("content-type", "application/json")
            .body(sample().to_string())
            .send()
    };
    let answer = post(&first).unwrap();
    assert_eq!(answer.status(), 201);
    let foreign = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    assert!(post(&foreign.cert.pem()).is_err(), "a certificate that is not trusted");
    // In the clear it answers nobody, so that no key can be lured out by a wrong address.
    let mut clear = TcpStream::connect(server.address).unwrap();
    clear.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    clear.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = clear.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    // By a signal at once, and half a pair never.
    let good = std::fs::read(installation.home().join("cert.pem")).unwrap();
    std::fs::write(installation.home().join("cert.pem"), foreign.cert.pem()).unwrap();
    hang_up(&server);
    wait_for("the refusal is logged", || {
        installation.log.lock().unwrap().contains("the last good one stays in use")
    });
    assert_eq!(post(&first).unwrap().status(), 200);
    std::fs::write(installation.home().join("cert.pem"), good).unwrap();
    let second = renew(&installation.home());
    hang_up(&server);
    wait_for("the second certificate", || post(&second).is_ok());
    assert!(post(&first).is_err());
    // And by itself when the files change.
    let third = renew(&installation.home());
    wait_for("the third certificate", || post(&third).is_ok());
    server.stop();
}

#[test]
fn a_server_that_others_could_hear_does_not_start() {
    let installation = Installation::new();
    let text = std::fs::read_to_string(installation.config()).unwrap();
    let open = text.replace("127.0.0.1:0", "0.0.0.0:0");
    std::fs::write(installation.config(), &open).unwrap();
    let refused = idtrail(&["serve", "--config", installation.config().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("in the clear"));
    std::fs::write(installation.config(), format!("{open}[tls]\nupstream = true\n")).unwrap();
    let server = installation.start();
    assert_eq!(server.address.ip().to_string(), "0.0.0.0");
    server.stop();
    let missing = format!("{open}[tls]\ncert_file = \"none.pem\"\nkey_file = \"none.pem\"\n");
    std::fs::write(installation.config(), missing).unwrap();
    let refused = idtrail(&["serve", "--config", installation.config().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("none.pem"));
}

#[test]
fn connections_have_bounds() {
    let installation = Installation::with(
        "[http]\nheader_timeout_ms = 400\nbody_timeout_ms = 400\nheader_bytes_max = 8192\nconnections_max = 8\n",
    );
    let server = installation.start();
    let exchange = |parts: &[&[u8]]| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        for part in parts {
            // The other side may have had enough already.
            let _ = stream.write_all(part);
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let started = Instant::now();
    // A head that never ends, one that never begins, and a body that never comes.
    assert!(!exchange(&[b"GET /livez HTTP/1.1\r\nhost: x\r\n"]).contains("200 OK"));
    assert!(!exchange(&[b""]).contains("200 OK"));
    let key = installation.key.as_bytes();
    let head = b"POST /api/v1/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 100\r\nx-api-key: ";
    let slow = exchange(&[head, key, b"\r\n\r\n{\"audit"]);
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    // A head that is too long: refused, whatever it says.
    let long = [b"GET /livez HTTP/1.1\r\nhost: x\r\nx-long: ".as_slice(), &vec![b'a'; 70_000], b"\r\n\r\n"];
    let refused = exchange(&long);
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 431"), "{refused}");
    // More idle connections than there are places: they are let go, and the server answers again.
    let idle: Vec<_> = (0..16).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let answer = exchange(&[b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"]);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(idle);
    server.stop();
}

#[test]
fn a_stop_lets_requests_end_and_takes_no_new_ones() {
    let installation = Installation::with("[http]\ndrain_timeout_ms = 5000\n");
    let server = installation.start();
    let body = sample().to_string();
    let mut under_way = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST {EVENTS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nx-api-key: {}\r\n\r\n",
        body.len(),
        installation.key
    );
    under_way.write_all(head.as_bytes()).unwrap();
    under_way.write_all(&body.as_bytes()[..10]).unwrap();
    let mut idle = TcpStream::connect(server.address).unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let address = server.address;
    let stopping = std::thread::spawn(move || server.stop());
    wait_for("no new connection", || TcpStream::connect(address).is_err());
    under_way.write_all(&body.as_bytes()[10..]).unwrap();
    under_way.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = Vec::new();
    let _ = under_way.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&answer));
    stopping.join().unwrap();
    // What was answered is there after the restart.
    let server = installation.start();
    assert_eq!(server.post_event(&installation, &sample()).0, StatusCode::OK);
}
