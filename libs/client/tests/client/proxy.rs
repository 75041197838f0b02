//! A proxy that can stop forwarding without closing its connections, like an unplugged cable.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards connections to another address.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    paused: watch::Sender<bool>,
}

impl Proxy {
    pub(crate) async fn to(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let paused = watch::Sender::new(false);
        let flag = paused.subscribe();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(upstream).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(forward(near_in, far_out, flag.clone()));
                tokio::spawn(forward(far_in, near_out, flag.clone()));
            }
        });
        Proxy { address, paused }
    }

    /// Stops forwarding. Connections stay open.
    pub(crate) fn pause(&self) {
        self.paused.send_replace(true);
    }

    /// Forwards again.
    pub(crate) fn resume(&self) {
        self.paused.send_replace(false);
    }
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut paused: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if paused.wait_for(|paused| !paused).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
