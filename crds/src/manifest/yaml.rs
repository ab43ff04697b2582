//! One YAML document to JSON, with a bound on what its aliases expand to.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::problem::Problem;

/// Most values in a document, aliases expanded. A pipeline at every bound has fewer.
const MAX_NODES: usize = 100_000;
/// Most bytes of text in a document, aliases expanded.
const MAX_TEXT_BYTES: usize = 4 * super::MAX_MANIFEST_BYTES;

/// What is left of both bounds.
struct Allowance {
    nodes: Cell<usize>,
    text: Cell<usize>,
    spent: Cell<bool>,
}

impl Allowance {
    fn take<E: de::Error>(&self, text: usize) -> Result<(), E> {
        let (Some(nodes), Some(text)) = (self.nodes.get().checked_sub(1), self.text.get().checked_sub(text))
        else {
            self.spent.set(true);
            return Err(E::custom(format!(
                "it may hold {MAX_NODES} values and {MAX_TEXT_BYTES} bytes of text"
            )));
        };
        self.nodes.set(nodes);
        self.text.set(text);
        Ok(())
    }
}

/// Reads a document.
pub(super) fn read(document: serde_yaml::Deserializer<'_>) -> Result<Value, Problem> {
    let allowance =
        Allowance { nodes: Cell::new(MAX_NODES), text: Cell::new(MAX_TEXT_BYTES), spent: Cell::new(false) };
    let error = match Node(&allowance).deserialize(document) {
        Ok(value) => return Ok(value),
        Err(error) => error.to_string(),
    };
    Err(if allowance.spent.get() || error.contains("repetition limit") {
        let wrong = format!("the manifest expands to too much: {error}");
        Problem::new("", wrong, "write out what its aliases ('*name') repeat")
    } else {
        Problem::new("", format!("the manifest is not YAML that can be read: {error}"), "correct it")
    })
}

/// A value and everything below it.
#[derive(Clone, Copy)]
struct Node<'a>(&'a Allowance);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has too")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.0.take(0)?;
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom(format!("{value} is not a number of JSON")))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.take(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.0.take(0)?;
        let mut elements = Vec::new();
        while let Some(element) = access.next_element_seed(self)? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.0.take(0)?;
        let mut fields = Map::new();
        let mut merged = Vec::new();
        while let Some(key) = access.next_key_seed(self)? {
            let Value::String(key) = key else {
                return Err(de::Error::custom(format!("the key {key} is not a string; put it in quotes")));
            };
            let value = access.next_value_seed(self)?;
            if key == "<<" {
                merged.push(value);
            } else if fields.contains_key(&key) {
                return Err(de::Error::custom(format!("the key '{key}' is there twice")));
            } else {
                fields.insert(key, value);
            }
        }
        for value in merged {
            merge(&mut fields, value).map_err(de::Error::custom)?;
        }
        Ok(Value::Object(fields))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        let (tag, _) = access.variant::<String>()?;
        Err(de::Error::custom(format!("the tag {tag} has no meaning here; remove it")))
    }
}

/// Merge keys (`<<: *defaults`), as kubectl reads them: what is there already wins.
fn merge(fields: &mut Map<String, Value>, value: Value) -> Result<(), String> {
    match value {
        Value::Object(defaults) => {
            for (key, value) in defaults {
                fields.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::Array(list) => list.into_iter().try_for_each(|value| merge(fields, value)),
        _ => Err("'<<' merges an object or a list of objects".to_owned()),
    }
}
