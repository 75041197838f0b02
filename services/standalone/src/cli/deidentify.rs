//! `bedside export --deidentified`: data of a patient for teaching and research.
//!
//! Nothing is copied that is not listed here: numbers, times, codes of this program, standard names of leads, and samples. Names,
//! record numbers, ids, notes, names of files, texts and metadata of files are left out. Times are shifted by a constant number of
//! weeks, at least a century, so that intervals, times of day and weekdays stay. Pseudonym and shift follow from the gateways' key
//! and the record number: the same patient gets the same ones in every export, and nobody without the key can compute them.

use std::fmt::Write;

use proto_json::{
    EcgAnalysis, EcgDetail, EcgFinding, EcgRecord, HeartRateRecord, ImageRecord, MediaType, Mrn,
    PatientSummary, Timestamp,
};
use runtime::Secret;
use serde_json::{Value, json};

use super::error::CliError;
use super::export_page;

const WEEK_MS: i64 = 7 * 24 * 3_600_000;
/// Weeks of the smallest shift: 100 years.
const FIRST_WEEK: u64 = 5_219;
/// Number of different shifts: another 100 years.
const WEEKS: u64 = 5_219;
/// Higher ages are not stated, because few people reach them.
const MAX_AGE: u16 = 90;

/// What a patient is called, and by how much times are shifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pseudonym: String,
    shift_ms: i64,
}

impl Identity {
    /// Other purposes than that of the audit log, so that its pseudonyms cannot be matched with these.
    pub(super) fn of(key: &Secret, mrn: Mrn) -> Self {
        let number = mrn.to_string();
        let hash = |purpose: &str| key.keyed_hash(purpose, &[number.as_bytes()]);
        let pseudonym = hash("export pseudonym").iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let weeks =
            hash("export shift").iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        let weeks = i64::try_from(FIRST_WEEK + weeks % WEEKS).unwrap_or(i64::MAX / WEEK_MS);
        Identity { pseudonym, shift_ms: weeks * WEEK_MS }
    }

    fn time(&self, at: Timestamp) -> String {
        at.plus_millis(self.shift_ms).to_string()
    }
}

/// The data of a patient.
pub(super) struct Source {
    pub(super) patient: PatientSummary,
    pub(super) heart_rates: Vec<HeartRateRecord>,
    pub(super) ecgs: Vec<SourceEcg>,
    /// Empty if they are not asked for.
    pub(super) images: Vec<(ImageRecord, Vec<u8>)>,
    /// WFDB headers of the gateway. The samples are in the files `waveform-1.dat` and so on.
    pub(super) waveforms: Vec<String>,
}

pub(super) struct SourceEcg {
    pub(super) record: EcgRecord,
    pub(super) signal: Option<Vec<u8>>,
    pub(super) detail: Option<EcgDetail>,
}

const README: &str = "De-identified data of one patient, for teaching and research.

patient.json     pseudonym, sex, age in years at the first record (90 for all higher ages), ECGs and images
heart-rates.csv  heart rates
ecgs/            leads in millivolts, one file per lead, and the beats
images/          images without metadata, if they were asked for
waveforms/       waveforms as WFDB: a header and a file of samples for each stream and sample rate

Times are shifted by a constant of this patient. Intervals, times of day and weekdays are real.
Images can show names or faces: look at each one before you pass it on.
Rare findings can identify a person to somebody who knows them.
";

