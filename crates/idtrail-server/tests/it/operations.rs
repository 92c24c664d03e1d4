//! What an operator sees: metrics, readiness, status, traces.

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::rig::{EVENTS, Installation, Local, query, sample};

#[test]
fn metrics_tell_what_happened_and_nothing_about_anybody() {
    let installation = Installation::new();
    let operator = installation.credential(&["--name", "prometheus", "--role", "operator"]).1;
    let server = installation.start();
    let (status, _) = server.post_event(&installation, &sample());
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(server.post_event(&installation, &sample()).0, StatusCode::OK);
    let mut bad = sample();
    bad["auditEvent"]["note"] = json!("someone@example.com");
    assert_eq!(server.post_event(&installation, &bad).0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(server.post(EVENTS, &[], "{}").status(), StatusCode::UNAUTHORIZED);
    assert_eq!(server.post(EVENTS, &[("x-api-key", &operator)], "{}").status(), StatusCode::FORBIDDEN);
    let scrape = |name: &str, value: String| {
        let request = Request::get(server.url("/metrics")).header(name, value).body(Bytes::new()).unwrap();
        let response = server.send(request);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            response.headers()["content-type"],
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        String::from_utf8(response.body().to_vec()).unwrap()
    };
    let text = scrape("x-api-key", operator.clone());
    // Prometheus knows no other header before version 3.
    let again = scrape("authorization", format!("Bearer {operator}"));
    assert!(again.ends_with("# EOF\n"));
    for line in [
        "idtrail_events_ingested_total{source=\"contact-centre\",type=\"IDENTITY_RESOLUTION\",result=\"accepted\"} 1\n",
        "idtrail_events_ingested_total{source=\"contact-centre\",type=\"IDENTITY_RESOLUTION\",result=\"duplicate\"} 1\n",
        "idtrail_events_ingested_total{source=\"contact-centre\",type=\"UNKNOWN\",result=\"quarantined\"} 1\n",
        "idtrail_events_ingested_total{source=\"prometheus\",type=\"UNKNOWN\",result=\"refused\"} 1\n",
        "idtrail_ingest_ack_seconds_count 2\n",
        "idtrail_auth_failures_total{reason=\"missing_key\"} 1\n",
        "idtrail_auth_failures_total{reason=\"role\"} 1\n",
        "idtrail_ready 1\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| {
            panic!("{name} in {text}");
        });
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(value("idtrail_fsync_seconds_count") >= 1.0);
    assert!(value("idtrail_storage_free_bytes") > 0.0);
    assert!(value("idtrail_log_size_events") >= 2.0);
    for secret in ["cust_hash", "a591a6d4", "i-1234", "@", &operator, "person_"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    server.stop();
}

#[test]
fn readiness_names_every_reason() {
    let installation = Installation::with("[limits]\ndisk_free_bytes_min = 1099511627776\n");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let local = Local::start(&installation).await;
        let reasons = async || {
            let response = local.ask("get", "/readyz", &[]).await;
            let answer: Value = serde_json::from_slice(response.body()).unwrap();
            let ready = response.status() == StatusCode::OK;
            assert_eq!(ready, answer["status"] == "ready");
            assert_eq!(ready, answer["reasons"] == json!([]));
            answer["reasons"].to_string()
        };
        let full = reasons().await;
        assert!(full.contains("disk_free_bytes_min") && !full.contains("clock"), "{full}");
        local.clock.jump_wall_ms(-3_600_000);
        // The server looks once a second.
        while !reasons().await.contains("clock") {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert!(reasons().await.contains("disk_free_bytes_min"), "all of them, not the first");
        assert_eq!(local.ask("get", "/livez", &[]).await.status(), StatusCode::OK);
        local.stop().await;
    });
}

#[test]
fn a_nearly_full_disk_is_read_only_until_there_is_room() {
    let installation = Installation::new();
    let server = installation.start();
    assert_eq!(server.post_event(&installation, &sample()).0, StatusCode::CREATED);
    server.stop();
    let roomy = std::fs::read_to_string(installation.config()).unwrap();
    // No disk of a test has a tebibyte free.
    let full = format!("{roomy}\n[limits]\ndisk_free_bytes_min = 1099511627776\n");
    std::fs::write(installation.config(), full).unwrap();
    let server = installation.start();
    let mut other = sample();
    other["auditEvent"]["channelType"] = json!("CHAT");
    for event in [sample(), other.clone()] {
        let key = [("x-api-key", installation.key.as_str())];
        let refused = server.post(EVENTS, &key, event.to_string());
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()["retry-after"], "30");
        assert!(String::from_utf8_lossy(refused.body()).contains("nearly full"));
    }
    assert_eq!(server.get("/checkpoint").status(), StatusCode::OK);
    let customer = sample()["auditEvent"]["resolvedCustomerId"].as_str().unwrap().to_owned();
    assert_eq!(server.access(&installation, &query(&customer)).status(), StatusCode::OK);
    server.stop();
    std::fs::write(installation.config(), roomy).unwrap();
    let server = installation.start();
    assert_eq!(server.post_event(&installation, &sample()).0, StatusCode::OK);
    assert_eq!(server.post_event(&installation, &other).0, StatusCode::CREATED);
    server.stop();
}

#[test]
fn status_is_for_people_who_look_after_it() {
    let installation = Installation::new();
    let person = installation.credential(&["--person", "--name", "ops", "--role", "operator"]);
    let server = installation.start();
    server.post_event(&installation, &sample());
    let token = format!("Bearer {}", server.token(&person));
    let request =
        Request::get(server.url("/statusz")).header("authorization", token).body(Bytes::new()).unwrap();
    let response = server.send(request);
    assert_eq!(response.status(), StatusCode::OK);
    let status: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!((&status["ready"], &status["tls"]), (&json!(true), &json!(false)));
    assert_eq!(status["treeSize"], 3);
    assert!(status["storageFreeBytes"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(status["origin"].as_str().map(|origin| origin.starts_with("localhost/idtrail/")), Some(true));
}

#[test]
fn a_trace_is_followed_into_the_process_log_and_nowhere_else() {
    let installation = Installation::new();
    let server = installation.start();
    let send = |traceparent: &str| {
        let token = ("authorization", "Bearer nonsense");
        let headers = [("x-api-key", installation.key.as_str()), token, ("traceparent", traceparent)];
        let response = server.post(crate::rig::ACCESS, &headers, query("x").to_string());
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        response.headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let id = send(&format!("00-{trace}-00f067aa0ba902b7-01"));
    for wrong in [
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-11111111111111111111111111111111-0000000000000000-01",
        "ff-22222222222222222222222222222222-00f067aa0ba902b7-01",
        "00-33333333333333333333333333333333-00f067aa0ba902b7-01-more",
        "00-4444444444444444444444444444444X-00f067aa0ba902b7-01",
        "5555555555555555555555555555555555",
    ] {
        send(wrong);
    }
    server.stop();
    let log = installation.log.lock().unwrap().clone();
    let line = log.lines().find(|line| line.contains(trace)).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains(&id) && line.contains("credential refused"), "{line}");
    for digit in 1..=5 {
        assert!(!log.contains(&digit.to_string().repeat(20)), "{log}");
    }
}
