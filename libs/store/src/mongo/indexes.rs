//! Collections and indexes. With the indexes, a read costs the same however long the history is.

use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;

use super::failure::{PrepareError, is_code, prepared};
use super::{Db, schema};

fn index(keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).build()
}

fn unique(keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).options(IndexOptions::builder().unique(true).build()).build()
}

/// An index of the documents that the filter selects.
fn partial(keys: Document, filter: Document) -> IndexModel {
    let options = IndexOptions::builder().partial_filter_expression(filter).build();
    IndexModel::builder().keys(keys).options(options).build()
}

/// Server code of a collection that exists already.
const NAMESPACE_EXISTS: i32 = 48;

/// Creates the collections and indexes that are missing.
pub(super) async fn ensure(db: &Db) -> Result<(), PrepareError> {
    // A transaction can create a collection, but then conflicts with every other one that does.
    let names = [
        db.patients.name(),
        db.uploads.name(),
        db.incomplete.name(),
        db.alarm_limits.name(),
        db.alarm_rules.name(),
        db.alarm_receivers.name(),
        db.wards.name(),
        db.beds.name(),
        db.admissions.name(),
        db.corrections.name(),
        db.fates.name(),
        db.erased.name(),
        db.holds.name(),
        db.merged_items.name(),
        db.users.name(),
        schema::SCHEMA,
    ];
    for name in names {
        let created = async {
            match db.database.create_collection(name).await {
                Err(error) if is_code(&error, NAMESPACE_EXISTS) => Ok(()),
                created => created,
            }
        };
        prepared(db.limit, created).await?;
    }
    prepared(db.limit, db.uploads.create_index(index(doc! { "mrn": 1, "_id": 1 }))).await?;
    let corrections = index(doc! { "mrns": 1, "at": -1, "_id": -1 });
    prepared(db.limit, db.corrections.create_index(corrections)).await?;
    let running = partial(doc! { "at": 1 }, doc! { "running": true });
    prepared(db.limit, db.corrections.create_index(running)).await?;
    prepared(db.limit, db.merged_items.create_index(index(doc! { "merge": 1, "_id": 1 }))).await?;
    let history = || index(doc! { "mrn": 1, "at": -1, "_id": -1 });
    prepared(db.limit, db.heart_rates.create_index(history())).await?;
    prepared(db.limit, db.ecgs.create_index(history())).await?;
    let pending = partial(doc! { "received_at": 1, "_id": 1 }, doc! { "status": "pending" });
    prepared(db.limit, db.ecgs.create_index(pending)).await?;
    prepared(db.limit, db.images.create_index(history())).await?;
    let former_names = index(doc! { "mrn": 1, "replaced_at": -1, "_id": -1 });
    prepared(db.limit, db.former_names.create_index(former_names)).await?;
    // Names of wards are unique, and a bed or a patient has at most one stay that has not ended.
    prepared(db.limit, db.wards.create_index(unique(doc! { "name_key": 1 }))).await?;
    let admissions = index(doc! { "mrn": 1, "at": -1, "_id": -1 });
    prepared(db.limit, db.admissions.create_index(admissions)).await?;
    for key in ["bed", "patient"] {
        let open = IndexOptions::builder().unique(true).sparse(true).build();
        let open = IndexModel::builder().keys(doc! { format!("open.{key}"): 1 }).options(open).build();
        prepared(db.limit, db.admissions.create_index(open)).await?;
    }
    // One copy of a file for each upload, the files without a record, and the index that GridFS requires.
    prepared(db.limit, db.files.create_index(unique(doc! { "metadata.upload": 1, "filename": 1 }))).await?;
    let orphaned = partial(doc! { "uploadDate": 1 }, doc! { "metadata.referenced": false });
    prepared(db.limit, db.files.create_index(orphaned)).await?;
    prepared(db.limit, db.chunks.create_index(unique(doc! { "files_id": 1, "n": 1 }))).await?;
    let streams = index(doc! { "mrn": 1, "opened_at": -1, "_id": -1 });
    prepared(db.limit, db.waveform_streams.create_index(streams)).await?;
    prepared(db.limit, db.waveform_streams.create_index(index(doc! { "opened_at": 1 }))).await?;
    prepared(db.limit, db.waveform_pieces.create_index(index(doc! { "stream": 1, "stored_us": 1 }))).await?;
    prepared(db.limit, db.waveform_pieces.create_index(index(doc! { "part": 1, "stored_us": 1 }))).await?;
    let times = index(doc! { "stream": 1, "channel": 1, "to_us": 1 });
    prepared(db.limit, db.waveforms.create_index(times)).await?;
    prepared(db.limit, db.waveforms.create_index(index(doc! { "to_us": 1 }))).await?;
    let of_patient = partial(doc! { "mrn": 1, "_id": -1 }, doc! { "mrn": { "$exists": true } });
    prepared(db.limit, db.audit.create_index(of_patient)).await?;
    prepared(db.limit, db.audit.create_index(index(doc! { "client": 1, "_id": -1 }))).await?;
    prepared(
        db.limit,
        db.audit_heads.create_index(partial(doc! { "at": 1 }, doc! { "at": { "$exists": true } })),
    )
    .await?;
    // Also creates the collection, which the service has no permission for.
    for keys in [
        doc! { "raised_at": -1, "_id": -1 },
        doc! { "mrn": 1, "raised_at": -1, "_id": -1 },
        doc! { "priority": 1, "raised_at": -1, "_id": -1 },
    ] {
        prepared(db.limit, db.alarms.create_index(index(keys))).await?;
    }
    let options =
        IndexOptions::builder().unique(true).partial_filter_expression(doc! { "open": true }).build();
    let open = IndexModel::builder().keys(doc! { "mrn": 1, "rule": 1 }).options(options).build();
    prepared(db.limit, db.alarms.create_index(open)).await?;
    prepared(db.limit, db.sessions.create_index(index(doc! { "name": 1 }))).await?;
    prepared(db.limit, db.sessions.create_index(index(doc! { "expires_at": 1 }))).await?;
    prepared(db.limit, db.login_attempts.create_index(index(doc! { "until": 1 }))).await?;
    Ok(())
}
