//! Numbers of imported items.

use serde::Serialize;

/// Numbers of imported items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Patients.
    pub patients: u64,
    /// ECG images.
    pub ecg_images: u64,
    /// Heart rates.
    pub heart_rates: u64,
    /// Medical images.
    pub medical_images: u64,
}

impl Counts {
    /// Adds the counts of another patient.
    pub fn add(&mut self, other: Counts) {
        self.patients += other.patients;
        self.ecg_images += other.ecg_images;
        self.heart_rates += other.heart_rates;
        self.medical_images += other.medical_images;
    }
}
