//! Classification of the signals of a file by their names.
//!
//! Files name the leads of an ECG in many ways: `MLII`, `Lead I`, `ECG (mV)`, `ecg_LL-RA`. Next to them are
//! signals that look like an ECG to a reader of numbers and are none: respiration, pulse waves, pressures,
//! acceleration, heart rates, markers. A name of such a signal takes precedence over any other word in it. A
//! name that says nothing is [`SignalKind::Unknown`]; the reader decides what to do with it.

/// What a name says about a signal. The order is the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SignalKind {
    /// A lead that shows the rhythm best: I, II and their modified forms.
    LimbLead,
    /// Another lead, or a signal that is named an ECG.
    Lead,
    /// The name does not say.
    Unknown,
    /// Another signal.
    Other,
}

const LIMB_LEADS: [&str; 10] = ["i", "ii", "mli", "mlii", "li", "lii", "d1", "d2", "dii", "leadi"];
const LEADS: &str = "iii avr avl avf v v1 v2 v3 v4 v5 v6 v7 v8 v9 v3r v4r v5r mliii liii diii d3 mcl1 mcl6 cm5 cc5 vx vy \
     vz";
/// Electrodes. A lead may be named by two of them, such as `LL-RA`.
const ELECTRODES: [&str; 5] = ["ra", "la", "ll", "rl", "wct"];
/// Words that say nothing about which signal it is.
const FILLERS: &str = "lead leads ableitung derivação derivacao derivación derivacion dérivation derivation derivazione \
     afleiding channel ch raw filtered filt signal voltage potential ref cal uncal 24bit 16bit mv uv µv \
     nv";
const OTHER_WORDS: &str = "resp rsp ppg bvp spo2 sao2 sat abp art bp nibp cvp pap icp co2 etco2 hr hrate bpm rr rri ibi acc gyr \
     mag marker mark marks flag flags di nseq seq i1 i2 o1 o2 eda gsr emg eeg eog sqi crc imp temp lux \
     beat beats peak peaks class label labels status bat button quality rate time timestamp id counter \
     sequence checksum packet mmhg loff leadoff rpeak rpeaks xyz snore abdo thor airflow";
const OTHER_STARTS: &str = "respir breath atem accel beschleunig aceler gyro magn pleth puls pouls temper marker trigger annot \
     event digital press druck satur batt imped heartrate spo2";

/// Classifies a name such as `MLII`, `ECG (mV)`, `RESP` or `Shimmer_ECG_LL-RA_24BIT_CAL`.
pub(crate) fn kind_of(name: &str) -> SignalKind {
    let words = words(name);
    // A word of mixed case, such as `HeartRate` or `AccX`, also counts by its parts.
    let parts = camel_parts(name);
    // `ECG, sampling rate 250 Hz` is no rate.
    let is_sampled = words.iter().any(|word| word.starts_with("sampl"));
    let names_other = |word: &String| is_other(word) && !(is_sampled && word == "rate");
    if words.iter().chain(&parts).any(names_other) {
        return SignalKind::Other;
    }
    let is_named_ecg = |word: &str| {
        ["ecg", "ekg", "electrocard", "elektrokard", "eletrocard"].iter().any(|part| word.contains(part))
    };
    let named = words.iter().any(|word| is_named_ecg(word));
    let rest: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| !is_in(FILLERS, word) && !is_named_ecg(word))
        .collect();
    match *rest.as_slice() {
        [word] if LIMB_LEADS.contains(&word) => SignalKind::LimbLead,
        [word] if is_in(LEADS, word) => SignalKind::Lead,
        [one, other] if ELECTRODES.contains(&other) && (ELECTRODES.contains(&one) || is_in(LEADS, one)) => {
            let limb = matches!((one, other), ("la" | "ll", "ra"));
            if limb { SignalKind::LimbLead } else { SignalKind::Lead }
        }
        // A device name may stand before the lead: `Shimmer_5A3B_ECG_LL-RA`.
        _ if named => SignalKind::Lead,
        _ => SignalKind::Unknown,
    }
}

/// Names of the standard twelve leads, with other names that files use for them in lower case.
const STANDARD: [(&str, &str); 12] = [
    ("I", "i li d1 di leadi"),
    ("II", "ii lii d2 dii leadii"),
    ("III", "iii liii d3 diii leadiii"),
    ("aVR", "avr"),
    ("aVL", "avl"),
    ("aVF", "avf"),
    ("V1", "v1"),
    ("V2", "v2"),
    ("V3", "v3"),
    ("V4", "v4"),
    ("V5", "v5"),
    ("V6", "v6"),
];

/// The standard name of a lead that is one of the twelve, such as `aVR` for `ECG AVR`. Modified leads such as `MLII`
/// are not.
pub(crate) fn standard_lead(name: &str) -> Option<&'static str> {
    let words = words(name);
    let rest: Vec<&String> = words
        .iter()
        .filter(|word| !is_in(FILLERS, word) && !["ecg", "ekg"].contains(&word.as_str()))
        .collect();
    let [word] = rest.as_slice() else { return None };
    STANDARD.into_iter().find(|(_, names)| is_in(names, word)).map(|(name, _)| name)
}

