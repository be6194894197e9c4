//! Evaluates conditions.

use super::ast::{ArithmeticSign, CompareSign, Expr, ExprKind, Policy, Variable};
use super::ip::IpRange;
use super::request::Request;
use super::schema::{Attribute, EntityKind, Fact, Method};
use super::value::{Entity, EvalError, Evaluated, Scalar, Value};

/// Checks that the conditions of a policy are met, so that it has its effect.
///
/// A condition that fails with an error is met for a policy that forbids, and not for one that permits.
pub(super) fn applies(policy: &Policy, request: &Request<'_>) -> bool {
    are_met(policy, request).unwrap_or(policy.forbids)
}

/// Checks that a policy without the facts of a request has its effect for those that are best for the principal.
///
/// A condition that reads facts is met for a policy that permits, and not for one that forbids.
pub(super) fn applies_at_best(policy: &Policy, request: &Request<'_>) -> bool {
    applies_to_all(policy, request).unwrap_or(!policy.forbids)
}

/// Checks that a policy has its effect whatever the facts of the request are; `None` if these decide.
pub(super) fn applies_to_all(policy: &Policy, request: &Request<'_>) -> Option<bool> {
    match are_met(policy, request) {
        Err(EvalError::NoFacts) => None,
        met => Some(met.unwrap_or(policy.forbids)),
    }
}

/// Checks that an expression has the same outcome in two requests without facts, whatever these facts are.
///
/// It may say no where that is so. What looks for an entity of the request is not followed into the facts.
pub(super) fn is_same<'a>(expr: &'a Expr, one: &Request<'a>, other: &Request<'a>) -> bool {
    match (eval(expr, one), eval(expr, other)) {
        (Err(EvalError::NoFacts), Err(EvalError::NoFacts)) => {
            let mut same = match &expr.kind {
                ExprKind::In(_) | ExprKind::Is(_, _, Some(_)) => false,
                ExprKind::Has(of, _) | ExprKind::Attribute(of, _) => of.is_context(),
                _ => true,
            };
            expr.kind.each_operand(&mut |operand| same = same && is_same(operand, one, other));
            same
        }
        (one, other) => one == other,
    }
}

