//! What the server makes of the ECGs of the last upload, beside what the preview made of them.

use std::sync::Arc;
use std::time::Duration;

use client::Gateway;
use proto_json::{EcgRecord, EcgStatus, FileKind, Mrn, RecordId, UploadReceipt};
use tokio::sync::Notify;
use ui::{Task, format};

use crate::link::Link;
use crate::message::Message;
use crate::staging::Preview;
use crate::window::Tone;

/// How often to look while nothing is pushed, and how long in all.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOKS: u32 = 120;
/// Rates closer than this agree: both are shown as whole beats per minute.
const AGREE_BPM: f64 = 1.0;

/// One ECG of the last upload.
struct Awaited {
    id: RecordId,
    preview: Preview,
    /// What came of it, and whether that is as the preview had it.
    answer: Option<(String, bool)>,
}

/// What the server makes of the ECGs of the last upload.
pub(crate) struct Analyses {
    link: Link,
    mrn: Option<Mrn>,
    ecgs: Vec<Awaited>,
    changed: Arc<Notify>,
    looking: Task,
}

impl Analyses {
    pub(crate) fn new(link: Link) -> Self {
        Analyses { link, mrn: None, ecgs: Vec::new(), changed: Arc::default(), looking: Task::default() }
    }

    /// Waits for the ECGs of this upload.
    pub(crate) fn expect(&mut self, gateway: Gateway, receipt: &UploadReceipt, previews: Vec<Preview>) {
        let ids = receipt.files.iter().filter(|file| file.kind == FileKind::Ecg).map(|file| file.id);
        let ecgs = ids.zip(previews).map(|(id, preview)| Awaited { id, preview, answer: None });
        self.ecgs = ecgs.collect();
        self.mrn = Some(receipt.mrn);
        self.show();
        if self.ecgs.is_empty() {
            self.looking = Task::default();
            return;
        }
        let mut pending: Vec<RecordId> = self.ecgs.iter().map(|ecg| ecg.id).collect();
        let (mail, changed) = (self.link.mail.clone(), Arc::clone(&self.changed));
        self.looking = self.link.network.spawn(async move {
            for _ in 0..LOOKS {
                let mut open = Vec::new();
                for id in pending {
                    match gateway.ecg(id).await {
                        Ok(Some(record)) if record.status != EcgStatus::Pending => {
                            drop(mail.send(Message::Analyzed { id, record: Box::new(record) }));
                        }
                        _ => open.push(id),
                    }
                }
                pending = open;
                if pending.is_empty() {
                    return;
                }
                // Pushed, or looked up where nothing pushes.
                let _ = tokio::time::timeout(LOOK_EVERY, changed.notified()).await;
            }
        });
    }

    /// Something of this patient has changed.
    pub(crate) fn patient_changed(&self, mrn: Mrn) {
        if self.mrn == Some(mrn) {
            self.changed.notify_one();
        }
    }

    pub(crate) fn arrived(&mut self, id: RecordId, record: &EcgRecord) {
        if let Some(ecg) = self.ecgs.iter_mut().find(|ecg| ecg.id == id) {
            let mean = record.analysis.as_ref().and_then(|found| found.heart_rate).map(|rate| rate.mean_bpm);
            ecg.answer = Some(compared(record, mean, &ecg.preview));
            self.show();
        }
    }

    /// Nothing of it is of interest any more.
    pub(crate) fn clear(&mut self) {
        self.ecgs.clear();
        self.looking = Task::default();
        self.show();
    }

    fn show(&self) {
        let waiting = self.ecgs.iter().filter(|ecg| ecg.answer.is_none()).count();
        let mut text: Vec<String> =
            self.ecgs.iter().filter_map(|ecg| ecg.answer.as_ref()).map(|(words, _)| words.clone()).collect();
        if waiting > 0 {
            let what = format::count(waiting as u64, "ECG", "ECGs");
            text.push(format!("The server is analysing {what}…"));
        }
        let differs = self.ecgs.iter().filter_map(|ecg| ecg.answer.as_ref()).any(|(_, agrees)| !agrees);
        let tone = match (differs, waiting) {
            (true, _) => Tone::Warning,
            (false, 0) => Tone::Good,
            (false, _) => Tone::Neutral,
        };
        self.link.api(|api| {
            api.set_analysis(text.join(" ").into());
            api.set_analysis_tone(tone);
        });
    }
}

/// What the server found in a sentence, and whether that is as the preview had it.
fn compared(record: &EcgRecord, mean: Option<f64>, preview: &Preview) -> (String, bool) {
    let name = &preview.name;
    if record.status == EcgStatus::Failed {
        let reason = record.failure.as_deref().unwrap_or("it does not say why");
        return (format!("The server could not analyse {name}: {}", format::sentence(reason)), false);
    }
    match (mean, preview.mean_bpm) {
        (Some(server), Some(ours)) if (server - ours).abs() < AGREE_BPM => (
            format!("The server finds {} bpm in {name}, as the preview did.", format::bpm(Some(server))),
            true,
        ),
        (None, None) => (format!("The server finds no heart rate in {name}, as the preview."), true),
        (server, ours) => {
            let rate = |rate: Option<f64>| {
                rate.map_or("no heart rate".to_owned(), |rate| format!("{} bpm", format::bpm(Some(rate))))
            };
            let (server, ours) = (rate(server), rate(ours));
            let told =
                format!("The server finds {server} in {name}, the preview found {ours}: look at the strip.");
            (told, false)
        }
    }
}
