//! Conversions of UUIDs to and from text and bytes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::{DataFusionError, Result};

use super::function::Unary;
use super::types::fixed;

/// The function from a UUID to its text in lower case.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToText;

/// The function from a text to the UUID that it spells.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FromText;

/// The function from 16 bytes to the UUID that they are. Other lengths are an error.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FromBytes;

/// Parses a UUID in any spelling that PostgreSQL takes.
///
/// It may be in upper or lower case, in braces, and have hyphens after any four digits.
pub(super) fn parse(text: &str) -> Result<[u8; 16]> {
    let bad = || DataFusionError::Plan(format!("'{text}' is not a uuid"));
    let trimmed = text.trim();
    let inner = trimmed.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(trimmed);
    let mut digits = Vec::with_capacity(32);
    for byte in inner.bytes() {
        match byte {
            b'-' if !digits.is_empty() && digits.len() % 4 == 0 && digits.len() < 32 => {}
            _ => digits.push(char::from(byte).to_digit(16).ok_or_else(bad)? as u8),
        }
    }
    let pairs: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    if inner.ends_with('-') || inner.contains("--") || digits.len() != 32 {
        return Err(bad());
    }
    pairs.try_into().map_err(|_| bad())
}

/// Formats the 16 bytes of a UUID in lower case, with hyphens.
pub(super) fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The function that marks 16 bytes as a `fixed(16)`, which is no UUID.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Fixed;

impl Unary for Fixed {
    fn name(&self) -> &str {
        "fixed"
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        Ok(Field::clone(&fixed(input)))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        Ok(values.clone())
    }
}

impl Unary for ToText {
    fn name(&self) -> &str {
        "uuid_to_text"
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        Ok(Field::new("", DataType::Utf8, input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let values = values.as_fixed_size_binary();
        Ok(Arc::new(values.iter().map(|value| value.map(text)).collect::<StringArray>()))
    }
}

impl Unary for FromText {
    fn name(&self) -> &str {
        "uuid_from_text"
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        Ok(Field::new("", DataType::FixedSizeBinary(16), input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let values = cast(values, &DataType::Utf8)?;
        let parsed = values.as_string::<i32>().iter().map(|text| text.map(parse).transpose()).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(parsed.into_iter(), 16)?))
    }
}

impl Unary for FromBytes {
    fn name(&self) -> &str {
        "uuid_from_bytes"
    }

    fn field(&self, input: &FieldRef) -> Result<Field> {
        Ok(Field::new("", DataType::FixedSizeBinary(16), input.is_nullable()))
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        if values.data_type() == &DataType::FixedSizeBinary(16) {
            return Ok(values.clone());
        }
        let bytes = cast(values, &DataType::Binary)?;
        let bytes = bytes.as_binary::<i32>();
        if let Some(wrong) = bytes.iter().flatten().find(|value| value.len() != 16) {
            return Err(DataFusionError::Execution(format!("a uuid has 16 bytes, not {}", wrong.len())));
        }
        Ok(Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes.iter(), 16)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_legal_spelling_is_one_value() {
        // PostgreSQL's documentation, "UUID Type".
        let spellings = [
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        ];
        for spelling in spellings {
            assert_eq!(text(&parse(spelling).expect(spelling)), spellings[0]);
        }
        let wrong = [
            "",
            "a0eebc99",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g",
            "-a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0e-ebc999c0b4ef8bb6d6bb9bd380a11",
        ];
        for wrong in wrong {
            assert!(parse(wrong).expect_err(wrong).to_string().contains(wrong));
        }
    }
}
