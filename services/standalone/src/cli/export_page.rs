//! The readable part of `bedside export`: a page that needs only a browser, and the heart rates as CSV.

use std::fmt::Write;

use proto_json::alarms::Alarm;
use proto_json::wards::AdmissionRecord;
use proto_json::{
    Correction, EcgStatus, FormerName, HeartRateRecord, HeartRateSource, PatientSummary, Timestamp,
};

use super::export::{Ecg, Image};

/// What the page shows.
pub(super) struct Content<'a> {
    pub(super) patient: &'a PatientSummary,
    pub(super) former_names: &'a [FormerName],
    pub(super) heart_rates: usize,
    pub(super) ecgs: &'a [Ecg],
    pub(super) images: &'a [Image],
    pub(super) admissions: &'a [AdmissionRecord],
    pub(super) corrections: &'a [Correction],
    pub(super) alarms: &'a [Alarm],
    pub(super) waveforms: &'a [String],
}

pub(super) fn source(source: HeartRateSource) -> &'static str {
    match source {
        HeartRateSource::Reported => "reported",
        HeartRateSource::Ecg => "ecg",
    }
}

/// The heart rates, oldest first. `time` formats a time.
pub(super) fn heart_rates_csv(rates: &[HeartRateRecord], time: impl Fn(Timestamp) -> String) -> String {
    let mut text = "time,heart_rate_bpm,source\n".to_owned();
    for rate in rates.iter().rev() {
        let _ = writeln!(text, "{},{},{}", time(rate.at), rate.bpm, source(rate.source));
    }
    text
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn link(path: &str, text: &str) -> String {
    format!("<a href=\"{}\">{}</a>", escaped(path), escaped(text))
}

/// A heading and a table; nothing without rows. The cells are HTML.
fn table(page: &mut String, heading: &str, columns: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let cells = |tag: &str, cells: &[String]| {
        let cells: String = cells.iter().map(|cell| format!("<{tag}>{cell}</{tag}>")).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let head: Vec<String> = columns.iter().map(|column| escaped(column)).collect();
    let _ = write!(page, "<h2>{}</h2>\n<table>\n{}", escaped(heading), cells("th", &head));
    for row in rows {
        page.push_str(&cells("td", &row));
    }
    page.push_str("</table>\n");
}

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src 'self'; style-src 'unsafe-inline'\">
<title>Patient record</title>
<style>
body { font: 16px/1.4 sans-serif; margin: 2em; }
table { border-collapse: collapse; }
td, th { border: 1px solid #999; padding: 0.3em 0.6em; text-align: left; vertical-align: top; }
</style>
";

/// The page. All text of clients is escaped; the page loads nothing from elsewhere. Times are in UTC.
pub(super) fn page(content: &Content<'_>) -> String {
    let patient = content.patient;
    let name = patient.name.as_deref().unwrap_or("(no name)");
    let mut page = HEAD.to_owned();
    let _ = writeln!(page, "<h1>{}, number {}</h1>", escaped(name), patient.mrn);
    let mut facts = Vec::new();
    if let Some(details) = &patient.details {
        facts.extend(details.birth_date.map(|date| vec!["Date of birth".to_owned(), date.to_string()]));
        facts.extend(details.sex.map(|sex| vec!["Sex".to_owned(), format!("{sex:?}").to_lowercase()]));
        let notes = details.notes.as_ref();
        facts.extend(notes.map(|notes| vec!["Notes".to_owned(), escaped(notes.as_str())]));
    }
    facts.push(vec!["First record".to_owned(), patient.created_at.to_string()]);
    table(&mut page, "Patient", &["", ""], facts);
    let former = |name: &FormerName| vec![escaped(&name.name), name.replaced_at.to_string()];
    table(&mut page, "Former names", &["Name", "Until"], content.former_names.iter().map(former).collect());
    let _ = writeln!(
        page,
        "<h2>Heart rates</h2>\n<p>{} values: {}</p>",
        content.heart_rates,
        link("heart-rates.csv", "heart-rates.csv")
    );
    let ecg = |ecg: &Ecg| {
        let record = &ecg.record;
        let rate = record.heart_rate.map(|bpm| format!("{bpm} bpm")).unwrap_or_default();
        let status = match record.status {
            EcgStatus::Pending => "not analysed yet",
            EcgStatus::Analyzed => "analysed",
            EcgStatus::Failed => "not readable",
            EcgStatus::Picture => "picture",
        };
        let files = [(&ecg.signal_file, "file"), (&ecg.plot_file, "picture"), (&ecg.detail_file, "beats")];
        let files = files.into_iter().filter_map(|(path, text)| Some(link(path.as_deref()?, text)));
        let findings = record.analysis.iter().flat_map(|analysis| &analysis.rhythm);
        let findings = findings.map(|finding| escaped(&finding.message)).collect::<Vec<_>>().join("<br>");
        vec![record.at.to_string(), rate, status.to_owned(), findings, files.collect::<Vec<_>>().join(" ")]
    };
    let columns = ["Time", "Heart rate", "Status", "Findings", "Files"];
    table(&mut page, "ECGs", &columns, content.ecgs.iter().map(ecg).collect());
    let image = |image: &Image| {
        let name = image.record.file.file_name.as_deref().unwrap_or("image");
        vec![image.record.at.to_string(), link(&image.image_file, name)]
    };
    table(&mut page, "Images", &["Time", "File"], content.images.iter().map(image).collect());
    let waveforms = content.waveforms.iter().map(|path| vec![link(path, path)]).collect();
    table(&mut page, "Waveforms (WFDB)", &["File"], waveforms);
    let stay = |stay: &AdmissionRecord| {
        let place = format!("{}, {}", stay.ward_name.as_str(), stay.bed_name.as_str());
        let until = stay.ended.as_ref().map(|ended| ended.at.to_string()).unwrap_or_default();
        vec![escaped(&place), stay.began.at.to_string(), until]
    };
    table(&mut page, "Stays", &["Bed", "From", "Until"], content.admissions.iter().map(stay).collect());
    let alarm = |alarm: &Alarm| {
        let until = alarm.ended_at.map(|at| at.to_string()).unwrap_or_default();
        let seen = alarm.acknowledged.as_ref().map(|action| escaped(&action.by)).unwrap_or_default();
        vec![alarm.raised_at.to_string(), until, escaped(&alarm.text), seen]
    };
    let columns = ["Time", "Until", "Alarm", "Acknowledged by"];
    table(&mut page, "Alarms", &columns, content.alarms.iter().map(alarm).collect());
    let correction = |correction: &Correction| {
        let reason = correction.reason.as_deref().unwrap_or_default();
        vec![correction.at.to_string(), escaped(&correction.by), escaped(reason)]
    };
    let corrections = content.corrections.iter().map(correction).collect();
    table(&mut page, "Corrections", &["Time", "By", "Reason"], corrections);
    page.push_str(
        "<p>index.json contains everything on this page, and more, for programs. Times are in UTC.</p>\n",
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_escapes_text_and_links_every_file() {
        let patient: PatientSummary = serde_json::from_value(serde_json::json!({
            "mrn": 7, "name": "<b>Ann & \"Bo\"</b>", "version": 1,
            "created_at": "2026-03-14T15:09:26.535Z", "updated_at": "2026-03-14T15:09:26.535Z",
        }))
        .unwrap();
        let waveforms = ["waveforms/a.hea".to_owned()];
        let content = Content {
            patient: &patient,
            former_names: &[],
            heart_rates: 3,
            ecgs: &[],
            images: &[],
            admissions: &[],
            corrections: &[],
            alarms: &[],
            waveforms: &waveforms,
        };
        let page = page(&content);
        assert!(page.contains("&lt;b&gt;Ann &amp; &quot;Bo&quot;&lt;/b&gt;, number 7"), "{page}");
        assert!(page.contains("href=\"heart-rates.csv\"") && page.contains("href=\"waveforms/a.hea\""));
        assert!(!page.contains("<b>") && !page.contains("<h2>Images"));
    }
}
