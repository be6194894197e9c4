//! Splits the text of policies into tokens with their positions.

/// A place in a text. Lines and columns count from one, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Number of the line.
    pub(super) line: usize,
    /// Number of the column.
    pub(super) column: usize,
}

/// The reason why a text can't be used, with the place that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Issue {
    /// Place in the text.
    pub(super) at: Position,
    /// What is wrong, and what is known.
    pub(super) what: String,
}

impl Issue {
    /// Creates the reason.
    pub(super) fn new(at: Position, what: impl Into<String>) -> Self {
        Self { at, what: what.into() }
    }
}

/// The result of reading a text.
pub(super) type Parsed<T> = Result<T, Issue>;

/// A token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// An identifier or a keyword.
    Word(&'a str),
    /// What is between the quotes of a string, with its escapes.
    Text(&'a str),
    /// The digits of a number.
    Number(&'a str),
    /// An operator or a punctuation mark.
    Sign(&'static str),
    /// The end of the text.
    End,
}

impl Token<'_> {
    /// Returns the token in words, for messages.
    pub(super) fn describe(self) -> String {
        match self {
            Self::Word(text) | Self::Number(text) => format!("{text:?}"),
            Self::Sign(text) => format!("{text:?}"),
            Self::Text(_) => "a string".to_owned(),
            Self::End => "the end of the text".to_owned(),
        }
    }
}

/// Operators and punctuation marks, the longer ones first.
const SIGNS: [&str; 26] = [
    "::", "==", "!=", "<=", ">=", "&&", "||", "(", ")", "{", "}", "[", "]", ",", ";", ":", ".", "<", ">", "!", "+", "-", "*",
    "@", "?", "=",
];

/// Splits a text into tokens. The last one is [`Token::End`].
pub(super) fn tokens(text: &str) -> Parsed<Vec<(Token<'_>, Position)>> {
    let mut lexer = Lexer { rest: text, at: Position { line: 1, column: 1 } };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let at = lexer.at;
        let token = lexer.token()?;
        tokens.push((token, at));
        if token == Token::End {
            return Ok(tokens);
        }
    }
}

/// The rest of a text, with its place.
struct Lexer<'a> {
    /// The text that is not read yet.
    rest: &'a str,
    /// Place of the rest.
    at: Position,
}

impl<'a> Lexer<'a> {
    /// Reads some bytes of the text.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        for c in taken.chars() {
            self.at = match c {
                '\n' => Position { line: self.at.line + 1, column: 1 },
                _ => Position { column: self.at.column + 1, ..self.at },
            };
        }
        self.rest = rest;
        taken
    }

    /// Reads the characters that pass a test.
    fn take_while(&mut self, passes: impl Fn(char) -> bool) -> &'a str {
        self.take(self.rest.find(|c: char| !passes(c)).unwrap_or(self.rest.len()))
    }

    /// Skips blanks and comments.
    fn skip_blanks(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            if !self.rest.starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n' && c != '\r');
        }
    }

    /// Reads a token.
    fn token(&mut self) -> Parsed<Token<'a>> {
        let Some(first) = self.rest.chars().next() else { return Ok(Token::End) };
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(Token::Word(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')));
        }
        if first.is_ascii_digit() {
            return Ok(Token::Number(self.take_while(|c| c.is_ascii_digit())));
        }
        if first == '"' {
            return self.text();
        }
        let Some(sign) = SIGNS.into_iter().find(|sign| self.rest.starts_with(*sign)) else {
            let what = match first {
                '&' => "a single & is no operator; write &&".to_owned(),
                '|' => "a single | is no operator; write ||".to_owned(),
                '/' | '%' => "the language has no division".to_owned(),
                '\'' => "strings are written in double quotes".to_owned(),
                other => format!("the character {other:?} has no meaning here"),
            };
            return Err(Issue::new(self.at, what));
        };
        if sign == "=" {
            return Err(Issue::new(self.at, "a single = is no operator; write =="));
        }
        self.take(sign.len());
        Ok(Token::Sign(sign))
    }

    /// Reads a string. Its escapes stay as they are.
    fn text(&mut self) -> Parsed<Token<'a>> {
        let mut is_escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == '"' && !is_escaped;
            is_escaped = *c == '\\' && !is_escaped;
            ends
        });
        let Some((end, _)) = end else {
            return Err(Issue::new(self.at, "the string does not end; close it with a double quote"));
        };
        Ok(Token::Text(&self.take(end + 1)[1..end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_lines_and_columns() {
        let found = tokens("permit // a comment\n  (é== \"a\\\"b\\\\\")").expect_err("é has no meaning");
        assert_eq!((found.at, found.what.as_str()), (Position { line: 2, column: 4 }, "the character 'é' has no meaning here"));
        let found = tokens("a1 // x == y\n::\"ä\\\"b\\\\\" 12<=").expect("tokens");
        let at = |line, column| Position { line, column };
        let expected = [
            (Token::Word("a1"), at(1, 1)),
            (Token::Sign("::"), at(2, 1)),
            (Token::Text("ä\\\"b\\\\"), at(2, 3)),
            (Token::Number("12"), at(2, 12)),
            (Token::Sign("<="), at(2, 14)),
            (Token::End, at(2, 16)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_token_is_told_with_the_way_out() {
        let what = |text: &str| tokens(text).expect_err("no token").what;
        assert_eq!(what("a = b"), "a single = is no operator; write ==");
        assert_eq!(what("a & b"), "a single & is no operator; write &&");
        assert_eq!(what("1 % 2"), "the language has no division");
        assert_eq!(what("\"abc\\\""), "the string does not end; close it with a double quote");
    }
}
