//! The file dialogs of the desktop, and whether there are any.
//!
//! On Linux and the BSDs the desktop portal shows the dialogs. Without a portal, a request for a dialog fails silently, so that
//! the app asks the session bus first whether the portal offers file dialogs.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use ui::{FileChooser, NativeDialogs, OpenRequest, SaveRequest};

/// The file dialogs of the desktop.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DesktopDialogs;

impl FileChooser for DesktopDialogs {
    fn is_available(&self) -> Pin<Box<dyn Future<Output = bool>>> {
        Box::pin(is_available())
    }

    fn open(&self, request: OpenRequest) -> Pin<Box<dyn Future<Output = Vec<PathBuf>>>> {
        NativeDialogs.open(request)
    }

    fn save(&self, request: SaveRequest) -> Pin<Box<dyn Future<Output = Option<PathBuf>>>> {
        NativeDialogs.save(request)
    }
}

/// Other systems always offer file dialogs.
#[cfg(not(all(unix, not(target_os = "macos"))))]
async fn is_available() -> bool {
    true
}

/// Asks the desktop portal for the version of its file dialogs. The answer also shows that the portal can be started.
#[cfg(all(unix, not(target_os = "macos")))]
async fn is_available() -> bool {
    let version = async {
        let bus = zbus::Connection::session().await?;
        let portal = zbus::Proxy::new(
            &bus,
            "org.freedesktop.portal.Desktop",
            "/org/freedesktop/portal/desktop",
            "org.freedesktop.portal.FileChooser",
        )
        .await?;
        portal.get_property::<u32>("version").await
    };
    // Dropping the request when the time is over leaves nothing behind.
    let (done, over) = tokio::sync::oneshot::channel::<()>();
    slint::Timer::single_shot(PORTAL_LIMIT, move || drop(done));
    tokio::select! {
        version = version => version.is_ok(),
        _ = over => false,
    }
}

/// Time limit for the portal, which the session bus may have to start first.
#[cfg(all(unix, not(target_os = "macos")))]
const PORTAL_LIMIT: std::time::Duration = std::time::Duration::from_secs(3);
