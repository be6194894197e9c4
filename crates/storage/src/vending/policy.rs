//! The session policy of a vended credential: what its holder may do with S3.
//!
//! A session policy narrows the rights of the role or user that the credential is made of; it adds none. So everything that is not
//! listed here is denied. The policy is typed data, and the only text in it from outside are [`PolicyPrefix`] values.
//!
//! Start reading at [`session_policy`]. Spec: "IAM JSON policy reference" in the AWS IAM User Guide.

use serde::Serialize;

use super::{Grant, Level, PolicyPrefix};
use crate::{Result, Scheme, StorageError};

/// The longest policy that is sent, in characters.
///
/// AWS takes 2,048, and packs the policy under a second limit that it does not publish.
const LONGEST: usize = 1_600;

/// A policy document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

/// A statement that allows actions on resources.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    effect: &'static str,
    action: Vec<&'static str>,
    resource: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<Condition>,
}

/// A condition on the prefix of a listing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Condition {
    string_like: ListedPrefix,
}

/// The prefixes that a listing may have.
#[derive(Debug, Serialize)]
struct ListedPrefix {
    #[serde(rename = "s3:prefix")]
    prefix: Vec<String>,
}

impl Statement {
    fn allow(action: Vec<&'static str>, resource: Vec<String>, condition: Option<Condition>) -> Self {
        Self { effect: "Allow", action, resource, condition }
    }
}

impl Level {
    /// Returns the actions on objects.
    ///
    /// Multipart uploads in progress can be listed by upload only: a listing of a bucket's uploads knows no prefix.
    fn object_actions(self) -> Vec<&'static str> {
        let write = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"];
        match self {
            Self::Read => vec!["s3:GetObject"],
            Self::Write => write.to_vec(),
            Self::WriteDelete => [write.as_slice(), &["s3:DeleteObject"]].concat(),
        }
    }

    /// Returns the actions on the key that encrypts the bucket.
    fn key_actions(self) -> Vec<&'static str> {
        match self {
            Self::Read => vec!["kms:Decrypt"],
            Self::Write | Self::WriteDelete => vec!["kms:Decrypt", "kms:GenerateDataKey"],
        }
    }
}

