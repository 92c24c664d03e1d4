//! HTTP through the operating system's sockets.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::{Exchange, Network, NetworkError};

/// HTTP/1.1 over TCP, with kept connections. Plain text only.
#[derive(Debug)]
pub struct OsNetwork {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Default for OsNetwork {
    fn default() -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http() }
    }
}

impl Network for OsNetwork {
    fn exchange(&self, request: http::Request<Bytes>, deadline: Duration) -> Exchange<'_> {
        Box::pin(async move {
            let answer = async {
                let response = self.client.request(request.map(Full::new)).await.map_err(|error| {
                    let reason = error.to_string();
                    if error.is_connect() {
                        NetworkError::Unreachable { reason }
                    } else {
                        NetworkError::Unknown { reason }
                    }
                })?;
                let (head, body) = response.into_parts();
                let body = body
                    .collect()
                    .await
                    .map_err(|error| NetworkError::Unknown { reason: error.to_string() })?
                    .to_bytes();
                Ok(http::Response::from_parts(head, body))
            };
            match tokio::time::timeout(deadline, answer).await {
                Ok(outcome) => outcome,
                Err(_) => Err(NetworkError::Unknown {
                    reason: format!("deadline passed. deadline_ms={}", deadline.as_millis()),
                }),
            }
        })
    }
}
