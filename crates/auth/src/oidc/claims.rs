//! The claims of a token whose signature is right: whom it is for, when it counts, and who the user is.
//!
//! Spec: RFC 7519, section 4.1; OpenID Connect Core, section 3.1.3.7.

use std::sync::Arc;
use std::time::Duration;

use esker_types::{DurationMillis, Millis, to_millis};
use serde_json::{Map, Value};

use super::fault::TokenFault;
use super::{IssuerOptions, VerifiedUser};

/// The maximum length of a user's name and of a group or role, in bytes.
const MAX_NAME_BYTES: usize = 500;

/// The latest time that a claim may name, in seconds since the Unix epoch: the end of the year 9999.
const MAX_SECONDS: f64 = 253_402_300_799.0;

/// Returns the user of a token for one of the audiences. `now` is in milliseconds since the Unix epoch.
///
/// # Errors
///
/// Returns [`Issuer`](TokenFault::Issuer), [`Audience`](TokenFault::Audience), [`Expired`](TokenFault::Expired),
/// [`NotYet`](TokenFault::NotYet), [`Lifetime`](TokenFault::Lifetime) or [`Name`](TokenFault::Name) for the first claim that does
/// not hold.
pub(super) fn user_of(
    claims: &Map<String, Value>,
    options: &IssuerOptions,
    audiences: &[String],
    now: Millis,
) -> Result<VerifiedUser, TokenFault> {
    if claims.get("iss").and_then(Value::as_str) != Some(options.issuer.as_str()) {
        return Err(TokenFault::Issuer);
    }
    if !is_for(claims.get("aud"), audiences) {
        return Err(TokenFault::Audience);
    }
    let ends_ms = check_times(claims, options, now)?;
    let name = find(claims, &options.name_claim).and_then(Value::as_str).filter(|name| is_name(name));
    let name = name.ok_or_else(|| TokenFault::Name(options.name_claim.clone()))?;
    let mut values: Vec<Arc<str>> = options.claims.iter().flat_map(|path| texts(find(claims, path))).collect();
    values.sort_unstable();
    values.dedup();
    let valid_until_ms = ends_ms.saturating_add(to_millis(options.clock_skew));
    Ok(VerifiedUser { issuer: options.issuer.clone(), name: name.to_owned(), claims: values.into(), ends_ms, valid_until_ms })
}

/// Checks that one of the audiences of a token is one of the server's.
fn is_for(audience: Option<&Value>, own: &[String]) -> bool {
    let is_own = |value: &Value| value.as_str().is_some_and(|text| own.iter().any(|name| name == text));
    match audience {
        Some(Value::Array(all)) => all.iter().any(is_own),
        Some(one) => is_own(one),
        None => false,
    }
}

/// Checks the times of a token. Returns its end.
fn check_times(claims: &Map<String, Value>, options: &IssuerOptions, now: Millis) -> Result<Millis, TokenFault> {
    let skew = to_millis(options.clock_skew);
    let time = |claim: &str, fault: TokenFault| claims.get(claim).map(|value| numeric_date(value).ok_or(fault)).transpose();
    let ends_ms = time("exp", TokenFault::Expired)?.ok_or(TokenFault::Expired)?;
    if now >= ends_ms.saturating_add(skew) {
        return Err(TokenFault::Expired);
    }
    let (issued_ms, begins_ms) = (time("iat", TokenFault::NotYet)?, time("nbf", TokenFault::NotYet)?);
    let latest = now.saturating_add(skew);
    if issued_ms.is_some_and(|issued| issued > latest) || begins_ms.is_some_and(|begins| begins > latest) {
        return Err(TokenFault::NotYet);
    }
    let limit: Option<DurationMillis> = options.max_lifetime.map(to_millis);
    match (limit, issued_ms) {
        (Some(limit), Some(issued)) if ends_ms.saturating_sub(issued) <= limit => Ok(ends_ms),
        (Some(_), _) => Err(TokenFault::Lifetime),
        (None, _) => Ok(ends_ms),
    }
}

/// Reads a time: seconds since the Unix epoch, which may have a fraction. Returns it in milliseconds.
fn numeric_date(value: &Value) -> Option<Millis> {
    let seconds = value.as_f64().filter(|seconds| (0.0..=MAX_SECONDS).contains(seconds))?;
    Some(to_millis(Duration::from_secs_f64(seconds)))
}

/// Finds a claim by its path: names with dots between, such as `realm_access.roles`.
///
/// A name may have dots itself, as `https://example.com/roles` and Kubernetes' `kubernetes.io` have. The shortest name at each
/// level that leads to a claim is taken, but a claim that is named like the whole rest comes first.
fn find<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(found) = claims.get(path) {
        return Some(found);
    }
    path.match_indices('.').find_map(|(at, _)| find(claims.get(&path[..at])?.as_object()?, &path[at + 1..]))
}

