//! Checks the types of conditions by the schema, so that no evaluation meets a wrong type or a missing attribute.
//!
//! As in Cedar's strict validation, each condition is checked for every type that the principal and the resource can have by the
//! scope. What the types exclude is not looked at: `principal is Esker::User && principal.issuer == "x"` is right for clients
//! too. An optional fact can be read where `context has` told that it is there. Unlike there, an attribute that no type has is an
//! error after `has` too, and so is a test that no request meets: such a policy would never apply.

use super::ast::{CompareSign, Condition, Expr, ExprKind, Literal, Policy, Scope, ScopeRelation, Variable};
use super::impossible;
use super::lexer::{Issue, Parsed};
use super::schema::{Attribute, EntityKind, Fact, Method, listed};
use super::types::{Kinds, Type};

/// Checks the conditions of a policy.
///
/// # Errors
///
/// Returns the first expression that is wrong for a principal and a resource.
pub(super) fn check(policy: &Policy) -> Parsed<()> {
    for principal in EntityKind::PRINCIPALS.into_iter().filter(|kind| admits(&policy.principal, *kind)) {
        for resource in EntityKind::RESOURCES.into_iter().filter(|kind| admits(&policy.resource, *kind)) {
            Types { principal, resource }.conditions(&policy.conditions)?;
        }
    }
    Ok(())
}

/// Checks that something of a type can be in a scope.
fn admits(scope: &Scope, kind: EntityKind) -> bool {
    let fits = scope.entity.as_ref().is_none_or(|(relation, entity)| match relation {
        ScopeRelation::Equals => kind == entity.kind,
        ScopeRelation::In => kind.can_be_in(entity.kind),
    });
    fits && scope.kind.is_none_or(|wanted| wanted == kind)
}

/// The facts that a request is known to have, as bits.
type Known = u8;

/// Returns the bit of a fact.
const fn bit(fact: Fact) -> Known {
    1 << fact as u8
}

/// The types of the principal and of the resource.
struct Types {
    /// Type of the principal.
    principal: EntityKind,
    /// Type of the resource.
    resource: EntityKind,
}

/// The type of a boolean expression, and the facts that are known where it is true.
type Truth = (Option<bool>, Known);

