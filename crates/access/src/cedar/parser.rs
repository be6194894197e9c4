//! Reads policies: annotations, effect, scope and conditions. The expressions of conditions are in `expression.rs`.

use std::collections::HashSet;

use super::ast::{Condition, EntityId, Policy, Scope, ScopeRelation};
use super::lexer::{Issue, Parsed, Position, Token, tokens};
use super::schema::{EntityKind, check_id, listed, privilege, privileges_of};
use super::text::unescape;
use crate::PrivilegeSet;

/// The maximum length of a text, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// Words that can't be names of attributes.
const RESERVED: [&str; 10] = ["true", "false", "if", "then", "else", "in", "is", "like", "has", "__cedar"];

/// Reads all policies of a text. There is at least one.
///
/// # Errors
///
/// Returns the first thing that is no policy.
pub(super) fn parse(text: &str) -> Parsed<Vec<Policy>> {
    if text.len() > MAX_BYTES {
        let start = Position { line: 1, column: 1 };
        return Err(Issue::new(start, format!("the text has more than {MAX_BYTES} bytes; store several policies")));
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0 };
    let mut policies = Vec::new();
    while policies.is_empty() || parser.peek() != Token::End {
        policies.push(parser.policy()?);
    }
    Ok(policies)
}

/// The tokens of a text, with the place of the next one.
pub(super) struct Parser<'a> {
    /// All tokens; the last is [`Token::End`].
    tokens: Vec<(Token<'a>, Position)>,
    /// Number of the next token.
    next: usize,
    /// Number of expressions that are being read.
    pub(super) depth: usize,
}