/// The files of the export: relative paths and content.
pub(super) fn files(source: &Source, identity: &Identity) -> Result<Vec<(String, Vec<u8>)>, CliError> {
    let mut files = vec![("README.txt".to_owned(), README.as_bytes().to_vec())];
    let rates = export_page::heart_rates_csv(&source.heart_rates, |at| identity.time(at));
    files.push(("heart-rates.csv".to_owned(), rates.into_bytes()));
    let mut ecgs = Vec::new();
    for (index, ecg) in source.ecgs.iter().enumerate() {
        ecgs.push(ecg_files(&mut files, index + 1, ecg, identity)?);
    }
    let mut images = Vec::new();
    for (index, (record, bytes)) in source.images.iter().enumerate() {
        let stripped = match record.file.media_type {
            MediaType::Png => png(bytes),
            MediaType::Jpeg => jpeg(bytes),
            MediaType::Csv | MediaType::Edf | MediaType::Json => None,
        };
        let number = index + 1;
        let file = stripped.map(|stripped| {
            let name = format!("images/image-{number}.{}", record.file.media_type.extension());
            files.push((name.clone(), stripped));
            name
        });
        images.push(json!({ "image": number, "time": identity.time(record.at), "file": file }));
    }
    let mut waveforms = Vec::new();
    for (index, header) in source.waveforms.iter().enumerate() {
        let name = format!("waveform-{}", index + 1);
        let path = format!("waveforms/{name}.hea");
        let header = waveform_header(header, &name, identity);
        let header = header.ok_or_else(|| CliError::failed("the gateway sent a damaged WFDB header"))?;
        files.push((path.clone(), header.into_bytes()));
        waveforms.push(path);
    }
    let patient = &source.patient;
    let details = patient.details.as_ref();
    let first = source.heart_rates.iter().map(|rate| rate.at);
    let first = first.chain(source.ecgs.iter().map(|ecg| ecg.record.at)).min().unwrap_or(patient.created_at);
    let age = details.and_then(|details| details.birth_date?.age_at(first)).map(|age| age.min(MAX_AGE));
    let index = json!({
        "pseudonym": identity.pseudonym,
        "sex": details.and_then(|details| details.sex),
        "age_years": age,
        "heart_rates": source.heart_rates.len(),
        "ecgs": ecgs,
        "images": images,
        "waveforms": waveforms,
    });
    let index = serde_json::to_vec_pretty(&index).map_err(CliError::failed)?;
    files.push(("patient.json".to_owned(), index));
    Ok(files)
}

/// Adds the files of an ECG, and describes it.
fn ecg_files(
    files: &mut Vec<(String, Vec<u8>)>,
    number: usize,
    ecg: &SourceEcg,
    identity: &Identity,
) -> Result<Value, CliError> {
    let record = &ecg.record;
    let mut leads = Vec::new();
    if let Some(signal) = &ecg.signal
        && let Ok(recording) = ecg::read_recording(signal.as_slice(), &reading(record))
    {
        for (index, lead) in recording.leads.iter().enumerate() {
            let name = lead_name(lead.strip.lead.as_deref(), index);
            let path = format!("ecgs/ecg-{number}-{name}.csv");
            files.push((path.clone(), lead_csv(&lead.strip).into_bytes()));
            leads.push(json!({
                "lead": name, "sample_rate_hz": lead.strip.sample_rate_hz, "file": path,
            }));
        }
    }
    let mut beats = None;
    if let Some(detail) = &ecg.detail {
        let mut detail = detail.clone();
        detail.rhythm.clear();
        for segment in &mut detail.quality_segments {
            segment.reason = None;
        }
        let path = format!("ecgs/ecg-{number}-beats.json");
        files.push((path.clone(), serde_json::to_vec(&detail).map_err(CliError::failed)?));
        beats = Some(path);
    }
    Ok(json!({
        "ecg": number,
        "time": identity.time(record.at),
        "is_picture": record.status == proto_json::EcgStatus::Picture,
        "heart_rate_bpm": record.heart_rate,
        "leads": leads,
        "beats": beats,
        "analysis": record.analysis.as_ref().map(analysis),
    }))
}

fn reading(record: &EcgRecord) -> ecg::csv::Options {
    let options = record.signal_options.as_ref();
    let found = record.analysis.as_ref().map(|analysis| analysis.sample_rate_hz);
    let rate = options.map_or(found, |options| options.sample_rate_hz);
    ecg::csv::Options { sample_rate_hz: rate, ..Default::default() }
}

