//! `bedside admit`, `transfer`, `discharge` and `patient`: where a patient is, and the details of a patient.

use client::{Gateway, new_stay_id};
use proto_json::wards::{
    Admission, AdmissionRecord, AdmitRequest, BirthDate, DetailsUpdate, DischargeRequest, Notes, Sex,
    StayEvent, StayEventKind, TransferRequest,
};
use proto_json::{BedId, Mrn, PatientSummary};
use serde_json::json;

use super::connection::{GatewayArgs, PAGE_SIZE};
use super::error::CliError;
use super::format;
use super::output::{OutputArgs, print_json, print_line};
use super::wards::{bed_of, find_ward};

/// Admit a patient to an empty bed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside admit 7 --ward \"Ward 1\" --bed \"Bed 3\"")]
pub(crate) struct AdmitArgs {
    /// Medical record number
    mrn: Mrn,
    /// Name or id of the ward
    #[arg(long)]
    ward: String,
    /// Name or id of the bed
    #[arg(long)]
    bed: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// Move an admitted patient to an empty bed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside transfer 7 --bed \"Bed 4\"
  bedside transfer 7 --ward \"Ward 2\" --bed \"Bed 1\"")]
pub(crate) struct TransferArgs {
    /// Medical record number
    mrn: Mrn,
    /// Name or id of the ward; default: the ward in which the patient is
    #[arg(long)]
    ward: Option<String>,
    /// Name or id of the bed
    #[arg(long)]
    bed: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// Discharge a patient. The history stays.
#[derive(Debug, clap::Args)]
pub(crate) struct DischargeArgs {
    /// Medical record number
    mrn: Mrn,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// Show a patient, or edit the details.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside patient show 7
  bedside patient edit 7 --birth-date 1957-03-14 --sex female
  bedside patient edit 7 --notes \"\"")]
pub(crate) struct PatientArgs {
    #[command(subcommand)]
    command: PatientCommand,
}

#[derive(Debug, clap::Subcommand)]
enum PatientCommand {
    /// Print place, details and history of admissions; with --json, one object
    Show {
        /// Medical record number
        mrn: Mrn,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Change details. An empty value removes a detail
    Edit {
        /// Medical record number
        mrn: Mrn,
        #[command(flatten)]
        details: DetailsArgs,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct DetailsArgs {
    /// Date of birth, as in 1957-03-14
    #[arg(long, value_name = "DATE")]
    birth_date: Option<String>,
    /// Sex: female, male, other or unknown
    #[arg(long)]
    sex: Option<String>,
    /// Notes, at most 1000 characters
    #[arg(long, value_name = "TEXT")]
    notes: Option<String>,
}

impl DetailsArgs {
    fn update(self, version: u64) -> Result<DetailsUpdate, CliError> {
        fn optional<T>(
            text: Option<String>,
            parse: impl Fn(&str) -> Result<T, String>,
        ) -> Result<Option<Option<T>>, CliError> {
            let parsed = text.map(|text| match text.trim() {
                "" => Ok(None),
                text => parse(text).map(Some).map_err(CliError::usage),
            });
            parsed.transpose()
        }
        Ok(DetailsUpdate {
            birth_date: optional(self.birth_date, |text| {
                text.parse::<BirthDate>().map_err(|error| error.to_string())
            })?,
            sex: optional(self.sex, sex)?,
            notes: optional(self.notes, |text| text.parse::<Notes>().map_err(|error| error.to_string()))?,
            version,
        })
    }
}

fn sex(text: &str) -> Result<Sex, String> {
    match text {
        "female" => Ok(Sex::Female),
        "male" => Ok(Sex::Male),
        "other" => Ok(Sex::Other),
        "unknown" => Ok(Sex::Unknown),
        _ => Err("the sex is female, male, other or unknown".to_owned()),
    }
}

fn sex_name(sex: Sex) -> &'static str {
    match sex {
        Sex::Female => "female",
        Sex::Male => "male",
        Sex::Other => "other",
        Sex::Unknown => "unknown",
    }
}

async fn known(gateway: &Gateway, mrn: Mrn) -> Result<PatientSummary, CliError> {
    let patient = gateway.patient(mrn).await?;
    patient.ok_or_else(|| CliError::failed(format!("there is no patient {mrn}")))
}

async fn find_bed(gateway: &Gateway, ward: &str, bed: &str) -> Result<BedId, CliError> {
    Ok(bed_of(&find_ward(gateway, ward).await?, bed)?.id)
}

fn place(admission: &Admission) -> String {
    let (ward, bed) = (admission.ward_name.as_str(), admission.bed_name.as_str());
    format!("{}, {}", format::plain(ward), format::plain(bed))
}

/// Prints where a patient is now.
fn print_place(output: OutputArgs, patient: &PatientSummary) -> Result<(), CliError> {
    let text = match &patient.admission {
        Some(admission) => format!("Patient {} is in {}.", patient.mrn, place(admission)),
        None => format!("Patient {} is discharged.", patient.mrn),
    };
    output.print(text, patient)
}

impl AdmitArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let gateway = self.gateway.connect()?;
        let bed = find_bed(&gateway, &self.ward, &self.bed).await?;
        let request = AdmitRequest { bed, id: Some(new_stay_id()) };
        print_place(self.output, &gateway.admit(self.mrn, &request).await?)
    }
}

