//! Guards: the texts that a name of the resource must have, so that the first condition of a policy holds.
//!
//! A policy whose first condition compares such a name with a constant does nothing on resources of all other names, whatever
//! its other conditions say. [`GuardIndex`] finds the policies of a name, so that a decision evaluates no others, however many
//! there are.

use std::collections::HashMap;

use super::ast::{CompareSign, Expr, ExprKind, Literal, Policy};
use super::request::Names;
use super::schema::Attribute;

/// The attributes of resources that guards are about.
const ATTRIBUTES: [Attribute; 3] = [Attribute::Name, Attribute::Warehouse, Attribute::Namespace];

/// The part of a name that a guard is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The whole name.
    Whole,
    /// The start of the name.
    Start,
    /// The end of the name.
    End,
}

impl Part {
    /// Returns this part of a name, which has a length in bytes; `None` if the name has none of this length.
    fn of(self, name: &str, length: usize) -> Option<&str> {
        match self {
            Self::Whole => Some(name),
            Self::Start => name.get(..length),
            Self::End => name.get(name.len().checked_sub(length)?..),
        }
    }
}

/// The guard of a policy: a part of an attribute of the resource must be a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guard<'a> {
    /// The attribute.
    attribute: Attribute,
    /// The part of its value.
    part: Part,
    /// The text.
    text: &'a str,
}

impl<'a> Guard<'a> {
    /// Returns the guard of a policy; `None` if its first condition has none.
    pub(super) fn of(policy: &'a Policy) -> Option<Self> {
        policy.conditions.first().filter(|first| first.wanted).and_then(|first| Self::of_expr(&first.expr))
    }

    /// Returns the guard of an expression. Without the text, the expression is false and fails with no error, if the resource
    /// has the attribute.
    fn of_expr(expr: &'a Expr) -> Option<Self> {
        match &expr.kind {
            // The operands are evaluated in their order, up to the first that is false.
            ExprKind::And(operands) => operands.iter().find(|operand| !is_presence(operand)).and_then(Self::of_expr),
            ExprKind::Compare(CompareSign::Equal, sides) => {
                let [left, right] = &**sides;
                Self::of_sides(left, right).or_else(|| Self::of_sides(right, left))
            }
            ExprKind::Like(operand, pattern) => {
                let (part, text) = pattern.anchor()?;
                Some(Self { attribute: attribute_of_resource(operand)?, part, text })
            }
            _ => None,
        }
    }

    /// Returns the guard of a comparison of an attribute with a constant.
    fn of_sides(attribute: &Expr, constant: &'a Expr) -> Option<Self> {
        let ExprKind::Literal(Literal::Text(text)) = &constant.kind else { return None };
        Some(Self { attribute: attribute_of_resource(attribute)?, part: Part::Whole, text })
    }
}

/// Checks that an expression asks if the resource has an attribute. It never fails with an error.
fn is_presence(expr: &Expr) -> bool {
    matches!(&expr.kind, ExprKind::Has(of, _) if of.is_resource())
}

/// Returns the attribute of the resource that an expression is.
fn attribute_of_resource(expr: &Expr) -> Option<Attribute> {
    let ExprKind::Attribute(of, name) = &expr.kind else { return None };
    Attribute::from_name(name).filter(|attribute| of.is_resource() && ATTRIBUTES.contains(attribute))
}

/// The numbers of guarded policies by their guards.
#[derive(Debug, Default)]
pub(super) struct GuardIndex {
    /// The policies whose guard is about an attribute, in the order of [`ATTRIBUTES`].
    attributes: [GuardedByAttribute; 3],
}

/// The policies whose guards are about one attribute.
#[derive(Debug, Default)]
struct GuardedByAttribute {
    /// All of them.
    all: Vec<u32>,
    /// The policies by the part of the value and its length.
    groups: Vec<GuardedByText>,
}

/// The policies whose guards compare the same part of an attribute, of the same length, with a text.
#[derive(Debug)]
struct GuardedByText {
    /// The part of the value.
    part: Part,
    /// The length of the part in bytes; 0 for a whole value.
    length: usize,
    /// The numbers of the policies by their texts.
    texts: HashMap<Box<str>, Vec<u32>>,
}

