//! Policies as trees.

use super::guard::Guard;
use super::ip::IpRange;
use super::lexer::Position;
use super::schema::{EntityKind, Fact, Method};
use super::text::Pattern;
use super::value::Scalar;
use crate::PrivilegeSet;

/// A policy.
#[derive(Debug)]
pub(super) struct Policy {
    /// Place of the policy in its text.
    pub(super) at: Position,
    /// Value of the annotation `@id`.
    pub(super) id: Option<String>,
    /// True if the policy forbids, false if it permits.
    pub(super) forbids: bool,
    /// The principals that it is about.
    pub(super) principal: Scope,
    /// The privileges that it is about.
    pub(super) actions: PrivilegeSet,
    /// The resources that it is about.
    pub(super) resource: Scope,
    /// Conditions, which must all be met.
    pub(super) conditions: Vec<Condition>,
    /// True if a condition reads the action, so that each privilege must be evaluated by itself.
    pub(super) reads_action: bool,
    /// True if a condition reads the operation of the request.
    pub(super) reads_operation: bool,
}

impl Policy {
    /// Returns the guard by which the policy is found; `None` if the scope names a resource, which finds it already.
    pub(super) fn guard(&self) -> Option<Guard<'_>> {
        if self.resource.entity.is_some() { None } else { Guard::of(self) }
    }
}

/// The principals or resources that a policy is about.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// Type that they must have.
    pub(super) kind: Option<EntityKind>,
    /// Entity that they must be, or be in.
    pub(super) entity: Option<(ScopeRelation, EntityId)>,
}

/// The relation of a scope to its entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScopeRelation {
    /// The entity itself.
    Equals,
    /// The entity, and everything that descends from it.
    In,
}

impl Scope {
    /// Checks that the scope has an entity of a type that is the scope's entity, or descends from it.
    ///
    /// `is_itself` is true if it is the scope's entity. Without an entity in the scope it does not count.
    pub(super) fn admits(&self, kind: EntityKind, is_itself: bool) -> bool {
        let is_alone = matches!(self.entity, Some((ScopeRelation::Equals, _)));
        self.kind.is_none_or(|wanted| wanted == kind) && (is_itself || !is_alone)
    }
}

/// A condition of a policy.
#[derive(Debug)]
pub(super) struct Condition {
    /// The value with which the condition is met: true for `when`, false for `unless`.
    pub(super) wanted: bool,
    /// The expression.
    pub(super) expr: Expr,
}

/// The name of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntityId {
    /// Type of the entity.
    pub(super) kind: EntityKind,
    /// Id of the entity among those of its type.
    pub(super) id: Box<str>,
}

/// An expression.
#[derive(Debug)]
pub(super) struct Expr {
    /// Place of the expression in its text.
    pub(super) at: Position,
    /// Number of levels of the tree.
    pub(super) height: usize,
    /// The operation, with its operands.
    pub(super) kind: ExprKind,
}

impl Expr {
    /// Creates an expression over its operands.
    pub(super) fn new(at: Position, kind: ExprKind) -> Self {
        let mut highest = 0;
        kind.each_operand(&mut |operand| highest = highest.max(operand.height));
        Self { at, height: highest + 1, kind }
    }

    /// Checks that the expression reads the action.
    pub(super) fn reads_action(&self) -> bool {
        let mut reads = matches!(self.kind, ExprKind::Variable(Variable::Action));
        self.kind.each_operand(&mut |operand| reads = reads || operand.reads_action());
        reads
    }

    /// Checks that the expression reads the operation of the request, or the facts of the request as a whole.
    pub(super) fn reads_operation(&self) -> bool {
        match &self.kind {
            ExprKind::Attribute(of, name) | ExprKind::Has(of, name) if of.is_context() => **name == *Fact::Operation.as_str(),
            kind => {
                let mut reads = self.is_context();
                kind.each_operand(&mut |operand| reads = reads || operand.reads_operation());
                reads
            }
        }
    }

    /// Checks that the expression is the facts of the request as a whole.
    pub(super) const fn is_context(&self) -> bool {
        matches!(self.kind, ExprKind::Variable(Variable::Context))
    }

