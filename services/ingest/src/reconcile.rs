//! Repairs what redelivery cannot: resends jobs that were lost with a broker, removes staged files that nothing needs, and
//! sweeps orphaned files (see [`sweep`]).
//!
//! The process that holds the lease of the sweep does it. If it ends, the lease expires, and another process takes over. That
//! one watches from the beginning, so a repair can be late but not wrong.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bus::{Outcome, StagingKey};
use proto_json::{AnalyzeEcg, EcgStatus, FileKind, Queue, RecordId, Timestamp, UploadId};
use store::PendingEcg;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::uploads::restage;
use crate::{Config, Ports, sweep};

/// Maximum number of pending ECGs that are examined at a time.
const BATCH: usize = 200;

/// A staged file whose upload is not stored is kept this many times longer than one that is not needed.
const UNKNOWN_UPLOAD_FACTOR: u32 = 24;

/// Dead letters that are read at a time.
const DEAD_LETTERS: usize = 500;

/// Runs at every period, until dropped.
pub(crate) async fn run(config: &Config, ports: &Ports) {
    let holder = Uuid::now_v7();
    let mut period = tokio::time::interval(config.reconcile_every);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watched = HashMap::new();
    let mut unknown = HashMap::new();
    loop {
        period.tick().await;
        match ports.bus.staging.count().await {
            Ok(count) => metrics::gauge!("bedside_staged_files").set(count as f64),
            Err(error) => tracing::warn!(%error, "staged files could not be counted"),
        }
        match ports.maintenance.lease_sweep(holder, sweep::lease(config)).await {
            Ok(true) => {}
            Ok(false) => {
                watched.clear();
                unknown.clear();
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "the lease of the repairs could not be acquired");
                continue;
            }
        }
        if let Err(cause) = resend_lost_jobs(config, ports, &mut watched).await {
            tracing::warn!(cause, "lost jobs could not be searched");
        }
        if let Err(cause) = clear_stage(config, ports, &mut unknown, Moment::now()).await {
            tracing::warn!(cause, "unneeded staged files could not be removed");
        }
        if let Err(error) = sweep::sweep(config, ports, holder).await {
            tracing::warn!(%error, "orphaned files could not be removed");
        }
    }
}

/// The queues that the messages of an ECG pass in order. A message is enqueued before the previous one is acknowledged.
const QUEUES: [Queue; 3] = [Queue::Uploads, Queue::EcgJobs, Queue::EcgResults];

/// An ECG that has been pending for long.
struct Watched {
    /// Number of queues that certainly no longer contain a message of it.
    left: usize,
    /// Its message in the next queue, if there is one, was enqueued before this time.
    since: Timestamp,
}

/// Resends the job of each ECG that has been pending for long and whose upload, job and result are in no queue any more.
/// That is certain when, queue after queue, the oldest message is younger than the time before which the message of the ECG
/// must have been enqueued. ECGs with a dead letter are skipped: an operator decides about them.
async fn resend_lost_jobs(
    config: &Config,
    ports: &Ports,
    watched: &mut HashMap<RecordId, Watched>,
) -> Result<(), String> {
    let now = Timestamp::now();
    let before = ago(now, config.pending_after);
    let dead = dead_lettered_uploads(ports).await?;
    let pending = pending(ports, &dead, before, now).await?;
    watched.retain(|id, _| pending.iter().any(|ecg| ecg.id == *id));
    if pending.is_empty() {
        return Ok(());
    }
    let seen_at = Timestamp::now();
    // In the order of the queues: a message that leaves one queue meanwhile is found in the next one.
    let mut oldest = Vec::new();
    for queue in QUEUES {
        let status = ports.bus.queue.queue_status(queue).await.map_err(|error| error.to_string())?;
        oldest.push(status.oldest);
    }
    let asked_at = Timestamp::now();
    for ecg in pending {
        let watch = watched.entry(ecg.id).or_insert(Watched { left: 0, since: seen_at });
        watch.advance(&oldest, asked_at);
        if watch.left < QUEUES.len() {
            continue;
        }
        // Read last: a result that was in a queue before is stored by now.
        let record = ports.store.ecg(ecg.id).await.map_err(|error| error.to_string())?;
        let Some(record) = record.filter(|record| record.status == EcgStatus::Pending) else { continue };
        let job = AnalyzeEcg {
            ecg_id: ecg.id,
            upload_id: ecg.upload_id,
            mrn: ecg.mrn,
            received_at: ecg.received_at,
            recorded_at: record.recorded_at,
            signal: ecg.signal,
            options: ecg.options,
        };
        if let Err(failed) = restage(ports, &job).await {
            match failed {
                Outcome::Defer(cause) => return Err(cause),
                // Continue with the other ECGs.
                failed => {
                    tracing::warn!(ecg_id = %ecg.id, ?failed, "the signal of a lost job could not be staged again");
                    continue;
                }
            }
        }
        bus::send(&*ports.bus.queue, &job, None, None).await.map_err(|error| error.to_string())?;
        *watch = Watched { left: 1, since: Timestamp::now() };
        metrics::counter!("bedside_jobs_resent_total").increment(1);
        tracing::warn!(upload_id = %job.upload_id, ecg_id = %job.ecg_id, "job of a pending ECG resent");
    }
    Ok(())
}

