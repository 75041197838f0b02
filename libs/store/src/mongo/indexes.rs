//! Indexes: what makes each read cost the same, however long the history.

use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;

use super::Db;
use super::failure::{PrepareError, prepared};

fn index(keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).build()
}

fn unique(keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).options(IndexOptions::builder().unique(true).build()).build()
}

/// Only of documents that the filter selects.
fn partial(keys: Document, filter: Document) -> IndexModel {
    let options = IndexOptions::builder().partial_filter_expression(filter).build();
    IndexModel::builder().keys(keys).options(options).build()
}

/// Makes those that are not there.
pub(super) async fn ensure(db: &Db) -> Result<(), PrepareError> {
    let history = || index(doc! { "mrn": 1, "at": -1, "_id": -1 });
    prepared(db.limit, db.heart_rates.create_index(history())).await?;
    prepared(db.limit, db.ecgs.create_index(history())).await?;
    let open = partial(doc! { "received_at": 1, "_id": 1 }, doc! { "open": true });
    prepared(db.limit, db.ecgs.create_index(open)).await?;
    prepared(db.limit, db.images.create_index(history())).await?;
    let former_names = index(doc! { "mrn": 1, "replaced_at": -1, "_id": -1 });
    prepared(db.limit, db.former_names.create_index(former_names)).await?;
    // One file per content, and the index that GridFS asks for.
    prepared(db.limit, db.files.create_index(unique(doc! { "filename": 1 }))).await?;
    prepared(db.limit, db.chunks.create_index(unique(doc! { "files_id": 1, "n": 1 }))).await?;
    Ok(())
}