    /// Checks that the expression is the resource.
    pub(super) const fn is_resource(&self) -> bool {
        matches!(self.kind, ExprKind::Variable(Variable::Resource))
    }
}

/// The operation of an expression, with its operands.
#[derive(Debug)]
pub(super) enum ExprKind {
    /// A constant.
    Literal(Literal),
    /// A set of constants, sorted and each once.
    Literals(Vec<Literal>),
    /// A part of the request.
    Variable(Variable),
    /// `if`, `then`, `else`.
    If(Box<[Expr; 3]>),
    /// `&&` between two or more.
    And(Vec<Expr>),
    /// `||` between two or more.
    Or(Vec<Expr>),
    /// `!`.
    Not(Box<Expr>),
    /// `-` before one operand.
    Negate(Box<Expr>),
    /// A comparison.
    Compare(CompareSign, Box<[Expr; 2]>),
    /// `in`.
    In(Box<[Expr; 2]>),
    /// `is`, with what follows `in`.
    Is(Box<Expr>, EntityKind, Option<Box<Expr>>),
    /// `has`.
    Has(Box<Expr>, Box<str>),
    /// An attribute.
    Attribute(Box<Expr>, Box<str>),
    /// `like`.
    Like(Box<Expr>, Pattern),
    /// `+`, `-` and `*`, from left to right.
    Arithmetic(Box<Expr>, Vec<(ArithmeticSign, Expr)>),
    /// A method, with its argument if it has one.
    Call(Method, Box<Expr>, Option<Box<Expr>>),
    /// A set.
    Set(Vec<Expr>),
    /// A record, sorted by the names of its attributes.
    Record(Vec<(Box<str>, Expr)>),
}

impl ExprKind {
    /// Calls a function with each operand.
    pub(super) fn each_operand<'a>(&'a self, call: &mut dyn FnMut(&'a Expr)) {
        match self {
            Self::Literal(_) | Self::Literals(_) | Self::Variable(_) => {}
            Self::If(operands) => operands.iter().for_each(call),
            Self::And(operands) | Self::Or(operands) | Self::Set(operands) => operands.iter().for_each(call),
            Self::Compare(_, operands) | Self::In(operands) => operands.iter().for_each(call),
            Self::Not(operand)
            | Self::Negate(operand)
            | Self::Has(operand, _)
            | Self::Attribute(operand, _)
            | Self::Like(operand, _) => call(operand),
            Self::Is(operand, _, other) | Self::Call(_, operand, other) => {
                call(operand);
                other.iter().for_each(|other| call(other));
            }
            Self::Arithmetic(first, rest) => {
                call(first);
                rest.iter().for_each(|(_, operand)| call(operand));
            }
            Self::Record(attributes) => attributes.iter().for_each(|(_, value)| call(value)),
        }
    }
}

/// A part of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    /// Who asks.
    Principal,
    /// The privilege that is asked for.
    Action,
    /// The thing that it is asked for.
    Resource,
    /// The facts of the request.
    Context,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompareSign {
    /// `==`.
    Equal,
    /// `!=`.
    NotEqual,
    /// `<`.
    Less,
    /// `<=`.
    LessOrEqual,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterOrEqual,
}

/// An operation of arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArithmeticSign {
    /// `+`.
    Plus,
    /// `-`.
    Minus,
    /// `*`.
    Times,
}

/// A constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Literal {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Long(i64),
    /// A string.
    Text(Box<str>),
    /// An entity.
    Entity(EntityId),
    /// An address or a range of addresses.
    Ip(IpRange),
}

impl Literal {
    /// Returns the value of the constant.
    pub(super) fn scalar(&self) -> Scalar<'_> {
        match self {
            Self::Bool(value) => Scalar::Bool(*value),
            Self::Long(value) => Scalar::Long(*value),
            Self::Text(value) => Scalar::Text(value),
            Self::Entity(id) => Scalar::Entity(id.entity()),
            Self::Ip(value) => Scalar::Ip(*value),
        }
    }
}
