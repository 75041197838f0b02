//! `bedside ward` and `bedside bed`: list, add, rename and remove wards and beds.

use client::{Gateway, new_bed_id, new_ward_id};
use proto_json::BedId;
use proto_json::wards::{Bed, NewBed, NewWard, PlaceName, RenamePlace, Ward};
use serde_json::json;

use super::connection::GatewayArgs;
use super::error::CliError;
use super::format;
use super::output::OutputArgs;

/// List, add, rename or remove wards.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside ward add \"Ward 1\"
  bedside ward list
  bedside ward rename \"Ward 1\" \"Intensive care\"
  bedside ward remove \"Intensive care\"")]
pub(crate) struct WardArgs {
    #[command(subcommand)]
    command: WardCommand,
}

#[derive(Debug, clap::Subcommand)]
enum WardCommand {
    /// Print a line for each bed with its patient; with --json, one object per ward
    List {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Add a ward without beds
    Add {
        /// Name of the ward
        name: PlaceName,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Rename a ward
    Rename {
        /// Name or id of the ward
        ward: String,
        /// The new name
        name: PlaceName,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Remove a ward with its beds. Its beds must be empty
    Remove {
        /// Name or id of the ward
        ward: String,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
}

/// Add, rename or remove beds.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside bed add \"Ward 1\" \"Bed 1\" \"Bed 2\"
  bedside bed rename \"Ward 1\" \"Bed 2\" Window
  bedside bed remove \"Ward 1\" Window")]
pub(crate) struct BedArgs {
    #[command(subcommand)]
    command: BedCommand,
}

#[derive(Debug, clap::Subcommand)]
enum BedCommand {
    /// Add beds to a ward
    Add {
        /// Name or id of the ward
        ward: String,
        /// Names of the beds
        #[arg(required = true, num_args = 1..)]
        names: Vec<PlaceName>,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Rename a bed
    Rename {
        /// Name or id of the ward
        ward: String,
        /// Name or id of the bed
        bed: String,
        /// The new name
        name: PlaceName,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Remove an empty bed
    Remove {
        /// Name or id of the ward
        ward: String,
        /// Name or id of the bed
        bed: String,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
}

impl WardArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self.command {
            WardCommand::List { output, gateway } => list(&gateway.connect()?, output).await,
            WardCommand::Add { name, output, gateway } => {
                let new = NewWard { id: Some(new_ward_id()), name };
                let ward = gateway.connect()?.add_ward(&new).await?;
                output.print(format!("{} is added", format::plain(ward.name.as_str())), &ward)
            }
            WardCommand::Rename { ward, name, output, gateway } => {
                let gateway = gateway.connect()?;
                let known = find_ward(&gateway, &ward).await?;
                let ward = gateway.rename_ward(known.id, &RenamePlace { name, version: None }).await?;
                let (from, to) = (format::plain(known.name.as_str()), format::plain(ward.name.as_str()));
                output.print(format!("{from} is now {to}"), &ward)
            }
            WardCommand::Remove { ward, output, gateway } => {
                let gateway = gateway.connect()?;
                let ward = find_ward(&gateway, &ward).await?;
                gateway.remove_ward(ward.id).await?;
                let name = format::plain(ward.name.as_str());
                output.print(format!("{name} is removed"), &json!({ "id": ward.id, "action": "removed" }))
            }
        }
    }
}

impl BedArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self.command {
            BedCommand::Add { ward, names, output, gateway } => {
                let gateway = gateway.connect()?;
                let ward = find_ward(&gateway, &ward).await?;
                for name in names {
                    let id = new_bed_id();
                    let changed = gateway.add_bed(ward.id, &NewBed { id: Some(id), name }).await?;
                    print_bed(output, &changed, id, "added")?;
                }
                Ok(())
            }
            BedCommand::Rename { ward, bed, name, output, gateway } => {
                let gateway = gateway.connect()?;
                let ward = find_ward(&gateway, &ward).await?;
                let bed = bed_of(&ward, &bed)?.id;
                let changed = gateway.rename_bed(ward.id, bed, &RenamePlace { name, version: None }).await?;
                print_bed(output, &changed, bed, "renamed")
            }
            BedCommand::Remove { ward, bed, output, gateway } => {
                let gateway = gateway.connect()?;
                let ward = find_ward(&gateway, &ward).await?;
                let bed = bed_of(&ward, &bed)?.id;
                gateway.remove_bed(ward.id, bed).await?;
                print_bed(output, &ward, bed, "removed")
            }
        }
    }
}

fn print_bed(output: OutputArgs, ward: &Ward, bed: BedId, action: &str) -> Result<(), CliError> {
    let name = ward.bed(bed).map(|bed| bed.name.as_str()).unwrap_or_default();
    let text = format!("{} of {} is {action}", format::plain(name), format::plain(ward.name.as_str()));
    output.print(text, &json!({ "id": bed, "name": name, "ward": ward.id, "action": action }))
}

async fn list(gateway: &Gateway, output: OutputArgs) -> Result<(), CliError> {
    let wards = gateway.wards().await?;
    for record in &wards.damaged {
        eprintln!("not listed: {record}");
    }
    if wards.items.is_empty() {
        return output.print_text("No wards yet.");
    }
    output.print_text(line("WARD", "BED", "MRN"))?;
    for ward in &wards.items {
        let name = format::plain(ward.name.as_str());
        let mut lines: Vec<String> = Vec::new();
        for bed in &ward.beds {
            let occupant = bed.occupant.map_or_else(|| "-".to_owned(), |mrn| mrn.to_string());
            lines.push(line(&name, &format::plain(bed.name.as_str()), &occupant));
        }
        if lines.is_empty() {
            lines.push(line(&name, "no beds", "-"));
        }
        output.print(lines.join("\n"), ward)?;
    }
    Ok(())
}

fn line(ward: &str, bed: &str, occupant: &str) -> String {
    format!("{:<24}  {:<16}  {occupant}", format::fit(ward, 24), format::fit(bed, 16))
}

/// The ward with this name or id.
pub(super) async fn find_ward(gateway: &Gateway, ward: &str) -> Result<Ward, CliError> {
    let wards = gateway.wards().await?.items;
    let key = key_of(ward);
    let found = wards.iter().find(|known| known.id.to_string() == ward || known.name.key() == key);
    found.cloned().ok_or_else(|| missing("ward", ward, wards.iter().map(|ward| &ward.name)))
}

/// The bed of a ward with this name or id.
pub(super) fn bed_of<'a>(ward: &'a Ward, bed: &str) -> Result<&'a Bed, CliError> {
    let key = key_of(bed);
    let found = ward.beds.iter().find(|known| known.id.to_string() == bed || known.name.key() == key);
    found.ok_or_else(|| {
        let what = format!("bed in {}", format::plain(ward.name.as_str()));
        missing(&what, bed, ward.beds.iter().map(|bed| &bed.name))
    })
}

fn key_of(text: &str) -> String {
    text.parse::<PlaceName>().map(|name| name.key()).unwrap_or_default()
}

fn missing<'a>(what: &str, given: &str, names: impl Iterator<Item = &'a PlaceName>) -> CliError {
    const LISTED: usize = 20;
    let names: Vec<String> = names.take(LISTED).map(|name| format::plain(name.as_str())).collect();
    let known =
        if names.is_empty() { "there are none".to_owned() } else { format!("known: {}", names.join(", ")) };
    CliError::failed(format!("there is no {what} with the name or id {:?}; {known}", format::plain(given)))
}