/// Whether a unit in the header, which may be in brackets, excludes a voltage: `mmHg`, `(bpm)`, `%`, `g`.
pub(crate) fn is_other_unit(unit: &str) -> bool {
    let unit = unit.trim();
    let inner = |open: char, close: char| unit.strip_prefix(open).and_then(|unit| unit.strip_suffix(close));
    let unit = inner('(', ')').or_else(|| inner('[', ']')).unwrap_or(unit);
    matches!(
        unit.to_lowercase().as_str(),
        "mmhg"
            | "bpm"
            | "/min"
            | "1/min"
            | "%"
            | "pct"
            | "°c"
            | "degc"
            | "c"
            | "g"
            | "mg"
            | "gauss"
            | "m/s2"
            | "m/s²"
            | "m/s^2"
            | "m/(s^2)"
            | "dps"
            | "deg/s"
            | "us"
            | "µs"
            | "ohm"
            | "ohms"
            | "kohm"
            | "kohms"
            | "l/min"
            | "nu"
            | "pm"
            | "lux"
    )
}

/// Makes the names of leads unique, so that each can be selected by its name. Leads without a name are
/// numbered from 1 if there are several.
pub(crate) fn unique_names(names: Vec<Option<String>>) -> Vec<Option<String>> {
    let several = names.len() > 1;
    let mut unique: Vec<Option<String>> = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let Some(name) = name else {
            unique.push(several.then(|| (index + 1).to_string()));
            continue;
        };
        let is_taken = |name: &str, known: &[Option<String>]| {
            known.iter().flatten().any(|known| known.eq_ignore_ascii_case(name))
        };
        let mut candidate = name.clone();
        let mut number = 1;
        while is_taken(&candidate, &unique) {
            number += 1;
            candidate = format!("{name} {number}");
        }
        unique.push(Some(candidate));
    }
    unique
}

/// Whether a list of words contains a word.
fn is_in(words: &str, word: &str) -> bool {
    words.split(' ').any(|known| known == word)
}

fn is_other(word: &str) -> bool {
    is_in(OTHER_WORDS, word) || OTHER_STARTS.split(' ').any(|start| word.starts_with(start))
}

/// Splits a name into lower-case words. Both micro signs become one.
pub(crate) fn words(name: &str) -> Vec<String> {
    name.to_lowercase()
        .replace('\u{3bc}', "µ")
        .split(|letter: char| !letter.is_alphanumeric() && letter != 'µ')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The parts of words of mixed case in lower case: `heart` and `rate` of `HeartRate`.
fn camel_parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before = ' ';
    for letter in name.chars() {
        if !letter.is_alphanumeric() || letter.is_uppercase() && before.is_lowercase() {
            parts.push(String::new());
        }
        if letter.is_alphanumeric()
            && let Some(part) = parts.last_mut()
        {
            part.extend(letter.to_lowercase());
        }
        before = letter;
    }
    // Single letters are parts of names such as `aVR`.
    parts.retain(|part| part.chars().count() > 2);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_leads_are_recognised() {
        for name in
            ["I", "ii", "MLII", "Lead I", "ECG II", "Ableitung I", "Derivação I", "II (mV)", "ECG LA-RA"]
        {
            assert_eq!(kind_of(name), SignalKind::LimbLead, "{name}");
        }
        for name in [
            "V1",
            "V5_uV",
            "aVR",
            "ECG",
            "EKG [µV]",
            "ecg [uV]",
            "EcgWaveform",
            "ECG1",
            "ecg_raw",
            "III",
            "ECG Vx-RL",
            "Shimmer_5A3B_ECG_LL-LA_24BIT_CAL",
            "Elektrokardiogramm",
            "ECG, sampling rate 250 Hz",
        ] {
            assert_eq!(kind_of(name), SignalKind::Lead, "{name}");
        }
    }

    #[test]
    fn names_of_other_signals_are_recognised() {
        for name in [
            "RESP",
            "Respiration (V)",
            "PLETH",
            "ABP",
            "HR",
            "HeartRate",
            "Heart Rate (bpm)",
            "Acc_X",
            "AccX",
            "accelerometer x",
            "Marker",
            "ECG quality",
            "event",
            "nSeq",
            "I1",
            "EMG",
            "EEG Fpz-Cz",
            "SpO2",
            "Shimmer_ECG_EXG1_Status_CAL",
            "RR interval",
            "Trigger",
        ] {
            assert_eq!(kind_of(name), SignalKind::Other, "{name}");
        }
        for name in ["voltage", "CH1", "signal 2", "value", "A1", "", "mV", "heart (mV)"] {
            assert_eq!(kind_of(name), SignalKind::Unknown, "{name}");
        }
    }

    #[test]
    fn standard_names_are_recognised() {
        for (name, standard) in
            [("I", "I"), ("Lead II", "II"), ("ECG AVR", "aVR"), ("v6 (mV)", "V6"), ("ECG III", "III")]
        {
            assert_eq!(standard_lead(name), Some(standard), "{name}");
        }
        for name in ["MLII", "ECG", "1", "V7", "ECG LA-RA", ""] {
            assert_eq!(standard_lead(name), None, "{name}");
        }
    }

    #[test]
    fn names_become_unique() {
        let names = |of: &[Option<&str>]| -> Vec<String> {
            let names = of.iter().map(|name| name.map(str::to_owned)).collect();
            unique_names(names).into_iter().map(Option::unwrap_or_default).collect()
        };
        assert_eq!(names(&[None]), [""]);
        assert_eq!(names(&[None, None]), ["1", "2"]);
        assert_eq!(names(&[Some("ECG"), Some("ecg"), Some("ECG")]), ["ECG", "ecg 2", "ECG 3"]);
    }
}
