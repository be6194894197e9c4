//! Tests of the language: what each operator gives, and what is refused where.

use super::ast::Policy;
use super::check::check;
use super::check_policy;
use super::eval::{applies, applies_at_best, is_same, truth};
use super::parser::parse;
use super::request::{Names, PrincipalEntity, Request};
use super::value::{EvalError, Evaluated};
use crate::samples::table;
use crate::{Identity, Member, Privilege, PrivilegeSet, RequestFacts, ResourcePath, RightsError};

/// A user with the role `readers` and the claim `ops`.
fn ann() -> PrincipalEntity {
    let identity = Identity::User { issuer: "https://id".into(), name: "ann".into(), claims: vec!["ops".into()] };
    let members = [
        Member::User { issuer: "https://id".into(), name: "ann".into() },
        Member::Claim { issuer: "https://id".into(), value: "ops".into() },
        Member::role("readers"),
        Member::role(crate::EVERYONE),
    ];
    PrincipalEntity::new(&identity, &members.iter().collect::<Vec<_>>())
}

/// The facts of a request over TLS, without an engine.
fn facts() -> RequestFacts {
    let source_ip = Some("10.1.2.3".parse().expect("an address"));
    RequestFacts { operation: "loadTable".into(), source_ip, engine: None, is_tls: true }
}

