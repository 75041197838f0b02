//! What comes back from the network's threads.

use std::sync::Arc;

use client::{ClientError, EntryId, Gateway, NatsSettings, Outbox, OutboxError, OutboxEvent, Progress};
use proto_json::{EcgRecord, Mrn, PatientUpdated, RecordId};
use ui::{ConnectionStatus, Picture};

use crate::ecg_file::Reading;
use crate::patient_form::Known;
use crate::staging::{FileId, Stamp};

/// What comes back from the network's threads. A number tells the latest attempt from one that was given up.
pub(crate) enum Message {
    /// A file is being read; below 0: its beats are being found.
    EcgProgress { file: FileId, progress: f32, words: String },
    /// A raw ECG has been read, or why not.
    EcgRead { file: FileId, result: Result<(Arc<Reading>, Stamp), String> },
    /// The ECG on show has been drawn.
    EcgDrawn { number: u64, picture: Option<Picture> },
    /// An image has been read, or why not.
    ImageRead { file: FileId, result: Result<(Picture, Stamp), String> },
    /// The image on show has been made to fit.
    ImageFitted { number: u64, picture: Picture },
    /// Who has this record number.
    Known { number: u64, mrn: Mrn, answer: Result<Known, ClientError> },
    /// The settings have become a client, or why they cannot.
    Connected { number: u64, result: Result<(Gateway, Option<NatsSettings>), String> },
    /// How the connection stands.
    Standing(ConnectionStatus),
    /// Something of the followed patient has changed.
    Updated(Box<PatientUpdated>),
    /// The outbox is open, or why not.
    OutboxOpened(Result<Outbox, OutboxError>),
    /// Entries of the outbox have come or gone.
    OutboxChanged,
    /// The outbox tells.
    Outbox(OutboxEvent),
    /// An upload is being copied to the outbox.
    Keeping { number: u64, progress: Progress },
    /// It is in the outbox, or why not.
    Kept { number: u64, result: Result<EntryId, String> },
    /// The server has analysed an ECG.
    Analyzed { id: RecordId, record: Box<EcgRecord> },
    /// Settings have been tried out.
    Tested { number: u64, good: bool, words: String },
    /// Files have been chosen in a dialog.
    Chosen { files: Vec<std::path::PathBuf>, is_ecg: bool },
}