impl TransferArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let gateway = self.gateway.connect()?;
        let admission = known(&gateway, self.mrn).await?.admission;
        let admission =
            admission.ok_or_else(|| CliError::failed(format!("patient {} is not admitted", self.mrn)))?;
        let ward = self.ward.unwrap_or_else(|| admission.ward.to_string());
        let bed = find_bed(&gateway, &ward, &self.bed).await?;
        let request = TransferRequest { bed, from: Some(admission.id), id: Some(new_stay_id()) };
        print_place(self.output, &gateway.transfer(self.mrn, &request).await?)
    }
}

impl DischargeArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let gateway = self.gateway.connect()?;
        let from = known(&gateway, self.mrn).await?.admission.map(|admission| admission.id);
        print_place(self.output, &gateway.discharge(self.mrn, &DischargeRequest { from }).await?)
    }
}

impl PatientArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self.command {
            PatientCommand::Show { mrn, output, gateway } => {
                let gateway = gateway.connect()?;
                let patient = known(&gateway, mrn).await?;
                let stays = all_stays(&gateway, mrn).await?;
                if output.is_json() {
                    return print_json(&json!({ "patient": patient, "admissions": stays }));
                }
                print_line(description(&patient, &stays))
            }
            PatientCommand::Edit { mrn, details, output, gateway } => {
                // The values are checked before anything is sent.
                let mut update = details.update(0)?;
                let gateway = gateway.connect()?;
                let patient = known(&gateway, mrn).await?;
                update.version = patient.details.as_ref().map_or(0, |details| details.version);
                let changed = gateway.change_details(mrn, &update).await?;
                output.print(format!("The details of patient {mrn} are changed."), &changed)
            }
        }
    }
}

/// Reads the whole history of admissions.
async fn all_stays(gateway: &Gateway, mrn: Mrn) -> Result<Vec<AdmissionRecord>, CliError> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = gateway.admissions(mrn, after, Some(PAGE_SIZE)).await?;
        all.extend(page.items);
        for record in &page.damaged {
            eprintln!("not listed: {record}");
        }
        match page.next {
            Some(next) if Some(next) != after => after = Some(next),
            _ => return Ok(all),
        }
    }
}

fn description(patient: &PatientSummary, stays: &[AdmissionRecord]) -> String {
    let details = patient.details.clone().unwrap_or_default();
    let name = format::plain(patient.name.as_deref().unwrap_or("-"));
    let mut lines = vec![
        format!("Patient {}: {name}", patient.mrn),
        match &patient.admission {
            Some(admission) => format!("Place: {}, since {}", place(admission), admission.admitted_at),
            None => "Place: not admitted".to_owned(),
        },
    ];
    lines.extend(details.birth_date.map(|date| format!("Born: {date}")));
    lines.extend(details.sex.map(|sex| format!("Sex: {}", sex_name(sex))));
    if let Some(notes) = &details.notes {
        lines.extend(notes.as_str().lines().map(|line| format!("Notes: {}", format::plain(line))));
    }
    for stay in stays {
        let (ward, bed) = (format::plain(stay.ward_name.as_str()), format::plain(stay.bed_name.as_str()));
        let ended = stay.ended.as_ref().map_or_else(|| "now".to_owned(), event);
        lines.push(format!("{ward}, {bed}: {} to {ended}", event(&stay.began)));
    }
    lines.join("\n")
}

fn event(event: &StayEvent) -> String {
    let kind = match event.kind {
        StayEventKind::Admitted => "admitted",
        StayEventKind::Transferred => "transferred",
        StayEventKind::Discharged => "discharged",
    };
    format!("{} ({kind} by {})", event.at, format::plain(&event.by))
}
