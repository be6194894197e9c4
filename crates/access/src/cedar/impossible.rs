//! Refuses tests of entities that no request meets, such as `principal == Esker::Role::"readers"`.
//!
//! In Cedar they are right and never hold. But a policy that forbids nothing, because it has `==` in the place of `in`, is worse
//! than one that can't be stored.

use super::ast::{Expr, ExprKind, Literal, Variable};
use super::lexer::{Issue, Parsed};
use super::schema::{EntityKind, listed, privilege};

/// Checks that the sides of `==` or `!=` can be the same entity.
///
/// # Errors
///
/// Returns the side that can't be the other one.
pub(super) fn check_equal(sides: &[Expr; 2]) -> Parsed<()> {
    let [left, right] = sides;
    for (side, other) in [(left, right), (right, left)] {
        let Some((kind, id)) = named(other) else { continue };
        if kind == EntityKind::Action && privilege(id).is_none() {
            return Err(Issue::new(other.at, "a request is never about a group of actions; write action in"));
        }
        check_possible(side, kind, |possible| possible == kind)?;
    }
    Ok(())
}

/// Checks that the left side of `is` can have a type.
///
/// # Errors
///
/// Returns the left side if it can't.
pub(super) fn check_is(operand: &Expr, kind: EntityKind) -> Parsed<()> {
    check_possible(operand, kind, |possible| possible == kind)
}

/// Checks that the left side of `in` can be in the right one.
///
/// # Errors
///
/// Returns the left side if it can't.
pub(super) fn check_in(inner: &Expr, outer: &Expr) -> Parsed<()> {
    let Some((kind, _)) = named(outer) else { return Ok(()) };
    check_possible(inner, kind, |possible| possible.can_be_in(kind))
}

/// Returns the type and the id of an entity that is named.
fn named(expr: &Expr) -> Option<(EntityKind, &str)> {
    match &expr.kind {
        ExprKind::Literal(Literal::Entity(id)) => Some((id.kind, &*id.id)),
        _ => None,
    }
}

/// Checks that the principal, the action or the resource can have a type that fits. Other expressions are not looked at.
fn check_possible(expr: &Expr, found: EntityKind, fits: impl Fn(EntityKind) -> bool) -> Parsed<()> {
    let (variable, possible): (_, &[EntityKind]) = match &expr.kind {
        ExprKind::Variable(Variable::Principal) => ("principal", &EntityKind::PRINCIPALS),
        ExprKind::Variable(Variable::Action) => ("action", &[EntityKind::Action]),
        ExprKind::Variable(Variable::Resource) => ("resource", &EntityKind::RESOURCES),
        _ => return Ok(()),
    };
    if possible.iter().any(|kind| fits(*kind)) {
        return Ok(());
    }
    let hint = match found {
        EntityKind::Role | EntityKind::Claim => "; a principal is in roles and claims",
        _ => "",
    };
    let known = listed(possible.iter().map(|kind| kind.as_str()));
    Err(Issue::new(expr.at, format!("the {variable} can't be {found} in this way: its type is one of {known}{hint}")))
}
