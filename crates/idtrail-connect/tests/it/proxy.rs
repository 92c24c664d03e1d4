//! A TCP proxy that cuts connections in the middle of things: requests that never arrive and answers that get lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Forwards to `target`. Each connection is cut after a number of bytes, one way or the other, until `healthy` ones.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) cuts: Arc<AtomicU64>,
}

impl Proxy {
    /// The n-th connection is cut after `limits[n]`: how many bytes towards the target, how many back.
    pub(crate) async fn start(target: SocketAddr, limits: Vec<(usize, usize)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicU64::new(0));
        let counted = cuts.clone();
        tokio::spawn(async move {
            let mut limits = limits.into_iter();
            while let Ok((client, _)) = listener.accept().await {
                let limit = limits.next();
                let cuts = counted.clone();
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(target).await else { return };
                    let (there, back) = limit.unwrap_or((usize::MAX, usize::MAX));
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    // When one direction ends, the other is dropped with it: both ends see a broken connection.
                    let cut = tokio::select! {
                        cut = pipe(from_client, to_server, there) => cut,
                        cut = pipe(from_server, to_client, back) => cut,
                    };
                    cuts.fetch_add(u64::from(cut), Ordering::SeqCst);
                });
            }
        });
        Self { address, cuts }
    }
}

/// Returns whether it was cut.
async fn pipe(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut limit: usize,
) -> bool {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok(count) = from.read(&mut buffer).await else { return false };
        if count == 0 {
            return false;
        }
        let passed = count.min(limit);
        if to.write_all(&buffer[..passed]).await.is_err() {
            return false;
        }
        limit -= passed;
        if limit == 0 {
            return true;
        }
    }
}
