//! Looks after what redelivery cannot heal: jobs that were lost with a broker, and files left on the stage, or in the store
//! without a record.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bus::{Outcome, StagingKey};
use proto_json::{AnalyzeEcg, EcgStatus, FileKind, Queue, RecordId, Timestamp, UploadId};
use store::Removal;
use tokio::time::MissedTickBehavior;

use crate::uploads::restage;
use crate::{Config, Ports};

/// ECGs that are looked after at a time.
const BATCH: usize = 200;

/// A file whose upload never came to be is kept this many times as long as one that is known not to be needed.
const UNKNOWN_UPLOAD_FACTOR: u32 = 24;

/// Dead letters that are asked for at a time.
const DEAD_LETTERS: usize = 500;

/// Looks at every period, until dropped.
pub(crate) async fn run(config: &Config, ports: &Ports) {
    let mut period = tokio::time::interval(config.reconcile_every);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watched = HashMap::new();
    let mut unknown = HashMap::new();
    loop {
        period.tick().await;
        if let Err(cause) = resend_lost_jobs(config, ports, &mut watched).await {
            tracing::warn!(cause, "could not look for lost jobs");
        }
        if let Err(cause) = clear_stage(config, ports, &mut unknown, Moment::now()).await {
            tracing::warn!(cause, "could not look for files left on the stage");
        }
    }
}

/// The way of an ECG through the queues: each message of it is enqueued before the one ahead of it is acknowledged.
const WAY: [Queue; 3] = [Queue::Uploads, Queue::EcgJobs, Queue::EcgResults];

/// What is known of an ECG that has been pending for long.
struct Watched {
    /// How many of the queues of its way its messages have certainly left.
    left: usize,
    /// Its message in the next queue was enqueued before this time, if at all.
    since: Timestamp,
}

/// Sends the job again of each ECG that has been pending for long, where neither its upload, nor its job, nor its result
/// can be in a queue any more. That is certain when, queue after queue, the oldest message is younger than the time by
/// which the ECG's own must have been there. An ECG of which a message is a dead letter is left to people.
async fn resend_lost_jobs(
    config: &Config,
    ports: &Ports,
    watched: &mut HashMap<RecordId, Watched>,
) -> Result<(), String> {
    let now = Timestamp::now();
    let before = ago(now, config.pending_after);
    let pending = ports.store.pending_ecgs(before, now, BATCH).await.map_err(|error| error.to_string())?;
    metrics::gauge!("bedside_ecgs_pending_long").set(pending.len() as f64);
    let dead = dead_uploads(ports).await?;
    watched.retain(|id, _| pending.iter().any(|ecg| ecg.id == *id));
    if pending.is_empty() {
        return Ok(());
    }
    let seen_at = Timestamp::now();
    // In the order of the way: a message that leaves one queue meanwhile is found in the next.
    let mut oldest = Vec::new();
    for queue in WAY {
        let status = ports.bus.queue.queue_status(queue).await.map_err(|error| error.to_string())?;
        oldest.push(status.oldest);
    }
    let asked_at = Timestamp::now();
    for ecg in pending {
        if dead.contains(&ecg.upload_id) {
            continue;
        }
        let watch = watched.entry(ecg.id).or_insert(Watched { left: 0, since: seen_at });
        watch.advance(&oldest, asked_at);
        if watch.left < WAY.len() {
            continue;
        }
        // It is asked last: a result that was in a queue before is stored by now.
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
                // The others need not wait for this one.
                failed => {
                    tracing::warn!(ecg_id = %ecg.id, ?failed, "the signal of a lost job could not be staged again");
                    continue;
                }
            }
        }
        bus::send(&*ports.bus.queue, &job, None, None).await.map_err(|error| error.to_string())?;
        *watch = Watched { left: 1, since: Timestamp::now() };
        metrics::counter!("bedside_jobs_resent_total").increment(1);
        tracing::warn!(upload_id = %job.upload_id, ecg_id = %job.ecg_id, "job of a pending ECG sent again");
    }
    Ok(())
}

impl Watched {
    /// Goes on from queue to queue as long as the oldest message of each is too young to be of this ECG.
    fn advance(&mut self, oldest: &[Option<Timestamp>], asked_at: Timestamp) {
        while let Some(oldest) = oldest.get(self.left)
            && oldest.is_none_or(|oldest| oldest > self.since)
        {
            self.left += 1;
            self.since = asked_at;
        }
    }
}

/// A moment by both clocks: the wall clock can jump, and the monotonic one knows only this process.
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

/// A file on the stage whose upload is not stored, long after it was staged.
struct Unknown {
    staged_at: Timestamp,
    /// When it was first seen so.
    seen: Instant,
    /// Its message, if there ever was one, was enqueued before this time.
    since: Timestamp,
}

