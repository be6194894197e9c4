//! The operations of S3 that are signed, by method and parameters.
//!
//! The list is closed: a request with a parameter that is not listed for its operation is another operation, such as `acl`,
//! `policy`, `tagging`, `versionId` or a signature in the query. Start reading at [`OPERATIONS`].
//!
//! Spec: "Actions" in the Amazon S3 API Reference.

use super::address::{Refusal, S3Address};
use crate::vending::Level;

/// An operation of S3 that may be signed.
#[derive(Debug)]
pub(super) struct S3Operation {
    /// The name in the reference. Some clients send it as the parameter `x-id`.
    pub(super) name: &'static str,
    /// The level that it needs.
    pub(super) needs: Level,
    method: &'static str,
    /// The URI names an object, and not a bucket.
    on_object: bool,
    /// The parameters that must be there; some with the only value that they may have.
    required: &'static [(&'static str, Option<&'static str>)],
    /// The parameters that may be there.
    optional: &'static [&'static str],
}

/// The operation that deletes the objects that its body names.
pub(super) const DELETE_OBJECTS: &str = "DeleteObjects";

/// The operation that lists objects.
pub(super) const LIST: &str = "ListObjectsV2";

/// Parameters of a listing that change neither the bucket nor the prefix.
const OF_LISTINGS: &[&str] = &["delimiter", "max-keys", "continuation-token", "start-after", "encoding-type", "fetch-owner"];

/// Makes an operation on an object.
const fn on_object(
    name: &'static str,
    method: &'static str,
    needs: Level,
    required: &'static [(&'static str, Option<&'static str>)],
) -> S3Operation {
    S3Operation { name, needs, method, on_object: true, required, optional: &[] }
}

/// All operations that are signed.
const OPERATIONS: &[S3Operation] = &[
    on_object("GetObject", "GET", Level::Read, &[]),
    on_object("HeadObject", "HEAD", Level::Read, &[]),
    S3Operation {
        name: LIST,
        needs: Level::Read,
        method: "GET",
        on_object: false,
        required: &[("list-type", Some("2")), ("prefix", None)],
        optional: OF_LISTINGS,
    },
    on_object("PutObject", "PUT", Level::Write, &[]),
    on_object("CreateMultipartUpload", "POST", Level::Write, &[("uploads", Some(""))]),
    on_object("UploadPart", "PUT", Level::Write, &[("partNumber", None), ("uploadId", None)]),
    on_object("CompleteMultipartUpload", "POST", Level::Write, &[("uploadId", None)]),
    on_object("AbortMultipartUpload", "DELETE", Level::Write, &[("uploadId", None)]),
    on_object("DeleteObject", "DELETE", Level::WriteDelete, &[]),
    S3Operation {
        name: DELETE_OBJECTS,
        needs: Level::WriteDelete,
        method: "POST",
        on_object: false,
        required: &[("delete", Some(""))],
        optional: &[],
    },
];

impl S3Operation {
    /// Returns the operation that a method makes of an address.
    ///
    /// # Errors
    ///
    /// Returns the reason if it is none that is signed.
    pub(super) fn of(method: &str, address: &S3Address) -> Result<&'static Self, Refusal> {
        let found = OPERATIONS.iter().find(|operation| operation.is(method, address));
        found.ok_or_else(|| {
            let names: Vec<&str> = address.parameters().keys().map(String::as_str).collect();
            let on = if address.key().is_empty() { "a bucket" } else { "an object" };
            format!("{method:?} of {on} with the parameters {names:?} is no operation that is signed")
        })
    }

    /// Checks whether a request is this operation.
    fn is(&self, method: &str, address: &S3Address) -> bool {
        let parameters = address.parameters();
        let complete = self.required.iter().all(|(name, value)| {
            let given = parameters.get(*name);
            given.is_some_and(|given| value.is_none_or(|value| value == given))
        });
        let known = |name: &str, value: &str| {
            self.required.iter().any(|(required, _)| *required == name)
                || self.optional.contains(&name)
                || name == "x-id" && value == self.name
        };
        self.method == method
            && self.on_object != address.key().is_empty()
            && complete
            && parameters.iter().all(|(name, value)| known(name, value))
    }

    /// Returns the HTTP method, in capitals.
    pub(super) fn method(&self) -> &'static str {
        self.method
    }

    /// Checks whether the body of the request becomes the content of an object.
    pub(super) fn has_content(&self) -> bool {
        self.method == "PUT"
    }

    /// Checks whether the request only reads one object.
    pub(super) fn reads_object(&self) -> bool {
        self.on_object && self.needs == Level::Read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::address::S3Store;

    fn operation(method: &str, path_and_query: &str) -> Option<&'static str> {
        let store = S3Store::new(Some("http://minio:9000"), "r", false).expect("a store");
        let address = store.resolve(&format!("http://minio:9000/lake{path_and_query}"), &["lake"]).expect(path_and_query);
        S3Operation::of(method, &address).ok().map(|operation| operation.name)
    }

    #[test]
    fn each_operation_is_known_by_its_method_and_parameters() {
        for (method, request, name) in [
            ("GET", "/k", "GetObject"),
            ("GET", "/k?x-id=GetObject", "GetObject"),
            ("HEAD", "/k", "HeadObject"),
            ("PUT", "/k", "PutObject"),
            ("DELETE", "/k", "DeleteObject"),
            ("POST", "/k?uploads", "CreateMultipartUpload"),
            ("PUT", "/k?partNumber=1&uploadId=u", "UploadPart"),
            ("POST", "/k?uploadId=u", "CompleteMultipartUpload"),
            ("DELETE", "/k?uploadId=u", "AbortMultipartUpload"),
            ("POST", "?delete", "DeleteObjects"),
            ("GET", "/?list-type=2&prefix=w%2F&delimiter=%2F&max-keys=1&encoding-type=url", "ListObjectsV2"),
        ] {
            assert_eq!(operation(method, request), Some(name), "{method} {request}");
        }
    }

    #[test]
    fn sub_resources_versions_and_operations_of_buckets_are_none() {
        let of_objects = [
            "acl",
            "policy",
            "tagging",
            "torrent",
            "retention",
            "legal-hold",
            "attributes",
            "restore",
            "select",
            "versionId=v",
            "uploads",
            "partNumber=1",
            "response-content-type=text%2Fhtml",
            "X-Amz-Signature=x",
            "list-type=2&prefix=w",
            "delete",
            "cors",
            "encryption",
            "x-id=PutObjectAcl",
            "ACL",
            "renameObject",
        ];
        for method in ["GET", "HEAD", "PUT"] {
            for parameter in of_objects {
                assert_eq!(operation(method, &format!("/k?{parameter}")), None, "{method} {parameter}");
            }
        }
        for (method, request) in [
            ("GET", ""),
            ("GET", "/"),
            ("GET", "?location"),
            ("GET", "?list-type=1&prefix=w"),
            ("GET", "?prefix=w"),
            ("GET", "?list-type=2"),
            ("GET", "?list-type=2&prefix=w&versions"),
            ("GET", "?uploads&prefix=w"),
            ("GET", "?policy"),
            ("HEAD", ""),
            ("PUT", ""),
            ("DELETE", ""),
            ("POST", ""),
            ("POST", "/k"),
            ("POST", "/k?select&select-type=2"),
            ("POST", "?delete=x"),
            ("DELETE", "/k?versionId=v"),
            ("PATCH", "/k"),
            ("OPTIONS", "/k"),
            ("get", "/k"),
        ] {
            assert_eq!(operation(method, request), None, "{method} {request}");
        }
    }
}
