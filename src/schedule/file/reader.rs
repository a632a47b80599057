//! Reading a TOML tree with types, in one pass that reports everything and stops at nothing.
//!
//! serde stops at the first error and loses positions in the places that matter (enums, flattened tables), so tables are
//! read key by key. What was asked for is what is known; [`Table::finish`] reports the rest.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::diagnostic::Code;
use super::findings::{Finding, Findings, Span};
use crate::jobs::suggest;

/// A table that is being read.
#[derive(Debug)]
pub(super) struct Table<'t, 'i> {
    /// As its author writes it: `[when]`.
    label: String,
    span: Span,
    entries: &'t DeTable<'i>,
    known: Vec<Cow<'static, str>>,
}

impl<'t, 'i> Table<'t, 'i> {
    pub(super) fn new(label: impl Into<String>, span: Span, entries: &'t DeTable<'i>) -> Self {
        Self { label: label.into(), span, entries, known: Vec::new() }
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// The value at `key`, which is a known key from here on.
    pub(super) fn get(&mut self, key: impl Into<Cow<'static, str>>) -> Option<Item<'t, 'i>> {
        let key = key.into();
        let found = self.entries.get_key_value(&*key).map(|(name, value)| Item {
            name: key.to_string(),
            key_span: name.span(),
            value,
        });
        self.known.push(key);
        found
    }

    /// Every key that nobody has asked for.
    pub(super) fn others(&self) -> impl Iterator<Item = Item<'t, 'i>> + '_ {
        self.entries
            .iter()
            .filter(|(name, _)| !self.known.iter().any(|known| known == name.get_ref()))
            .map(|(name, value)| Item {
                name: name.get_ref().to_string(),
                key_span: name.span(),
                value,
            })
    }

    /// Reports keys that are announced in the documentation and not there yet.
    pub(super) fn refuse(
        &mut self,
        unsupported: &[(&'static str, &str)],
        findings: &mut Findings<'_>,
    ) {
        for (key, instead) in unsupported {
            if let Some(item) = self.get(*key) {
                let message = format!("`{key}` is not supported yet");
                findings.add(
                    Finding::error(Code::Unsupported, &item.key_span, message)
                        .help((*instead).to_owned()),
                );
            }
        }
    }

    /// Reports every key that nobody has asked for.
    pub(super) fn finish(self, findings: &mut Findings<'_>) {
        let known: Vec<&str> = self.known.iter().map(|known| &**known).collect();
        for item in self.others() {
            if findings.is_full() {
                break;
            }
            let help = suggest(&item.name, &known)
                .unwrap_or_else(|| format!("known keys: {}", known.join(", ")));
            let message = format!("unknown key `{}` in {}", item.name.escape_debug(), self.label);
            findings.add(Finding::error(Code::UnknownKey, &item.key_span, message).help(help));
        }
    }
}

/// A value that is being read, and what it is called.
#[derive(Debug, Clone)]
pub(super) struct Item<'t, 'i> {
    pub(super) name: String,
    pub(super) key_span: Span,
    pub(super) value: &'t Spanned<DeValue<'i>>,
}

impl<'t, 'i> Item<'t, 'i> {
    pub(super) fn span(&self) -> Span {
        self.value.span()
    }

    /// Reports that the value has another type than `expected`, which says how to write it.
    pub(super) fn wrong_type(&self, expected: &str, findings: &mut Findings<'_>) {
        let found = self.value.get_ref().type_str();
        let message = format!("`{}` must be {expected}, and this is {}", self.name, article(found));
        findings.add(Finding::error(Code::WrongType, &self.span(), message));
    }

    /// Reports that the value cannot be meant.
    pub(super) fn bad_value(&self, message: impl Into<String>, findings: &mut Findings<'_>) {
        let message = format!("`{}`: {}", self.name, message.into());
        findings.add(Finding::error(Code::BadValue, &self.span(), message));
    }

    pub(super) fn text(&self, expected: &str, findings: &mut Findings<'_>) -> Option<&'t str> {
        let text = self.value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(expected, findings);
        }
        text
    }

    /// A short text for people: no control characters, at most `max_chars` characters.
    pub(super) fn line(&self, max_chars: usize, findings: &mut Findings<'_>) -> Option<String> {
        let text = self.text("a text in quotes", findings)?;
        if text.chars().count() > max_chars {
            self.bad_value(format!("longer than {max_chars} characters"), findings);
        } else if text.chars().any(|letter| letter.is_control() && letter != '\n') {
            self.bad_value("control characters are not allowed", findings);
        }
        Some(text.to_owned())
    }

    /// A text that a type reads for itself.
    pub(super) fn parse<T>(&self, expected: &str, findings: &mut Findings<'_>) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        match self.text(expected, findings)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.bad_value(error.to_string(), findings);
                None
            }
        }
    }