/// Calls a function with the request to read the table `lake.raw.c\.rm.orders`.
fn with_request<T>(facts: Option<&RequestFacts>, call: impl FnOnce(&Request<'_>) -> T) -> T {
    let path = ResourcePath::warehouse(1, "lake").namespace("raw\u{1f}c.rm").table(table(1), "orders");
    let (principal, names) = (ann(), Names::new(&path));
    call(&Request { principal: &principal, names: &names, facts, action: "READ_DATA" })
}

/// Reads a policy with an expression as its condition.
fn policy(expr: &str) -> Policy {
    let text = format!("permit(principal, action, resource) when {{ {expr} }};");
    parse(&text).unwrap_or_else(|issue| panic!("{expr}: {}", issue.what)).remove(0)
}

/// Evaluates an expression, whether or not its types are right.
fn evaluate(expr: &str) -> Evaluated<bool> {
    with_request(Some(&facts()), |request| truth(&policy(expr).conditions[0].expr, request))
}

/// Evaluates an expression whose types are right.
fn value(expr: &str) -> Evaluated<bool> {
    check(&policy(expr)).unwrap_or_else(|issue| panic!("{expr}: {}", issue.what));
    evaluate(expr)
}

/// Returns the reason why a text is refused.
fn refusal(text: &str) -> String {
    check_policy("p", text).expect_err(text).to_string()
}

/// Returns the reason why an expression is refused, without its place.
fn wrong(expr: &str) -> String {
    let RightsError::BadPolicy { what, .. } =
        check_policy("p", &format!("permit(principal, action, resource) when {{ {expr} }};")).expect_err(expr)
    else {
        panic!("{expr}");
    };
    what
}

#[test]
fn operators_give_what_the_language_says() {
    let right = [
        "true",
        "!false && !!true",
        "true || 1 + 9223372036854775807 == 0",
        "if 1 < 2 then true else 1 + 9223372036854775807 == 0",
        "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 10 - 2 - 3 == 5",
        "-1 < 0 && - -1 == 1 && 1 - -1 == 2 && -9223372036854775808 < 0",
        "1 <= 1 && 2 > 1 && 2 >= 2 && 1 != 2",
        "true || false && false",
        "!(1 == 2) && !(true && false)",
        "\"a\\u{e9}\" == \"aé\" && \"a\" != \"A\"",
        "[1, 2, 2] == [2, 1] && [1] != [1, 2] && [[1], [2]] == [[2], [1]]",
        "{a: 1, \"b c\": true} == {\"b c\": true, a: 1} && {a: 1}.a == 1 && {\"b c\": 2}[\"b c\"] == 2",
        "{a: 1} has a && !({a: 1} has b) && {a: {b: 1}}.a.b == 1",
        "[1, 2].contains(2) && ![1, 2].contains(3) && [1, 1 + 1].contains(2)",
        "[1, 2].containsAll([2]) && [1].containsAll([]) && ![1].containsAll([1, 2])",
        "[1, 2].containsAny([2, 3]) && ![1].containsAny([]) && ![1].containsAny([2])",
        "[].isEmpty() && ![1].isEmpty()",
        "\"raw_1\" like \"raw*\" && \"a*b\" like \"a\\*b\" && !(\"axb\" like \"a\\*b\")",
    ];
    for expr in right {
        assert_eq!(value(expr), Ok(true), "{expr}");
    }
}

#[test]
fn a_request_is_told_by_its_parts() {
    let right = [
        "principal == Esker::User::\"user https://id/ann\" && principal != Esker::Client::\"ann\"",
        "principal in Esker::Role::\"readers\" && principal in Esker::Claim::\"claim https://id/ops\"",
        "principal in [Esker::Role::\"x\", Esker::Role::\"readers\"] && !(principal in Esker::Role::\"x\")",
        "principal in principal && !(principal in [])",
        "principal is Esker::User && principal.issuer == \"https://id\" && principal.subject == \"ann\"",
        "principal is Esker::User in Esker::Role::\"readers\" && !(principal is Esker::Client)",
        "principal has issuer && principal[\"subject\"] like \"a*\"",
        "action == Esker::Action::\"READ_DATA\" && action in Esker::Action::\"SELECT\"",
        "action in [Esker::Action::\"DROP\", Esker::Action::\"READ_DATA\"] && !(action in Esker::Action::\"INSERT\")",
        "Esker::Action::\"LIST\" in Esker::Action::\"SELECT\" && action is Esker::Action",
        "resource is Esker::Table && resource == Esker::Table::\"lake.raw.\\\"c.rm\\\".orders\"",
        "resource in Esker::Namespace::\"lake.raw\" && resource in Esker::Namespace::\"lake.raw.\\\"c.rm\\\"\"",
        "resource in Esker::Warehouse::\"lake\" && resource in Esker::Server::\"server\"",
        "!(resource in Esker::Warehouse::\"lak\") && !(resource in Esker::Namespace::\"lake.ra\")",
        "!(resource == Esker::View::\"lake.raw.\\\"c.rm\\\".orders\") && !(resource in Esker::Namespace::\"lake.raw.orders\")",
        "Esker::Namespace::\"lake.raw\" in Esker::Warehouse::\"lake\" && !(Esker::Namespace::\"lake.x\" in resource)",
        "resource has name && resource.name == \"orders\" && resource.warehouse == \"lake\"",
        "resource has namespace && resource.namespace == \"raw.\\\"c.rm\\\"\"",
        "context.tls && context.operation == \"loadTable\" && !(context has engine)",
        "context has ip && context.ip.isInRange(ip(\"10.0.0.0/8\")) && context.ip == ip(\"10.1.2.3\")",
        "context has ip && context.ip.isIpv4() && !context.ip.isIpv6() && !context.ip.isLoopback()",
        "ip(\"ff02::1\").isMulticast() && ip(\"::1\").isLoopback() && ip(\"2001:db8::1\").isInRange(ip(\"2001:db8::/32\"))",
    ];
    for expr in right {
        assert_eq!(value(expr), Ok(true), "{expr}");
    }
}

#[test]
fn a_number_out_of_range_is_an_error() {
    let max = i64::MAX;
    for expr in [
        format!("{max} + 1 > 0"),
        format!("-{max} - 2 > 0"),
        format!("{max} * 2 > 0"),
        "- -9223372036854775808 > 0".to_owned(),
        format!("[{max} + 1].isEmpty()"),
        format!("true && {max} + 1 == 0"),
    ] {
        assert_eq!(value(&expr), Err(EvalError::Overflow), "{expr}");
    }
    assert!(wrong("9223372036854775808 > 0").contains("out of the range"));
}

#[test]
fn types_and_attributes_that_no_check_let_pass_are_errors() {
    assert_eq!(evaluate("1"), Err(EvalError::WrongType));
    assert_eq!(evaluate("1 < \"a\""), Err(EvalError::WrongType));
    assert_eq!(evaluate("1 == \"a\""), Ok(false), "equality has no types");
    assert_eq!(evaluate("true && 1"), Err(EvalError::WrongType));
    assert_eq!(evaluate("principal in 1"), Err(EvalError::WrongType));
    assert_eq!(evaluate("context.engine == \"trino\""), Err(EvalError::NoAttribute));
    assert_eq!(evaluate("resource.issuer == \"a\""), Err(EvalError::NoAttribute));
    assert_eq!(evaluate("Esker::User::\"user https://id/bob\".subject == \"bob\""), Err(EvalError::NoAttribute));
}

#[test]
fn without_facts_a_condition_that_reads_one_fails() {
    for (expr, expected) in [
        ("context.tls", Err(EvalError::NoFacts)),
        ("context has ip", Err(EvalError::NoFacts)),
        ("principal is Esker::Client && context.tls", Ok(false)),
        ("principal is Esker::User || context.tls", Ok(true)),
    ] {
        let policy = policy(expr);
        let found = with_request(None, |request| truth(&policy.conditions[0].expr, request));
        assert_eq!(found, expected, "{expr}");
    }
}

#[test]
fn an_error_is_met_by_who_forbids_and_not_by_who_permits() {
    let applying = |text: &str| with_request(None, |request| applies(&parse(text).expect("a policy")[0], request));
    for (conditions, permits, forbids) in [
        ("", true, true),
        ("when { true } unless { false }", true, true),
        ("when { true } unless { true }", false, false),
        ("when { context.tls }", false, true),
        ("unless { context.tls }", false, true),
        ("when { false } when { context.tls }", false, false),
        ("when { context.tls } when { false }", false, true),
    ] {
        assert_eq!(applying(&format!("permit(principal, action, resource) {conditions};")), permits, "permit {conditions}");
        assert_eq!(applying(&format!("forbid(principal, action, resource) {conditions};")), forbids, "forbid {conditions}");
    }
}

#[test]
fn a_condition_is_the_same_on_two_resources_if_they_decide_nothing_in_it() {
    let lake = ResourcePath::warehouse(1, "lake");
    let (orders, others) = (lake.namespace("raw").table(table(1), "orders"), lake.namespace("open").table(table(1), "others"));
    let (principal, one, other) = (ann(), Names::new(&orders), Names::new(&others));
    for (expr, expected) in [
        ("context.tls", true),
        ("context has ip && context.ip.isInRange(ip(\"10.0.0.0/8\"))", true),
        ("principal in Esker::Role::\"readers\" && !context.tls", true),
        ("context.tls || resource.namespace == \"none\"", true),
        ("context.tls && resource.name == \"orders\"", false),
        ("if context.tls then resource.name == \"orders\" else false", false),
        ("context.operation == resource.name", false),
        ("[resource.name].contains(context.operation)", false),
        ("resource in Esker::Namespace::\"lake.raw\"", false),
        ("resource in Esker::Warehouse::\"lake\"", true),
    ] {
        let policy = policy(expr);
        let request = |names| Request { principal: &principal, names, facts: None, action: "READ_DATA" };
        assert_eq!(is_same(&policy.conditions[0].expr, &request(&one), &request(&other)), expected, "{expr}");
    }
}

#[test]
fn at_best_a_condition_that_reads_facts_permits_and_does_not_forbid() {
    let applying = |text: &str| with_request(None, |request| applies_at_best(&parse(text).expect("a policy")[0], request));
    for (conditions, permits, forbids) in [
        ("", true, true),
        ("when { false }", false, false),
        ("when { context.tls }", true, false),
        ("unless { context has ip }", true, false),
        ("when { principal is Esker::Client && context.tls }", false, false),
        ("when { 9223372036854775807 + 1 == 0 }", false, true),
    ] {
        assert_eq!(applying(&format!("permit(principal, action, resource) {conditions};")), permits, "permit {conditions}");
        assert_eq!(applying(&format!("forbid(principal, action, resource) {conditions};")), forbids, "forbid {conditions}");
    }
}

#[test]
fn types_are_checked_for_every_principal_and_resource_of_the_scope() {
    for text in [
        "permit(principal is Esker::User, action, resource) when { principal.issuer == \"x\" };",
        "permit(principal in Esker::Claim::\"claim i/x\", action, resource) when { principal.issuer == \"x\" };",
        "permit(principal, action, resource is Esker::Table) when { resource.namespace like \"raw*\" };",
        "permit(principal, action, resource) when { resource has namespace && resource.namespace like \"raw*\" };",
        "permit(principal, action, resource) unless { principal is Esker::User } when { !(principal has issuer) };",
        "permit(principal, action, resource) when { if principal is Esker::User then principal.subject == \"a\" else true };",
        "permit(principal, action, resource) when { context has ip } when { context.ip.isIpv4() };",
        "permit(principal, action, resource) when { (context has ip && true) && context.ip.isIpv4() };",
        "permit(principal, action, resource) when { if context has ip then context.ip.isIpv4() else false };",
        "forbid(principal, action, resource) unless { context has engine && [\"trino\", \"spark\"].contains(context.engine) };",
    ] {
        assert_eq!(check_policy("p", text), Ok(()), "{text}");
    }
    assert!(wrong("principal.issuer == \"x\"").starts_with("Esker::Client has no attribute \"issuer\": it has none"));
    assert!(wrong("resource.name == \"x\"").starts_with("Esker::Server has no attribute \"name\""));
    assert_eq!(wrong("context.ip.isIpv4()"), "a request may lack context.ip; write context has ip && before");
    for expr in [
        "context has ip || context.ip.isIpv4()",
        "!(context has ip) && context.ip.isIpv4()",
        "(context has ip || context.tls) && context.ip.isIpv4()",
        "context has engine && context.ip.isIpv4()",
    ] {
        assert!(wrong(expr).starts_with("a request may lack context.ip"), "{expr}");
    }
    let unless = "permit(principal, action, resource) unless { context has ip } when { context.ip.isIpv4() };";
    assert!(refusal(unless).contains("may lack context.ip"));
}

#[test]
fn what_the_schema_does_not_have_is_refused_with_what_it_has() {
    for (expr, part) in [
        ("context.colour == 1", "the context has no \"colour\"; it has ip, tls, operation, engine"),
        ("context has colour", "the context has no \"colour\""),
        ("resource has colour", "no entity has an attribute \"colour\"; the attributes are issuer, subject, name"),
        ("principal == User::\"x\"", "there is no type User; the types are Esker::Client, Esker::User"),
        ("principal == Esker::User::\"ann\"", "no Esker::User can be \"ann\": write \"user ISSUER/NAME\""),
        ("action == Esker::Action::\"read\"", "the actions are USE, LIST"),
        ("resource == Esker::Table::\"lake.t\"", "write \"warehouse.namespace.name\""),
        ("\"a\".size() == 1", "there is no method \"size\"; the methods are contains, containsAll"),
        ("decimal(\"1.0\") == 1", "there is no function \"decimal\"; there is ip alone"),
        ("ip(\"10.0.0\").isIpv4()", "\"10.0.0\" is no address or range"),
        ("subject == 1", "\"subject\" is no variable; there are principal, action, resource and context"),
        ("1", "a boolean is needed here, but this is an integer"),
        ("1 == \"a\"", "an integer and a string can't be compared"),
        ("\"a\" < \"b\"", "an integer is needed here, but this is a string"),
        ("[1, \"a\"].isEmpty()", "the set has values of several types"),
        ("[1].contains(\"a\")", "the method contains of a set of an integer can't be called with a string"),
        ("[1].contains()", "contains has 1 arguments, but 0 are given"),
        ("context.tls.isIpv4()", "a boolean has no method isIpv4"),
        ("if true then 1 else 2", "a boolean is needed here"),
        ("(if context.tls then 1 else \"a\") == 1", "then gives an integer, but else gives a string"),
        ("1 in principal", "an entity is needed here, but this is an integer"),
        ("principal in 1", "an entity or a set of entities is needed here"),
        ("1 like \"a\"", "a string is needed here, but this is an integer"),
        ("{a: 1}.b == 1", "the record has no attribute \"b\""),
        ("{a: 1, a: 2}.a == 1", "the record has the attribute a twice"),
        ("1 < 2 < 3", "comparisons have two sides"),
        ("!!!!!true", "there are more than 4 ! before an operand"),
        ("resource has name.x", "nothing has attributes below name"),
        ("action == Esker::Action::\"SELECT\"", "a request is never about a group of actions; write action in"),
        ("Esker::Role::\"r\" == principal", "the principal can't be Esker::Role in this way: its type is one of Esker::Client"),
        ("principal is Esker::Role", "a principal is in roles and claims"),
        ("principal in Esker::Table::\"lake.a.t\"", "the principal can't be Esker::Table in this way"),
        ("resource in [Esker::Role::\"r\"] || resource != Esker::Role::\"r\"", "the resource can't be Esker::Role"),
        ("[context].isEmpty()", "the context is no value; name one of its attributes"),
        ("context == context", "the context and the context can't be compared"),
        ("true && if true then true else true", "put parentheses around if"),
        ("principal.in == 1", "\"in\" is a word of the language; write [\"in\"] for the attribute"),
        ("\"\\q\" == \"q\"", "there is no escape \\q"),
    ] {
        assert!(wrong(expr).contains(part), "{expr}: {}", wrong(expr));
    }
}

#[test]
fn a_refusal_tells_the_line_and_the_column() {
    let text = "// é\npermit(principal, action,\n  resource) when { \"é\" == resource.nme };";
    let start = "the policy p can't be used: line 3, column 27: Esker::Server has no attribute \"nme\"";
    assert!(refusal(text).starts_with(start), "{}", refusal(text));
    let unless = "the policy p can't be used: line 1, column 37: expected when, unless or \";\", found \"given\"";
    assert_eq!(refusal("permit(principal, action, resource) given { true };"), unless);
    assert_eq!(refusal(""), "the policy p can't be used: line 1, column 1: expected permit or forbid, found the end of the text");
}

#[test]
fn scopes_name_what_they_can_hold_for() {
    for (text, part) in [
        ("permit(principal == Esker::Role::\"r\", action, resource);", "for an Esker::Role write principal in"),
        ("permit(principal is Esker::Table, action, resource);", "the principal can't be Esker::Table in this way"),
        ("permit(principal, action, resource in Esker::Role::\"r\");", "the resource can't be Esker::Role"),
        ("permit(principal is Esker::User in Esker::Client::\"c\", action, resource);", "can't be Esker::Client"),
        ("permit(principal, action, resource is Esker::Server in Esker::Warehouse::\"l\");", "can't be Esker::Warehouse"),
        ("permit(principal == ?principal, action, resource);", "templates are no part of the language"),
        ("permit(principal, action == Esker::Action::\"SELECT\", resource);", "SELECT is a group of actions; write action in"),
        ("permit(principal, action in [], resource);", "the list names no action"),
        ("permit(principal, action == Esker::Role::\"LIST\", resource);", "Esker::Role is no action"),
        ("permit(principal, resource, action);", "expected action, found \"resource\""),
        ("allow(principal, action, resource);", "a policy begins with permit or forbid, not with \"allow\""),
        ("@id(\"a\") @id(\"b\") permit(principal, action, resource);", "the policy has the annotation @id twice"),
    ] {
        assert!(refusal(text).contains(part), "{text}: {}", refusal(text));
    }
    let text = "@id(\"x\") @note permit(principal is Esker::User in Esker::Role::\"r\", action in [Esker::Action::\"SELECT\", \
                Esker::Action::\"DROP\",], resource is Esker::Table in Esker::Namespace::\"lake.raw\",);";
    let policy = parse(text).expect("a policy").remove(0);
    let actions = [Privilege::List, Privilege::ReadMetadata, Privilege::ReadData, Privilege::Drop];
    assert_eq!((policy.id.as_deref(), policy.actions), (Some("x"), PrivilegeSet::of(&actions)));
}

#[test]
fn texts_and_expressions_are_bounded() {
    let long = format!("// {}\npermit(principal, action, resource);", "x".repeat(64 * 1024));
    assert!(refusal(&long).contains("the text has more than 65536 bytes"));
    let nested = |levels: usize| format!("{}true{}", "(".repeat(levels), ")".repeat(levels));
    assert_eq!(value(&nested(60)), Ok(true));
    let deep = "the expression has more than 64 levels";
    assert!(wrong(&nested(64)).starts_with(deep));
    assert!(wrong(&format!("{}true{}", "[".repeat(70), "]".repeat(70))).starts_with(deep));
    assert!(wrong(&format!("{{a: 1}}{} == 1", ".a".repeat(70))).starts_with(deep));
    assert!(wrong(&"if true then true else ".repeat(2000)).starts_with(deep));
    // Chains are flat.
    assert_eq!(value(&["true"; 5000].join(" && ")), Ok(true));
    assert_eq!(value(&format!("{} == 5000", ["1"; 5000].join(" + "))), Ok(true));
    assert!(wrong(&format!("{}1", "{a: ".repeat(70))).starts_with(deep));
}

#[test]
fn sets_in_sets_are_compared_in_a_time_that_grows_with_their_size() {
    // With a search of each value in the other set, the time doubles with each level, and this never ends.
    let nested = |inner: &str| format!("{}{inner}{}", "[".repeat(58), "]".repeat(58));
    for inner in ["1", "1 + 0", "context.operation"] {
        assert_eq!(value(&format!("{0} == {0} && {0}.containsAll({0})", nested(inner))), Ok(true), "{inner}");
    }
    assert_eq!(value(&format!("{} == {}", nested("1"), nested("2 - 1"))), Ok(true));
    assert_eq!(value(&format!("{} == {}", nested("1"), nested("2"))), Ok(false));
    assert_eq!(value("[[1, 2], [2 - 1], []] == [[], [1], [2, 3 - 2], [1]] && ![[1]].contains([2 - 2])"), Ok(true));
}

#[test]
fn a_text_that_is_cut_or_changed_anywhere_is_read_or_refused() {
    let text = "@id(\"é\\u{e9}\") forbid(principal is Esker::User, action in [Esker::Action::\"LIST\"], resource) // é\n\
                when { [-1, 2].contains(1 * -2) && {\"a\": resource has name}[\"a\"] } \
                unless { context has ip && context.ip.isInRange(ip(\"10.0.0.0/8\")) || principal.subject like \"a\\*\" };";
    assert_eq!(check_policy("p", text), Ok(()));
    for (at, c) in text.char_indices() {
        assert!(check_policy("p", &text[..at]).is_err(), "{}", &text[..at]);
        let after = &text[at + c.len_utf8()..];
        for other in ["", "\"", "\\", "é", "9", "(", "-", "{", "\u{0}"] {
            // Many of them are right. What counts is that none ends in a panic.
            _ = check_policy("p", &format!("{}{other}{after}", &text[..at]));
        }
    }
}