/// The oldest ECGs that have been pending for long and have no dead letter, at most [`BATCH`].
async fn pending(
    ports: &Ports,
    dead: &HashSet<UploadId>,
    before: Timestamp,
    now: Timestamp,
) -> Result<Vec<PendingEcg>, String> {
    let mut limit = BATCH;
    loop {
        let mut pending =
            ports.store.pending_ecgs(before, now, limit).await.map_err(|error| error.to_string())?;
        metrics::gauge!("bedside_ecgs_pending_long").set(pending.len() as f64);
        let is_complete = pending.len() < limit;
        pending.retain(|ecg| !dead.contains(&ecg.upload_id));
        if is_complete || pending.len() >= BATCH {
            pending.truncate(BATCH);
            return Ok(pending);
        }
        // Dead letters fill the page and hide newer ECGs.
        limit *= 2;
    }
}

impl Watched {
    /// Advances queue by queue while the oldest message of each is too young to belong to this ECG.
    fn advance(&mut self, oldest: &[Option<Timestamp>], asked_at: Timestamp) {
        while let Some(oldest) = oldest.get(self.left)
            && oldest.is_none_or(|oldest| oldest > self.since)
        {
            self.left += 1;
            self.since = asked_at;
        }
    }
}

/// A moment on both clocks: the wall clock can jump, and the monotonic clock is valid only within this process.
#[derive(Debug, Clone, Copy)]
struct Moment {
    wall: Timestamp,
    monotonic: Instant,
}

impl Moment {
    fn now() -> Self {
        Moment { wall: Timestamp::now(), monotonic: Instant::now() }
    }
}

/// A file that was staged long ago and whose upload is not stored.
struct Unknown {
    staged_at: Timestamp,
    /// When this process has first seen it in this state.
    seen: Instant,
    /// Its message, if there is one, was enqueued before this time.
    since: Timestamp,
}

