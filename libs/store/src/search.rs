//! Search for names, ignoring case.

use proto_json::{PatientSummary, name_key};

/// The text of the search field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Search {
    /// The [`name_key`] contains it.
    pub(crate) name: String,
    /// The number starts with it.
    pub(crate) number: Option<String>,
}

impl Search {
    /// `None` for a search that matches all patients.
    pub(crate) fn parse(query: Option<&str>) -> Option<Self> {
        let query = query.map(str::trim).filter(|query| !query.is_empty())?;
        let number = query.bytes().all(|byte| byte.is_ascii_digit()).then(|| query.to_owned());
        Some(Search { name: name_key(query), number })
    }

    /// Whether a patient that was read without this search matches it.
    pub(crate) fn matches(&self, patient: &PatientSummary) -> bool {
        let by_name = patient.name.as_deref().is_some_and(|name| name_key(name).contains(&self.name));
        let digits = patient.mrn.to_string();
        by_name || self.number.as_ref().is_some_and(|number| digits.starts_with(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_only_in_case_have_the_same_key() {
        for (one, other) in
            [("Ann", "aNN"), ("ÄÖÜ", "äöü"), ("Straße", "STRASSE"), ("ΟΔΟΣ", "οδος"), ("Ёлка", "ёЛКА")]
        {
            assert_eq!(name_key(one), name_key(other));
        }
        assert_ne!(name_key("Ann"), name_key("Anna"));
    }

    #[test]
    fn empty_search_matches_all_patients() {
        assert_eq!(Search::parse(None), None);
        assert_eq!(Search::parse(Some(" ")), None);
        assert_eq!(Search::parse(Some("٣")).and_then(|search| search.number), None);
        assert_eq!(Search::parse(Some(" 12 ")).and_then(|search| search.number), Some("12".to_owned()));
    }
}
