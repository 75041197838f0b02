//! `bedside correct`, `bedside merge`, `bedside erase`: corrections of stored records.
//!
//! A command that changes records shows what it does and asks for a confirmation, unless `--yes` is set. Without a terminal,
//! `--yes` is required.

use std::io::{self, IsTerminal, Write};

use client::Gateway;
use proto_json::{Correction, CorrectionId, CorrectionState, Mrn, PatientSummary, RecordId, UploadId};

use super::connection::GatewayArgs;
use super::error::CliError;
use super::format;
use super::output::OutputArgs;

/// Options that all corrections share.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// Why, in one sentence; it is shown with the correction
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do not ask for a confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

impl Common {
    fn connect(&self) -> Result<Gateway, CliError> {
        if self.reason.trim().is_empty() {
            return Err(CliError::usage("--reason must not be empty"));
        }
        self.gateway.connect()
    }

    pub(super) fn confirm(&self, question: &str) -> Result<(), CliError> {
        confirm(question, self.yes)
    }

    fn print(&self, text: &str, correction: &Correction) -> Result<(), CliError> {
        let state = match correction.state {
            CorrectionState::Done => text.to_owned(),
            CorrectionState::Running => {
                format!("{text} The server is still moving records and completes it.")
            }
        };
        self.output.print(state, correction)
    }
}

/// Asks on the terminal. Anything but `yes` ends the command without a change.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(CliError::usage("this changes records; add --yes to confirm it"));
    }
    let mut to = io::stderr().lock();
    write!(to, "{question} Type yes to confirm: ")?;
    to.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(CliError::failed("not confirmed; nothing was changed")),
    }
}

/// Number and name of a patient.
fn named(patient: &PatientSummary) -> String {
    match &patient.name {
        Some(name) => format!("{} ({})", patient.mrn, format::plain(name)),
        None => format!("{} (no name)", patient.mrn),
    }
}

async fn existing(gateway: &Gateway, mrn: Mrn) -> Result<PatientSummary, CliError> {
    let patient = gateway.patient(mrn).await?;
    patient.ok_or_else(|| CliError::failed(format!("there is no patient {mrn}")))
}

/// Mark records as entered in error, move uploads to another patient, correct names, list corrections.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside correct error 0192f0c1-… --reason \"ECG of the bed next to it\"
  bedside correct move 0192f0c1-… --to 8 --reason \"wrong number\"
  bedside correct name 7 \"Anna Smith\" --reason \"spelling\"
  bedside correct list 7")]
pub(crate) struct CorrectArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Mark a heart rate, an ECG or an image as entered in error; it is hidden, not deleted
    Error {
        /// Id of the record
        record: RecordId,
        /// Remove the mark
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Move an upload with all of its records and files to another patient
    Move {
        /// Id of the upload
        upload: UploadId,
        /// Number of the correct patient
        #[arg(long, value_name = "MRN")]
        to: Mrn,
        /// Create the patient if none has this number
        #[arg(long)]
        create: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Correct the name of a patient; the former name stays in the list of former names
    Name {
        /// Number of the patient
        mrn: Mrn,
        /// The correct name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Print a line for each correction of a patient, newest first
    List {
        /// Number of the patient
        mrn: Mrn,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
}

impl CorrectArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Error { record, undo: false, common } => {
                let gateway = common.connect()?;
                common.confirm(&format!("The record {record} will be hidden as entered in error."))?;
                let done = gateway.mark_error(record, &common.reason).await?;
                common.print(&format!("{record} is marked as entered in error."), &done)
            }
            Command::Error { record, undo: true, common } => {
                let gateway = common.connect()?;
                common.confirm(&format!("The record {record} will be shown again."))?;
                let done = gateway.unmark_error(record, &common.reason).await?;
                common.print(&format!("{record} is not marked any more."), &done)
            }
            Command::Move { upload, to, create, common } => {
                let gateway = common.connect()?;
                let status = gateway.upload_status(upload).await?;
                let status =
                    status.ok_or_else(|| CliError::failed(format!("there is no upload {upload}")))?;
                let from = existing(&gateway, status.receipt.mrn).await?;
                let target = match gateway.patient(to).await? {
                    Some(patient) => named(&patient),
                    None if create => format!("{to} (new)"),
                    None => return Err(CliError::failed(format!("there is no patient {to}; add --create"))),
                };
                let question =
                    format!("The upload will be moved from patient {} to patient {target}.", named(&from));
                common.confirm(&question)?;
                let done = gateway.move_upload(upload, to, create, &common.reason).await?;
                common.print(&format!("{upload} belongs to patient {to} now."), &done)
            }
            Command::Name { mrn, name, common } => {
                let gateway = common.connect()?;
                let patient = existing(&gateway, mrn).await?;
                let new = format::plain(&name);
                common.confirm(&format!("Patient {} will be named {new}.", named(&patient)))?;
                let done = gateway.correct_name(mrn, &name, &common.reason).await?;
                common.print(&format!("Patient {mrn} is named {new} now."), &done)
            }
            Command::List { mrn, output, gateway } => {
                let corrections = gateway.connect()?.corrections(mrn).await?;
                let corrections =
                    corrections.ok_or_else(|| CliError::failed(format!("there is no patient {mrn}")))?;
                if corrections.is_empty() {
                    return output.print_text("No corrections.");
                }
                for correction in &corrections {
                    output.print(line(correction), correction)?;
                }
                Ok(())
            }
        }
    }
}

