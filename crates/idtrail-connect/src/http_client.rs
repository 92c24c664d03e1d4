//! What all targets that speak HTTP share: a client that follows no redirect, `Retry-After`, and what no answer means.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::secret::Secret;
use crate::tls;
use crate::verdict::{Failure, Status};

/// Starts a client: no redirects, no proxies of the environment, the given certificate authorities or the system's.
pub(crate) fn builder(ca: Option<&Secret>) -> Result<reqwest::ClientBuilder, Failure> {
    let broken = |_| Failure::stop("certificate_authorities", Status::none());
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent("idtrail")
        .connect_timeout(Duration::from_secs(10))
        .pool_idle_timeout(Duration::from_secs(60));
    if let Some(pem) = ca {
        let mut roots = Vec::new();
        for certificate in tls::certificates(pem)? {
            roots.push(reqwest::Certificate::from_der(&certificate).map_err(broken)?);
        }
        builder = builder.tls_certs_only(roots);
    }
    Ok(builder)
}

/// Reads `Retry-After`, seconds or a date.
pub(crate) fn retry_after(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    let ms = at.as_millisecond().saturating_sub(now_ms);
    u64::try_from(ms).ok().map(Duration::from_millis)
}

/// Judges that no answer came. A connection that was never made had no effect.
pub(crate) fn unanswered(error: &reqwest::Error) -> Failure {
    if tls::is_certificate_error(error) {
        return Failure::stop("certificate", Status::none());
    }
    if error.is_connect() {
        return Failure::retry("unreachable", Status::none(), None);
    }
    Failure::reopen("no_answer", Status::none())
}
