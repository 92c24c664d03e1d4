//! Makes a running server see credentials that another process made or revoked.
//!
//! Runs beside the requests, so that none of them waits for the disk. While the file cannot be read, the last good
//! state stays in use: refusing every caller because of a half-restored file would lose events.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::CredentialStore;

/// Looks for changes of the file every `every`, until `stop` ends, so that a key made or revoked by another process
/// counts without a restart. The disk is read on a thread for blocking work.
pub async fn watch(store: Arc<CredentialStore>, every: Duration, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut failing = false;
    loop {
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(every) => {}
        }
        let reading = Arc::clone(&store);
        let outcome = tokio::task::spawn_blocking(move || reading.reload_if_changed()).await;
        match outcome {
            Ok(Ok(changed)) => {
                failing = false;
                if changed {
                    tracing::info!("credentials reloaded");
                }
            }
            // Said once and not every second, until it works again.
            Ok(Err(_)) | Err(_) if failing => {}
            Ok(Err(error)) => {
                failing = true;
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "credentials cannot be reloaded, the last good ones stay in use");
            }
            Err(_) => {
                failing = true;
                tracing::error!("reloading of credentials failed, the last good ones stay in use");
            }
        }
    }
}
