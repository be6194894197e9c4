//! Reads statements about access control from their tokens.
//!
//! ```text
//! GRANT  privilege, … ON thing TO   member      GRANT  ROLE role TO   member      SHOW GRANTS [ON thing] [TO member]
//! REVOKE privilege, … ON thing FROM member      REVOKE ROLE role FROM member      SHOW GRANTS OF ROLE role
//! CREATE ROLE [IF NOT EXISTS] role              DROP ROLE [IF EXISTS] role        SHOW ROLES
//!
//! thing   SERVER | WAREHOUSE w | NAMESPACE n | [TABLE] t | VIEW v | FUNCTION f | FUTURE kinds IN container
//! member  ROLE r | CLIENT c | USER 'name@issuer' | CLAIM 'value@issuer'
//! ```
//!
//! `CATALOG` and `SCHEMA` are read as `WAREHOUSE` and `NAMESPACE`. Names are those of other statements: without quotes they are in
//! lower case.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use esker_access::{Member, SecurableKind};

use super::{AccessStatement, Privileges, Thing};
use crate::change::refused;
use crate::dialect::Postgres;
use crate::{QueryError, Result, depth};

/// The words that a statement about access control begins with.
const FIRST: [&str; 5] = ["GRANT", "REVOKE", "SHOW", "CREATE", "DROP"];

/// Reads a statement about access control. Returns `None` for any other statement.
///
/// # Errors
///
/// Returns [`QueryError::Statement`] if the statement begins as one about access control and does not go on as one.
pub(crate) fn parse(sql: &str) -> Result<Option<AccessStatement>> {
    if !FIRST.contains(&first_word(sql).to_ascii_uppercase().as_str()) {
        return Ok(None);
    }
    depth::check_text(sql)?;
    // What can't be split into tokens is reported by the parser of all other statements.
    let Ok(tokens) = Tokenizer::new(&Postgres(&GenericDialect {}), sql).tokenize() else { return Ok(None) };
    let tokens = tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_) | Token::EOF)).collect();
    let mut words = Words { tokens, at: 0 };
    let Some(statement) = statement(&mut words)? else { return Ok(None) };
    words.end()?;
    Ok(Some(statement))
}

/// Returns the first word of a text, after comments.
fn first_word(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    loop {
        let after = match rest.as_bytes() {
            [b'-', b'-', ..] => rest.find('\n').map(|end| &rest[end..]),
            [b'/', b'*', ..] => rest.find("*/").map(|end| &rest[end + 2..]),
            _ => return rest.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default(),
        };
        rest = after.unwrap_or_default().trim_start();
    }
}

/// Reads a statement from its first word on; `None` if it is not about access control.
fn statement(words: &mut Words) -> Result<Option<AccessStatement>> {
    let found = if words.take_all(&["GRANT", "ROLE"]) {
        let role = words.name("a role")?;
        words.expect("TO")?;
        AccessStatement::AddMember { role, member: words.member()? }
    } else if words.take_all(&["REVOKE", "ROLE"]) {
        let role = words.name("a role")?;
        words.expect("FROM")?;
        AccessStatement::RemoveMember { role, member: words.member()? }
    } else if words.take_all(&["GRANT"]) {
        AccessStatement::Grant(words.privileges("TO")?)
    } else if words.take_all(&["REVOKE"]) {
        AccessStatement::Revoke(words.privileges("FROM")?)
    } else if words.take_all(&["CREATE", "ROLE"]) {
        let if_not_exists = words.take_all(&["IF", "NOT", "EXISTS"]);
        AccessStatement::CreateRole { role: words.name("a role")?, if_not_exists }
    } else if words.take_all(&["DROP", "ROLE"]) {
        let if_exists = words.take_all(&["IF", "EXISTS"]);
        AccessStatement::DropRole { role: words.name("a role")?, if_exists }
    } else if words.take_all(&["SHOW", "ROLES"]) {
        AccessStatement::ShowRoles
    } else if words.take_all(&["SHOW", "GRANTS", "OF", "ROLE"]) {
        AccessStatement::ShowMembers { role: words.name("a role")? }
    } else if words.take_all(&["SHOW", "GRANTS"]) {
        let on = if words.take_all(&["ON"]) { Some(words.thing()?) } else { None };
        let to = if words.take_all(&["TO"]) { Some(words.member()?) } else { None };
        AccessStatement::ShowGrants { on, to }
    } else {
        return Ok(None);
    };
    Ok(Some(found))
}

