//! What YAML of unknown origin may cost: looked at before it is read, as little of it can blow up to a lot.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;

/// Lists and maps within each other, as brackets open them: time to read grows with their square.
const MAX_DEPTH: usize = 128;
/// Values, and bytes of texts, once every alias stands for what it names.
const MAX_COST: usize = 8 * 1024 * 1024;

/// Whether a document may be read.
///
/// # Errors
/// Says what there is too much of. What is no YAML passes: reading it says what is wrong.
pub fn check(text: &str) -> Result<(), &'static str> {
    if opened(text) > MAX_DEPTH {
        return Err("has more than 128 brackets open at once");
    }
    let left = Cell::new(MAX_COST);
    match Count(&left).deserialize(serde_yaml::Deserializer::from_str(text)) {
        Err(_) if left.get() == 0 => Err("is too large once its aliases are resolved"),
        _ => Ok(()),
    }
}

/// Most brackets that are open at once, wherever they stand: who has so many in a text has none of ours.
fn opened(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// Reads a value without keeping it, and takes what it costs off what is left.
struct Count<'c>(&'c Cell<usize>);

impl Count<'_> {
    fn take<E: Error>(&self, cost: usize) -> Result<(), E> {
        let left = self.0.get().saturating_sub(cost);
        self.0.set(left);
        if left == 0 {
            return Err(E::custom("too large"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.take(1)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.take(1)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.take(1)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.take(1)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.take(1)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.take(1 + text.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.take(1)?;
        while items.next_element_seed(Count(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.take(1)?;
        while entries.next_key_seed(Count(self.0))?.is_some() {
            entries.next_value_seed(Count(self.0))?;
        }
        Ok(())
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, data: A) -> Result<(), A::Error> {
        use serde::de::VariantAccess as _;
        let ((), value) = data.variant_seed(Count(self.0))?;
        value.newtype_variant_seed(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_documents_pass_and_so_does_what_is_no_yaml() {
        for text in [
            "",
            "applications:\n- name: a\n  env: {A: '[[[', B: !x 1, C: 1.5, D: ~, E: true}\n",
            "a: &a [1, 2]\nb: *a\n",
            "a: [",
            "- - - - 1",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_blows_up_is_refused() {
        assert!(check(&"[".repeat(100_000)).is_err());
        assert!(check(&format!("a: {}", "{b: ".repeat(200))).is_err());
        // One long text, named again and again: gigabytes, if it were read.
        let long = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), "*a, ".repeat(10_000));
        assert!(check(&long).is_err());
        let levels: String = (1..12)
            .map(|n| format!("a{n}: &a{n} [{}]\n", format!("*a{}, ", n - 1).repeat(9)))
            .collect();
        assert!(
            check(&format!("a0: &a0 x\n{levels}")).is_err()
                || serde_yaml::from_str::<serde_yaml::Value>(&levels).is_err()
        );
        // Plain nesting by lines is bounded by the reader.
        assert!(check(&"- ".repeat(100_000)).is_ok());
    }
}