/// The header of a WFDB record under another name: with numbers, standard names and units, and a shifted start. `None` if it is
/// damaged. Comments state the exact scale and offset of each signal.
fn waveform_header(text: &str, name: &str, identity: &Identity) -> Option<String> {
    const UNITS: [&str; 14] =
        ["V", "mV", "uV", "nV", "1", "%", "Ohm", "mm[Hg]", "kPa", "Cel", "/min", "L/min", "cm[H2O]", "Pa"];
    let is_number = |text: &str| text.parse::<f64>().is_ok_and(f64::is_finite);
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ').skip(1);
    let (count, hz, samples) = (first.next()?, first.next()?, first.next()?);
    let (time, date) = (first.next()?, first.next()?);
    let mut date = date.split('/').rev();
    let (year, month, day) = (date.next()?, date.next()?, date.next()?);
    // A timestamp has milliseconds. The digits of the microseconds are not changed.
    let (time, micros) = (time.get(..12)?, time.get(12..)?);
    let start: Timestamp = format!("{year}-{month}-{day}T{time}Z").parse().ok()?;
    let start = identity.time(start);
    let (day, time) = (start.get(..10)?, start.get(11..23)?);
    let mut day = day.split('-').rev();
    let (day, month, year) = (day.next()?, day.next()?, day.next()?);
    if ![count, hz, samples].into_iter().all(is_number) || !micros.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut out = format!("{name} {count} {hz} {samples} {time}{micros} {day}/{month}/{year}\n");
    let (mut comments, mut signals) = (String::new(), lines.clone().filter(|line| !line.starts_with('#')));
    let exact: Vec<&str> = lines.filter(|line| line.starts_with('#')).collect();
    for (index, exact) in exact.iter().enumerate() {
        let fields: Vec<&str> = signals.next()?.splitn(9, ' ').collect();
        let [_, "16", gain, "16", "0", initial, sum, "0", label] = fields[..] else { return None };
        let (gain, unit) = gain.split_once('/')?;
        let (gain, baseline) = gain.strip_suffix(')')?.split_once('(')?;
        let (scale, offset) = exact.rsplit_once("= sample * ")?.1.split_once(" + ")?;
        if ![gain, baseline, initial, sum, scale, offset].into_iter().all(is_number) {
            return None;
        }
        let unit = UNITS.into_iter().find(|known| *known == unit).unwrap_or("unit");
        let label = lead_name(Some(label), index);
        writeln!(out, "{name}.dat 16 {gain}({baseline})/{unit} 16 0 {initial} {sum} 0 {label}").ok()?;
        writeln!(comments, "# {label}: value in {unit} = sample * {scale} + {offset}").ok()?;
    }
    signals.next().is_none().then(|| out + &comments)
}

/// A standard name, or the number of the lead: a file can name its leads as it likes.
fn lead_name(name: Option<&str>, index: usize) -> String {
    const NAMES: [&str; 18] = [
        "I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6", "MLI", "MLII", "PLETH",
        "RESP", "ABP", "CVP",
    ];
    let name = name.map(|name| name.trim().to_ascii_uppercase());
    let standard = NAMES.into_iter().find(|standard| name.as_deref() == Some(*standard));
    standard.map_or_else(|| format!("lead-{}", index + 1), |name| format!("{name}-{}", index + 1))
}

fn lead_csv(strip: &ecg::Strip) -> String {
    let mut text = "time_s,mv\n".to_owned();
    for segment in &strip.segments {
        for (index, sample) in segment.samples.iter().enumerate() {
            let time = segment.start_s + index as f64 / strip.sample_rate_hz;
            let _ = writeln!(text, "{time:.4},{sample:.4}");
        }
    }
    text
}

/// A code of this program: no spaces, no capitals.
fn code(finding: &EcgFinding) -> Option<&str> {
    let is_code = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    Some(&*finding.code).filter(|code| code.len() <= 40 && code.bytes().all(is_code))
}

/// The numbers of an analysis, and the codes of its findings.
fn analysis(analysis: &EcgAnalysis) -> Value {
    let rhythm = analysis
        .rhythm
        .iter()
        .map(|finding| json!({ "code": code(finding), "start_s": finding.start_s, "end_s": finding.end_s }));
    json!({
        "algorithm": analysis.algorithm,
        "duration_s": analysis.duration_s,
        "sample_rate_hz": analysis.sample_rate_hz,
        "quality": analysis.quality,
        "heart_rate": analysis.heart_rate,
        "rr": analysis.rr,
        "beat_count": analysis.beat_count,
        "beat_types": analysis.beat_types,
        "intervals": analysis.intervals,
        "rhythm": rhythm.collect::<Vec<_>>(),
    })
}