    pub(super) fn boolean(&self, findings: &mut Findings<'_>) -> Option<bool> {
        let value = self.value.get_ref().as_bool();
        if value.is_none() {
            self.wrong_type("true or false", findings);
        }
        value
    }

    /// An integer from `min` to `max`.
    pub(super) fn integer(&self, min: u32, max: u32, findings: &mut Findings<'_>) -> Option<u32> {
        let Some(written) = self.value.get_ref().as_integer() else {
            self.wrong_type(&format!("a number from {min} to {max}"), findings);
            return None;
        };
        let number = u32::from_str_radix(written.as_str(), written.radix()).ok();
        let number = number.filter(|number| (min..=max).contains(number));
        if number.is_none() {
            self.bad_value(format!("{written} is outside {min} to {max}"), findings);
        }
        number
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &self,
        choices: &[(&str, T)],
        findings: &mut Findings<'_>,
    ) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let expected = format!("one of {}", quoted(&words));
        let written = self.text(&expected, findings)?;
        let chosen = choices.iter().find(|(word, _)| *word == written).map(|(_, value)| *value);
        if chosen.is_none() {
            let message =
                format!("`{}`: `{}` is not {expected}", self.name, written.escape_debug());
            findings.add(
                Finding::error(Code::BadValue, &self.span(), message)
                    .help(suggest(written, &words)),
            );
        }
        chosen
    }

    /// A table under `label`.
    pub(super) fn table(&self, label: &str, findings: &mut Findings<'_>) -> Option<Table<'t, 'i>> {
        let Some(entries) = self.value.get_ref().as_table() else {
            self.wrong_type("a table", findings);
            return None;
        };
        // An implicit table (only its sub-tables have headers) has no text of its own to point at.
        let span = if self.span().is_empty() { self.key_span.clone() } else { self.span() };
        Some(Table::new(label, span, entries))
    }

    /// The elements of a list, or the value itself where a list of one may leave out its brackets.
    pub(super) fn one_or_many(&self) -> Vec<Item<'t, 'i>> {
        match self.value.get_ref() {
            DeValue::Array(values) => values.iter().map(|value| self.element(value)).collect(),
            _ => vec![self.clone()],
        }
    }

    /// The elements of a list.
    pub(super) fn list(&self, expected: &str, findings: &mut Findings<'_>) -> Vec<Item<'t, 'i>> {
        let Some(values) = self.value.get_ref().as_array() else {
            self.wrong_type(expected, findings);
            return Vec::new();
        };
        values.iter().map(|value| self.element(value)).collect()
    }

    fn element(&self, value: &'t Spanned<DeValue<'i>>) -> Self {
        Self { name: self.name.clone(), key_span: self.key_span.clone(), value }
    }

    /// The bytes of the file that hold `len` bytes from `offset` of this text, or all of it where the text is written
    /// with escapes and its bytes are not the file's.
    pub(super) fn part(&self, offset: usize, len: usize, findings: &Findings<'_>) -> Span {
        let span = self.span();
        let Some(text) = self.value.get_ref().as_str() else { return span };
        let Some(start) = findings.source().slice(&span).find(text) else { return span };
        let start = span.start + start + offset.min(text.len());
        start..start + len.max(1).min(text.len().saturating_sub(offset).max(1))
    }
}

/// "`a`, `b` or `c`".
pub(super) fn quoted(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

fn article(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {word}")
}