/// Removes staged files that nothing needs: those of stored uploads, except for the files of pending ECGs, and, after a much
/// longer time, those of uploads that are not stored. An upload that waits in its queue is needed however long it waits: its
/// message is certainly gone only when everything enqueued before it is. Uploads with a dead letter are kept: an operator
/// decides about them. Before a file is removed, its time is read again, because a retry of the client may stage it at any moment.
///
/// The wall clock alone never removes a file whose upload may still come: after the clock has jumped ahead, a file that was
/// just staged looks old. So this process must also have seen it for `stage_keep` on the monotonic clock, or for the whole
/// longer time if it was staged in the future, because its age is unknown then.
async fn clear_stage(
    config: &Config,
    ports: &Ports,
    unknown: &mut HashMap<StagingKey, Unknown>,
    now: Moment,
) -> Result<(), String> {
    let longer = config.stage_keep.saturating_mul(UNKNOWN_UPLOAD_FACTOR);
    let keep_after = ago(now.wall, config.stage_keep);
    let too_old = ago(now.wall, longer);
    let old = ports.bus.staging.list_old(keep_after, now.wall).await.map_err(|error| error.to_string())?;
    unknown.retain(|key, _| old.iter().any(|(other, _)| other == key));
    if old.is_empty() {
        return Ok(());
    }
    let seen_at = Timestamp::now();
    // Read before and after the queue: a message may become a dead letter in between, and a dead letter may be retried.
    let mut dead = dead_lettered_uploads(ports).await?;
    let waiting =
        ports.bus.queue.queue_status(Queue::Uploads).await.map_err(|error| error.to_string())?.oldest;
    dead.extend(dead_lettered_uploads(ports).await?);
    let mut done = Vec::new();
    for (key, staged_at) in old {
        let stored = ports.store.upload(key.upload).await.map_err(|error| error.to_string())?;
        let unneeded = match stored {
            _ if dead.contains(&key.upload) => {
                unknown.remove(&key);
                false
            }
            Some(stored) => !is_pending_signal(ports, key, &stored.receipt.files).await?,
            None if staged_at < too_old || staged_at.is_in_future_of(now.wall) => {
                let new = || Unknown { staged_at, seen: now.monotonic, since: seen_at };
                let file = unknown.entry(key).or_insert_with(new);
                if file.staged_at != staged_at {
                    // A retry has staged it again, and its message may follow.
                    *file = new();
                }
                let watch = if staged_at.is_in_future_of(now.wall) { longer } else { config.stage_keep };
                let is_watched = now.monotonic.saturating_duration_since(file.seen) >= watch;
                // The clock of the broker may differ.
                let margin = i64::try_from(config.stage_keep.as_millis()).unwrap_or(i64::MAX);
                is_watched && waiting.is_none_or(|oldest| oldest.millis_since(file.since) > margin)
            }
            None => false,
        };
        if unneeded {
            done.push((key, staged_at));
        }
    }
    for (key, staged_at) in done {
        let last = ports.bus.staging.staged_at(key).await.map_err(|error| error.to_string())?;
        if last != Some(staged_at) {
            continue;
        }
        ports.bus.staging.delete(key).await.map_err(|error| error.to_string())?;
        unknown.remove(&key);
        metrics::counter!("bedside_staged_files_cleared_total").increment(1);
        tracing::info!(upload_id = %key.upload, "unneeded staged file removed");
    }
    Ok(())
}

