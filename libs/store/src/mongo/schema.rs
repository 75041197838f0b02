//! Version of the stored documents, and migrations.
//!
//! The collection `schema` has one document with the version. Ingest, the only writer, writes it at its first start, and runs
//! the migrations that lead from the stored version to [`VERSION`] before it takes work. Ingest and query end at their start
//! if the database has a newer version. Query does not wait for a migration.

use futures::future::BoxFuture;
use mongodb::bson::{Document, doc};
use serde::Deserialize;

use crate::StoreError;

use super::Db;
use super::failure::{PrepareError, prepared};

/// The version that this program reads and writes. When it is increased, [`MIGRATIONS`] gets a function, and a test stores
/// documents of the old version, migrates them and reads them.
pub(super) const VERSION: i32 = 1;

/// A migration to the next version. It can be interrupted and repeated.
type Migration = for<'a> fn(&'a Db) -> BoxFuture<'a, Result<(), PrepareError>>;

/// `MIGRATIONS[n]` leads from version `n + 1` to version `n + 2`.
const MIGRATIONS: [Migration; VERSION as usize - 1] = [];

/// Name of the collection, and `_id` of its document.
pub(super) const SCHEMA: &str = "schema";

#[derive(Deserialize)]
struct SchemaDocument {
    version: i32,
}

async fn stored(db: &Db) -> Result<Option<i32>, PrepareError> {
    let schemas = db.database.collection::<SchemaDocument>(SCHEMA);
    let found = schemas.find_one(doc! { "_id": SCHEMA }).max_time(db.limit);
    Ok(prepared(db.limit, found).await?.map(|schema| schema.version))
}

/// Whether the database has a patient.
pub(super) async fn has_patient(db: &Db) -> Result<bool, PrepareError> {
    let patients = db.patients.clone_with_type::<Document>();
    let one = patients.find_one(doc! {}).projection(doc! { "_id": 1 }).max_time(db.limit);
    Ok(prepared(db.limit, one).await?.is_some())
}

/// Writes the version of a new database, or migrates an older one.
pub(super) async fn ensure(db: &Db) -> Result<(), PrepareError> {
    let Some(mut version) = stored(db).await? else {
        if has_patient(db).await? {
            return Err(PrepareError::Schema { found: 0, needed: VERSION });
        }
        return save(db, VERSION).await;
    };
    if version > VERSION {
        return Err(PrepareError::Schema { found: version, needed: VERSION });
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(version - 1).unwrap_or(0)) {
        migration(db).await?;
        version += 1;
        save(db, version).await?;
        tracing::info!(version, "the database was migrated");
    }
    Ok(())
}

async fn save(db: &Db, version: i32) -> Result<(), PrepareError> {
    let schemas = db.database.collection::<Document>(SCHEMA);
    let update = doc! { "$set": { "version": version } };
    prepared(db.limit, schemas.update_one(doc! { "_id": SCHEMA }, update).upsert(true)).await.map(drop)
}

/// Fails if the database has another version. A new database has none.
pub(super) async fn verify(db: &Db) -> Result<(), PrepareError> {
    match stored(db).await? {
        Some(VERSION) | None => Ok(()),
        Some(found) if found > VERSION => Err(PrepareError::Schema { found, needed: VERSION }),
        Some(_) => {
            Err(StoreError::unavailable("the database has not been migrated to this version yet").into())
        }
    }
}
