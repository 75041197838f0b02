//! The wards of the server, and which of the patients and beds the overview shows.

use std::collections::HashSet;

use proto_json::wards::Ward;
use proto_json::{BedId, PatientSummary, WardId};
use serde::{Deserialize, Serialize};

/// Which patients the overview shows. The monitor remembers the choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceFilter {
    /// Nothing is chosen: admitted patients if there are wards, otherwise all patients.
    #[default]
    Automatic,
    /// All patients that the server knows.
    All,
    /// The patients of all wards.
    Admitted,
    /// The patients and the empty beds of one ward.
    Ward(WardId),
    /// Patients who are in no ward.
    NotAdmitted,
}

/// An empty bed of the ward that the overview shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmptyBed {
    /// The bed.
    pub id: BedId,
    /// The name of its ward.
    pub ward_name: String,
    /// The name of the bed.
    pub name: String,
    /// The place of the bed in the order of beds.
    pub key: String,
}

/// The wards, and the choice among them.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The wards, by name.
    pub wards: Vec<Ward>,
    /// What the user has chosen.
    pub chosen: PlaceFilter,
}

impl Places {
    /// The filter that applies. A ward that was removed is no choice.
    #[must_use]
    pub fn filter(&self) -> PlaceFilter {
        let is_there = |id: WardId| self.wards.iter().any(|ward| ward.id == id);
        match self.chosen {
            PlaceFilter::Ward(id) if is_there(id) => self.chosen,
            PlaceFilter::All => PlaceFilter::All,
            _ if self.wards.is_empty() => PlaceFilter::All,
            PlaceFilter::NotAdmitted => PlaceFilter::NotAdmitted,
            PlaceFilter::Automatic | PlaceFilter::Admitted | PlaceFilter::Ward(_) => PlaceFilter::Admitted,
        }
    }

    /// Whether the overview shows this patient.
    #[must_use]
    pub fn shows(&self, patient: &PatientSummary) -> bool {
        match self.filter() {
            PlaceFilter::All | PlaceFilter::Automatic => true,
            PlaceFilter::Admitted => patient.admission.is_some(),
            PlaceFilter::Ward(id) => patient.admission.as_ref().is_some_and(|at| at.ward == id),
            PlaceFilter::NotAdmitted => patient.admission.is_none(),
        }
    }

    /// The place of a patient in the order of beds. `None` if the patient is in no known bed.
    #[must_use]
    pub fn bed_key(&self, patient: &PatientSummary) -> Option<String> {
        let admission = patient.admission.as_ref()?;
        let ward = self.wards.iter().find(|ward| ward.id == admission.ward)?;
        let index = ward.beds.iter().position(|bed| bed.id == admission.bed)?;
        Some(bed_key(ward, index))
    }

    /// The beds of the chosen ward without any of these patients.
    #[must_use]
    pub fn empty_beds<'a>(&self, patients: impl Iterator<Item = &'a PatientSummary>) -> Vec<EmptyBed> {
        let PlaceFilter::Ward(id) = self.filter() else { return Vec::new() };
        let Some(ward) = self.wards.iter().find(|ward| ward.id == id) else { return Vec::new() };
        let occupied: HashSet<BedId> =
            patients.filter_map(|patient| Some(patient.admission.as_ref()?.bed)).collect();
        let beds = ward.beds.iter().enumerate().filter(|(_, bed)| !occupied.contains(&bed.id));
        beds.map(|(index, bed)| EmptyBed {
            id: bed.id,
            ward_name: ward.name.to_string(),
            name: bed.name.to_string(),
            key: bed_key(ward, index),
        })
        .collect()
    }
}

fn bed_key(ward: &Ward, index: usize) -> String {
    format!("{}\u{0}{index:05}", ward.name.key())
}
