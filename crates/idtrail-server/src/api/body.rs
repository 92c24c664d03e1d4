//! Reads a JSON body: type, length, strict parse.

use axum::body::HttpBody;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use idtrail_event::{JsonLimits, parse_json};
use serde_json::Value;

use crate::problem::Problem;

/// Reads a body of at most `bytes_max` bytes that says it is JSON.
///
/// # Errors
/// 415, 413 or 400, none of which quotes the body.
pub(crate) async fn json<B>(headers: &HeaderMap, body: B, bytes_max: usize) -> Result<Value, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::unsupported_media_type("application/json"));
    }
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > bytes_max as u64) {
        drain(body).await;
        return Err(Problem::too_large(announced, bytes_max as u64));
    }
    let mut limited = Limited::new(body, bytes_max);
    let bytes = match (&mut limited).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(Problem::too_large(None, bytes_max as u64));
        }
        Err(_) => return Err(Problem::malformed_request("the body could not be read to its end")),
    };
    let limits = JsonLimits { bytes_max, ..JsonLimits::EVENT };
    parse_json(&bytes, limits)
        .map_err(|error| Problem::malformed_json(error.reason, Some((error.line, error.column))))
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