impl Types {
    /// Checks conditions. Each one counts where those before it are met.
    fn conditions(&self, conditions: &[Condition]) -> Parsed<()> {
        let mut known = 0;
        for Condition { wanted, expr } in conditions {
            let (value, more) = self.truth(expr, known)?;
            match value {
                Some(value) if value != *wanted => return Ok(()),
                _ if *wanted => known |= more,
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the type of an expression that must be a boolean.
    fn truth(&self, expr: &Expr, known: Known) -> Parsed<Truth> {
        Ok(match &expr.kind {
            ExprKind::And(operands) => self.and(operands, known)?,
            ExprKind::Or(operands) => self.or(operands, known)?,
            ExprKind::Not(operand) => (self.truth(operand, known)?.0.map(|value| !value), 0),
            ExprKind::If(operands) => {
                let [condition, then, otherwise] = &**operands;
                match self.truth(condition, known)? {
                    (Some(true), more) => with(more, self.truth(then, known | more)?),
                    (Some(false), _) => self.truth(otherwise, known)?,
                    (None, more) => {
                        let (then, then_more) = with(more, self.truth(then, known | more)?);
                        let (otherwise, otherwise_more) = self.truth(otherwise, known)?;
                        (then.filter(|_| then == otherwise), then_more & otherwise_more)
                    }
                }
            }
            ExprKind::Has(operand, name) => self.has(operand, name, known)?,
            _ => match self.type_of(expr, known)? {
                Type::Bool(value) => (value, 0),
                other => return Err(Issue::new(expr.at, format!("a boolean is needed here, but this is {other}"))),
            },
        })
    }

    /// Returns the type of `&&`. What follows a part that is never true is not looked at.
    fn and(&self, operands: &[Expr], mut known: Known) -> Parsed<Truth> {
        let (mut all, mut found) = (Some(true), 0);
        for operand in operands {
            let (value, more) = self.truth(operand, known)?;
            (known, found) = (known | more, found | more);
            match value {
                Some(false) => return Ok((Some(false), 0)),
                Some(true) => {}
                None => all = None,
            }
        }
        Ok((all, found))
    }

    /// Returns the type of `||`. What follows a part that is always true is not looked at.
    fn or(&self, operands: &[Expr], known: Known) -> Parsed<Truth> {
        // Without a part that can be true, every fact is known where the expression is.
        let (mut any, mut found) = (Some(false), Known::MAX);
        for operand in operands {
            match self.truth(operand, known)? {
                (Some(false), _) => {}
                (Some(true), more) => return Ok((Some(true), found & more)),
                (None, more) => (any, found) = (None, found & more),
            }
        }
        Ok((any, if any.is_none() { found } else { 0 }))
    }

    /// Returns the type of `has`.
    fn has(&self, operand: &Expr, name: &str, known: Known) -> Parsed<Truth> {
        Ok(match self.type_of(operand, known)? {
            Type::Entity(kinds) => {
                let attribute = Attribute::from_name(name).ok_or_else(|| {
                    let all = listed(Attribute::ALL.map(Attribute::as_str));
                    Issue::new(operand.at, format!("no entity has an attribute {name:?}; the attributes are {all}"))
                })?;
                (kinds.all_same(|kind| attribute.is_of(kind)), 0)
            }
            Type::Context => {
                let fact = fact(operand, name)?;
                let is_known = fact.is_required() || known & bit(fact) != 0;
                (is_known.then_some(true), bit(fact))
            }
            Type::Record(attributes) => (Some(attributes.iter().any(|(of, _)| **of == *name)), 0),
            other => return Err(Issue::new(operand.at, format!("{other} has no attributes"))),
        })
    }

    /// Returns the type of an expression.
    fn type_of(&self, expr: &Expr, known: Known) -> Parsed<Type> {
        Ok(match &expr.kind {
            ExprKind::Literal(literal) => type_of_literal(literal),
            ExprKind::Literals(literals) => Type::Set(common(expr, literals.iter().map(|literal| Ok(type_of_literal(literal))))?),
            ExprKind::Set(values) => Type::Set(common(expr, values.iter().map(|value| self.value(value, known)))?),
            ExprKind::Variable(Variable::Principal) => Type::Entity(Kinds::of(self.principal)),
            ExprKind::Variable(Variable::Action) => Type::Entity(Kinds::of(EntityKind::Action)),
            ExprKind::Variable(Variable::Resource) => Type::Entity(Kinds::of(self.resource)),
            ExprKind::Variable(Variable::Context) => Type::Context,
            ExprKind::And(_) | ExprKind::Or(_) | ExprKind::Not(_) | ExprKind::Has(..) => Type::Bool(self.truth(expr, known)?.0),
            ExprKind::If(operands) => self.if_then_else(expr, operands, known)?,
            ExprKind::Negate(operand) => {
                self.needs(operand, known, &Type::Long)?;
                Type::Long
            }
            ExprKind::Arithmetic(first, rest) => {
                self.needs(first, known, &Type::Long)?;
                rest.iter().try_for_each(|(_, operand)| self.needs(operand, known, &Type::Long))?;
                Type::Long
            }
            ExprKind::Compare(sign, sides) => self.compare(*sign, sides, known)?,
            ExprKind::In(sides) => {
                impossible::check_in(&sides[0], &sides[1])?;
                let (inner, outer) = (self.entity(&sides[0], known)?, self.outer(&sides[1], known)?);
                Type::Bool(can_be_in(inner, outer))
            }
            ExprKind::Is(operand, kind, outer) => self.is(operand, *kind, outer.as_deref(), known)?,
            ExprKind::Attribute(operand, name) => self.attribute(operand, name, known)?,
            ExprKind::Like(operand, _) => {
                self.needs(operand, known, &Type::Text)?;
                Type::BOOL
            }
            ExprKind::Call(method, operand, argument) => self.call(*method, operand, argument.as_deref(), known)?,
            ExprKind::Record(attributes) => {
                let typed = attributes.iter().map(|(name, value)| Ok((name.clone(), self.value(value, known)?)));
                Type::Record(typed.collect::<Parsed<_>>()?)
            }
        })
    }

    /// Returns the type of an expression that is put into a set or a record.
    fn value(&self, expr: &Expr, known: Known) -> Parsed<Type> {
        match self.type_of(expr, known)? {
            Type::Context => Err(Issue::new(expr.at, "the context is no value; name one of its attributes")),
            found => Ok(found),
        }
    }

    /// Returns the type of `if`. A branch that the types exclude is not looked at.
    fn if_then_else(&self, expr: &Expr, operands: &[Expr; 3], known: Known) -> Parsed<Type> {
        let [condition, then, otherwise] = operands;
        match self.truth(condition, known)? {
            (Some(true), more) => self.type_of(then, known | more),
            (Some(false), _) => self.type_of(otherwise, known),
            (None, more) => {
                let (then, otherwise) = (self.type_of(then, known | more)?, self.type_of(otherwise, known)?);
                let differ = || Issue::new(expr.at, format!("then gives {then}, but else gives {otherwise}"));
                then.common(&otherwise).ok_or_else(differ)
            }
        }
    }

    /// Returns the type of `is`, with what follows `in`.
    fn is(&self, operand: &Expr, kind: EntityKind, outer: Option<&Expr>, known: Known) -> Parsed<Type> {
        impossible::check_is(operand, kind)?;
        let is = self.entity(operand, known)?.all_same(|of| of == kind);
        Ok(Type::Bool(match outer {
            // What is always of the type may be in the other entity, or not.
            Some(outer) if is != Some(false) => can_be_in(Kinds::of(kind), self.outer(outer, known)?),
            _ => is,
        }))
    }

    /// Checks that an expression has a type.
    fn needs(&self, expr: &Expr, known: Known, wanted: &Type) -> Parsed<()> {
        let found = self.type_of(expr, known)?;
        if found == *wanted {
            return Ok(());
        }
        Err(Issue::new(expr.at, format!("{wanted} is needed here, but this is {found}")))
    }

    /// Returns the types of an expression that must be an entity.
    fn entity(&self, expr: &Expr, known: Known) -> Parsed<Kinds> {
        match self.type_of(expr, known)? {
            Type::Entity(kinds) => Ok(kinds),
            other => Err(Issue::new(expr.at, format!("an entity is needed here, but this is {other}"))),
        }
    }

    /// Returns the types of the right side of `in`: an entity, or a set of entities. `None` for the set without a value.
    fn outer(&self, expr: &Expr, known: Known) -> Parsed<Option<Kinds>> {
        match self.type_of(expr, known)? {
            Type::Entity(kinds) => Ok(Some(kinds)),
            Type::Set(None) => Ok(None),
            Type::Set(Some(of)) if kinds_of(&of).is_some() => Ok(kinds_of(&of)),
            other => Err(Issue::new(expr.at, format!("an entity or a set of entities is needed here, but this is {other}"))),
        }
    }

    /// Returns the type of a comparison.
    fn compare(&self, sign: CompareSign, sides: &[Expr; 2], known: Known) -> Parsed<Type> {
        let [left, right] = sides;
        if !matches!(sign, CompareSign::Equal | CompareSign::NotEqual) {
            self.needs(left, known, &Type::Long)?;
            self.needs(right, known, &Type::Long)?;
            return Ok(Type::BOOL);
        }
        impossible::check_equal(sides)?;
        let (a, b) = (self.type_of(left, known)?, self.type_of(right, known)?);
        if a.common(&b).is_none() || a == Type::Context {
            return Err(Issue::new(left.at, format!("{a} and {b} can't be compared")));
        }
        Ok(match (a, b) {
            // Entities of different types differ.
            (Type::Entity(a), Type::Entity(b)) if !a.intersects(b) => Type::Bool(Some(sign == CompareSign::NotEqual)),
            _ => Type::BOOL,
        })
    }

    /// Returns the type of an attribute.
    fn attribute(&self, operand: &Expr, name: &str, known: Known) -> Parsed<Type> {
        let bad = |what| Err(Issue::new(operand.at, what));
        match self.type_of(operand, known)? {
            Type::Entity(kinds) => {
                let lacks = |kind: &EntityKind| !Attribute::ALL.into_iter().any(|of| of.as_str() == name && of.is_of(*kind));
                let Some(kind) = kinds.iter().find(lacks) else { return Ok(Type::Text) };
                let known = Attribute::ALL.into_iter().filter(|of| of.is_of(kind)).map(Attribute::as_str);
                let known = match listed(known) {
                    none if none.is_empty() => "it has none".to_owned(),
                    some => format!("it has {some}"),
                };
                bad(format!("{kind} has no attribute {name:?}: {known}; if the type may be another, ask with is or has before"))
            }
            Type::Context => match fact(operand, name)? {
                fact if !fact.is_required() && known & bit(fact) == 0 => {
                    bad(format!("a request may lack context.{name}; write context has {name} && before"))
                }
                Fact::Ip => Ok(Type::Ip),
                Fact::Tls => Ok(Type::BOOL),
                Fact::Operation | Fact::Engine => Ok(Type::Text),
            },
            Type::Record(attributes) => match attributes.into_iter().find(|(of, _)| **of == *name) {
                Some((_, found)) => Ok(found),
                None => bad(format!("the record has no attribute {name:?}")),
            },
            other => bad(format!("{other} has no attributes")),
        }
    }

    /// Returns the type of a method's result.
    fn call(&self, method: Method, operand: &Expr, argument: Option<&Expr>, known: Known) -> Parsed<Type> {
        let of = self.type_of(operand, known)?;
        let argument = argument.map(|expr| self.type_of(expr, known).map(|found| (expr.at, found))).transpose()?;
        let is_right = match (method, &of, argument.as_ref().map(|(_, found)| found)) {
            (Method::Contains, Type::Set(of), Some(value)) => of.as_ref().is_none_or(|of| of.common(value).is_some()),
            (Method::ContainsAll | Method::ContainsAny, Type::Set(_), Some(other)) => {
                matches!(other, Type::Set(_)) && of.common(other).is_some()
            }
            (Method::IsEmpty, Type::Set(_), None) => true,
            (Method::IsIpv4 | Method::IsIpv6 | Method::IsLoopback | Method::IsMulticast, Type::Ip, None) => true,
            (Method::IsInRange, Type::Ip, Some(Type::Ip)) => true,
            _ => false,
        };
        match argument {
            _ if is_right => Ok(Type::BOOL),
            None => Err(Issue::new(operand.at, format!("{of} has no method {}", method.as_str()))),
            Some((at, found)) => {
                Err(Issue::new(at, format!("the method {} of {of} can't be called with {found}", method.as_str())))
            }
        }
    }
}

/// Returns the type that all values of a set have; `None` for a set without a value.
fn common(set: &Expr, types: impl Iterator<Item = Parsed<Type>>) -> Parsed<Option<Box<Type>>> {
    let mut all: Option<Type> = None;
    for found in types {
        let found = found?;
        let joined = match &all {
            None => found,
            Some(of) => of
                .common(&found)
                .ok_or_else(|| Issue::new(set.at, format!("the set has values of several types: {of} and {found}")))?,
        };
        all = Some(joined);
    }
    // A set says nothing of the values that its booleans have.
    Ok(all.map(|of| Box::new(if let Type::Bool(_) = of { Type::BOOL } else { of })))
}

/// Adds facts that are known to those that are known where an expression is true.
const fn with(known: Known, (value, more): Truth) -> Truth {
    (value, known | more)
}

/// Returns the types of an entity.
const fn kinds_of(of: &Type) -> Option<Kinds> {
    match of {
        Type::Entity(kinds) => Some(*kinds),
        _ => None,
    }
}

/// Checks that entities of some types can be in others. `Some(false)` if none can, else it is not told.
fn can_be_in(inner: Kinds, outer: Option<Kinds>) -> Option<bool> {
    let can = outer.is_some_and(|outer| inner.iter().any(|inner| outer.iter().any(|outer| inner.can_be_in(outer))));
    (!can).then_some(false)
}

/// Returns the type of a constant.
fn type_of_literal(literal: &Literal) -> Type {
    match literal {
        Literal::Bool(value) => Type::Bool(Some(*value)),
        Literal::Long(_) => Type::Long,
        Literal::Text(_) => Type::Text,
        Literal::Ip(_) => Type::Ip,
        Literal::Entity(id) => Type::Entity(Kinds::of(id.kind)),
    }
}

/// Returns the fact with a name.
fn fact(context: &Expr, name: &str) -> Parsed<Fact> {
    Fact::from_name(name).ok_or_else(|| {
        let known = listed(Fact::ALL.map(Fact::as_str));
        Issue::new(context.at, format!("the context has no {name:?}; it has {known}"))
    })
}
