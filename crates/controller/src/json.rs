//! Reads bodies strictly: all of a body is looked at before any of it counts, and a list never stands for a map.
//!
//! What a field may hold is its type's; here is what holds for all.

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use std::fmt;

/// Why a body is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It is no JSON document, or no map.
    #[error("the body is no map in JSON")]
    Unreadable(#[source] Option<serde_json::Error>),
    /// It is one, and does not fit.
    #[error("the body does not fit")]
    Unfit(#[source] serde_json::Error),
    /// No database keeps such a text.
    #[error("a text has a null character")]
    Null,
}

/// Reads a map.
pub(crate) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::Unreadable(None))?;
    if !text.trim_start().starts_with('{') {
        return Err(Error::Unreadable(None));
    }
    // Whether it is JSON to its end does not depend on what is made of it.
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| Error::Unreadable(Some(error)))?;
    if has_null(bytes) {
        return Err(Error::Null);
    }
    T::deserialize(Strict(&mut serde_json::Deserializer::from_str(text))).map_err(Error::Unfit)
}

/// Whether a text of a JSON document has a null character.
fn has_null(json: &[u8]) -> bool {
    const ESCAPE: &[u8] = b"\\u0000";
    let mut escapes = json.windows(ESCAPE.len()).enumerate().filter(|(_, six)| *six == ESCAPE);
    // Behind an odd number of backslashes this one is itself escaped.
    escapes.any(|(at, _)| json[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0)
}

/// A deserializer that takes nothing but a map for a structure, however deep: a list would do, with its fields in order.
struct Strict<D>(D);

macro_rules! forward {
    ($($name:ident($($argument:ident: $type:ty),*);)+) => {$(
        fn $name<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$name($($argument,)* Within(visitor))
        }
    )+};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    forward! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(length: usize);
        deserialize_tuple_struct(name: &'static str, length: usize);
        deserialize_map();
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Within(visitor))
    }
}

/// A visitor whose inner values are read strictly too.
struct Within<V>(V);

macro_rules! pass {
    ($($name:ident: $type:ty;)+) => {$(
        fn $name<E: serde::de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.0.$name(value)
        }
    )+};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Within<V> {
    type Value = V::Value;

    pass! {
        visit_bool: bool;
        visit_i64: i64;
        visit_u64: u64;
        visit_f64: f64;
        visit_str: &str;
        visit_borrowed_str: &'de str;
        visit_string: String;
    }

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(formatter)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Strict(deserializer))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Strict(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Within(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Within(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(data)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Within<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.0.next_element_seed(Within(seed))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Within<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.0.next_value_seed(Within(seed))
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Within<T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        self.0.deserialize(Strict(deserializer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::{Map, Value};
    use std::collections::BTreeMap;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Inner {
        number: u32,
        texts: Vec<String>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Outer {
        name: Option<String>,
        inner: Option<Inner>,
        list: Vec<Inner>,
        map: BTreeMap<String, Inner>,
        any: Option<Value>,
        free: Map<String, Value>,
    }

    fn read(text: &str) -> Result<Outer, Error> {
        from_slice(text.as_bytes())
    }

    #[test]
    fn what_fits_is_read() {
        let text = r#" {"name": "x", "inner": {"number": 7, "texts": ["a"]}, "list": [{}], "map": {"k": {"number": 1}},
            "any": [1, {"a": null}], "free": {"x": [1.5]}, "unknown": [[]]}"#;
        let read = read(text).expect("fits");
        assert_eq!(read.name.as_deref(), Some("x"));
        assert_eq!(read.inner.expect("there").texts, ["a"]);
        assert_eq!((read.list.len(), read.map["k"].number), (1, 1));
        assert_eq!(read.any, Some(serde_json::json!([1, {"a": null}])));
    }

    #[test]
    fn what_is_no_map_in_json_is_unreadable() {
        for text in [
            "",
            "[]",
            "null",
            "\"{}\"",
            "{",
            "{}{}",
            "{\"name\":\"a\u{7}\"}",
            "{\"a\":1e}",
            "{'a':1}",
        ] {
            assert!(matches!(read(text), Err(Error::Unreadable(_))), "{text}");
        }
        assert!(matches!(
            from_slice::<Outer>(b"{\"zzz\":\"\xff\"}"),
            Err(Error::Unreadable(_))
        ));
        let deep = format!("{{\"any\":{}", "[".repeat(100_000));
        assert!(matches!(read(&deep), Err(Error::Unreadable(_))));
    }

    #[test]
    fn lists_do_not_stand_for_maps() {
        for text in [
            r#"{"inner": [7]}"#,
            r#"{"inner": []}"#,
            r#"{"list": [[7]]}"#,
            r#"{"map": {"k": [7]}}"#,
            r#"{"free": [1]}"#,
        ] {
            assert!(matches!(read(text), Err(Error::Unfit(_))), "{text}");
        }
    }

    #[test]
    fn null_characters_are_seen_in_texts_alone() {
        for (json, has) in [
            (r#"{"a":"\u0000"}"#, true),
            (r#"{"a":"x\\\u0000"}"#, true),
            (r#"{"a":"x\\u0000"}"#, false),
            (r#"{"a":"u0000 \u0001"}"#, false),
        ] {
            assert_eq!(matches!(read(json), Err(Error::Null)), has, "{json}");
        }
    }
}
