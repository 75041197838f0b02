//! Compares the server's analysis of the last upload with the preview.

use std::sync::Arc;
use std::time::Duration;

use client::Gateway;
use proto_json::{EcgRecord, EcgStatus, FileKind, Mrn, RecordId, UploadReceipt};
use tokio::sync::Notify;
use ui::{Task, format, tr};

use crate::backend::Backend;
use crate::message::Message;
use crate::messages;
use crate::model::{Comparison, Preview};
use crate::window::Tone;

/// Interval and number of requests while no update is pushed.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
const MAX_POLLS: u32 = 120;
/// Rates that differ by less than this agree, because both are shown as whole beats per minute.
const MAX_DIFFERENCE_BPM: f64 = 1.0;

/// One ECG of the last upload.
struct UploadedEcg {
    id: RecordId,
    preview: Preview,
    /// `None` until the server has analysed the ECG.
    comparison: Option<Comparison>,
    /// Rhythm and intervals that the server found. Empty if it found none.
    rhythm: String,
}

/// Waits for the server's analysis of the ECGs of the last upload and shows it.
pub(crate) struct AnalysisController {
    backend: Backend,
    mrn: Option<Mrn>,
    ecgs: Vec<UploadedEcg>,
    patient_changed: Arc<Notify>,
    polling: Task,
}

impl AnalysisController {
    pub(crate) fn new(backend: Backend) -> Self {
        AnalysisController {
            backend,
            mrn: None,
            ecgs: Vec::new(),
            patient_changed: Arc::default(),
            polling: Task::default(),
        }
    }

    /// Waits for the analysis of the ECGs of this upload. `previews` holds one entry for each ECG, in the same order.
    pub(crate) fn expect(&mut self, gateway: Gateway, receipt: &UploadReceipt, previews: Vec<Preview>) {
        let ids = receipt.files.iter().filter(|file| file.kind == FileKind::Ecg).map(|file| file.id);
        let ecgs = ids.zip(previews).map(|(id, preview)| UploadedEcg {
            id,
            preview,
            comparison: None,
            rhythm: String::new(),
        });
        self.ecgs = ecgs.collect();
        self.mrn = Some(receipt.mrn);
        self.show();
        if self.ecgs.is_empty() {
            self.polling = Task::default();
            return;
        }
        let mut pending: Vec<RecordId> = self.ecgs.iter().map(|ecg| ecg.id).collect();
        let (sender, changed) = (self.backend.sender.clone(), Arc::clone(&self.patient_changed));
        self.polling = self.backend.background.spawn(async move {
            for _ in 0..MAX_POLLS {
                let mut still_pending = Vec::new();
                for id in pending {
                    match gateway.ecg(id).await {
                        Ok(Some(record)) if record.status != EcgStatus::Pending => {
                            sender.send(Message::EcgAnalyzed { id, record: Box::new(record) });
                        }
                        _ => still_pending.push(id),
                    }
                }
                pending = still_pending;
                if pending.is_empty() {
                    return;
                }
                // A pushed update ends the wait early.
                let _ = tokio::time::timeout(POLL_INTERVAL, changed.notified()).await;
            }
        });
    }

    /// Asks for the analysis at once if this patient is the one of the last upload.
    pub(crate) fn patient_changed(&self, mrn: Mrn) {
        if self.mrn == Some(mrn) {
            self.patient_changed.notify_one();
        }
    }

    pub(crate) fn analyzed(&mut self, id: RecordId, record: &EcgRecord) {
        if let Some(ecg) = self.ecgs.iter_mut().find(|ecg| ecg.id == id) {
            ecg.comparison = Some(compare(record, &ecg.preview));
            ecg.rhythm = record.analysis.as_ref().map(ui::rhythm::rhythm_line).unwrap_or_default();
            self.show();
        }
    }

    /// Stops waiting and clears what is shown.
    pub(crate) fn clear(&mut self) {
        self.ecgs.clear();
        self.polling = Task::default();
        self.show();
    }

    fn show(&self) {
        let compared = || self.ecgs.iter().filter_map(|ecg| Some((ecg, ecg.comparison.as_ref()?)));
        let pending = self.ecgs.len() - compared().count();
        let mut text: Vec<String> = compared()
            .map(|(ecg, comparison)| {
                let comparison = messages::comparison(&ecg.preview.name, comparison);
                if ecg.rhythm.is_empty() { comparison } else { format!("{comparison}\n{}", ecg.rhythm) }
            })
            .collect();
        if pending > 0 {
            let what = format::count(pending as u64, tr!("ECG"), tr!("ECGs"));
            text.push(tr!("The server is analysing {}…", what));
        }
        let agrees = compared().all(|(_, comparison)| matches!(comparison, Comparison::Agrees(_)));
        let tone = match (agrees, pending) {
            (false, _) => Tone::Warning,
            (true, 0) => Tone::Good,
            (true, _) => Tone::Neutral,
        };
        self.backend.api(|api| {
            api.set_analysis(text.join("\n").into());
            api.set_analysis_tone(tone);
        });
    }
}

fn compare(record: &EcgRecord, preview: &Preview) -> Comparison {
    if record.status == EcgStatus::Failed {
        return Comparison::Failed(record.failure.clone());
    }
    let analysis = record.analysis.as_ref();
    let server = analysis.and_then(|analysis| analysis.heart_rate).map(|rate| rate.mean_bpm);
    match (server, preview.mean_bpm) {
        (Some(server), Some(preview)) if (server - preview).abs() < MAX_DIFFERENCE_BPM => {
            Comparison::Agrees(Some(server))
        }
        (None, None) => Comparison::Agrees(None),
        (server, preview) => Comparison::Differs { server, preview },
    }
}
