//! One policy, decided for one request: what a comparison with another engine of the language asks.
//!
//! Rules ask for the sum of all policies, and say nothing about one that does not apply. The workspace `oracle/` compares the
//! answers here with those of the crate `cedar-policy`. Start reading at [`evaluate_policy`].

use super::compile;
use crate::{Identity, Member, PolicyQuestion, PolicyRow, Privilege, PrivilegeSet, RequestFacts, ResourcePath, Result};

/// The answer of a policy to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyAnswer {
    /// The policy applies: the request is in its scope, and its conditions are met.
    Satisfied,
    /// The policy does not apply.
    NotSatisfied,
    /// The request is in the scope of the policy, and a condition fails with an error.
    Error,
}

/// A request that a policy is asked about.
#[derive(Debug, Clone, Copy)]
pub struct PolicyRequest<'a> {
    /// Who asks.
    pub identity: &'a Identity,
    /// Names of all roles that the identity has, directly or through other roles.
    pub roles: &'a [&'a str],
    /// The privilege that is asked for.
    pub privilege: Privilege,
    /// The securable that it is asked for.
    pub on: ResourcePath<'a>,
    /// Facts of the request.
    pub facts: &'a RequestFacts,
}

/// Evaluates one policy. `body` is the text of the policy without `permit` or `forbid`: `(principal, action, resource);`.
///
/// # Errors
///
/// Returns [`RightsError::BadPolicy`](crate::RightsError::BadPolicy) if the policy can't be stored.
pub fn evaluate_policy(body: &str, request: &PolicyRequest<'_>) -> Result<PolicyAnswer> {
    // An error makes a policy that permits do nothing, and one that forbids apply. So the two together tell it.
    Ok(match (applies("permit", body, request)?, applies("forbid", body, request)?) {
        (true, _) => PolicyAnswer::Satisfied,
        (false, true) => PolicyAnswer::Error,
        (false, false) => PolicyAnswer::NotSatisfied,
    })
}

/// Checks that a policy with an effect applies to a request.
fn applies(effect: &str, body: &str, request: &PolicyRequest<'_>) -> Result<bool> {
    let row = PolicyRow { name: "oracle".to_owned(), text: format!("{effect} {body}") };
    let Some(policies) = compile(&[row])? else { return Ok(false) };
    let own = request.identity.members();
    let roles: Vec<Member> = request.roles.iter().copied().map(Member::role).collect();
    let members: Vec<&Member> = own.iter().chain(&roles).collect();
    let Some(selected) = policies.select(request.identity, &members) else { return Ok(false) };
    let wanted = PrivilegeSet::from(request.privilege);
    let question = PolicyQuestion { on: &request.on, privileges: wanted, needed: wanted, facts: Some(request.facts) };
    let effects = selected.effects(&question);
    Ok(effects.permitted.0.union(effects.forbidden.0).contains(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RightsError;
    use crate::samples::orders;

    fn answer(body: &str) -> Result<PolicyAnswer> {
        let (identity, facts) = (Identity::client("bi"), RequestFacts::default());
        let roles = ["readers", crate::EVERYONE];
        let privilege = Privilege::ReadData;
        evaluate_policy(body, &PolicyRequest { identity: &identity, roles: &roles, privilege, on: orders(), facts: &facts })
    }

    #[test]
    fn a_policy_applies_or_not_or_fails() {
        for (body, expected) in [
            ("(principal, action, resource);", PolicyAnswer::Satisfied),
            ("(principal in Esker::Role::\"readers\", action, resource in Esker::Warehouse::\"lake\");", PolicyAnswer::Satisfied),
            ("(principal in Esker::Role::\"writers\", action, resource);", PolicyAnswer::NotSatisfied),
            ("(principal == Esker::Client::\"etl\", action, resource);", PolicyAnswer::NotSatisfied),
            ("(principal, action == Esker::Action::\"DROP\", resource);", PolicyAnswer::NotSatisfied),
            ("(principal, action, resource) when { context.tls };", PolicyAnswer::NotSatisfied),
            ("(principal, action, resource) when { 9223372036854775807 + 1 > 0 };", PolicyAnswer::Error),
            (
                "(principal in Esker::Role::\"writers\", action, resource) when { 9223372036854775807 + 1 > 0 };",
                PolicyAnswer::NotSatisfied,
            ),
        ] {
            assert_eq!(answer(body), Ok(expected), "{body}");
        }
    }

    #[test]
    fn a_policy_that_can_not_be_stored_has_no_answer() {
        assert!(matches!(answer("(principal, action, resource) when { 1 + true > 0 };"), Err(RightsError::BadPolicy { .. })));
    }
}
