//! [`JobAsker`]: the identity that asked for a job, as its record keeps it.

use esker_access::Identity;
use serde::{Deserialize, Serialize};

/// The maximum number of claims that are kept.
const MAX_CLAIMS: usize = 200;

/// The maximum size of a claim that is kept, in bytes. No rule names a longer one.
const MAX_CLAIM_BYTES: usize = 512;

/// The identity that asked for a job. When the job begins, the rules decide about it again.
///
/// The claims of a user are those of the request: nobody can ask an identity provider for them later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum JobAsker {
    /// A person or service that an identity provider knows.
    User {
        /// Issuer of the token.
        issuer: String,
        /// Name of the user at the issuer.
        name: String,
        /// Groups and roles in the token, the first 200 of them.
        claims: Vec<String>,
    },
    /// A client that the server knows itself.
    Client {
        /// Name of the client.
        name: String,
    },
    /// A caller without a token.
    Anonymous,
}

impl From<&Identity> for JobAsker {
    fn from(identity: &Identity) -> Self {
        match identity {
            Identity::User { issuer, name, claims } => {
                let kept = claims.iter().filter(|claim| claim.len() <= MAX_CLAIM_BYTES).take(MAX_CLAIMS);
                let claims = kept.map(ToString::to_string).collect();
                Self::User { issuer: issuer.to_string(), name: name.to_string(), claims }
            }
            Identity::Client { name } => Self::Client { name: name.to_string() },
            Identity::Anonymous => Self::Anonymous,
        }
    }
}

impl JobAsker {
    /// Returns the identity, by which the rules decide.
    pub fn identity(&self) -> Identity {
        match self {
            Self::User { issuer, name, claims } => Identity::User {
                issuer: issuer.as_str().into(),
                name: name.as_str().into(),
                claims: claims.iter().map(|claim| claim.as_str().into()).collect(),
            },
            Self::Client { name } => Identity::client(name.as_str()),
            Self::Anonymous => Identity::Anonymous,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_identity_comes_back_from_its_record_as_it_was() {
        let claims = vec!["ops".into(), "data".into()];
        let ann = Identity::User { issuer: "https://id.example".into(), name: "ann".into(), claims };
        for identity in [ann, Identity::client("etl"), Identity::Anonymous] {
            let json = serde_json::to_string(&JobAsker::from(&identity)).expect("JSON");
            let read: JobAsker = serde_json::from_str(&json).expect("an asker");
            assert_eq!(read.identity(), identity, "{json}");
        }
    }

    #[test]
    fn the_record_is_bounded() {
        let long: Arc<str> = "x".repeat(MAX_CLAIM_BYTES + 1).into();
        let claims = std::iter::once(long).chain((0..1000).map(|n| n.to_string().into())).collect();
        let asker = JobAsker::from(&Identity::User { issuer: "i".into(), name: "u".into(), claims });
        let JobAsker::User { claims, .. } = asker else { panic!("a user") };
        assert_eq!((claims.len(), claims[0].as_str()), (MAX_CLAIMS, "0"));
    }
}