/// Removes files from the stage that nothing needs: those of stored uploads, but for signals that still wait for their
/// result; and, after a much longer time, those of uploads that never came to be. An upload that waits in its queue,
/// however long, is not one of these: its message is certainly gone only when everything enqueued before is.
///
/// Such a file may have come to the store, without a record that refers to it: the upload failed at another file, its
/// message was lost with a broker, it was refused because its id was taken meanwhile. The store removes it first: ended
/// in between, the file on the stage has this done again. A retry of the client may arrive at any moment; the store leaves
/// what was brought since the time by which the file is judged here, and the stage is looked at again before the end.
///
/// The wall clock alone never removes a file whose upload may still come: a clock that jumped ahead makes a file look old that
/// was staged a moment ago. So this process must have seen it for `stage_keep`, too, by the monotonic clock; and for the
/// whole longer time if it was staged in the future, which is when nobody knows its age.
async fn clear_stage(
    config: &Config,
    ports: &Ports,
    unknown: &mut HashMap<StagingKey, Unknown>,
    now: Moment,
) -> Result<(), String> {
    let longer = config.stage_keep.saturating_mul(UNKNOWN_UPLOAD_FACTOR);
    let keep_after = ago(now.wall, config.stage_keep);
    let given_up = ago(now.wall, longer);
    let staged = ports.bus.staging.list().await.map_err(|error| error.to_string())?;
    metrics::gauge!("bedside_staged_files").set(staged.len() as f64);
    let is_old = |at: Timestamp| at < keep_after || at.is_in_future_of(now.wall);
    let old: Vec<_> = staged.into_iter().filter(|(_, at)| is_old(*at)).collect();
    unknown.retain(|key, _| old.iter().any(|(other, _)| other == key));
    if old.is_empty() {
        return Ok(());
    }
    let seen_at = Timestamp::now();
    // Asked for before and after the queue: a message may become a dead letter in between, and a dead letter may be sent
    // again.
    let mut dead = dead_uploads(ports).await?;
    let waiting =
        ports.bus.queue.queue_status(Queue::Uploads).await.map_err(|error| error.to_string())?.oldest;
    dead.extend(dead_uploads(ports).await?);
    let mut done = Vec::new();
    for (key, staged_at) in old {
        let stored = ports.store.upload(key.upload).await.map_err(|error| error.to_string())?;
        let before = if stored.is_some() { keep_after } else { given_up };
        let unneeded = match stored {
            _ if dead.contains(&key.upload) => {
                unknown.remove(&key);
                false
            }
            Some(stored) => !is_pending_signal(ports, key, &stored.receipt.files).await?,
            None if staged_at < given_up || staged_at.is_in_future_of(now.wall) => {
                let new = || Unknown { staged_at, seen: now.monotonic, since: seen_at };
                let file = unknown.entry(key).or_insert_with(new);
                if file.staged_at != staged_at {
                    // Staged once more by a retry, the message of which may come now.
                    *file = new();
                }
                let watch = if staged_at.is_in_future_of(now.wall) { longer } else { config.stage_keep };
                let is_watched = now.monotonic.saturating_duration_since(file.seen) >= watch;
                // The clock of the broker may be another one than ours.
                let margin = i64::try_from(config.stage_keep.as_millis()).unwrap_or(i64::MAX);
                is_watched && waiting.is_none_or(|oldest| oldest.millis_since(file.since) > margin)
            }
            None => false,
        };
        if !unneeded {
            continue;
        }
        let removal = ports.store.remove_abandoned(key.upload, key.sha256, before).await;
        match removal.map_err(|error| error.to_string())? {
            Removal::NotYet => continue,
            Removal::Kept => {}
            Removal::Removed => {
                metrics::counter!("bedside_abandoned_files_removed_total").increment(1);
                tracing::info!(upload_id = %key.upload, "stored file that nothing refers to removed");
            }
        }
        done.push((key, staged_at));
    }
    if done.is_empty() {
        return Ok(());
    }
    let staged = ports.bus.staging.list().await.map_err(|error| error.to_string())?;
    let staged: HashMap<StagingKey, Timestamp> = staged.into_iter().collect();
    for (key, staged_at) in done {
        if staged.get(&key) != Some(&staged_at) {
            continue;
        }
        ports.bus.staging.delete(key).await.map_err(|error| error.to_string())?;
        unknown.remove(&key);
        metrics::counter!("bedside_staged_files_cleared_total").increment(1);
        tracing::info!(upload_id = %key.upload, "file left on the stage removed");
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
        // Its picture and its detail may be on their way, too: nothing of a pending ECG goes.
        if ecg.is_some_and(|ecg| ecg.upload_id == key.upload && ecg.status == EcgStatus::Pending) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Uploads of which a message is a dead letter: a person decides what becomes of them.
async fn dead_uploads(ports: &Ports) -> Result<HashSet<UploadId>, String> {
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

fn ago(now: Timestamp, duration: Duration) -> Timestamp {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_sub(millis)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use proto_json::{BlobHash, Mrn, UploadReceived};
    use store::{NewUpload, Origin};

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    #[test]
    fn an_ecg_is_lost_only_when_every_queue_of_its_way_is_known_to_be_past_it() {
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
    fn an_ecg_is_lost_at_once_when_all_queues_are_empty() {
        let mut watch = Watched { left: 0, since: at(100) };
        watch.advance(&[None, None, None], at(110));
        assert_eq!(watch.left, WAY.len());
    }

    #[tokio::test]
    async fn lost_job_of_an_ecg_received_in_the_future_is_sent_again() {
        let (_folder, ports, upload, _) = staged().await;
        let content = proto_json::HashedBytes::of(b"a signal".as_slice().into());
        let signal = proto_json::BlobInfo {
            sha256: content.sha256(),
            bytes: 8,
            media_type: proto_json::MediaType::Csv,
            file_name: None,
            width: None,
            height: None,
        };
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

    /// Files stay for an hour, and for a day if nothing is known of their upload.
    fn hour() -> Config {
        Config { stage_keep: Duration::from_secs(3_600), ..Config::default() }
    }

    fn hours_on(from: Moment, hours: i64) -> Moment {
        let monotonic = from.monotonic + Duration::from_secs(hours.unsigned_abs() * 3_600);
        Moment { wall: from.wall.plus_millis(hours * 3_600_000), monotonic }
    }

    /// Everything in one folder, and an upload with one file, staged.
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
    async fn files_of_an_upload_in_the_queue_stay_however_long_it_waits_and_others_go() {
        let config = Config { stage_keep: Duration::from_millis(1), ..Config::default() };
        let (_folder, ports, upload, key) = staged().await;
        bus::send(&*ports.bus.queue, &upload, None, None).await.unwrap();
        let mut unknown = HashMap::new();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            clear_stage(&config, &ports, &mut unknown, Moment::now()).await.unwrap();
            assert!(ports.bus.staging.get(key).await.unwrap().is_some(), "its upload still waits");
        }
        // Another upload is behind it in the queue; once that one is the oldest, the first has gone.
        let behind = UploadReceived { upload_id: UploadId::generate(), ..upload };
        bus::send(&*ports.bus.queue, &behind, None, None).await.unwrap();
        let mut deliveries = ports.bus.queue.consume(Queue::Uploads, 1).await.unwrap();
        deliveries.next().await.unwrap().ack().await.unwrap();
        clear_stage(&config, &ports, &mut unknown, Moment::now()).await.unwrap();
        assert!(ports.bus.staging.get(key).await.unwrap().is_none(), "nothing needs it any more");
    }

    #[tokio::test]
    async fn files_of_an_upload_that_never_came_to_be_go_after_the_longer_time() {
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
    async fn file_of_an_upload_on_its_way_survives_a_clock_that_jumps() {
        const YEAR_HOURS: i64 = 365 * 24;
        for (jump, stays_until_hours, gone_at_hours) in [(YEAR_HOURS, 0, 1), (-YEAR_HOURS, 23, 24)] {
            let (_folder, ports, _, key) = staged().await;
            let mut unknown = HashMap::new();
            let start = Moment::now();
            let mut look = async |hours: i64| {
                let later = hours_on(start, hours);
                let jumped = Moment { wall: later.wall.plus_millis(jump * 3_600_000), ..later };
                clear_stage(&hour(), &ports, &mut unknown, jumped).await.unwrap();
                ports.bus.staging.get(key).await.unwrap().is_some()
            };
            assert!(look(0).await, "{jump}: its message may come at any moment");
            assert!(look(stays_until_hours).await, "{jump}");
            assert!(!look(gone_at_hours).await, "{jump}: it does not stay for ever");
        }
    }

    /// Brings the staged file to the store, as an upload does that fails afterwards.
    async fn bring(ports: &Ports, upload: &UploadReceived, key: StagingKey) {
        let staged = ports.bus.staging.get(key).await.unwrap().unwrap();
        let from = Origin { upload: upload.upload_id, received_at: upload.received_at };
        ports.store.put_blob(from, key.sha256, staged.bytes, staged.body).await.unwrap();
    }

    /// Whether the file is on the stage, and whether it is in the store.
    async fn places(ports: &Ports, key: StagingKey) -> (bool, bool) {
        let staged = ports.bus.staging.get(key).await.unwrap().is_some();
        (staged, ports.store.blob(key.sha256).await.unwrap().is_some())
    }

    /// Two looks, with more than the longer time before each.
    async fn look_twice(ports: &Ports) {
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
    async fn a_stored_file_of_an_upload_that_never_came_to_be_goes_with_the_staged_one() {
        let (_folder, ports, upload, key) = staged().await;
        bring(&ports, &upload, key).await;
        look_twice(&ports).await;
        assert_eq!(places(&ports, key).await, (false, false));
    }

    #[tokio::test]
    async fn a_stored_file_that_was_brought_lately_stays_and_so_does_the_staged_one() {
        let (_folder, ports, upload, key) = staged().await;
        // Known not to be needed: another content is stored under the id.
        let mut record = record_of(&upload);
        record.fingerprint = BlobHash::of(b"other");
        ports.store.store_upload(&record, Vec::new()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        let between = Moment::now();
        bring(&ports, &upload, key).await;
        let mut unknown = HashMap::new();
        clear_stage(&hour(), &ports, &mut unknown, hours_on(between, 1)).await.unwrap();
        assert_eq!(places(&ports, key).await, (true, true));
        clear_stage(&hour(), &ports, &mut unknown, hours_on(between, 2)).await.unwrap();
        assert_eq!(places(&ports, key).await, (false, false));
    }

    #[tokio::test]
    async fn a_stored_file_that_another_upload_brought_too_stays() {
        let (_folder, ports, upload, key) = staged().await;
        bring(&ports, &upload, key).await;
        bring(&ports, &UploadReceived { upload_id: UploadId::generate(), ..upload }, key).await;
        look_twice(&ports).await;
        assert_eq!(places(&ports, key).await, (false, true));
    }

    #[tokio::test]
    async fn a_stored_file_of_a_stored_upload_stays() {
        let (_folder, ports, upload, key) = staged().await;
        bring(&ports, &upload, key).await;
        let mut record = record_of(&upload);
        record.files.push(proto_json::StoredFile {
            id: upload.upload_id.record("image", 0),
            kind: FileKind::MedicalImage,
            sha256: key.sha256,
            file_name: None,
        });
        ports.store.store_upload(&record, Vec::new()).await.unwrap();
        look_twice(&ports).await;
        assert_eq!(places(&ports, key).await, (false, true));
    }

    /// Delivers an upload of one image, which is attached to its message.
    async fn deliver_image(ports: &Ports, upload: &UploadReceived, bytes: &'static [u8]) -> StagingKey {
        let content = proto_json::HashedBytes::of(bytes.into());
        let file = bus::Attachment { upload: upload.upload_id, content, consumer_only: true };
        let key = file.key();
        let blob = proto_json::BlobInfo {
            sha256: key.sha256,
            bytes: bytes.len() as u64,
            media_type: proto_json::MediaType::Png,
            file_name: None,
            width: None,
            height: None,
        };
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
    async fn refused_upload_leaves_no_files_and_the_first_upload_keeps_its_files() {
        let (_folder, ports, upload, staged) = staged().await;
        ports.bus.staging.delete(staged).await.unwrap();
        let stored = deliver_image(&ports, &upload, b"an image").await;
        assert_eq!(places(&ports, stored).await, (false, true));
        // Another upload with the same id. An earlier attempt may have stored its file.
        let refused = deliver_image(&ports, &upload, b"another image").await;
        assert!(places(&ports, refused).await.0);
        bring(&ports, &upload, refused).await;
        look_twice(&ports).await;
        assert_eq!(places(&ports, refused).await, (false, false));
        assert_eq!(places(&ports, stored).await, (false, true));
    }

    #[tokio::test]
    async fn a_stored_file_of_a_dead_letter_stays_until_a_person_drops_it() {
        let (_folder, ports, upload, key) = staged().await;
        bring(&ports, &upload, key).await;
        bus::send(&*ports.bus.queue, &upload, None, None).await.unwrap();
        let mut deliveries = ports.bus.queue.consume(Queue::Uploads, 1).await.unwrap();
        deliveries.next().await.unwrap().dead_letter("no").await.unwrap();
        look_twice(&ports).await;
        assert_eq!(places(&ports, key).await, (true, true));
        let letters = ports.bus.dead_letters.dead_letters(None, 9).await.unwrap();
        ports.bus.dead_letters.delete_dead_letter(letters[0].id).await.unwrap();
        look_twice(&ports).await;
        assert_eq!(places(&ports, key).await, (false, false));
    }
}