impl<'a> Parser<'a> {
    /// Returns the next token.
    pub(super) fn peek(&self) -> Token<'a> {
        self.tokens[self.next].0
    }

    /// Returns the token after the next one.
    pub(super) fn peek_second(&self) -> Token<'a> {
        self.tokens.get(self.next + 1).map_or(Token::End, |(token, _)| *token)
    }

    /// Returns the place of the next token.
    pub(super) fn at(&self) -> Position {
        self.tokens[self.next].1
    }

    /// Goes to the next token. After the last one there is none.
    pub(super) fn advance(&mut self) {
        self.next = (self.next + 1).min(self.tokens.len() - 1);
    }

    /// Reads a token if it is the next one.
    pub(super) fn takes(&mut self, token: Token<'_>) -> bool {
        let is_next = self.peek() == token;
        if is_next {
            self.advance();
        }
        is_next
    }

    /// Reads a sign, which must be next.
    pub(super) fn expect(&mut self, sign: &'static str) -> Parsed<()> {
        if self.takes(Token::Sign(sign)) { Ok(()) } else { self.fail(&format!("{sign:?}")) }
    }

    /// Refuses the next token.
    pub(super) fn fail<T>(&self, expected: &str) -> Parsed<T> {
        let what = match self.peek() {
            Token::Sign("?") => "templates are no part of the language here; name an entity".to_owned(),
            found => format!("expected {expected}, found {}", found.describe()),
        };
        Err(Issue::new(self.at(), what))
    }

    /// Reads an identifier.
    fn word(&mut self, expected: &str) -> Parsed<&'a str> {
        let Token::Word(word) = self.peek() else { return self.fail(expected) };
        self.advance();
        Ok(word)
    }

    /// Reads the name of an attribute that is not in quotes.
    pub(super) fn attribute(&mut self) -> Parsed<Box<str>> {
        let at = self.at();
        let word = self.word("the name of an attribute")?;
        if RESERVED.contains(&word) {
            return Err(Issue::new(at, format!("{word:?} is a word of the language; write [\"{word}\"] for the attribute")));
        }
        Ok(word.into())
    }

    /// Reads a string.
    pub(super) fn text(&mut self, expected: &str) -> Parsed<String> {
        let (Token::Text(raw), at) = (self.peek(), self.at()) else { return self.fail(expected) };
        self.advance();
        unescape(raw).map_err(|what| Issue::new(at, what))
    }

    /// Reads items separated by commas, up to a closing sign. A comma may be last.
    pub(super) fn list<T>(&mut self, close: &'static str, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while !self.takes(Token::Sign(close)) {
            items.push(item(self)?);
            if !self.takes(Token::Sign(",")) {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    /// Reads a policy.
    fn policy(&mut self) -> Parsed<Policy> {
        let at = self.at();
        let id = self.annotations()?;
        let effect_at = self.at();
        let forbids = match self.word("permit or forbid")? {
            "permit" => false,
            "forbid" => true,
            other => return Err(Issue::new(effect_at, format!("a policy begins with permit or forbid, not with {other:?}"))),
        };
        self.expect("(")?;
        let principal = self.scope("principal", &EntityKind::PRINCIPALS)?;
        self.expect(",")?;
        let actions = self.action_scope()?;
        self.expect(",")?;
        let resource = self.scope("resource", &EntityKind::RESOURCES)?;
        self.takes(Token::Sign(","));
        self.expect(")")?;
        let conditions = self.conditions()?;
        let reads_action = conditions.iter().any(|condition| condition.expr.reads_action());
        let reads_operation = conditions.iter().any(|condition| condition.expr.reads_operation());
        Ok(Policy { at, id, forbids, principal, actions, resource, conditions, reads_action, reads_operation })
    }

    /// Reads annotations. Returns the value of `@id`.
    fn annotations(&mut self) -> Parsed<Option<String>> {
        let (mut id, mut seen) = (None, HashSet::new());
        while self.takes(Token::Sign("@")) {
            let at = self.at();
            let name = self.word("the name of an annotation")?;
            if !seen.insert(name) {
                return Err(Issue::new(at, format!("the policy has the annotation @{name} twice")));
            }
            let mut value = String::new();
            if self.takes(Token::Sign("(")) {
                value = self.text("a string")?;
                self.expect(")")?;
            }
            if name == "id" {
                id = Some(value);
            }
        }
        Ok(id)
    }

    /// Reads the conditions, up to the semicolon.
    fn conditions(&mut self) -> Parsed<Vec<Condition>> {
        let mut conditions = Vec::new();
        loop {
            let wanted = match self.peek() {
                Token::Word("when") => true,
                Token::Word("unless") => false,
                _ => break,
            };
            self.advance();
            self.expect("{")?;
            let expr = self.expr()?;
            self.expect("}")?;
            conditions.push(Condition { wanted, expr });
        }
        if self.takes(Token::Sign(";")) { Ok(conditions) } else { self.fail("when, unless or \";\"") }
    }

    /// Reads the scope of the principal or of the resource.
    fn scope(&mut self, variable: &'static str, possible: &[EntityKind]) -> Parsed<Scope> {
        if !self.takes(Token::Word(variable)) {
            return self.fail(variable);
        }
        let mut scope = Scope::default();
        if self.takes(Token::Word("is")) {
            let at = self.at();
            let kind = self.kind()?;
            check_possible(variable, possible, |possible| possible == kind, kind, at)?;
            scope.kind = Some(kind);
        }
        let relation = if scope.kind.is_none() && self.takes(Token::Sign("==")) {
            ScopeRelation::Equals
        } else if self.takes(Token::Word("in")) {
            ScopeRelation::In
        } else {
            return Ok(scope);
        };
        let at = self.at();
        let entity = self.entity()?;
        let fits = |kind: EntityKind| match relation {
            ScopeRelation::Equals => kind == entity.kind,
            ScopeRelation::In => scope.kind.is_none_or(|wanted| wanted == kind) && kind.can_be_in(entity.kind),
        };
        check_possible(variable, possible, fits, entity.kind, at)?;
        scope.entity = Some((relation, entity));
        Ok(scope)
    }

    /// Reads the scope of the action. Returns its privileges.
    fn action_scope(&mut self) -> Parsed<PrivilegeSet> {
        if !self.takes(Token::Word("action")) {
            return self.fail("action");
        }
        let at = self.at();
        if self.takes(Token::Sign("==")) {
            let (id, privileges) = self.action()?;
            return match privilege(&id) {
                Some(_) => Ok(privileges),
                None => Err(Issue::new(at, format!("{id} is a group of actions; write action in Esker::Action::\"{id}\""))),
            };
        }
        if !self.takes(Token::Word("in")) {
            return Ok(PrivilegeSet::ALL);
        }
        if !self.takes(Token::Sign("[")) {
            return Ok(self.action()?.1);
        }
        let actions = self.list("]", Self::action)?;
        if actions.is_empty() {
            return Err(Issue::new(at, "the list names no action; leave out in […] for all actions"));
        }
        Ok(actions.into_iter().fold(PrivilegeSet::EMPTY, |all, (_, privileges)| all.union(privileges)))
    }

    /// Reads an action. Returns its id and its privileges.
    fn action(&mut self) -> Parsed<(Box<str>, PrivilegeSet)> {
        let at = self.at();
        let EntityId { kind, id } = self.entity()?;
        match privileges_of(&id) {
            Some(privileges) if kind == EntityKind::Action => Ok((id, privileges)),
            _ => Err(Issue::new(at, format!("{kind} is no action; write Esker::Action::\"READ_DATA\""))),
        }
    }

    /// Reads the name of a type.
    pub(super) fn kind(&mut self) -> Parsed<EntityKind> {
        let at = self.at();
        let mut name = self.word("the name of a type")?.to_owned();
        while self.peek() == Token::Sign("::") && matches!(self.peek_second(), Token::Word(_)) {
            self.advance();
            name = format!("{name}::{}", self.word("the name of a type")?);
        }
        EntityKind::from_name(&name).ok_or_else(|| {
            let known = listed(EntityKind::ALL.map(EntityKind::as_str));
            Issue::new(at, format!("there is no type {name}; the types are {known}"))
        })
    }

    /// Reads an entity.
    pub(super) fn entity(&mut self) -> Parsed<EntityId> {
        if !matches!(self.peek(), Token::Word(_)) {
            return self.fail("an entity, such as Esker::Role::\"readers\"");
        }
        let kind = self.kind()?;
        self.expect("::")?;
        let at = self.at();
        let id = self.text("the id of the entity in double quotes")?;
        check_id(kind, &id).map_err(|what| Issue::new(at, what))?;
        Ok(EntityId { kind, id: id.into() })
    }
}

/// Checks that a principal or resource can be what its scope wants.
fn check_possible(
    variable: &str,
    possible: &[EntityKind],
    fits: impl Fn(EntityKind) -> bool,
    found: EntityKind,
    at: Position,
) -> Parsed<()> {
    if possible.iter().any(|kind| fits(*kind)) {
        return Ok(());
    }
    let known = listed(possible.iter().map(|kind| kind.as_str()));
    let hint = match found {
        EntityKind::Role | EntityKind::Claim => format!("; for an {found} write {variable} in"),
        _ => String::new(),
    };
    Err(Issue::new(at, format!("the {variable} can't be {found} in this way: its type is one of {known}{hint}")))
}
