//! JSON bodies of requests, as the OpenAPI document describes them.
//!
//! serde_json alone reads other bodies than JSON Schema: it rejects an integer that is written as `7.0`, and accepts an array of
//! the values of a struct.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

/// The first numbers after those of the types.
const U64_END: f64 = 18_446_744_073_709_551_616.0;
const I64_END: f64 = 9_223_372_036_854_775_808.0;

/// Reads the body of a request. The top level and the value of every struct must be an object.
///
/// # Errors
/// What is wrong, and where.
pub fn read_object<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let seed = Checked { inner: std::marker::PhantomData::<T>, expected: Expected::Object };
    let value = seed.deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

/// What the type accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Any,
    Integer,
    Object,
}

/// A deserializer, a visitor, a seed or an access that checks what is read.
struct Checked<T> {
    inner: T,
    expected: Expected,
}

fn any<T>(inner: T) -> Checked<T> {
    Checked { inner, expected: Expected::Any }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Checked<S> {
    type Value = S::Value;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Checked { inner: from, expected: self.expected })
    }
}

impl<'de, D: Deserializer<'de>> Checked<D> {
    /// Reads a value with a visitor that accepts what is expected.
    fn read<V: Visitor<'de>>(self, visitor: V, expected: Expected) -> Result<V::Value, D::Error> {
        let expected = if self.expected == Expected::Object { Expected::Object } else { expected };
        self.inner.deserialize_any(Checked { inner: visitor, expected })
    }
}

macro_rules! integers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.read(visitor, Expected::Integer)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Checked<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.read(visitor, Expected::Any)
    }

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.read(visitor, Expected::Object)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_option(any(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_newtype_struct(name, any(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier
        ignored_any
    }
}

impl<V> Checked<V> {
    /// Fails if an object is expected.
    fn not_an_object<'de, E: Error>(&self, found: Unexpected<'_>) -> Result<(), E>
    where
        V: Visitor<'de>,
    {
        if self.expected == Expected::Object { Err(E::invalid_type(found, &"an object")) } else { Ok(()) }
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Checked<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        self.not_an_object(Unexpected::Bool(value))?;
        self.inner.visit_bool(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.not_an_object(Unexpected::Signed(value))?;
        self.inner.visit_i64(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        self.not_an_object(Unexpected::Unsigned(value))?;
        self.inner.visit_u64(value)
    }

    /// A number without a fraction is an integer.
    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        self.not_an_object(Unexpected::Float(value))?;
        let is_whole = self.expected == Expected::Integer && value.fract() == 0.0;
        if is_whole && (0.0..U64_END).contains(&value) {
            self.inner.visit_u64(value as u64)
        } else if is_whole && (-I64_END..0.0).contains(&value) {
            self.inner.visit_i64(value as i64)
        } else {
            self.inner.visit_f64(value)
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<V::Value, E> {
        self.not_an_object(Unexpected::Str(value))?;
        self.inner.visit_str(value)
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<V::Value, E> {
        self.not_an_object(Unexpected::Str(value))?;
        self.inner.visit_borrowed_str(value)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(any(from))
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.not_an_object(Unexpected::Unit)?;
        self.inner.visit_unit()
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(any(from))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.not_an_object(Unexpected::Seq)?;
        self.inner.visit_seq(any(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(any(fields))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Checked<A> {
    type Error = A::Error;
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_element_seed(any(seed))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Checked<A> {
    type Error = A::Error;
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_key_seed(seed)
    }
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(any(seed))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        whole: u64,
        #[serde(default)]
        signed: Option<i32>,
        #[serde(default)]
        real: Option<f64>,
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        list: Vec<Inner>,
        #[serde(default)]
        kind: Option<Kind>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        low: u16,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Some,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Token { token: String },
    }

    fn read(text: &str) -> Result<Body, String> {
        read_object(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn integer_may_have_a_fraction_of_zero() {
        for (text, whole) in [
            ("7", 7),
            ("7.0", 7),
            ("7e0", 7),
            ("0.0", 0),
            ("-0.0", 0),
            ("1e3", 1000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(read(&format!("{{\"whole\":{text}}}")).map(|body| body.whole), Ok(whole), "{text}");
        }
        let body = read(
            r#"{"whole":1.0,"signed":-3.0,"real":2,"inner":{"low":5.0},"list":[{"low":6.0}],"kind":"some"}"#,
        );
        let expected = Body {
            whole: 1,
            signed: Some(-3),
            real: Some(2.0),
            inner: Some(Inner { low: 5 }),
            list: vec![Inner { low: 6 }],
            kind: Some(Kind::Some),
        };
        assert_eq!(body, Ok(expected));
        for wrong in ["7.5", "-1", "-1.0", "1e300", "18446744073709551616", "\"7\"", "null", "true", "[7]"] {
            assert!(read(&format!("{{\"whole\":{wrong}}}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn array_does_not_stand_for_an_object() {
        for text in ["[7]", "[7,null,null,null,[],null]", "7", "\"x\"", "null", "true"] {
            let error = read(text).unwrap_err();
            assert!(error.contains("expected an object"), "{text}: {error}");
        }
        for text in [r#"{"whole":7,"inner":[5]}"#, r#"{"whole":7,"list":[[5]]}"#] {
            let error = read(text).unwrap_err();
            assert!(error.contains("invalid type: sequence, expected an object"), "{text}: {error}");
        }
        let read = |text: &str| read_object::<Untagged>(text.as_bytes());
        assert_eq!(read(r#"{"token":"x"}"#).unwrap(), Untagged::Token { token: "x".into() });
        assert!(read(r#"["x"]"#).unwrap_err().to_string().contains("expected an object"));
    }

    #[test]
    fn other_errors_are_those_of_serde_json() {
        for (text, error) in [
            ("{\"whole\":7,\"whole\":7}", "duplicate field `whole`"),
            ("{\"whole\":7,\"more\":7}", "unknown field `more`"),
            ("{}", "missing field `whole`"),
            ("{\"whole\":7} x", "trailing characters"),
            ("{\"whole\":7", "EOF while parsing"),
        ] {
            let found = read(text).unwrap_err();
            assert!(found.contains(error) && found.contains("at line 1 column"), "{text}: {found}");
        }
    }
}