fn line(correction: &Correction) -> String {
    use proto_json::CorrectionAction as Action;
    let what = match &correction.action {
        Action::EnteredInError { record } => format!("{record} marked as entered in error"),
        Action::ErrorUndone { record } => format!("mark of {record} removed"),
        Action::UploadMoved { upload_id, from: Some(from), to, .. } => {
            format!("upload {upload_id} moved from {from} to {to}")
        }
        Action::UploadMoved { upload_id, to, .. } => format!("upload {upload_id} moved to {to}"),
        Action::NameCorrected { name, .. } => format!("name corrected to {}", format::plain(name)),
        Action::Merged { from, into } => format!("{from} merged into {into}"),
        Action::MergeUndone { merge } => format!("merge {merge} undone"),
        Action::Erased { mrn } => format!("patient {mrn} erased"),
        Action::HoldPlaced { .. } => "legal hold placed".to_owned(),
        Action::HoldReleased { .. } => "legal hold released".to_owned(),
    };
    let undone = if correction.undone_by.is_some() { " (undone)" } else { "" };
    let running = if correction.state == CorrectionState::Running { " (running)" } else { "" };
    let reason = correction.reason.as_deref().map_or_else(|| "-".to_owned(), format::plain);
    let Correction { id, at, by, .. } = correction;
    format!("{at}  {id}  {}  {what}{undone}{running}: {reason}", format::plain(by))
}

/// Merge a patient into another one, or undo a merge.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  bedside merge 71 --into 7 --reason \"same person\"
  bedside merge undo 0192f0c1-… --reason \"two persons\"

All records of the first patient belong to the second one then, and the first number leads to it. `bedside correct list 7`
prints the id of the merge."
)]
pub(crate) struct MergeArgs {
    #[command(subcommand)]
    command: Option<MergeCommand>,
    /// Number of the patient whose number is no longer used
    #[arg(required = true)]
    from: Option<Mrn>,
    /// Number of the surviving patient
    #[arg(long, value_name = "MRN", required = true)]
    into: Option<Mrn>,
    /// Why, in one sentence; it is shown with the correction
    #[arg(long, value_name = "TEXT", required = true)]
    reason: Option<String>,
    /// Do not ask for a confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

#[derive(Debug, clap::Subcommand)]
enum MergeCommand {
    /// Undo a merge; records that were uploaded after it stay with the surviving patient
    Undo {
        /// Id of the merge
        merge: CorrectionId,
        #[command(flatten)]
        common: Common,
    },
}

impl MergeArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let MergeArgs { command, from, into, reason, yes, output, gateway } = self;
        if let Some(MergeCommand::Undo { merge, common }) = command {
            let gateway = common.connect()?;
            common.confirm(&format!("The merge {merge} will be undone."))?;
            let done = gateway.undo_merge(merge, &common.reason).await?;
            return common.print(&format!("The merge {merge} is undone."), &done);
        }
        let (Some(from), Some(into), Some(reason)) = (from, into, reason) else {
            return Err(CliError::usage("name the patients: bedside merge 71 --into 7 --reason TEXT"));
        };
        if from == into {
            return Err(CliError::usage("a patient cannot be merged with itself; name another patient"));
        }
        let common = Common { reason, yes, output, gateway };
        let gateway = common.connect()?;
        let (gone, stays) = (existing(&gateway, from).await?, existing(&gateway, into).await?);
        let question =
            format!("All records of patient {} will be moved to patient {}.", named(&gone), named(&stays));
        common.confirm(&question)?;
        let done = gateway.merge(from, into, &common.reason).await?;
        common.print(&format!("Patient {from} is merged into patient {into}."), &done)
    }
}

/// Delete everything about a patient.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  bedside erase 7 --confirm 7 --reason \"request of 14 March\"

Deletes records, files, waveforms and the copies in the queues. Only the number, the time, the user and the reason stay: do
not name the patient in the reason. The number cannot be used again. Backups are not changed; a restored backup is erased
again. Requires the admin role.")]
pub(crate) struct EraseArgs {
    /// Number of the patient
    mrn: Mrn,
    /// The number again
    #[arg(long, value_name = "MRN")]
    confirm: Mrn,
    #[command(flatten)]
    common: Common,
}

impl EraseArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let EraseArgs { mrn, confirm, common } = self;
        if mrn != confirm {
            return Err(CliError::usage("--confirm must repeat the number of the patient"));
        }
        let gateway = common.connect()?;
        let patient = match gateway.patient(mrn).await? {
            Some(patient) => named(&patient),
            None => mrn.to_string(),
        };
        common.confirm(&format!("Everything about patient {patient} will be deleted for ever."))?;
        let done = gateway.erase(mrn, &common.reason).await?;
        common.print(&format!("Patient {mrn} is erased."), &done)
    }
}
