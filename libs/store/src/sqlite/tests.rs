//! Tests of this adapter alone: chunks, a full disk, versions of the file.

use bytes::Bytes;
use futures::{StreamExt, stream};
use proto_json::BlobHash;
use rusqlite::Connection;

use super::*;

fn bytes(length: usize) -> (BlobHash, u64, ByteStream) {
    let content = Bytes::from(vec![7; length]);
    (BlobHash::of(&content), length as u64, stream::iter([Ok(content)]).boxed())
}

fn key(sha256: BlobHash) -> BlobKey {
    BlobKey { upload: UploadId::from_idempotency_key("test", "files"), sha256 }
}

async fn count(store: &SqliteStore, table: &'static str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    store
        .readers
        .read(move |connection| connection.query_row(&sql, [], |row| row.get(0)).map_err(StoreError::from))
        .await
        .unwrap()
}

/// Waits for the writer to remove what was discarded.
async fn until_empty(store: &SqliteStore, table: &'static str) {
    while count(store, table).await > 0 {
        store.writer.write(|_| Ok::<_, StoreError>(())).await.unwrap();
    }
}

#[tokio::test]
async fn incomplete_file_is_removed_when_the_store_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    let (hash, length, body) = bytes(3_000_000);
    store.put_blob(key(hash), length, body).await.unwrap();
    // As after a crash before the last step.
    store
        .writer
        .write(|connection| {
            connection.execute("UPDATE blobs SET complete = 0", [])?;
            Ok::<_, StoreError>(rows::BLOBS.seal(connection)?)
        })
        .await
        .unwrap();
    assert!(store.blob(key(hash)).await.unwrap().is_none());
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    until_empty(&store, "blobs").await;
    assert_eq!(count(&store, "blob_chunks").await, 0);
}

/// A flipped bit must not have a complete file removed.
#[tokio::test]
async fn file_whose_row_is_damaged_is_not_removed_as_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    let (hash, length, body) = bytes(1_000);
    store.put_blob(key(hash), length, body).await.unwrap();
    store
        .writer
        .write(|connection| connection.execute("UPDATE blobs SET complete = 0", []).map_err(StoreError::from))
        .await
        .unwrap();
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    store.writer.write(|_| Ok::<_, StoreError>(())).await.unwrap();
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!((count(&store, "blobs").await, count(&store, "blob_chunks").await), (1, 1));
}

#[tokio::test]
async fn chunks_of_a_file_with_a_wrong_hash_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db")).unwrap();
    let (_, length, body) = bytes(20_000_000);
    store.put_blob(key(BlobHash::of(b"other")), length, body).await.unwrap_err();
    until_empty(&store, "blobs").await;
    assert_eq!(count(&store, "blob_chunks").await, 0);
}

#[tokio::test]
async fn full_disk_is_reported_and_no_incomplete_file_is_visible() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db")).unwrap();
    let (kept, length, body) = bytes(100_000);
    store.put_blob(key(kept), length, body).await.unwrap();
    let limit = |pages: i64| {
        let pragma = format!("PRAGMA max_page_count = {pages}");
        store
            .writer
            .write(move |connection| connection.query_row(&pragma, [], |_| Ok(())).map_err(StoreError::from))
    };
    // No page more than there are.
    limit(1).await.unwrap();
    for length in [200_000, 5_000_000] {
        let (hash, length, body) = bytes(length);
        let error = store.put_blob(key(hash), length, body).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)) && error.to_string().contains("full"), "{error}");
        assert!(store.blob(key(hash)).await.unwrap().is_none());
    }
    assert!(store.blob(key(kept)).await.unwrap().is_some());
    limit(1_000_000).await.unwrap();
    let (hash, length, body) = bytes(5_000_000);
    store.put_blob(key(hash), length, body).await.unwrap();
}

#[test]
fn file_of_another_version_or_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    drop(SqliteStore::open(&path).unwrap());
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let error = SqliteStore::open(&path).unwrap_err().to_string();
    assert!(error.contains("newer Bedside (schema 99"), "{error}");

    let path = folder.path().join("former.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA application_id = 0x42454453; PRAGMA user_version = 5;")
        .unwrap();
    let error = SqliteStore::open(&path).unwrap_err().to_string();
    assert!(error.contains("earlier Bedside"), "{error}");

    let path = folder.path().join("other.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap();
    let error = SqliteStore::open(&path).unwrap_err().to_string();
    assert!(error.contains("another program"), "{error}");
}

#[tokio::test]
async fn file_with_changed_bytes_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db")).unwrap();
    for length in [1_000, 600_000] {
        let (hash, bytes, body) = bytes(length);
        store.put_blob(key(hash), bytes, body).await.unwrap();
        // One bit, in the last piece, as SQLite itself cannot notice it.
        let flip =
            "UPDATE blob_chunks SET data = CAST(substr(data, 1, 9) || x'06' || substr(data, 11) AS BLOB)
                    WHERE key = (SELECT max(key) FROM blob_chunks)";
        store
            .writer
            .write(move |connection| connection.execute(flip, []).map_err(StoreError::from))
            .await
            .unwrap();
        let mut body = store.blob(key(hash)).await.unwrap().unwrap().body;
        let mut whole = 0;
        let error = loop {
            match body.next().await.expect("an error comes before the end") {
                Ok(piece) => whole += piece.len(),
                Err(error) => break error,
            }
        };
        assert!(whole < length, "all of a damaged file was given");
        assert!(error.to_string().contains("a stored part of a file is damaged"), "{error}");
        assert!(body.next().await.is_none());
    }
}