/// The tokens of a statement without blanks and comments, and the place of the next one.
struct Words {
    tokens: Vec<Token>,
    at: usize,
}

impl Words {
    /// Returns a token that comes `ahead` of the next one.
    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead)
    }

    /// Returns a word without quotes, in upper case.
    fn word(&self, ahead: usize) -> Option<String> {
        match self.peek(ahead) {
            Some(Token::Word(word)) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
            _ => None,
        }
    }

    /// Takes words if they are the next ones.
    fn take_all(&mut self, words: &[&str]) -> bool {
        let are_next = words.iter().enumerate().all(|(ahead, word)| self.word(ahead).as_deref() == Some(*word));
        if are_next {
            self.at += words.len();
        }
        are_next
    }

    /// Builds the error about the next token.
    fn wrong(&self, expected: &str) -> QueryError {
        let found = self.peek(0).map_or_else(|| "the end".to_owned(), |token| format!("{:?}", token.to_string()));
        refused(format!(
            "expected {expected}, found {found}; a name with other characters than letters, digits and _ needs quotes"
        ))
    }

    /// Takes a word, or fails.
    fn expect(&mut self, word: &str) -> Result<()> {
        if self.take_all(&[word]) { Ok(()) } else { Err(self.wrong(word)) }
    }

    /// Takes a name: a word, or a text in quotes. Without quotes it is in lower case.
    fn name(&mut self, what: &str) -> Result<String> {
        let name = match self.peek(0) {
            Some(Token::Word(word)) if word.quote_style.is_some() => word.value.clone(),
            Some(Token::Word(word)) => word.value.to_ascii_lowercase(),
            Some(Token::SingleQuotedString(text)) => text.clone(),
            _ => return Err(self.wrong(&format!("the name of {what}"))),
        };
        self.at += 1;
        Ok(name)
    }

    /// Takes a name whose parts are joined by dots.
    fn dotted(&mut self, what: &str) -> Result<Vec<String>> {
        let mut parts = vec![self.name(what)?];
        while self.peek(0) == Some(&Token::Period) {
            self.at += 1;
            parts.push(self.name(what)?);
        }
        Ok(parts)
    }

    /// Takes the privileges, the thing and the member of a `GRANT` or `REVOKE`. `before_member` is the word before the member.
    fn privileges(&mut self, before_member: &str) -> Result<Privileges> {
        let mut privileges = vec![self.privilege()?];
        while self.peek(0) == Some(&Token::Comma) {
            self.at += 1;
            privileges.push(self.privilege()?);
        }
        self.expect("ON")?;
        let future = if self.take_all(&["FUTURE"]) { Some(self.future_kind()?) } else { None };
        let on = self.thing()?;
        self.expect(before_member)?;
        let member = self.member()?;
        if self.word(0).as_deref() == Some("WITH") {
            return Err(refused("WITH GRANT OPTION is not served: grant MANAGE_GRANTS on the thing as well"));
        }
        Ok(Privileges { privileges: privileges.join(","), on, future, member })
    }

    /// Takes the name of a privilege or a bundle. Several words are one name: `CREATE TABLE` is `CREATE_TABLE`.
    fn privilege(&mut self) -> Result<String> {
        let mut words = Vec::new();
        while let Some(word) = self.word(0).filter(|word| word != "ON") {
            words.push(word);
            self.at += 1;
        }
        match words.join("_").as_str() {
            "" => Err(self.wrong("the name of a privilege")),
            "ALL_PRIVILEGES" => Ok("ALL".to_owned()),
            name => Ok(name.to_owned()),
        }
    }

    /// Takes the kind of future things, and the word that follows it.
    fn future_kind(&mut self) -> Result<SecurableKind> {
        let kind = match self.word(0).as_deref() {
            Some("TABLES") => SecurableKind::Table,
            Some("VIEWS") => SecurableKind::View,
            Some("FUNCTIONS") => SecurableKind::Function,
            Some("NAMESPACES" | "SCHEMAS") => SecurableKind::Namespace,
            _ => return Err(self.wrong("TABLES, VIEWS, FUNCTIONS or NAMESPACES")),
        };
        self.at += 1;
        self.expect("IN")?;
        Ok(kind)
    }

    /// Takes a thing. Without a kind it is a table.
    fn thing(&mut self) -> Result<Thing> {
        // A table may have the name of a kind: what is followed by a dot is a name.
        let is_kind = self.peek(1) != Some(&Token::Period);
        let kind = match self.word(0).filter(|_| is_kind).as_deref() {
            Some("SERVER") => {
                self.at += 1;
                return Ok(Thing { kind: SecurableKind::Server, parts: Vec::new() });
            }
            Some("ALL") => {
                let what = "ALL … IN is not served: a grant on a namespace or warehouse counts for everything in it";
                return Err(refused(what));
            }
            Some("WAREHOUSE" | "CATALOG") => Some(SecurableKind::Warehouse),
            Some("NAMESPACE" | "SCHEMA") => Some(SecurableKind::Namespace),
            Some("TABLE") => Some(SecurableKind::Table),
            Some("VIEW") => Some(SecurableKind::View),
            Some("FUNCTION") => Some(SecurableKind::Function),
            _ => None,
        };
        self.at += usize::from(kind.is_some());
        let kind = kind.unwrap_or(SecurableKind::Table);
        let parts = self.dotted(&format!("a {kind}"))?;
        Ok(Thing { kind, parts })
    }

    /// Takes a member of roles, which is a holder of grants too.
    fn member(&mut self) -> Result<Member> {
        let kind = match self.word(0).as_deref() {
            Some("ROLE") => "role",
            Some("CLIENT") => "client",
            Some("USER") => "user",
            Some("CLAIM") => "claim",
            _ => return Err(self.wrong("ROLE, CLIENT, USER or CLAIM and a name")),
        };
        self.at += 1;
        let name = self.name(&format!("a {kind}"))?;
        format!("{kind}:{name}").parse::<Member>().map_err(|e| refused(e.to_string()))
    }

    /// Checks that nothing follows but semicolons.
    fn end(&self) -> Result<()> {
        match self.tokens[self.at..].iter().all(|token| *token == Token::SemiColon) {
            true => Ok(()),
            false => Err(self.wrong("the end of the statement")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sql: &str) -> AccessStatement {
        parse(sql).unwrap_or_else(|e| panic!("{sql}: {e}")).unwrap_or_else(|| panic!("{sql}: none"))
    }

    fn error(sql: &str) -> String {
        parse(sql).expect_err(sql).to_string()
    }

    fn thing(kind: SecurableKind, parts: &[&str]) -> Thing {
        Thing { kind, parts: parts.iter().map(|part| (*part).to_owned()).collect() }
    }

    fn granted(privileges: &str, on: Thing, future: Option<SecurableKind>) -> AccessStatement {
        AccessStatement::Grant(Privileges { privileges: privileges.to_owned(), on, future, member: Member::role("readers") })
    }

    #[test]
    fn grants_name_every_kind_of_thing() {
        use SecurableKind::{Function, Namespace, Server, Table, View, Warehouse};
        let things: [(&str, SecurableKind, &[&str]); 10] = [
            ("SERVER", Server, &[]),
            ("WAREHOUSE lake", Warehouse, &["lake"]),
            ("CATALOG \"My lake\"", Warehouse, &["My lake"]),
            ("NAMESPACE lake.Raw.\"Crm\"", Namespace, &["lake", "raw", "Crm"]),
            ("SCHEMA raw", Namespace, &["raw"]),
            ("TABLE raw.orders", Table, &["raw", "orders"]),
            ("raw.orders", Table, &["raw", "orders"]),
            ("table.view", Table, &["table", "view"]),
            ("VIEW v", View, &["v"]),
            ("FUNCTION raw.f", Function, &["raw", "f"]),
        ];
        for (text, kind, parts) in things {
            let sql = format!("grant select, read_data ON {text} TO ROLE Readers");
            assert_eq!(read(&sql), granted("SELECT,READ_DATA", thing(kind, parts), None), "{sql}");
        }
        let future = granted("ALL", thing(Namespace, &["raw"]), Some(Table));
        assert_eq!(read("GRANT ALL PRIVILEGES ON FUTURE TABLES IN SCHEMA raw TO ROLE readers;"), future);
        let future = granted("CREATE_TABLE", thing(Server, &[]), Some(Namespace));
        assert_eq!(read("-- x\n/* y */ GRANT CREATE TABLE ON FUTURE NAMESPACES IN SERVER TO ROLE readers"), future);
    }

    #[test]
    fn members_are_roles_clients_users_and_claims() {
        let of = |issuer: &str, name: &str| (issuer.to_owned(), name.to_owned());
        let (issuer, name) = of("https://id.example", "ann@x");
        for (text, member) in [
            ("ROLE readers", Member::role("readers")),
            ("ROLE \"esker:legacy\"", Member::role("esker:legacy")),
            ("CLIENT 'spark-1'", Member::client("spark-1")),
            ("USER \"ann@x@https://id.example\"", Member::User { issuer: issuer.clone(), name }),
            ("CLAIM 'Ops@https://id.example'", Member::Claim { issuer, value: "Ops".to_owned() }),
        ] {
            let add = AccessStatement::AddMember { role: "r".to_owned(), member: member.clone() };
            assert_eq!(read(&format!("GRANT ROLE r TO {text}")), add);
            let remove = AccessStatement::RemoveMember { role: "r".to_owned(), member: member.clone() };
            assert_eq!(read(&format!("REVOKE ROLE r FROM {text}")), remove);
            let on = Some(thing(SecurableKind::Table, &["t"]));
            assert_eq!(read(&format!("SHOW GRANTS ON t TO {text}")), AccessStatement::ShowGrants { on, to: Some(member) });
        }
    }

    #[test]
    fn roles_are_created_dropped_and_shown() {
        let role = || "R 1".to_owned();
        let created = |if_not_exists| AccessStatement::CreateRole { role: role(), if_not_exists };
        assert_eq!(read("CREATE ROLE \"R 1\""), created(false));
        assert_eq!(read("create role if not exists \"R 1\""), created(true));
        assert_eq!(read("DROP ROLE \"R 1\""), AccessStatement::DropRole { role: role(), if_exists: false });
        assert_eq!(read("DROP ROLE IF EXISTS \"R 1\""), AccessStatement::DropRole { role: role(), if_exists: true });
        assert_eq!(read("SHOW GRANTS OF ROLE \"R 1\""), AccessStatement::ShowMembers { role: role() });
        assert_eq!(read("show roles"), AccessStatement::ShowRoles);
        assert_eq!(read("SHOW GRANTS"), AccessStatement::ShowGrants { on: None, to: None });
        assert!(read("REVOKE x ON t FROM CLIENT c").changes_rules() && !read("SHOW ROLES").changes_rules());
    }

    #[test]
    fn other_statements_are_left_to_their_parser() {
        for sql in
            ["SELECT 1", "SHOW TABLES", "CREATE TABLE role AS SELECT 1", "DROP TABLE t", "", "-- GRANT", "granted", "'GRANT"]
        {
            assert_eq!(parse(sql).expect(sql), None, "{sql}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_the_way_out() {
        for (sql, words) in [
            ("GRANT SELECT ON TABLE t TO bi", "expected ROLE, CLIENT, USER or CLAIM and a name, found \"bi\""),
            ("GRANT SELECT ON TABLE t FROM ROLE r", "expected TO, found \"FROM\""),
            ("GRANT SELECT TO ROLE r", "expected ON, found the end"),
            ("GRANT ON t TO ROLE r", "the name of a privilege"),
            ("GRANT SELECT ON TABLE t TO CLIENT spark-1", "needs quotes"),
            ("GRANT SELECT ON TABLE t TO ROLE r WITH GRANT OPTION", "MANAGE_GRANTS"),
            ("GRANT SELECT ON ALL TABLES IN SCHEMA n TO ROLE r", "counts for everything in it"),
            ("GRANT SELECT ON FUTURE WAREHOUSES IN SERVER TO ROLE r", "expected TABLES, VIEWS"),
            ("GRANT ROLE r TO USER 'ann'", "the issuer is missing"),
            ("SHOW GRANTS FOR ROLE r", "expected the end of the statement, found \"FOR\""),
            ("CREATE ROLE r; SELECT 1", "expected the end of the statement"),
            ("DROP ROLE", "the name of a role, found the end"),
        ] {
            assert!(error(sql).contains(words), "{sql}: {}", error(sql));
        }
    }
}