/// A PNG image with the chunks that its pixels need, and no others. `None` if it is damaged.
fn png(bytes: &[u8]) -> Option<Vec<u8>> {
    const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
    const KEPT: [&[u8]; 5] = [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"];
    let mut rest = bytes.strip_prefix(SIGNATURE)?;
    let mut kept = SIGNATURE.to_vec();
    loop {
        let length = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
        let length = usize::try_from(length).ok()?.checked_add(12)?;
        let chunk = rest.get(..length)?;
        let kind = chunk.get(4..8)?;
        if KEPT.contains(&kind) {
            kept.extend_from_slice(chunk);
        }
        if kind == b"IEND" {
            return Some(kept);
        }
        rest = rest.get(length..)?;
    }
}

/// A JPEG image without segments of applications and without comments. `None` if it is damaged.
fn jpeg(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut rest = bytes.strip_prefix(b"\xff\xd8")?;
    let mut kept = b"\xff\xd8".to_vec();
    loop {
        let marker = *rest.strip_prefix(b"\xff")?.first()?;
        match marker {
            0xff => {
                rest = rest.get(1..)?;
                continue;
            }
            0xd9 => {
                kept.extend_from_slice(b"\xff\xd9");
                return Some(kept);
            }
            _ => {}
        }
        let length = usize::from(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?)) + 2;
        let segment = rest.get(..length)?;
        rest = rest.get(length..)?;
        // The segment of Adobe states the colours; the rest of its content is fixed.
        let is_colours = marker == 0xee && length == 16 && segment.get(4..9) == Some(b"Adobe");
        if is_colours || !(matches!(marker, 0xe0..=0xef) || marker == 0xfe) {
            kept.extend_from_slice(segment);
        }
        if marker == 0xda {
            let is_end = |pair: &[u8]| matches!(pair, [0xff, next] if !matches!(*next, 0 | 0xd0..=0xd7));
            let end = rest.windows(2).position(is_end)?;
            kept.extend_from_slice(rest.get(..end)?);
            rest = rest.get(end..)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    fn key() -> Secret {
        Secret::generate().unwrap()
    }

    #[test]
    fn identity_follows_from_key_and_number_and_differs_from_that_of_the_audit_log() {
        let (key, other, mrn) = (key(), key(), Mrn::new(7).unwrap());
        let identity = Identity::of(&key, mrn);
        assert_eq!(identity, Identity::of(&key, mrn));
        assert_ne!(identity, Identity::of(&other, mrn));
        assert_ne!(identity.pseudonym, Identity::of(&key, Mrn::new(8).unwrap()).pseudonym);
        assert_ne!(identity.pseudonym, gateway::pseudonym(&key, mrn));
        assert_eq!(identity.shift_ms % WEEK_MS, 0);
        let at: Timestamp = "2026-03-14T15:09:26.535Z".parse().unwrap();
        let shifted = identity.time(at);
        assert!(shifted.as_str() > "2126-01-01" && shifted.as_str() < "2227-01-01", "{shifted}");
        assert!(shifted.ends_with("T15:09:26.535Z"), "{shifted}");
    }

    fn png_with_text(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = ::png::Encoder::new(&mut bytes, 2, 2);
        encoder.set_color(::png::ColorType::Grayscale);
        encoder.add_text_chunk("Title".to_owned(), text.to_owned()).unwrap();
        encoder.write_header().unwrap().write_image_data(&[1, 2, 3, 4]).unwrap();
        bytes.extend_from_slice(text.as_bytes());
        bytes
    }

    fn jpeg_with_text(text: &str) -> Vec<u8> {
        let segment = |marker: u8, content: &[u8]| {
            let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
            [&[0xff, marker], length.as_slice(), content].concat()
        };
        let parts = [
            b"\xff\xd8".to_vec(),
            segment(0xe1, text.as_bytes()),
            segment(0xfe, text.as_bytes()),
            segment(0xdb, &[0; 65]),
            segment(0xda, &[1, 1, 0, 0, 63, 0]),
            b"\x12\xff\x00\x34\xff\xd0\x56\xff\xd9".to_vec(),
            text.as_bytes().to_vec(),
        ];
        parts.concat()
    }

    #[test]
    fn image_keeps_its_pixels_and_loses_its_metadata() {
        let stripped = png(&png_with_text("Ann Uncommon")).unwrap();
        let mut reader = ::png::Decoder::new(std::io::Cursor::new(&stripped)).read_info().unwrap();
        let mut pixels = [0; 4];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, [1, 2, 3, 4]);
        let stripped = jpeg(&jpeg_with_text("Ann Uncommon")).unwrap();
        assert!(stripped.ends_with(b"\x12\xff\x00\x34\xff\xd0\x56\xff\xd9"));
        assert_eq!(stripped.len(), 2 + 69 + 10 + 9);
        for damaged in
            [&b""[..], b"\xff\xd8\xff", b"\xff\xd8\xff\xe1\x00\x01", b"\x89PNG\r\n\x1a\n\0\0\0\xff"]
        {
            assert_eq!((png(damaged), jpeg(damaged)), (None, None));
        }
    }

    static RECORDING: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let settings = ecg::synth::Settings { duration_s: 10.0, ..Default::default() };
        ecg::synth::csv(&ecg::synth::generate(&settings).strip)
    });

    /// A header as the gateway makes it, of a device that puts a text into the name and unit of a channel.
    fn waveform(mrn: u64, text: &str, at: Timestamp) -> String {
        use ecg::wfdb::writer::{Checksum, OutputSignal, StartTime, header};
        let signal = |label: &str, unit: &str| OutputSignal {
            label: label.to_owned(),
            unit: unit.to_owned(),
            scale: 0.005,
            offset: -0.25,
        };
        let at = at.to_string();
        let field = |range| at.get::<std::ops::Range<usize>>(range).unwrap().parse::<u16>().unwrap();
        let small = |range| u8::try_from(field(range)).unwrap();
        let start = StartTime {
            date: (field(0..4), small(5..7), small(8..10)),
            time: (small(11..13), small(14..16), small(17..19)),
            micros: u32::from(field(20..23)) * 1_000 + 7,
        };
        let mut checksums = [Checksum::default(); 3];
        checksums[1].add(&[1, 2, -7]);
        let signals = [signal("II", "mV"), signal(text, text), signal("Pleth", "1")];
        header(&format!("{mrn}-a"), (24_989, 400), 3, start, &signals, &checksums)
    }

    #[test]
    fn header_of_waveforms_keeps_its_numbers() {
        let identity = Identity { pseudonym: String::new(), shift_ms: 5_219 * WEEK_MS };
        let header = |text: &str| waveform_header(text, "waveform-1", &identity);
        let real =
            waveform(7, "Ann + # Uncommon: = sample * 2 + 3", "2026-03-14T15:09:26.535Z".parse().unwrap());
        let expected = "waveform-1 3 62.4725 3 15:09:26.535007 23/03/2126\n\
            waveform-1.dat 16 200(50)/mV 16 0 0 0 0 II-1\n\
            waveform-1.dat 16 200(50)/unit 16 0 1 -4 0 lead-2\n\
            waveform-1.dat 16 200(50)/1 16 0 0 0 0 PLETH-3\n\
            # II-1: value in mV = sample * 0.005 + -0.25\n\
            # lead-2: value in unit = sample * 0.005 + -0.25\n\
            # PLETH-3: value in 1 = sample * 0.005 + -0.25\n";
        assert_eq!(header(&real).as_deref(), Some(expected));
        for damaged in ["", "a 1", "a 1 250 3 15:09:26.535007 23/03/2126\na.dat 16 x\n# b"] {
            assert_eq!(header(damaged), None, "{damaged}");
        }
    }

    /// A patient whose name, number and dates are everywhere.
    fn source(mrn: u64, name: &str, at: Timestamp, birth: &str, recording: &[u8]) -> Source {
        let id = |index: u8| format!("0198c0de-0000-7000-8000-0000000000{index:02x}");
        let text = format!("{name} {mrn} {at} {birth}");
        let file =
            json!({ "sha256": "0".repeat(64), "bytes": 1, "media_type": "image/png", "file_name": text });
        let mark = json!({ "correction": id(9), "by": name, "at": at, "reason": text });
        let patient = json!({
            "mrn": mrn, "name": name, "version": 3, "created_at": at, "updated_at": at,
            "renamed": { "from": name, "at": at, "confirmed": true },
            "details": { "birth_date": birth, "sex": "female", "notes": text, "version": 1 },
        });
        let rate = json!({
            "id": id(1), "mrn": mrn, "bpm": 70, "at": at, "received_at": at, "source": "reported",
            "entered_in_error": mark,
        });
        let finding = json!({
            "code": name, "message": text, "evidence": text, "start_s": 0.0, "end_s": 1.0,
        });
        let mut analysis = json!({
            "duration_s": 2.0, "sample_rate_hz": 250.0, "lead": text, "quality": "good", "beat_count": 2,
            "no_heart_rate_reason": text, "rhythm": [finding],
            "warnings": [{ "code": name, "message": text }], "notes": [{ "code": name, "message": text }],
            "rows_used": 1, "rows_skipped": 0, "first_skipped_lines": [],
        });
        analysis["leads"] = json!([{ "name": text, "gives_rate": true, "derived": false }]);
        let ecg = json!({
            "id": id(2), "mrn": mrn, "upload_id": id(3), "at": at, "received_at": at, "recorded_at": at,
            "status": "analyzed", "heart_rate": 70, "signal": file, "plot": file,
            "signal_options": { "sample_rate_hz": 250.0, "lead": name }, "analysis": analysis,
            "failure": text,
        });
        let image = |media: &str| {
            let mut file = file.clone();
            file["media_type"] = json!(media);
            let image = json!({ "id": id(4), "mrn": mrn, "upload_id": id(3), "at": at, "file": file });
            serde_json::from_value(image).unwrap()
        };
        let quality = json!([{ "start_s": 0.0, "end_s": 1.0, "quality": "poor", "reason": text }]);
        let detail = json!({
            "beats": [], "quality_segments": quality, "trend": [], "gaps": [], "rhythm": [finding],
            "pacing_pulses_s": [],
        });
        let signal = [format!("# {text}\n").as_bytes(), recording].concat();
        let ecg = SourceEcg {
            record: serde_json::from_value(ecg).unwrap(),
            signal: Some(signal),
            detail: Some(serde_json::from_value(detail).unwrap()),
        };
        Source {
            patient: serde_json::from_value(patient).unwrap(),
            heart_rates: vec![serde_json::from_value(rate).unwrap()],
            ecgs: vec![ecg],
            images: vec![
                (image("image/png"), png_with_text(&text)),
                (image("image/jpeg"), jpeg_with_text(&text)),
            ],
            waveforms: vec![waveform(mrn, &text, at)],
        }
    }

    proptest! {
        #[test]
        fn no_name_number_or_real_date_is_in_the_exported_bytes(
            mrn in 1_000_000_000_u64..100_000_000_000_000,
            first in "[A-Z][a-zà-ÿ]{7,12}",
            last in "[A-ZÄÖÜ][a-z]{7,12}",
            millis in 946_684_800_000_i64..1_900_000_000_000,
            birth in (1900_u16..2020, 1_u8..=12, 1_u8..=28),
        ) {
            let at = Timestamp::from_millis(millis).unwrap();
            let birth = format!("{:04}-{:02}-{:02}", birth.0, birth.1, birth.2);
            let source = source(mrn, &format!("{first} {last}"), at, &birth, &RECORDING);
            let files = files(&source, &Identity::of(&key(), Mrn::new(mrn).unwrap())).unwrap();
            let day = at.to_string().get(..10).unwrap().to_owned();
            let compact = day.replace('-', "");
            let european = format!("{}/{}/{}", &day[8..], &day[5..7], &day[..4]);
            let is_lead = |path: &str| path.starts_with("ecgs/ecg-1-") && path.ends_with(".csv");
            prop_assert!(files.iter().any(|(path, _)| is_lead(path)), "the signal is there");
            prop_assert_eq!(files.iter().filter(|(path, _)| path.starts_with("images/")).count(), 2);
            for (path, bytes) in files {
                let text = format!("{path}\n{}", String::from_utf8_lossy(&bytes)).to_lowercase();
                let secrets = [
                    first.to_lowercase(), last.to_lowercase(), mrn.to_string(), day.clone(), compact.clone(),
                    european.clone(),
                    birth.clone(), millis.to_string(), "0198c0de".to_owned(),
                ];
                for secret in secrets {
                    prop_assert!(!text.contains(&secret), "{secret} is in {path}");
                }
            }
        }
    }
}
