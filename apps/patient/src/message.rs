//! Messages from background work to the thread of the window.

use std::path::PathBuf;
use std::sync::Arc;

use client::{ClientError, EntryId, Gateway, NatsSettings, Outbox, OutboxError, OutboxEvent, Progress};
use proto_json::users::Session;
use proto_json::{EcgRecord, Mrn, PatientUpdated, RecordId};
use ui::{ConnectionStatus, Picture};

use crate::ecg_file::{EcgFileError, Reading};
use crate::folder::FolderListing;
use crate::model::{FileId, FileStamp, PatientLookup};

/// A message from background work to the thread of the window.
///
/// The field `number` identifies the attempt. Controllers ignore messages of earlier attempts.
pub(crate) enum Message {
    /// Progress of reading an ECG, from 0 to 1; below 0 while beats are detected.
    EcgProgress { file: FileId, number: u64, progress: f32, text: String },
    /// An ECG was read or rejected.
    EcgRead { file: FileId, number: u64, result: Result<(Arc<Reading>, FileStamp), EcgFileError> },
    /// The ECG in the pane was drawn.
    EcgDrawn { number: u64, picture: Option<Picture> },
    /// An image was read, or rejected with this reason.
    ImageRead { file: FileId, number: u64, result: Result<(Picture, FileStamp), String> },
    /// The image in the pane was scaled.
    ImageScaled { number: u64, picture: Picture },
    /// The gateway answered who has this record number.
    PatientLookedUp { number: u64, mrn: Mrn, result: Result<PatientLookup, ClientError> },
    /// The entered sampling rate and lead have not changed for a moment.
    SignalOptionsSettled { number: u64 },
    /// Clients were created from the settings, or the settings are wrong.
    ClientsCreated { number: u64, result: Result<(Gateway, Option<NatsSettings>), String> },
    /// The connection status has changed.
    ConnectionChanged { status: ConnectionStatus, token_rejected: bool },
    /// The gateway has answered who this client is.
    SessionLoaded { number: u64, session: Box<Session> },
    /// A login has succeeded, or not, for this reason.
    LoggedIn(Result<ui::Login, String>),
    /// The followed patient has changed.
    PatientUpdated(Box<PatientUpdated>),
    /// The outbox was opened.
    OutboxOpened(Result<Outbox, OutboxError>),
    /// An entry of the outbox was added, changed or removed.
    OutboxChanged,
    /// The outbox reports about one of its uploads.
    Outbox(OutboxEvent),
    /// Progress of copying an upload to the outbox.
    Copying { number: u64, progress: Progress },
    /// The upload was written to the outbox, or not, with this reason.
    Queued { number: u64, result: Result<EntryId, String> },
    /// The server has analysed an ECG.
    EcgAnalyzed { id: RecordId, record: Box<EcgRecord> },
    /// The connection test of the settings dialog has ended with this message.
    SettingsTested { number: u64, result: Result<String, String> },
    /// Files were selected in a dialog.
    FilesSelected { files: Vec<PathBuf>, is_ecg: bool },
    /// The desktop offers no file dialog.
    NoFileDialog { is_ecg: bool },
    /// The file browser has read a folder.
    FolderRead { number: u64, result: Result<FolderListing, String> },
}
