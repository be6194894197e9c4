//! Avro names for column names that Avro does not allow, made as Java makes them (`AvroSchemaUtil.makeCompatibleName`).
//!
//! Readers find fields by id, so any name that every Avro library accepts would do. The result is Java's all the same: some readers
//! show the name, and two writers should write the same file.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns `true` if Java accepts `name` as an Avro name: a letter or an underscore, then letters, digits and underscores.
///
/// Letters are those of Unicode, as in Java. The empty name is not valid.
pub fn valid_avro_name(name: &str) -> bool {
    name.chars().enumerate().all(|(at, character)| fits(at, character)) && !name.is_empty()
}

/// Returns `name`, or a valid Avro name made from it.
///
/// An underscore is put before a digit at the start. Every other character that is not allowed becomes `_x` and its UTF-16 code in
/// hexadecimal digits. The empty name becomes `_`.
pub fn avro_name(name: &str) -> Cow<'_, str> {
    if valid_avro_name(name) {
        return Cow::Borrowed(name);
    }
    let mut made = String::with_capacity(name.len() + 8);
    for (at, character) in name.chars().enumerate() {
        if fits(at, character) {
            made.push(character);
        } else if is_digit(character) {
            made.push('_');
            made.push(character);
        } else {
            // Java looks at UTF-16 code units: a character beyond U+FFFF is two of them, and neither is a letter.
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(made, "_x{unit:X}");
            }
        }
    }
    // Avro has no empty name. Java rejects such a column before it makes a name.
    if made.is_empty() { Cow::Borrowed("_") } else { Cow::Owned(made) }
}

fn fits(at: usize, character: char) -> bool {
    character == '_' || is_letter(character) || (at > 0 && is_digit(character))
}

/// Returns what Java's `Character.isLetter` returns for a UTF-16 code unit. Numbers that look like letters are no letters.
///
/// Java also excludes the vowel signs of some scripts and circled letters, which this function takes for letters. Telling them
/// apart needs a table of all characters. A name with such a character stays unchanged.
fn is_letter(character: char) -> bool {
    character.is_ascii_alphabetic()
        || (!character.is_ascii() && in_first_plane(character) && character.is_alphabetic() && !character.is_numeric())
}

/// Returns what Java's `Character.isDigit` returns, for the decimal digits of the scripts in use. The digits of a script are ten
/// consecutive characters.
fn is_digit(character: char) -> bool {
    const ZEROS: [u32; 20] = [
        0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50, 0xed0, 0xf20, 0x1040,
        0x17e0, 0x1810, 0xff10,
    ];
    ZEROS.iter().any(|zero| (*zero..zero + 10).contains(&character.into()))
}

const fn in_first_plane(character: char) -> bool {
    (character as u32) < 0x1_0000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_made_as_java_makes_them() {
        // The results of Iceberg 1.12.0 for Java, except for the empty name.
        for (name, made) in [
            ("col", "col"),
            ("_9x", "_9x"),
            ("9x", "_9x"),
            ("x_", "x_"),
            ("a.b", "a_x2Eb"),
            ("a#b", "a_x23b"),
            ("☃", "_x2603"),
            ("☃c", "_x2603c"),
            ("co l", "co_x20l"),
            ("a-b", "a_x2Db"),
            ("größe", "größe"),
            ("日付", "日付"),
            ("😀", "_xD83D_xDE00"),
            ("Ⅷ", "_x2167"),
            ("٣a", "_٣a"),
            ("a٣", "a٣"),
            ("ª", "ª"),
            ("²", "_xB2"),
            ("ǅ", "ǅ"),
            ("ʰ", "ʰ"),
            ("a\u{301}", "a_x301"),
            ("", "_"),
        ] {
            assert_eq!(avro_name(name), made, "{name}");
            assert_eq!(valid_avro_name(name), name == made, "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_made_is_valid(name in ".*") {
            prop_assert!(valid_avro_name(&avro_name(&name)));
        }
    }
}
