//! Reads the expressions of conditions, from the operators that bind least to those that bind most.

use super::ast::{ArithmeticSign, CompareSign, Expr, ExprKind, Literal, Variable};
use super::ip::IpRange;
use super::lexer::{Issue, Parsed, Position, Token};
use super::parser::Parser;
use super::schema::{Method, listed};
use super::text::Pattern;

/// The maximum number of levels of an expression, and of the expressions in which it is.
const MAX_DEPTH: usize = 64;

/// The maximum number of `!` or `-` before an operand, as in the reference.
const MAX_UNARY: usize = 4;

/// Creates an expression. Checks its height, so that no expression is too deep for the stack.
fn node(at: Position, kind: ExprKind) -> Parsed<Expr> {
    let expr = Expr::new(at, kind);
    if expr.height > MAX_DEPTH { Err(too_deep(at)) } else { Ok(expr) }
}

/// Returns the reason against an expression that is too deep.
fn too_deep(at: Position) -> Issue {
    Issue::new(at, format!("the expression has more than {MAX_DEPTH} levels; split the policy"))
}

impl Parser<'_> {
    /// Reads an expression.
    pub(super) fn expr(&mut self) -> Parsed<Expr> {
        if self.depth == MAX_DEPTH {
            return Err(too_deep(self.at()));
        }
        self.depth += 1;
        let at = self.at();
        let expr = if self.takes(Token::Word("if")) { self.if_then_else(at) } else { self.or() };
        self.depth -= 1;
        expr
    }

    /// Reads what follows `if`.
    fn if_then_else(&mut self, at: Position) -> Parsed<Expr> {
        let condition = self.expr()?;
        if !self.takes(Token::Word("then")) {
            return self.fail("then");
        }
        let then = self.expr()?;
        if !self.takes(Token::Word("else")) {
            return self.fail("else");
        }
        let otherwise = self.expr()?;
        node(at, ExprKind::If(Box::new([condition, then, otherwise])))
    }

    /// Reads `||`.
    fn or(&mut self) -> Parsed<Expr> {
        self.chain("||", Self::and, ExprKind::Or)
    }

    /// Reads `&&`.
    fn and(&mut self) -> Parsed<Expr> {
        self.chain("&&", Self::relation, ExprKind::And)
    }

    /// Reads operands with a sign between them.
    fn chain(
        &mut self,
        sign: &'static str,
        operand: fn(&mut Self) -> Parsed<Expr>,
        kind: fn(Vec<Expr>) -> ExprKind,
    ) -> Parsed<Expr> {
        let first = operand(self)?;
        let mut operands = vec![first];
        while self.takes(Token::Sign(sign)) {
            operands.push(operand(self)?);
        }
        if operands.len() > 1 { node(operands[0].at, kind(operands)) } else { Ok(operands.remove(0)) }
    }

    /// Reads a comparison, `in`, `has`, `like` or `is`.
    fn relation(&mut self) -> Parsed<Expr> {
        let left = self.sum()?;
        let at = left.at;
        let relation = match (compare_sign(self.peek()), self.peek()) {
            (Some(sign), _) => {
                self.advance();
                node(at, ExprKind::Compare(sign, Box::new([left, self.sum()?])))?
            }
            (None, Token::Word("in")) => {
                self.advance();
                node(at, ExprKind::In(Box::new([left, self.sum()?])))?
            }
            (None, Token::Word("has")) => {
                self.advance();
                self.has(left)?
            }
            (None, Token::Word("like")) => {
                self.advance();
                let (Token::Text(raw), of) = (self.peek(), self.at()) else { return self.fail("a pattern in double quotes") };
                self.advance();
                let pattern = Pattern::parse(raw).map_err(|what| Issue::new(of, what))?;
                node(at, ExprKind::Like(Box::new(left), pattern))?
            }
            (None, Token::Word("is")) => {
                self.advance();
                let kind = self.kind()?;
                let outer = if self.takes(Token::Word("in")) { Some(Box::new(self.sum()?)) } else { None };
                node(at, ExprKind::Is(Box::new(left), kind, outer))?
            }
            _ => return Ok(left),
        };
        let is_word = matches!(self.peek(), Token::Word("in" | "has" | "like" | "is"));
        if is_word || compare_sign(self.peek()).is_some() {
            return Err(Issue::new(self.at(), "comparisons have two sides; put parentheses around one of them"));
        }
        Ok(relation)
    }

    /// Reads what follows `has`.
    ///
    /// The reference reads `has b.c` as well. No attribute of the schema has attributes, so it is refused here.
    fn has(&mut self, left: Expr) -> Parsed<Expr> {
        let at = left.at;
        let name = match self.peek() {
            Token::Text(_) => self.text("the name of an attribute")?.into_boxed_str(),
            _ => self.attribute()?,
        };
        if self.peek() == Token::Sign(".") {
            let what = format!("nothing has attributes below {name}; write has with one name");
            return Err(Issue::new(self.at(), what));
        }
        node(at, ExprKind::Has(Box::new(left), name))
    }

    /// Reads `+` and `-`.
    fn sum(&mut self) -> Parsed<Expr> {
        self.arithmetic(&[("+", ArithmeticSign::Plus), ("-", ArithmeticSign::Minus)], Self::product)
    }

    /// Reads `*`.
    fn product(&mut self) -> Parsed<Expr> {
        self.arithmetic(&[("*", ArithmeticSign::Times)], Self::unary)
    }

    /// Reads operands with one of several signs between them.
    fn arithmetic(&mut self, signs: &[(&'static str, ArithmeticSign)], operand: fn(&mut Self) -> Parsed<Expr>) -> Parsed<Expr> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some((_, sign)) = signs.iter().find(|(text, _)| self.peek() == Token::Sign(text)) {
            self.advance();
            rest.push((*sign, operand(self)?));
        }
        if rest.is_empty() { Ok(first) } else { node(first.at, ExprKind::Arithmetic(Box::new(first), rest)) }
    }

    /// Reads `!` and `-` before an operand.
    fn unary(&mut self) -> Parsed<Expr> {
        let at = self.at();
        let Token::Sign(sign @ ("!" | "-")) = self.peek() else { return self.member() };
        let mut count = 0;
        while self.takes(Token::Sign(sign)) {
            count += 1;
        }
        if count > MAX_UNARY {
            return Err(Issue::new(
                at,
                format!("there are more than {MAX_UNARY} {sign} before an operand; leave out pairs of them"),
            ));
        }
        let mut expr = match self.peek() {
            // The smallest number has no positive counterpart.
            Token::Number(digits) if sign == "-" => {
                count -= 1;
                let number = self.number(&format!("-{digits}"))?;
                self.accesses(number)?
            }
            _ => self.member()?,
        };
        for _ in 0..count {
            let operand = Box::new(expr);
            expr = node(at, if sign == "!" { ExprKind::Not(operand) } else { ExprKind::Negate(operand) })?;
        }
        Ok(expr)
    }

    /// Reads a number, the digits of which are the next token.
    fn number(&mut self, text: &str) -> Parsed<Expr> {
        let at = self.at();
        let Ok(number) = text.parse() else {
            return Err(Issue::new(at, format!("{text} is out of the range of 64-bit integers")));
        };
        self.advance();
        node(at, ExprKind::Literal(Literal::Long(number)))
    }

    /// Reads an operand with its attributes and methods.
    fn member(&mut self) -> Parsed<Expr> {
        let operand = self.primary()?;
        self.accesses(operand)
    }

    /// Reads the attributes and methods of an operand.
    fn accesses(&mut self, mut expr: Expr) -> Parsed<Expr> {
        loop {
            if self.takes(Token::Sign(".")) {
                let at = self.at();
                let name = self.attribute()?;
                expr = if self.takes(Token::Sign("(")) {
                    self.call(expr, &name, at)?
                } else {
                    node(expr.at, ExprKind::Attribute(Box::new(expr), name))?
                };
            } else if self.takes(Token::Sign("[")) {
                let name = self.text("the name of an attribute in double quotes")?;
                self.expect("]")?;
                expr = node(expr.at, ExprKind::Attribute(Box::new(expr), name.into()))?;
            } else {
                return Ok(expr);
            }
        }
    }

    /// Reads the argument of a method.
    fn call(&mut self, operand: Expr, name: &str, at: Position) -> Parsed<Expr> {
        let Some(method) = Method::from_name(name) else {
            let known = listed(Method::ALL.map(Method::as_str));
            return Err(Issue::new(at, format!("there is no method {name:?}; the methods are {known}")));
        };
        let mut arguments = self.list(")", Self::expr)?;
        let wanted = usize::from(method.has_argument());
        if arguments.len() != wanted {
            let what = format!("{name} has {wanted} arguments, but {} are given", arguments.len());
            return Err(Issue::new(at, what));
        }
        let of = operand.at;
        node(of, ExprKind::Call(method, Box::new(operand), arguments.pop().map(Box::new)))
    }

    /// Reads a constant, a part of the request, a set, a record, or an expression in parentheses.
    fn primary(&mut self) -> Parsed<Expr> {
        let at = self.at();
        match self.peek() {
            Token::Number(digits) => self.number(digits),
            Token::Text(_) => {
                let text = self.text("a string")?;
                node(at, ExprKind::Literal(Literal::Text(text.into())))
            }
            Token::Word(word) => self.named(word, at),
            Token::Sign("(") => {
                self.advance();
                let expr = self.expr()?;
                self.expect(")")?;
                Ok(expr)
            }
            Token::Sign("[") => {
                self.advance();
                let values = self.list("]", Self::expr)?;
                node(at, set(values))
            }
            Token::Sign("{") => {
                self.advance();
                self.record(at)
            }
            _ => self.fail("an expression"),
        }
    }

    /// Reads what begins with a word.
    fn named(&mut self, word: &str, at: Position) -> Parsed<Expr> {
        let variable = match (self.peek_second(), word) {
            (Token::Sign("::"), _) => {
                let entity = self.entity()?;
                return node(at, ExprKind::Literal(Literal::Entity(entity)));
            }
            (Token::Sign("("), _) => return self.function(word, at),
            (_, "true" | "false") => {
                self.advance();
                return node(at, ExprKind::Literal(Literal::Bool(word == "true")));
            }
            (_, "if") => return Err(Issue::new(at, "put parentheses around if … then … else …")),
            (_, "principal") => Variable::Principal,
            (_, "action") => Variable::Action,
            (_, "resource") => Variable::Resource,
            (_, "context") => Variable::Context,
            _ => {
                let what = format!("{word:?} is no variable; there are principal, action, resource and context");
                return Err(Issue::new(at, what));
            }
        };
        self.advance();
        node(at, ExprKind::Variable(variable))
    }

    /// Reads the call of a function, of which there is `ip` alone.
    fn function(&mut self, word: &str, at: Position) -> Parsed<Expr> {
        if word != "ip" {
            return Err(Issue::new(at, format!("there is no function {word:?}; there is ip alone")));
        }
        self.advance();
        self.advance();
        let of = self.at();
        let text = self.text("an address in double quotes")?;
        let range = IpRange::parse(&text).map_err(|what| Issue::new(of, what))?;
        self.takes(Token::Sign(","));
        self.expect(")")?;
        node(at, ExprKind::Literal(Literal::Ip(range)))
    }

    /// Reads the attributes of a record.
    fn record(&mut self, at: Position) -> Parsed<Expr> {
        let mut attributes = self.list("}", |parser| {
            let of = parser.at();
            let name = match parser.peek() {
                Token::Text(_) => parser.text("the name of an attribute")?.into_boxed_str(),
                _ => parser.attribute()?,
            };
            parser.expect(":")?;
            Ok((name, parser.expr()?, of))
        })?;
        attributes.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        if let Some((name, _, of)) = attributes.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| &pair[1]) {
            return Err(Issue::new(*of, format!("the record has the attribute {name} twice")));
        }
        node(at, ExprKind::Record(attributes.into_iter().map(|(name, value, _)| (name, value)).collect()))
    }
}

/// Returns the comparison that a token stands for.
fn compare_sign(token: Token<'_>) -> Option<CompareSign> {
    Some(match token {
        Token::Sign("==") => CompareSign::Equal,
        Token::Sign("!=") => CompareSign::NotEqual,
        Token::Sign("<") => CompareSign::Less,
        Token::Sign("<=") => CompareSign::LessOrEqual,
        Token::Sign(">") => CompareSign::Greater,
        Token::Sign(">=") => CompareSign::GreaterOrEqual,
        _ => return None,
    })
}

/// Makes a set. One of constants is sorted now, so that nothing is left to do when it is evaluated.
fn set(values: Vec<Expr>) -> ExprKind {
    if !values.iter().all(|value| matches!(value.kind, ExprKind::Literal(_))) {
        return ExprKind::Set(values);
    }
    let constants = values.into_iter().filter_map(|value| if let ExprKind::Literal(of) = value.kind { Some(of) } else { None });
    let mut constants: Vec<_> = constants.collect();
    constants.sort_by(|a, b| a.scalar().cmp(&b.scalar()));
    constants.dedup();
    ExprKind::Literals(constants)
}
