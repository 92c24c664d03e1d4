//! Reads a body: type, length, strict parse.

use axum::body::HttpBody;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use idtrail_event::{JsonError, JsonLimits, parse_json};
use serde_json::Value;

use crate::connection;
use crate::problem::{Code, Problem};

/// Media type of one JSON value.
pub(crate) const JSON: &str = "application/json";
/// Media type of one CloudEvent in structured mode.
pub(crate) const CLOUD_EVENT: &str = "application/cloudevents+json";
/// Media type of CloudEvents in batched mode.
pub(crate) const CLOUD_EVENTS: &str = "application/cloudevents-batch+json";
/// Media type of one JSON value a line.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// Reads a body of at most `bytes_max` bytes that says it is JSON.
///
/// # Errors
/// 415, 413 or 400, none of which quotes the body.
pub(crate) async fn json<B>(headers: &HeaderMap, body: B, bytes_max: usize) -> Result<Value, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    media_type(headers, &[JSON], JSON)?;
    let bytes = bytes(headers, body, bytes_max).await?;
    parse_json(&bytes, JsonLimits { bytes_max, ..JsonLimits::EVENT }).map_err(|error| malformed(&error))
}

/// Returns which of the media types the body says it is; `expected` names them in the error.
///
/// # Errors
/// 415.
pub(crate) fn media_type(
    headers: &HeaderMap,
    accepted: &[&'static str],
    expected: &'static str,
) -> Result<&'static str, Problem> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let found = accepted.iter().copied().find(|accepted| essence.eq_ignore_ascii_case(accepted));
    found.ok_or_else(|| Problem::unsupported_media_type(expected))
}

/// Returns the problem of a body that does not parse.
pub(crate) fn malformed(error: &JsonError) -> Problem {
    Problem::malformed_json(error.reason, Some((error.line, error.column)))
}

/// Reads a body of at most `bytes_max` bytes.
///
/// # Errors
/// 413 or 400.
pub(crate) async fn bytes<B>(headers: &HeaderMap, body: B, bytes_max: usize) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > bytes_max as u64) {
        drain(body).await;
        return Err(Problem::too_large(announced, bytes_max as u64));
    }
    let mut limited = Limited::new(body, bytes_max);
    match (&mut limited).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::too_large(None, bytes_max as u64)),
        Err(error) if connection::is_body_timeout(&*error) => {
            Err(Problem::new(Code::RequestTimeout, "the body did not arrive in time"))
        }
        Err(_) => Err(Problem::malformed_request("the body could not be read to its end")),
    }
}

/// The most of a refused body that is read and thrown away.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;

/// Reads a refused body to its end if that is near: a client that is still sending when the connection closes may
/// never see the answer.
async fn drain<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) {
    let mut left = DRAIN_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        if bytes > left {
            break;
        }
        left -= bytes;
    }
}
