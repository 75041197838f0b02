//! Translations of the texts that Rust code shows.
//!
//! The texts in the source are English. An app has one catalogue in the gettext format (`lang/de.po`, merged with that of this
//! crate by the build script of the app). Slint bundles it for the texts in `@tr`, and this module reads the same catalogue for
//! those in [`tr!`](crate::tr). A text without a translation stays English, and so do messages of the server and of the libraries.
//!
//! The language is chosen once, at the start of the process.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::OnceLock;

/// A language of the apps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// English.
    #[default]
    #[value(name = "en")]
    English,
    /// German.
    #[value(name = "de")]
    German,
}

impl Language {
    /// The language code, as in the name of the catalogue.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::German => "de",
        }
    }

    /// The first supported language of the environment variables `LANGUAGE`, `LC_ALL`, `LC_MESSAGES` and `LANG`, as in gettext:
    /// the list `LANGUAGE` has no effect in the locale `C`. English if there is none.
    #[must_use]
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(set);
        let locale = locale.unwrap_or_default();
        let base =
            |locale: &str| locale.split(['_', '.', '@', '-']).next().unwrap_or_default().to_lowercase();
        if matches!(base(&locale).as_str(), "c" | "posix") {
            return Language::English;
        }
        let list = set("LANGUAGE").unwrap_or_default();
        let known = |locale: &str| match base(locale).as_str() {
            "de" => Some(Language::German),
            "en" => Some(Language::English),
            _ => None,
        };
        list.split(':').chain([locale.as_str()]).find_map(known).unwrap_or_default()
    }
}

/// The texts of a catalogue with their translations.
type Catalog = HashMap<String, String>;

/// The translations to the language of the process. There are none to English.
static TRANSLATIONS: OnceLock<Catalog> = OnceLock::new();

/// Chooses the language of [`tr!`](crate::tr) for the whole process. `german` is the catalogue of the app.
pub fn set_language(language: Language, german: &str) {
    TRANSLATIONS.get_or_init(|| match language {
        Language::English => Catalog::new(),
        Language::German => parse(german),
    });
}

/// Chooses the language of the texts in `@tr` on the thread of the window. Call it after the first window was created.
pub fn select_language(language: Language) {
    // Fails only in an app without bundled translations, which stays English.
    let _ = slint::select_bundled_translation(language.code());
}

/// The translation of a text that is known at run time only. The text itself if there is none.
#[must_use]
pub fn translated(text: &str) -> &str {
    TRANSLATIONS.get().and_then(|texts| texts.get(text)).map_or(text, String::as_str)
}

/// Replaces `{}` by the next argument, and `{0}` by the first one.
#[must_use]
pub fn filled(text: &str, arguments: &[&dyn Display]) -> String {
    let (mut result, mut rest, mut next) = (String::with_capacity(text.len()), text, 0);
    while let Some((before, after)) = rest.split_once('{') {
        let Some((index, after)) = after.split_once('}') else { break };
        result.push_str(before);
        let index = index.parse().unwrap_or(next);
        if let Some(argument) = arguments.get(index) {
            result.push_str(&argument.to_string());
        }
        (next, rest) = (index + 1, after);
    }
    result.push_str(rest);
    result
}

/// Translates a text into the language of the app. With arguments, replaces the placeholders `{}` of the text. The text has to be
/// in the catalogue of the crate: a test checks it.
#[macro_export]
macro_rules! tr {
    ($text:literal) => { $crate::text::translated($text) };
    ($text:literal, $($argument:expr),+ $(,)?) => {
        $crate::text::filled($crate::text::translated($text), &[$(&$argument as &dyn ::std::fmt::Display),+])
    };
}

/// Marks a text that is stored in English and translated when it is shown.
#[macro_export]
macro_rules! untranslated {
    ($text:literal) => {
        $text
    };
}

/// Reads the texts and translations of a catalogue. Plural forms and contexts are not used in this project.
fn parse(catalog: &str) -> Catalog {
    enum Part {
        None,
        Text,
        Translation,
    }
    let (mut texts, mut text, mut translation, mut part) =
        (Catalog::new(), String::new(), String::new(), Part::None);
    let mut finish = |text: &mut String, translation: &mut String| {
        let (text, translation) = (std::mem::take(text), std::mem::take(translation));
        if !text.is_empty() && !translation.is_empty() {
            texts.insert(text, translation);
        }
    };
    for line in catalog.lines().map(str::trim) {
        let quoted = if let Some(quoted) = line.strip_prefix("msgid ") {
            finish(&mut text, &mut translation);
            part = Part::Text;
            quoted
        } else if let Some(quoted) = line.strip_prefix("msgstr ") {
            part = Part::Translation;
            quoted
        } else {
            line
        };
        let content = quoted.strip_prefix('"').and_then(|quoted| quoted.strip_suffix('"'));
        match (&part, content) {
            (Part::Text, Some(content)) => text.push_str(&unescaped(content)),
            (Part::Translation, Some(content)) => translation.push_str(&unescaped(content)),
            _ => {}
        }
    }
    finish(&mut text, &mut translation);
    texts
}

fn unescaped(text: &str) -> String {
    let mut letters = text.chars();
    let mut result = String::with_capacity(text.len());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => result.push('\n'),
                other => result.extend(other),
            },
            letter => result.push(letter),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn language_follows_the_environment() {
        let of = |variables: &[(&str, &str)]| {
            Language::of_environment(|name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let (english, german) = (Language::English, Language::German);
        for (variables, language) in [
            (&[][..], english),
            (&[("LANG", "de_DE.UTF-8")][..], german),
            (&[("LANG", "en_GB.UTF-8")][..], english),
            (&[("LANG", "fr_FR")][..], english),
            (&[("LANG", "de_AT"), ("LC_ALL", "C.UTF-8")][..], english),
            (&[("LANG", "en_US"), ("LC_MESSAGES", "de_CH.UTF-8")][..], german),
            (&[("LANG", "en_US"), ("LANGUAGE", "fr:de:en")][..], german),
            (&[("LANG", "de_DE"), ("LANGUAGE", "en:de")][..], english),
            (&[("LANG", "C"), ("LANGUAGE", "de")][..], english),
            (&[("LANGUAGE", "de")][..], german),
        ] {
            assert_eq!(of(variables), language, "{variables:?}");
        }
    }

    #[test]
    fn placeholders_are_filled_in_the_order_of_the_translation() {
        assert_eq!(filled("{} of {}", &[&3, &"7 files"]), "3 of 7 files");
        assert_eq!(filled("{1}: {0}, {}", &[&"a", &"b"]), "b: a, b");
        assert_eq!(filled("no placeholder", &[&1]), "no placeholder");
        assert_eq!(filled("{} } {", &[&1]), "1 } {");
    }

    #[test]
    fn catalogue_is_read_with_escapes_and_continued_lines() {
        let catalog = parse(
            "msgid \"\"\nmsgstr \"Language: de\\n\"\n\n# A comment.\nmsgid \"one\\n\\\"two\\\"\"\nmsgstr \"eins\\n\"\n\"zwei\"\n\n\
             msgid \"open\"\nmsgstr \"\"\n",
        );
        assert_eq!(catalog.get("one\n\"two\"").map(String::as_str), Some("eins\nzwei"));
        assert_eq!(catalog.len(), 1, "the header and an empty translation are left out");
    }
}
