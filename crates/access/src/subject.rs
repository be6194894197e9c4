//! A subject: a principal under the rules of one version, with all its roles.
//!
//! It is made once for a principal, its claims and a version, and then decides for many requests.

use std::sync::Arc;

use crate::index::Holders;
use crate::role::{BREAK_GLASS, Held, TRUSTED_ENGINE};
use crate::{Identity, Member, RequestFacts, Rules, SubjectPolicies};

/// A principal under the rules of one version, with all its roles.
///
/// It keeps the rules, so that it can never be held against others.
#[derive(Debug)]
pub struct Subject {
    pub(crate) rules: Arc<Rules>,
    pub(crate) held: Vec<Held>,
    pub(crate) holders: Holders,
    /// The access policies that can apply; `None` if there are none.
    pub(crate) policies: Option<Box<dyn SubjectPolicies>>,
    identity: Identity,
    breaks_glass: bool,
}

impl Subject {
    /// Finds everything that an identity has under some rules.
    pub fn new(rules: Arc<Rules>, identity: Identity) -> Self {
        let held = rules.members.held_by(&identity);
        let holders = Holders::new(&held, rules.members.role_count());
        let breaks_glass = rules.members.find(&Member::role(BREAK_GLASS)).is_some_and(|role| holders.contains(role));
        let policies = rules.policies_for(&identity, &held);
        Self { rules, held, holders, policies, identity, breaks_glass }
    }

    /// Returns the identity.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the rules.
    pub const fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Iterates over the names of the roles that the subject has, directly or through other roles.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        let members = self.held.iter().map(|held| self.rules.members.member(held.id));
        members.filter_map(|member| if let Member::Role { name } = member { Some(name.as_str()) } else { None })
    }

    /// Checks that grants to a member count for the subject: it is the principal, one of its claims, or a role that it has.
    pub fn stands_for(&self, member: &Member) -> bool {
        self.rules.members.find(member).is_some_and(|id| self.holders.contains(id))
    }

    /// Checks that no rule refuses the subject anything, because it is a member of [`BREAK_GLASS`].
    pub const fn breaks_glass(&self) -> bool {
        self.breaks_glass
    }

    /// Checks that access policies can apply to the subject, so that a decision may depend on the facts of its request.
    pub const fn has_policies(&self) -> bool {
        self.policies.is_some()
    }

    /// Checks that access policies can't tell two requests apart by their facts. `None` stands for no request.
    ///
    /// The two calls of one statement differ by their operation alone, and few policies read it.
    pub(crate) fn are_alike(&self, one: Option<&RequestFacts>, other: Option<&RequestFacts>) -> bool {
        match (&self.policies, one, other) {
            (None, ..) => true,
            (Some(policies), Some(one), Some(other)) if !policies.read_operation() => {
                let RequestFacts { operation: _, source_ip, engine, is_tls } = one;
                *source_ip == other.source_ip && *engine == other.engine && *is_tls == other.is_tls
            }
            (Some(_), one, other) => one == other,
        }
    }

    /// Checks that the subject is an engine that applies row filters and column masks itself: a member of [`TRUSTED_ENGINE`].
    pub fn is_trusted_engine(&self) -> bool {
        self.stands_for(&Member::role(TRUSTED_ENGINE))
    }
}
