//! One request and its answer over a network that may lose either.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

/// The answer to come of one exchange.
pub type Exchange<'a> =
    Pin<Box<dyn Future<Output = Result<http::Response<Bytes>, NetworkError>> + Send + 'a>>;

/// Sends HTTP requests.
pub trait Network: Send + Sync {
    /// Sends `request`, whose URI is absolute, and waits for the whole answer for `deadline` at most.
    fn exchange(&self, request: http::Request<Bytes>, deadline: Duration) -> Exchange<'_>;
}

/// Why an exchange gave no answer. The two kinds differ in what the caller may assume.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The request never reached the other side: it had no effect and may be sent again.
    #[error("could not reach the server. reason={reason}")]
    Unreachable {
        /// What the operating system or the protocol said.
        reason: String,
    },
    /// The request may have had its effect, but no answer came: ask before doing it again.
    #[error("no answer came, the outcome is unknown. reason={reason}")]
    Unknown {
        /// What the operating system or the protocol said.
        reason: String,
    },
}
