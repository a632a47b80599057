//! What a line that was not understood still says of an item.
//!
//! The end of a run counts for what the program did not mention, so an item that it did mention must not be taken for one of those because
//! of a key too many or an error of a megabyte.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::items::SaidState;

/// The fields about an item, as far as they can be read.
#[derive(Debug, Default)]
pub(super) struct Outline {
    item: Option<Value>,
    state: Option<Value>,
    error: Option<Value>,
    result: Option<Box<RawValue>>,
    /// Whether there is a key that only lines about items have.
    is_about_an_item: bool,
    /// Whether the line is one JSON object.
    is_whole: bool,
}

impl Outline {
    /// Reads as much of a line, or of the beginning of one, as is JSON.
    pub(super) fn of(line: &[u8]) -> Self {
        let mut outline = Self::default();
        let mut reader = serde_json::Deserializer::from_slice(line);
        let read = Fields(&mut outline).deserialize(&mut reader);
        outline.is_whole = read.and_then(|()| reader.end()).is_ok();
        outline
    }

    /// The item's name. A program may have written the name `7` as a number.
    pub(super) fn item(&self) -> Option<String> {
        match self.item.as_ref()? {
            Value::String(name) => Some(name.clone()),
            other => Some(other.to_string()),
        }
    }

    /// Its state, if it is one.
    pub(super) fn state(&self) -> Option<SaidState> {
        serde_json::from_value(self.state.clone()?).ok()
    }

    /// Why it failed.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_ref()?.as_str()
    }

    /// What came of it.
    pub(super) fn result(&self) -> Option<Value> {
        serde_json::from_str(self.result.as_ref()?.get()).ok()
    }

    /// Whether it is about an item that it does not name, as far as it was read.
    pub(super) fn conceals_its_item(&self) -> bool {
        self.is_about_an_item && self.item.is_none()
    }

    /// Whether the line is one JSON object, and not broken off or something else.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }
}

/// Fills an outline field by field: those before the first error stay.
struct Fields<'a>(&'a mut Outline);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Self(outline) = self;
        while let Some(key) = fields.next_key::<String>()? {
            outline.is_about_an_item |= ["item", "state", "error"].contains(&&*key);
            match &*key {
                "item" => put(&mut outline.item, fields.next_value()?)?,
                "state" => put(&mut outline.state, fields.next_value()?)?,
                "error" => put(&mut outline.error, fields.next_value()?)?,
                "result" => put(&mut outline.result, fields.next_value()?)?,
                _ => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Of two fields of a name nobody knows which is meant.
fn put<T, E: Error>(field: &mut Option<T>, value: T) -> Result<(), E> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom("a key is there twice")),
    }
}