async fn is_pending_signal(
    ports: &Ports,
    key: StagingKey,
    files: &[proto_json::StoredFile],
) -> Result<bool, String> {
    for file in files.iter().filter(|file| file.kind == FileKind::Ecg) {
        let ecg = ports.store.ecg(file.id).await.map_err(|error| error.to_string())?;
        // Plot and details of its result may be staged, too: all files of a pending ECG are kept.
        if ecg.is_some_and(|ecg| ecg.upload_id == key.upload && ecg.status == EcgStatus::Pending) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Uploads with a dead letter.
async fn dead_lettered_uploads(ports: &Ports) -> Result<HashSet<UploadId>, String> {
    let mut uploads = HashSet::new();
    let mut count = 0;
    let mut after = None;
    loop {
        let letters = ports
            .bus
            .dead_letters
            .dead_letters(after, DEAD_LETTERS)
            .await
            .map_err(|error| error.to_string())?;
        count += letters.len();
        let Some(last) = letters.last() else {
            metrics::gauge!("bedside_dead_letters").set(count as f64);
            return Ok(uploads);
        };
        after = Some(last.id);
        uploads.extend(letters.iter().filter_map(bus::DeadLetter::upload_id));
    }
}

pub(crate) fn ago(now: Timestamp, duration: Duration) -> Timestamp {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_sub(millis)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use proto_json::{BlobHash, Mrn, UploadReceived};
    use store::NewUpload;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    #[test]
    fn ecg_is_lost_only_when_no_queue_can_contain_its_messages() {
        let mut watch = Watched { left: 0, since: at(100) };
        // Its upload may be the one that waits since 90.
        watch.advance(&[Some(at(90)), None, None], at(110));
        assert_eq!(watch.left, 0);
        // All uploads are younger; its job may have been sent until 120, so the one of 115 may be its own.
        watch.advance(&[Some(at(105)), Some(at(115)), None], at(120));
        assert_eq!(watch.left, 1);
        watch.advance(&[Some(at(105)), Some(at(115)), None], at(130));
        assert_eq!(watch.left, 1);
        // That job is gone, and the queue of results is empty.
        watch.advance(&[Some(at(105)), Some(at(125)), None], at(140));
        assert_eq!(watch.left, 3);
    }

    #[test]
    fn ecg_is_lost_at_once_when_all_queues_are_empty() {
        let mut watch = Watched { left: 0, since: at(100) };
        watch.advance(&[None, None, None], at(110));
        assert_eq!(watch.left, QUEUES.len());
    }

    #[tokio::test]
    async fn lost_job_of_an_ecg_received_in_the_future_is_sent_again() {
        let (_folder, ports, upload, _) = staged().await;
        let content = proto_json::HashedBytes::of(b"a signal".as_slice().into());
        let signal = proto_json::BlobInfo::of(&content, proto_json::MediaType::Csv);
        let id = upload.upload_id.record("ecg", 0);
        let year = Timestamp::now().plus_millis(365 * 86_400_000);
        let record = NewUpload {
            received_at: year,
            stored_at: year,
            ecgs: vec![store::NewEcg {
                id,
                recorded_at: None,
                signal: Some(signal),
                options: proto_json::SignalOptions::default(),
                picture: None,
                reported: None,
            }],
            ..record_of(&upload)
        };
        ports.store.store_upload(&record, vec![content]).await.unwrap();
        resend_lost_jobs(&Config::default(), &ports, &mut HashMap::new()).await.unwrap();
        let mut jobs = ports.bus.queue.consume(Queue::EcgJobs, 1).await.unwrap();
        let job: AnalyzeEcg = jobs.next().await.unwrap().message().unwrap();
        assert_eq!((job.ecg_id, job.received_at), (id, year));
    }

    #[tokio::test]
    async fn dead_letters_do_not_hide_newer_lost_jobs() {
        let (_folder, ports, upload, _) = staged().await;
        let content = proto_json::HashedBytes::of(b"a signal".as_slice().into());
        let signal = proto_json::BlobInfo::of(&content, proto_json::MediaType::Csv);
        let count = 2 * BATCH + 1;
        for number in 0..=count {
            let id = UploadId::generate();
            let record = NewUpload {
                id,
                fingerprint: BlobHash::of(&number.to_le_bytes()),
                received_at: at(1_000 + number as i64),
                ecgs: vec![store::NewEcg {
                    id: id.record("ecg", 0),
                    recorded_at: None,
                    signal: Some(signal.clone()),
                    options: proto_json::SignalOptions::default(),
                    picture: None,
                    reported: None,
                }],
                ..record_of(&upload)
            };
            ports.store.store_upload(&record, vec![content.clone()]).await.unwrap();
            if number == count {
                continue;
            }
            let message = UploadReceived { upload_id: id, ..upload.clone() };
            bus::send(&*ports.bus.queue, &message, None, None).await.unwrap();
        }
        let mut deliveries = ports.bus.queue.consume(Queue::Uploads, count).await.unwrap();
        for _ in 0..count {
            deliveries.next().await.unwrap().dead_letter("no").await.unwrap();
        }
        resend_lost_jobs(&Config::default(), &ports, &mut HashMap::new()).await.unwrap();
        let mut jobs = ports.bus.queue.consume(Queue::EcgJobs, 1).await.unwrap();
        let job: AnalyzeEcg = jobs.next().await.unwrap().message().unwrap();
        assert_eq!(job.received_at, at(1_000 + count as i64));
    }

    /// Staged files are kept for an hour, or for a day if their upload is not stored.
    fn hour() -> Config {
        Config { stage_keep: Duration::from_secs(3_600), ..Config::default() }
    }

    fn hours_on(from: Moment, hours: i64) -> Moment {
        let monotonic = from.monotonic + Duration::from_secs(hours.unsigned_abs() * 3_600);
        Moment { wall: from.wall.plus_millis(hours * 3_600_000), monotonic }
    }

    /// The ports, and an upload with a staged file.
    async fn staged() -> (tempfile::TempDir, Ports, UploadReceived, StagingKey) {
        let (folder, ports) = crate::local_ports();
        let bytes: &'static [u8] = b"an image";
        let key = StagingKey { upload: UploadId::generate(), sha256: BlobHash::of(bytes) };
        ports.bus.staging.put_bytes(key, bytes.into()).await.unwrap();
        let upload = UploadReceived {
            upload_id: key.upload,
            mrn: Mrn::new(7).unwrap(),
            uploaded_by: None,
            received_at: Timestamp::now(),
            recorded_at: None,
            name: None,
            rename: proto_json::Rename::No,
            heart_rate: None,
            files: Vec::new(),
            signal_options: proto_json::SignalOptions::default(),
            fingerprint: key.sha256,
        };
        (folder, ports, upload, key)
    }

    #[tokio::test]
    async fn staged_file_is_kept_while_its_upload_is_in_the_queue() {
        let config = Config { stage_keep: Duration::from_millis(1), ..Config::default() };
        let (_folder, ports, upload, key) = staged().await;
        bus::send(&*ports.bus.queue, &upload, None, None).await.unwrap();
        let mut unknown = HashMap::new();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            clear_stage(&config, &ports, &mut unknown, Moment::now()).await.unwrap();
            assert!(ports.bus.staging.get(key).await.unwrap().is_some(), "its upload is in the queue");
        }
        // When an upload that was enqueued later is the oldest, the first one has left the queue.
        let behind = UploadReceived { upload_id: UploadId::generate(), ..upload };
        bus::send(&*ports.bus.queue, &behind, None, None).await.unwrap();
        let mut deliveries = ports.bus.queue.consume(Queue::Uploads, 1).await.unwrap();
        deliveries.next().await.unwrap().ack().await.unwrap();
        clear_stage(&config, &ports, &mut unknown, Moment::now()).await.unwrap();
        assert!(ports.bus.staging.get(key).await.unwrap().is_none(), "its upload has left the queue");
    }

    #[tokio::test]
    async fn staged_file_of_an_unknown_upload_is_removed_after_the_longer_time() {
        let (_folder, ports, _, key) = staged().await;
        let mut unknown = HashMap::new();
        let start = Moment::now();
        for hours in [23, 25] {
            clear_stage(&hour(), &ports, &mut unknown, hours_on(start, hours)).await.unwrap();
            assert!(ports.bus.staging.get(key).await.unwrap().is_some(), "{hours}: a retry may still come");
        }
        clear_stage(&hour(), &ports, &mut unknown, hours_on(start, 26)).await.unwrap();
        assert!(ports.bus.staging.get(key).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn staged_file_of_an_unknown_upload_survives_a_clock_that_jumps() {
        const YEAR_HOURS: i64 = 365 * 24;
        for (jump, stays_until_hours, gone_at_hours) in [(YEAR_HOURS, 0, 1), (-YEAR_HOURS, 23, 24)] {
            let (_folder, ports, _, key) = staged().await;
            let mut unknown = HashMap::new();
            let start = Moment::now();
            let mut is_kept_after = async |hours: i64| {
                let later = hours_on(start, hours);
                let jumped = Moment { wall: later.wall.plus_millis(jump * 3_600_000), ..later };
                clear_stage(&hour(), &ports, &mut unknown, jumped).await.unwrap();
                ports.bus.staging.get(key).await.unwrap().is_some()
            };
            assert!(is_kept_after(0).await, "{jump}: its message may come at any moment");
            assert!(is_kept_after(stays_until_hours).await, "{jump}");
            assert!(!is_kept_after(gone_at_hours).await, "{jump}: it is removed in the end");
        }
    }

    async fn is_staged(ports: &Ports, key: StagingKey) -> bool {
        ports.bus.staging.get(key).await.unwrap().is_some()
    }

    async fn is_stored(ports: &Ports, StagingKey { upload, sha256 }: StagingKey) -> bool {
        ports.files.blob(store::BlobKey { upload, sha256 }).await.unwrap().is_some()
    }

    /// Two runs, with more than the longer time before each.
    async fn run_twice(ports: &Ports) {
        let mut unknown = HashMap::new();
        let start = Moment::now();
        for hours in [25, 50] {
            clear_stage(&hour(), ports, &mut unknown, hours_on(start, hours)).await.unwrap();
        }
    }

    fn record_of(upload: &UploadReceived) -> NewUpload {
        NewUpload {
            id: upload.upload_id,
            fingerprint: upload.fingerprint,
            mrn: upload.mrn,
            uploaded_by: None,
            received_at: upload.received_at,
            stored_at: upload.received_at,
            name: None,
            rename: proto_json::Rename::No,
            heart_rate: None,
            images: Vec::new(),
            ecgs: Vec::new(),
            files: Vec::new(),
        }
    }

    #[tokio::test]
    async fn staged_file_of_a_stored_upload_is_removed() {
        let (_folder, ports, upload, key) = staged().await;
        let content = ports.bus.staging.get(key).await.unwrap().unwrap();
        let content = bus::collect(content.body, content.bytes).await.unwrap();
        let mut record = record_of(&upload);
        record.files.push(proto_json::StoredFile {
            id: upload.upload_id.record("image", 0),
            kind: FileKind::MedicalImage,
            sha256: key.sha256,
            file_name: None,
        });
        let files = vec![proto_json::HashedBytes::of(content)];
        ports.store.store_upload(&record, files).await.unwrap();
        run_twice(&ports).await;
        assert_eq!((is_staged(&ports, key).await, is_stored(&ports, key).await), (false, true));
    }

    /// Delivers an image within a message.
    async fn deliver_inside(ports: &Ports, upload: &UploadReceived, bytes: &'static [u8]) -> StagingKey {
        let content = proto_json::HashedBytes::of(bytes.into());
        let file = bus::Attachment { upload: upload.upload_id, content, consumer_only: true };
        let key = file.key();
        let blob = proto_json::BlobInfo::of(&file.content, proto_json::MediaType::Png);
        let files = vec![proto_json::StagedFile { kind: FileKind::MedicalImage, blob }];
        let upload = UploadReceived { files, fingerprint: key.sha256, ..upload.clone() };
        bus::send_with(&*ports.bus.queue, vec![file], &upload, None, None).await.unwrap();
        let mut deliveries = ports.bus.queue.consume(Queue::Uploads, 1).await.unwrap();
        let delivery = std::sync::Arc::new(deliveries.next().await.unwrap());
        assert_eq!(crate::uploads::take(ports, &delivery).await, bus::Outcome::Done);
        std::sync::Arc::into_inner(delivery).unwrap().ack().await.unwrap();
        key
    }

    #[tokio::test]
    async fn refused_upload_is_done_and_changes_no_stored_file() {
        let (_folder, ports, upload, key) = staged().await;
        let stored = deliver_inside(&ports, &upload, b"an image").await;
        assert!(is_stored(&ports, stored).await);
        let refused = deliver_inside(&ports, &upload, b"another image").await;
        run_twice(&ports).await;
        assert_eq!((is_staged(&ports, key).await, is_stored(&ports, refused).await), (false, false));
        assert!(is_stored(&ports, stored).await);
    }

    #[tokio::test]
    async fn staged_file_of_a_dead_letter_is_kept_until_the_dead_letter_is_dropped() {
        let (_folder, ports, upload, key) = staged().await;
        bus::send(&*ports.bus.queue, &upload, None, None).await.unwrap();
        let mut deliveries = ports.bus.queue.consume(Queue::Uploads, 1).await.unwrap();
        deliveries.next().await.unwrap().dead_letter("no").await.unwrap();
        run_twice(&ports).await;
        assert!(is_staged(&ports, key).await);
        let letters = ports.bus.dead_letters.dead_letters(None, 9).await.unwrap();
        ports.bus.dead_letters.delete_dead_letter(letters[0].id).await.unwrap();
        run_twice(&ports).await;
        assert!(!is_staged(&ports, key).await);
    }
}