/// Returns the texts of a claim that is one text or an array of them. What can't be a name is left out.
fn texts(claim: Option<&Value>) -> Vec<Arc<str>> {
    let values = match claim {
        Some(Value::Array(values)) => values.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    values.iter().filter_map(Value::as_str).filter(|text| is_name(text)).map(Arc::from).collect()
}

/// Checks that a text can be the name of a user, a group or a role.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::options;
    use super::*;

    /// The time of the tests, in seconds since the Unix epoch.
    const NOW: i64 = 1_800_000_000;

    fn check(options: &IssuerOptions, change: impl FnOnce(&mut Value)) -> Result<VerifiedUser, TokenFault> {
        let mut claims = json!({"iss": "https://idp.example", "aud": "esker", "sub": "ann", "iat": NOW, "exp": NOW + 300});
        change(&mut claims);
        user_of(claims.as_object().expect("an object"), options, &options.audiences, NOW * 1000)
    }

    #[test]
    fn issuer_and_audience_are_compared_exactly() {
        let options = IssuerOptions { audiences: vec!["esker".to_owned(), "lake".to_owned()], ..options("https://idp.example") };
        for issuer in [json!("https://idp.example/"), json!("HTTPS://idp.example"), json!(["https://idp.example"]), Value::Null] {
            assert_eq!(check(&options, |c| c["iss"] = issuer.clone()).expect_err("refused"), TokenFault::Issuer, "{issuer}");
        }
        for audience in [json!("esker2"), json!([]), json!(["account", "Esker"]), json!({"esker": 1}), Value::Null] {
            let refused = check(&options, |c| c["aud"] = audience.clone()).expect_err("refused");
            assert_eq!(refused, TokenFault::Audience, "{audience}");
        }
        for audience in [json!("lake"), json!(["account", "esker"])] {
            assert!(check(&options, |c| c["aud"] = audience.clone()).is_ok(), "{audience}");
        }
        let without = check(&options, |c| drop(c.as_object_mut().expect("an object").remove("aud")));
        assert_eq!(without.expect_err("refused"), TokenFault::Audience);
    }

    #[test]
    fn times_hold_to_the_second_with_the_skew_of_clocks() {
        let options = IssuerOptions { clock_skew: Duration::from_secs(60), ..options("https://idp.example") };
        let with = |claim: &str, value: Value| -> Result<(Millis, Millis), TokenFault> {
            let user = check(&options, |c| c[claim] = value)?;
            Ok((user.ends_ms, user.valid_until_ms))
        };
        assert_eq!(with("exp", json!(NOW - 59)), Ok(((NOW - 59) * 1000, (NOW + 1) * 1000)));
        assert_eq!(with("exp", json!(NOW - 60)), Err(TokenFault::Expired));
        assert_eq!(with("exp", json!(NOW as f64 - 59.5)), Ok((NOW * 1000 - 59_500, NOW * 1000 + 500)));
        for claim in ["nbf", "iat"] {
            assert!(with(claim, json!(NOW + 60)).is_ok(), "{claim}");
            assert_eq!(with(claim, json!(NOW + 61)), Err(TokenFault::NotYet), "{claim}");
            assert_eq!(with(claim, json!(NOW.to_string())), Err(TokenFault::NotYet), "{claim} as text");
        }
        for wrong in [json!("9999999999"), Value::Null, json!(-1), json!(1e300), json!([NOW + 300])] {
            assert_eq!(with("exp", wrong.clone()), Err(TokenFault::Expired), "{wrong}");
        }
        let endless = check(&options, |c| drop(c.as_object_mut().expect("an object").remove("exp")));
        assert_eq!(endless.expect_err("refused"), TokenFault::Expired);
    }

    #[test]
    fn a_token_that_is_valid_for_too_long_is_refused() {
        let options = IssuerOptions { max_lifetime: Some(Duration::from_secs(600)), ..options("https://idp.example") };
        assert!(check(&options, |c| c["exp"] = json!(NOW + 600)).is_ok());
        assert_eq!(check(&options, |c| c["exp"] = json!(NOW + 601)).expect_err("refused"), TokenFault::Lifetime);
        let without = check(&options, |c| drop(c.as_object_mut().expect("an object").remove("iat")));
        assert_eq!(without.expect_err("it does not say since when"), TokenFault::Lifetime);
    }

    #[test]
    fn names_groups_and_roles_are_found_by_paths() {
        let paths = ["groups", "realm_access.roles", "https://example.com/roles", "kubernetes.io.namespace", "scp", "missing.x"];
        let claims = paths.map(str::to_owned).to_vec();
        let options = IssuerOptions { name_claim: "who.name".to_owned(), claims, ..options("https://idp.example") };
        let user = check(&options, |c| {
            c["who"] = json!({"name": "Ann Other"});
            c["groups"] = json!(["/readers", "b", 7, "", "b", "a\u{0}b"]);
            c["realm_access"] = json!({"roles": ["admin"]});
            c["https://example.com/roles"] = json!("dotted");
            c["kubernetes.io"] = json!({"namespace": "prod"});
            c["scp"] = json!({"a": "b"});
        });
        let user = user.expect("a user");
        assert_eq!((user.name.as_str(), user.issuer.as_str()), ("Ann Other", "https://idp.example"));
        let values: Vec<&str> = user.claims.iter().map(|value| &**value).collect();
        assert_eq!(values, ["/readers", "admin", "b", "dotted", "prod"]);
        for name in [json!(""), json!("a\nb"), json!(7), json!(["ann"]), json!("x".repeat(MAX_NAME_BYTES + 1))] {
            let refused = check(&options, |c| c["who"] = json!({"name": name}));
            assert_eq!(refused.expect_err("refused"), TokenFault::Name("who.name".to_owned()), "{name}");
        }
        // A claim with the whole name comes first: the issuer decides, not the order of the parts.
        let shadowed = check(&options, |c| {
            c["who.name"] = json!("bob");
            c["who"] = json!({"name": "ann"});
        });
        assert_eq!(shadowed.expect("a user").name, "bob");
    }
}
