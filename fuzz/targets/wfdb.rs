//! WFDB: the header ends at the first zero byte. The rest is parsed as signals and as annotations.
#![no_main]

use ecg::wfdb::{self, Header};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (header, data) = bytes.split_at(end);
    let data = data.get(1..).unwrap_or_default();
    if let Ok(annotations) = wfdb::annotations(data) {
        let _ = wfdb::beats_and_flutter(&annotations, 360.0);
    }
    let Ok(header) = Header::parse(&String::from_utf8_lossy(header)) else { return };
    if header.signals.len() <= 4
        && let Ok(recording) = wfdb::recording(&header, |_| Some(data))
    {
        assert!(recording.selected < recording.leads.len());
    }
    for index in 0..header.signals.len().min(4) {
        if let Ok(strip) = wfdb::strip(&header, index, data) {
            assert!(strip.sample_count() <= 8 * data.len());
            assert!(
                strip.segments.iter().flat_map(|segment| &segment.samples).all(|sample| sample.is_finite())
            );
        }
    }
});