/// Returns the session policy for a grant, as JSON.
///
/// `partition` is that of all ARNs, such as `aws`. `kms_key_arn` names the key of a bucket that is encrypted with one.
///
/// # Errors
///
/// Returns [`NotVendable`](StorageError::NotVendable) if the grant has no place, one that is not in S3, or so many that the policy is
/// too long.
pub(super) fn session_policy(grant: &Grant, partition: &str, kms_key_arn: Option<&str>) -> Result<String> {
    let arn = |resource: String| format!("arn:{partition}:s3:::{resource}");
    let refused = |reason: &str| {
        let uri = PolicyPrefix::common_uri(grant.prefixes());
        StorageError::NotVendable { uri, reason: reason.to_owned() }
    };
    if grant.prefixes().is_empty() {
        // A session without a policy would have all rights of the role.
        return Err(refused("the table has no place"));
    }
    if grant.prefixes().iter().any(|prefix| prefix.scheme() != Scheme::S3) {
        // A bucket of another store may have the same name.
        return Err(refused("it is not in S3"));
    }
    let objects = grant.prefixes().iter().map(|prefix| arn(format!("{}/{}*", prefix.bucket(), prefix.key()))).collect();
    let mut statement = vec![Statement::allow(grant.level().object_actions(), objects, None)];
    let buckets = grant.buckets();
    for bucket in &buckets {
        // A statement for each bucket: in one for all, a prefix of one bucket could be listed in the others.
        let prefix = grant.prefixes().iter().filter(|prefix| prefix.bucket() == *bucket);
        let string_like = ListedPrefix { prefix: prefix.map(|prefix| format!("{}*", prefix.key())).collect() };
        let resource = vec![arn((*bucket).to_owned())];
        statement.push(Statement::allow(vec!["s3:ListBucket"], resource, Some(Condition { string_like })));
    }
    let all = buckets.iter().map(|bucket| arn((*bucket).to_owned())).collect();
    statement.push(Statement::allow(vec!["s3:GetBucketLocation"], all, None));
    if let Some(key) = kms_key_arn {
        statement.push(Statement::allow(grant.level().key_actions(), vec![key.to_owned()], None));
    }
    let policy = serde_json::to_string(&Policy { version: "2012-10-17", statement })
        .map_err(|_| refused("its policy can't be written as JSON, which is a bug of Esker"))?;
    if policy.chars().count() > LONGEST {
        return Err(refused("its places make a policy that is too long; give the table fewer or shorter ones"));
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::Location;

    fn grant(level: Level, uris: &[&str]) -> Grant {
        let prefix = |uri: &&str| PolicyPrefix::of(&Location::parse(uri).expect("a location")).expect("harmless");
        Grant::new(level, uris.iter().map(prefix).collect())
    }

    fn policy(level: Level, uris: &[&str]) -> Value {
        serde_json::from_str(&session_policy(&grant(level, uris), "aws", None).expect("a policy")).expect("JSON")
    }

    /// MinIO denies with this document what `tests/engines/test_vending.py` tries.
    #[test]
    fn the_policy_of_a_writer_is_this_one() {
        assert_eq!(
            policy(Level::Write, &["s3://lake/nyc/flights-1a2b3c4d"]),
            json!({"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Resource": ["arn:aws:s3:::lake/nyc/flights-1a2b3c4d/*"],
                 "Action": ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]},
                {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": ["arn:aws:s3:::lake"],
                 "Condition": {"StringLike": {"s3:prefix": ["nyc/flights-1a2b3c4d/*"]}}},
                {"Effect": "Allow", "Action": ["s3:GetBucketLocation"], "Resource": ["arn:aws:s3:::lake"]},
            ]})
        );
    }

    #[test]
    fn readers_only_read_and_only_who_may_delete_deletes() {
        let actions = |level| policy(level, &["s3://lake/t"])["Statement"][0]["Action"].to_string();
        assert_eq!(actions(Level::Read), r#"["s3:GetObject"]"#);
        assert!(!actions(Level::Write).contains("Delete"));
        assert!(actions(Level::WriteDelete).contains("s3:DeleteObject"));
    }

    #[test]
    fn an_encrypted_bucket_needs_its_key_in_the_partition_of_the_role() {
        let key = "arn:aws-cn:kms:cn-north-1:123456789012:key/1";
        let text = session_policy(&grant(Level::Read, &["s3://lake/t"]), "aws-cn", Some(key)).expect("a policy");
        let policy: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(policy["Statement"][0]["Resource"][0], "arn:aws-cn:s3:::lake/t/*");
        assert_eq!(policy["Statement"][3], json!({"Effect": "Allow", "Action": ["kms:Decrypt"], "Resource": [key]}));
    }

    #[test]
    fn no_place_and_too_many_places_are_refused() {
        assert!(session_policy(&Grant::new(Level::Read, Vec::new()), "aws", None).is_err());
        let places: Vec<String> = (0..30).map(|i| format!("s3://lake/a-rather-long-directory/table-{i}")).collect();
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let error = session_policy(&grant(Level::Read, &places), "aws", None).expect_err("too long").to_string();
        assert!(error.contains("too long") && error.contains("s3://lake/a-rather-long-directory/"), "{error}");
    }

    /// Matches a text with a pattern of IAM: `*` is any text, `?` one character, and `${*}`, `${?}`, `${$}` those characters.
    fn matches_pattern(pattern: &str, text: &str) -> bool {
        for (escaped, character) in [("${*}", '*'), ("${?}", '?'), ("${$}", '$')] {
            if let Some(rest) = pattern.strip_prefix(escaped) {
                return text.strip_prefix(character).is_some_and(|text| matches_pattern(rest, text));
            }
        }
        assert!(!pattern.starts_with("${"), "a variable: {pattern}");
        let mut characters = pattern.chars();
        match characters.next() {
            None => text.is_empty(),
            Some('*') => {
                let rest = characters.as_str();
                let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
                ends.any(|at| matches_pattern(rest, &text[at..]))
            }
            Some(wanted) => {
                let mut text = text.chars();
                text.next().is_some_and(|c| wanted == '?' || wanted == c) && matches_pattern(characters.as_str(), text.as_str())
            }
        }
    }

    /// A request as IAM sees it.
    struct Asked<'a> {
        action: &'a str,
        resource: String,
        prefix: Option<&'a str>,
    }

    /// Evaluates a policy as IAM does: a statement that fits allows; none here denies; what is not allowed is denied.
    fn allows(policy: &Value, asked: &Asked<'_>) -> bool {
        let texts = |value: &Value| -> Vec<String> {
            let list = value.as_array().expect("a list").iter();
            list.map(|text| text.as_str().expect("text").to_owned()).collect()
        };
        policy["Statement"].as_array().expect("statements").iter().any(|statement| {
            assert_eq!(statement["Effect"], "Allow");
            let acts = texts(&statement["Action"]).iter().any(|action| matches_pattern(action, asked.action));
            let on = texts(&statement["Resource"]).iter().any(|resource| matches_pattern(resource, &asked.resource));
            let Some(condition) = statement.get("Condition") else { return acts && on };
            let listed = texts(&condition["StringLike"]["s3:prefix"]);
            acts && on && asked.prefix.is_some_and(|prefix| listed.iter().any(|pattern| matches_pattern(pattern, prefix)))
        })
    }

    /// Segments of keys that begin with each other, and characters that policies or keys give a meaning to.
    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[ab]{1,3}",
            2 => prop::sample::select(vec!["orders", "orders2", "orders-1", "o", "orders.", "order"]).prop_map(str::to_owned),
            1 => "[a*?$@+ ={}~é'\"%\\\\.]{1,4}",
        ]
    }

    fn key() -> impl Strategy<Value = String> {
        prop::collection::vec(segment(), 1..4).prop_map(|segments| segments.join("/"))
    }

    fn bucket() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["lake", "lake2", "lak"])
    }

    /// Checks by segments, without strings that begin with each other, that a key lies below a place.
    fn lies_in(place: (&str, &str), at: (&str, &str)) -> bool {
        let (outer, inner): (Vec<&str>, Vec<&str>) = (place.1.split('/').collect(), at.1.split('/').collect());
        place.0 == at.0 && inner.len() > outer.len() && inner[..outer.len()] == outer[..]
    }

    proptest! {
        /// The evaluator allows an action on a key exactly where the key lies in a place of the table.
        #[test]
        fn a_policy_reaches_the_places_of_its_table_and_nothing_else(
            places in prop::collection::vec((bucket(), key()), 1..4),
            at in (bucket(), key()),
            inside in any::<prop::sample::Index>(),
            rest in key(),
            nested in any::<bool>(),
            level in prop::sample::select(vec![Level::Read, Level::Write, Level::WriteDelete]),
        ) {
            let vendable: Vec<((&str, String), PolicyPrefix)> = places.iter().filter_map(|(bucket, key)| {
                let place = Location::parse(&format!("s3://{bucket}/{key}")).ok()?;
                Some(((*bucket, key.clone()), PolicyPrefix::of(&place).ok()?))
            }).collect();
            prop_assume!(!vendable.is_empty());
            let grant = Grant::new(level, vendable.iter().map(|(_, prefix)| prefix.clone()).collect());
            let policy: Value = serde_json::from_str(&session_policy(&grant, "aws", None).expect("short")).expect("JSON");
            // Half of the keys lie in a place; a random key seldom does.
            let (bucket, key) = match nested {
                true => {
                    let (bucket, place) = &vendable[inside.index(vendable.len())].0;
                    (*bucket, format!("{place}/{rest}"))
                }
                false => (at.0, at.1),
            };
            let within = vendable.iter().any(|((b, place), _)| lies_in((*b, place.as_str()), (bucket, key.as_str())));
            let object = |action| Asked { action, resource: format!("arn:aws:s3:::{bucket}/{key}"), prefix: None };
            prop_assert_eq!(allows(&policy, &object("s3:GetObject")), within, "{}/{}", bucket, key);
            prop_assert_eq!(allows(&policy, &object("s3:PutObject")), within && level != Level::Read);
            prop_assert_eq!(allows(&policy, &object("s3:DeleteObject")), within && level == Level::WriteDelete);
            prop_assert!(!allows(&policy, &object("s3:PutObjectAcl")) && !allows(&policy, &object("s3:GetObjectVersion")));
            // A listing: only of a bucket with a place, and with a prefix that lies below one.
            let list = |prefix| Asked { action: "s3:ListBucket", resource: format!("arn:aws:s3:::{bucket}"), prefix };
            prop_assert_eq!(allows(&policy, &list(Some(key.as_str()))), within);
            prop_assert!(!allows(&policy, &list(None)) && !allows(&policy, &list(Some(""))));
        }
    }
}
