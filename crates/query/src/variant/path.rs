//! Paths to parts of variants: `$`, then any number of `.name`, `['name']`, `["name"]` or `[0]`.

use datafusion::error::{DataFusionError, Result};
use esker_read::{Variant, VariantValue};

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum PathStep {
    /// The field of an object with this name.
    Field(String),
    /// The item of an array at this position, counted from 0.
    Item(usize),
}

/// A path to a part of a variant. Without steps, it is the path to the variant itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Path(pub(crate) Vec<PathStep>);

impl Path {
    /// Parses a path. The error names the text and how a path is written.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            DataFusionError::Plan(format!("'{text}' is not a path of a variant: {what}; write $.name, $['name'] or $[0]"))
        };
        let mut rest = text.strip_prefix('$').ok_or_else(|| wrong("it does not begin with $"))?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(name) = rest.strip_prefix('.') {
                let end = name.find(['.', '[']).unwrap_or(name.len());
                if end == 0 {
                    return Err(wrong("a name is empty"));
                }
                steps.push(PathStep::Field(name[..end].to_owned()));
                rest = &name[end..];
            } else if let Some(inner) = rest.strip_prefix('[') {
                let (step, after) = bracket(inner).ok_or_else(|| wrong("a bracket holds a name in quotes, or a number"))?;
                steps.push(step);
                rest = after;
            } else {
                return Err(wrong("a step begins with . or ["));
            }
        }
        Ok(Self(steps))
    }

    /// Returns the part of a variant at the path, or `None` if the variant has none there.
    pub(crate) fn of<'v>(&self, variant: Variant<'v>) -> Option<Variant<'v>> {
        self.0.iter().try_fold(variant, |variant, step| match (variant.get(), step) {
            (VariantValue::Object(fields), PathStep::Field(name)) => fields.get(name),
            (VariantValue::Array(items), PathStep::Item(at)) => items.get(*at),
            _ => None,
        })
    }

    /// Returns the names of the steps, or `None` if a step goes to an item of an array.
    pub(crate) fn names(&self) -> Option<Vec<&str>> {
        self.0.iter().map(|step| if let PathStep::Field(name) = step { Some(name.as_str()) } else { None }).collect()
    }
}

/// Parses the text after `[`. Returns the step and the text after `]`.
fn bracket(inner: &str) -> Option<(PathStep, &str)> {
    let quote = inner.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let Some(quote) = quote else {
        let (number, after) = inner.split_once(']')?;
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        return Some((PathStep::Item(digits.then(|| number.parse().ok())??), after));
    };
    let mut name = String::new();
    let mut characters = inner[1..].char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => name.push(characters.next()?.1),
            c if c == quote => {
                let after = inner[1 + at + 1..].strip_prefix(']')?;
                return Some((PathStep::Field(name), after));
            }
            c => name.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_names_and_numbers() {
        let field = |name: &str| PathStep::Field(name.to_owned());
        for (text, steps) in [
            ("$", vec![]),
            ("$.a.b", vec![field("a"), field("b")]),
            ("$['a.b'][\"it's\"][12].c", vec![field("a.b"), field("it's"), PathStep::Item(12), field("c")]),
            (r"$['it\'s \\']", vec![field(r"it's \")]),
            ("$.é ö", vec![field("é ö")]),
        ] {
            assert_eq!(Path::parse(text).expect(text).0, steps, "{text}");
        }
        for wrong in ["", "a", ".a", "$a", "$.", "$..a", "$[", "$[a]", "$[-1]", "$['a'", "$['a]", "$[99999999999999999999]"] {
            let error = Path::parse(wrong).expect_err(wrong).to_string();
            assert!(error.contains(&format!("'{wrong}' is not a path of a variant")), "{error}");
        }
    }
}
