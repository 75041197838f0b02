//! The wards of a demo. Each patient has a bed, and two beds of each ward are empty.

use std::time::Duration;

use client::{ClientError, Gateway, new_bed_id, new_stay_id, new_ward_id};
use proto_json::wards::{AdmitRequest, MAX_BEDS, NewBed, NewWard, PlaceName, Ward};
use proto_json::{BedId, Mrn};
use runtime::Backoff;

/// Smallest number of beds of a ward.
const MIN_BEDS: usize = 10;
/// Beds of a ward that stay empty.
const EMPTY_BEDS: usize = 2;

/// Numbers of beds of the wards for this number of patients.
fn beds_of_wards(patients: usize) -> Vec<usize> {
    let mut wards = Vec::new();
    let mut left = patients;
    while left > 0 {
        let here = left.min(MAX_BEDS - EMPTY_BEDS);
        wards.push((here + EMPTY_BEDS).max(MIN_BEDS));
        left -= here;
    }
    wards
}

/// Adds the missing wards and beds. Returns a bed for each patient. Waits for the gateway.
pub(super) async fn prepare(gateway: &Gateway, patients: usize) -> Vec<BedId> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        match try_prepare(gateway, patients).await {
            Ok(beds) => return beds,
            Err(error) if error.is_transient() => tokio::time::sleep(backoff.next_wait()).await,
            Err(error) => {
                tracing::warn!(%error, "the wards of the demo cannot be added");
                return Vec::new();
            }
        }
    }
}

async fn try_prepare(gateway: &Gateway, patients: usize) -> Result<Vec<BedId>, ClientError> {
    let mut wards = gateway.wards().await?.items;
    let mut beds = Vec::new();
    for (number, count) in (1..).zip(beds_of_wards(patients)) {
        let mut ward = named(gateway, &mut wards, &format!("Ward {number}")).await?;
        for bed in 1..=count {
            let name = name(&format!("Bed {bed}"))?;
            if !ward.beds.iter().any(|known| known.name == name) {
                ward = gateway.add_bed(ward.id, &NewBed { id: Some(new_bed_id()), name }).await?;
            }
        }
        let of_patients = count - EMPTY_BEDS;
        beds.extend(ward.beds.iter().take(of_patients).map(|bed| bed.id));
    }
    beds.truncate(patients);
    Ok(beds)
}

/// The ward with this name, which is added if it does not exist.
async fn named(gateway: &Gateway, wards: &mut Vec<Ward>, text: &str) -> Result<Ward, ClientError> {
    let name = name(text)?;
    match wards.iter().position(|ward| ward.name == name) {
        Some(index) => Ok(wards.swap_remove(index)),
        None => gateway.add_ward(&NewWard { id: Some(new_ward_id()), name }).await,
    }
}

fn name(text: &str) -> Result<PlaceName, ClientError> {
    text.parse().map_err(|error: proto_json::wards::PlaceNameError| ClientError::Settings(error.to_string()))
}

/// Admits a patient. Returns whether no further attempt is needed: the patient of an earlier demo is admitted already.
pub(super) async fn admit(gateway: &Gateway, mrn: Mrn, bed: BedId) -> bool {
    match gateway.admit(mrn, &AdmitRequest { bed, id: Some(new_stay_id()) }).await {
        Ok(_) => true,
        Err(error) if error.is_transient() => false,
        Err(error) => {
            tracing::info!(%error, patient = mrn.get(), "a simulated patient is not admitted");
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_patient_has_a_bed_and_two_beds_are_empty() {
        assert_eq!(beds_of_wards(8), [10]);
        assert_eq!(beds_of_wards(1), [10]);
        assert_eq!(beds_of_wards(98), [100]);
        assert_eq!(beds_of_wards(200), [100, 100, 10]);
        assert!(beds_of_wards(0).is_empty());
    }
}
