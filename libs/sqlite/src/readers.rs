//! A pool of connections that read beside the writer (write-ahead log), on blocking threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::{Error, open_reader};

/// Maximum number of concurrent reads. More are not faster on one disk, and each connection has a cache.
const CONNECTIONS: usize = 4;

/// Handle of the pool. Connections are opened on demand; one whose read failed is closed.
#[derive(Debug, Clone)]
pub struct Readers {
    path: Arc<PathBuf>,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    /// A pool without connections.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Readers {
            path: Arc::new(path.to_owned()),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            idle: Arc::default(),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Executes `work` with a connection on a blocking thread.
    ///
    /// # Errors
    /// Those of `work`; an [`Error`] if the file cannot be opened, `work` panics, or the runtime ends.
    pub async fn read<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Error::Closed)?;
        let readers = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = readers.idle.lock().pop();
            let db = idle.map_or_else(|| open_reader(&readers.path), Ok).map_err(Error::from)?;
            let found = work(&db)?;
            readers.idle.lock().push(db);
            Ok(found)
        });
        reading.await.unwrap_or_else(|_| Err(Error::Closed.into()))
    }
}
