//! CSV and EDF files: one lead and all leads are read; one lead is analysed and, if short, plotted.
#![no_main]

use ecg::csv::{LeadChoice, Options};
use ecg::plot;

#[path = "../../libs/ecg/tests/strip_checks/mod.rs"]
mod strip_checks;

/// Longer strips are read but not analysed, so that more inputs are tried in the same time.
const ANALYSED_SAMPLES: usize = 20_000;
const DRAWN_SAMPLES: usize = 1_000;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The last byte selects the options.
    let choice = bytes.last().copied().unwrap_or_default();
    let options = Options {
        sample_rate_hz: (choice & 1 == 1).then_some(250.0),
        lead: (choice & 2 == 2).then_some(LeadChoice::Index(1)),
        ..Options::default()
    };
    match (ecg::read(bytes, &options), ecg::read_recording(bytes, &options)) {
        (Ok(strip), Ok(recording)) => {
            for lead in &recording.leads {
                strip_checks::assert_in_order(&lead.strip, bytes.len());
            }
            assert!(recording.selected < recording.leads.len());
            strip_checks::assert_in_order(&strip, bytes.len());
            if strip.sample_count() <= ANALYSED_SAMPLES {
                let analysis = ecg::analyze(&strip);
                if strip.sample_count() <= DRAWN_SAMPLES && choice & 12 == 12 {
                    plot::png(&strip, &analysis, &plot::Options::default()).expect("a strip can be plotted");
                }
            }
        }
        // If the preferred lead has no signal, another one is selected.
        (Err(error), _) | (Ok(_), Err(error)) => {
            let sentence = error.to_string();
            assert!(sentence.ends_with('.') && sentence.len() < 1000, "{sentence}");
        }
    }
});