/// Checks that the conditions of a policy are met.
fn are_met(policy: &Policy, request: &Request<'_>) -> Evaluated<bool> {
    for condition in &policy.conditions {
        if truth(&condition.expr, request)? != condition.wanted {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Evaluates an expression that must be a boolean.
pub(super) fn truth<'a>(expr: &'a Expr, request: &Request<'a>) -> Evaluated<bool> {
    match &expr.kind {
        ExprKind::And(operands) => all(operands, request, true),
        ExprKind::Or(operands) => all(operands, request, false).map(|all| !all),
        ExprKind::Not(operand) => truth(operand, request).map(|value| !value),
        ExprKind::Compare(sign, sides) => {
            let [left, right] = &**sides;
            compare(*sign, &eval(left, request)?, &eval(right, request)?)
        }
        ExprKind::In(sides) => is_in(eval(&sides[0], request)?.entity()?, &eval(&sides[1], request)?, request),
        ExprKind::Is(operand, kind, outer) => {
            let entity = eval(operand, request)?.entity()?;
            match outer {
                _ if entity.kind != *kind => Ok(false),
                None => Ok(true),
                Some(outer) => is_in(entity, &eval(outer, request)?, request),
            }
        }
        ExprKind::Has(operand, name) => match attribute(&eval(operand, request)?, name, request) {
            Ok(_) => Ok(true),
            Err(EvalError::NoAttribute) => Ok(false),
            Err(other) => Err(other),
        },
        ExprKind::Like(operand, pattern) => Ok(pattern.matches(eval(operand, request)?.text()?)),
        ExprKind::Call(method, operand, argument) => {
            let argument = argument.as_ref().map(|argument| eval(argument, request)).transpose()?;
            call(*method, &eval(operand, request)?, argument.as_ref())
        }
        _ => eval(expr, request)?.bool(),
    }
}

/// Evaluates an expression.
pub(super) fn eval<'a>(expr: &'a Expr, request: &Request<'a>) -> Evaluated<Value<'a>> {
    Ok(match &expr.kind {
        ExprKind::Literal(literal) => Value::Scalar(literal.scalar()),
        ExprKind::Literals(literals) => Value::Literals(literals),
        ExprKind::Variable(Variable::Principal) => request.principal.entity().into(),
        ExprKind::Variable(Variable::Action) => Entity { kind: EntityKind::Action, id: request.action }.into(),
        ExprKind::Variable(Variable::Resource) => request.names.entity().into(),
        ExprKind::Variable(Variable::Context) => Value::Context,
        ExprKind::If(operands) => {
            let [condition, then, otherwise] = &**operands;
            return eval(if truth(condition, request)? { then } else { otherwise }, request);
        }
        ExprKind::And(_)
        | ExprKind::Or(_)
        | ExprKind::Not(_)
        | ExprKind::Compare(..)
        | ExprKind::In(_)
        | ExprKind::Is(..)
        | ExprKind::Has(..)
        | ExprKind::Like(..)
        | ExprKind::Call(..) => truth(expr, request)?.into(),
        ExprKind::Negate(operand) => eval(operand, request)?.long()?.checked_neg().ok_or(EvalError::Overflow)?.into(),
        ExprKind::Arithmetic(first, rest) => {
            let mut sum = eval(first, request)?.long()?;
            for (sign, operand) in rest {
                let operand = eval(operand, request)?.long()?;
                let next = match sign {
                    ArithmeticSign::Plus => sum.checked_add(operand),
                    ArithmeticSign::Minus => sum.checked_sub(operand),
                    ArithmeticSign::Times => sum.checked_mul(operand),
                };
                sum = next.ok_or(EvalError::Overflow)?;
            }
            sum.into()
        }
        ExprKind::Attribute(operand, name) => attribute(&eval(operand, request)?, name, request)?,
        ExprKind::Set(values) => Value::set(values.iter().map(|value| eval(value, request)).collect::<Evaluated<_>>()?),
        ExprKind::Record(attributes) => {
            let values = attributes.iter().map(|(name, value)| Ok((&**name, eval(value, request)?)));
            Value::Record(values.collect::<Evaluated<_>>()?)
        }
    })
}

/// Checks that all operands have a value. Those after the first that has another one are not evaluated.
fn all<'a>(operands: &'a [Expr], request: &Request<'a>, value: bool) -> Evaluated<bool> {
    for operand in operands {
        if truth(operand, request)? != value {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Compares two values.
fn compare(sign: CompareSign, left: &Value<'_>, right: &Value<'_>) -> Evaluated<bool> {
    Ok(match sign {
        CompareSign::Equal => left == right,
        CompareSign::NotEqual => left != right,
        CompareSign::Less => left.long()? < right.long()?,
        CompareSign::LessOrEqual => left.long()? <= right.long()?,
        CompareSign::Greater => left.long()? > right.long()?,
        CompareSign::GreaterOrEqual => left.long()? >= right.long()?,
    })
}

/// Checks that an entity is in another one, or in one of a set.
fn is_in(inner: Entity<'_>, outer: &Value<'_>, request: &Request<'_>) -> Evaluated<bool> {
    match outer.entity() {
        Ok(outer) => Ok(request.is_in(inner, outer)),
        Err(_) => Ok(!outer.all(|outer| Ok(!request.is_in(inner, outer.entity()?)))?),
    }
}

/// Returns an attribute of an entity, of a record or of the context.
fn attribute<'a>(of: &Value<'a>, name: &str, request: &Request<'a>) -> Evaluated<Value<'a>> {
    match of {
        Value::Scalar(Scalar::Entity(entity)) => {
            let found = Attribute::from_name(name).and_then(|attribute| entity_attribute(*entity, attribute, request));
            found.map(|text| Value::Scalar(Scalar::Text(text))).ok_or(EvalError::NoAttribute)
        }
        Value::Record(attributes) => {
            let found = attributes.iter().find(|(of, _)| *of == name);
            found.map(|(_, value)| value.clone()).ok_or(EvalError::NoAttribute)
        }
        Value::Context => {
            let facts = request.facts.ok_or(EvalError::NoFacts)?;
            let text = |text: &'a str| Value::Scalar(Scalar::Text(text));
            let found = match Fact::from_name(name) {
                Some(Fact::Ip) => facts.source_ip.map(|address| Value::Scalar(Scalar::Ip(IpRange::single(address)))),
                Some(Fact::Tls) => Some(facts.is_tls.into()),
                Some(Fact::Operation) => Some(text(&facts.operation)),
                Some(Fact::Engine) => facts.engine.as_deref().map(text),
                None => None,
            };
            found.ok_or(EvalError::NoAttribute)
        }
        _ => Err(EvalError::WrongType),
    }
}

/// Returns an attribute of an entity. Only the principal, the resource and what contains it are known.
fn entity_attribute<'a>(entity: Entity<'_>, attribute: Attribute, request: &Request<'a>) -> Option<&'a str> {
    let principal = request.principal;
    match attribute {
        Attribute::Issuer | Attribute::Subject if entity != principal.entity() || !attribute.is_of(entity.kind) => None,
        Attribute::Issuer => Some(principal.issuer()),
        Attribute::Subject => Some(principal.subject()),
        Attribute::Name | Attribute::Warehouse | Attribute::Namespace => request.names.attribute(entity, attribute),
    }
}

/// Calls a method.
fn call(method: Method, of: &Value<'_>, argument: Option<&Value<'_>>) -> Evaluated<bool> {
    let argument = || argument.ok_or(EvalError::WrongType);
    match method {
        Method::Contains => of.contains(argument()?),
        Method::ContainsAll => of.contains_all(argument()?),
        Method::ContainsAny => of.contains_any(argument()?),
        Method::IsEmpty => of.is_empty(),
        Method::IsIpv4 => Ok(of.ip()?.is_ipv4()),
        Method::IsIpv6 => Ok(!of.ip()?.is_ipv4()),
        Method::IsLoopback => Ok(of.ip()?.is_loopback()),
        Method::IsMulticast => Ok(of.ip()?.is_multicast()),
        Method::IsInRange => Ok(of.ip()?.is_in_range(argument()?.ip()?)),
    }
}