impl GuardIndex {
    /// Adds a policy.
    pub(super) fn add(&mut self, number: u32, guard: Guard<'_>) {
        let mut guarded = ATTRIBUTES.into_iter().zip(&mut self.attributes);
        let Some((_, of)) = guarded.find(|(attribute, _)| *attribute == guard.attribute) else { return };
        of.all.push(number);
        let length = if guard.part == Part::Whole { 0 } else { guard.text.len() };
        let at = of.groups.iter().position(|group| (group.part, group.length) == (guard.part, length));
        let at = at.unwrap_or_else(|| {
            of.groups.push(GuardedByText { part: guard.part, length, texts: HashMap::new() });
            of.groups.len() - 1
        });
        of.groups[at].texts.entry(guard.text.into()).or_default().push(number);
    }

    /// Adds the numbers of the policies to `found` whose guard holds for a resource, each once and in no order.
    ///
    /// A policy about an attribute that the resource does not have is among them: its condition may fail with an error.
    pub(super) fn find(&self, names: &Names<'_>, found: &mut Vec<u32>) {
        for (attribute, of) in ATTRIBUTES.into_iter().zip(&self.attributes).filter(|(_, of)| !of.all.is_empty()) {
            let Some(value) = names.attribute(names.entity(), attribute) else {
                found.extend(&of.all);
                continue;
            };
            for GuardedByText { part, length, texts } in &of.groups {
                found.extend(part.of(value, *length).and_then(|text| texts.get(text)).into_iter().flatten());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parser::parse;
    use super::*;
    use crate::ResourcePath;
    use crate::samples::table;

    /// Returns the part and the text of the guard of a policy with conditions.
    fn guard(conditions: &str) -> Option<(Attribute, Part, String)> {
        let policies = parse(&format!("forbid (principal, action, resource) {conditions};")).expect("a policy");
        Guard::of(&policies[0]).map(|guard| (guard.attribute, guard.part, guard.text.to_owned()))
    }

    #[test]
    fn a_first_condition_on_a_name_is_a_guard() {
        use Attribute::{Name, Namespace};
        for (conditions, expected) in [
            ("when { resource.name == \"t\" }", Some((Name, Part::Whole, "t"))),
            ("when { \"t\" == resource.name } when { context.tls }", Some((Name, Part::Whole, "t"))),
            ("when { resource has name && resource.name like \"*_pii\" && context.tls }", Some((Name, Part::End, "_pii"))),
            ("when { resource.namespace like \"raw*\" }", Some((Namespace, Part::Start, "raw"))),
            ("when { resource.name like \"long_start*end\" }", Some((Name, Part::Start, "long_start"))),
            ("when { resource.name like \"t\" }", Some((Name, Part::Whole, "t"))),
            ("when { resource.name like \"*t*\" }", None),
            ("unless { resource.name == \"t\" }", None),
            ("when { context.tls } when { resource.name == \"t\" }", None),
            ("when { context.tls && resource.name == \"t\" }", None),
            ("when { resource.name == \"t\" || context.tls }", None),
            ("when { resource.name != \"t\" }", None),
            ("when { principal.subject == \"t\" }", None),
            ("", None),
        ] {
            let expected = expected.map(|(attribute, part, text)| (attribute, part, text.to_owned()));
            assert_eq!(guard(conditions), expected, "{conditions}");
        }
    }

    #[test]
    fn the_policies_of_a_name_are_found_and_all_where_there_is_no_name() {
        let conditions =
            ["name == \"ä_pii\"", "name like \"*pii\"", "name like \"*x\"", "name like \"ä*\"", "namespace == \"raw\""];
        let mut index = GuardIndex::default();
        let policies = conditions.map(|of| parse(&format!("forbid (principal, action, resource) when {{ resource.{of} }};")));
        let policies = policies.map(|policies| policies.expect("a policy").remove(0));
        for (number, policy) in (0..).zip(&policies) {
            index.add(number, Guard::of(policy).expect("a guard"));
        }
        let found = |path: &ResourcePath<'_>| {
            let mut found = Vec::new();
            index.find(&Names::new(path), &mut found);
            found.sort_unstable();
            found
        };
        let raw = ResourcePath::warehouse(1, "lake").namespace("raw");
        assert_eq!(found(&raw.table(table(1), "ä_pii")), [0, 1, 3, 4]);
        assert_eq!(found(&raw.table(table(1), "ä")), [3, 4]);
        assert_eq!(found(&raw.table(table(1), "é")), [4]);
        assert_eq!(found(&ResourcePath::warehouse(1, "x")), [2, 4], "a warehouse has no namespace");
        assert_eq!(found(&ResourcePath::SERVER), [0, 1, 2, 3, 4]);
    }
}
