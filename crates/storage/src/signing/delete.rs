//! The body of DeleteObjects: the keys that the request deletes.
//!
//! The signature covers the hash of the body, so the store gets the one that was read here. Parsers of XML differ in what they make
//! of comments, entities and unknown elements. So only the form that S3's reference shows is read, and anything else is
//! refused. Start reading at [`keys`].
//!
//! Spec: DeleteObjects in the Amazon S3 API Reference.

use quick_xml::escape::unescape;

use super::address::Refusal;

/// The largest number of keys in a request.
const MOST_KEYS: usize = 1_000;

/// The name space that clients write.
const NAME_SPACE: &str = " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";

/// The declarations that a body may begin with.
const DECLARATIONS: [&str; 2] = ["<?xml version=\"1.0\" encoding=\"UTF-8\"?>", "<?xml version=\"1.0\" encoding=\"utf-8\"?>"];

/// Returns the keys that a body names, without those of versions.
///
/// # Errors
///
/// Returns the reason if the body does not have the form of the reference, names a version, or names no key or too many.
pub(super) fn keys(body: &str) -> Result<Vec<String>, Refusal> {
    let wrong =
        "the body of DeleteObjects must be sent, and have only Delete, Object, Key and Quiet as the S3 API reference has them";
    let keys = read(body).ok_or_else(|| wrong.to_owned())?;
    match keys.len() {
        1..=MOST_KEYS => Ok(keys),
        n => Err(format!("its body names {n} keys, and may name between 1 and {MOST_KEYS}")),
    }
}

/// Reads a body; `None` if it has another form.
fn read(body: &str) -> Option<Vec<String>> {
    let declared = DECLARATIONS.iter().find_map(|declaration| body.strip_prefix(declaration));
    let rest = declared.unwrap_or(body).trim_ascii_start().strip_prefix("<Delete")?;
    let mut rest = rest.strip_prefix(NAME_SPACE).unwrap_or(rest).strip_prefix('>')?.trim_ascii_start();
    let mut keys = Vec::new();
    while rest.trim_ascii_end() != "</Delete>" {
        let after = match rest.strip_prefix("<Object>") {
            Some(object) => {
                let (key, after) = object.trim_ascii_start().strip_prefix("<Key>")?.split_once("</Key>")?;
                if key.contains('<') {
                    return None;
                }
                keys.push(unescape(key).ok()?.into_owned());
                after.trim_ascii_start().strip_prefix("</Object>")?
            }
            None => {
                let (quiet, after) = rest.strip_prefix("<Quiet>")?.split_once("</Quiet>")?;
                matches!(quiet, "true" | "false").then_some(after)?
            }
        };
        rest = after.trim_ascii_start();
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bodies_of_clients_are_read() {
        let java = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>w/t/a&amp;b</Key></Object>\
            <Object><Key>w/t/c&#32;d</Key></Object><Quiet>true</Quiet></Delete>";
        assert_eq!(keys(java).expect("keys"), ["w/t/a&b", "w/t/c d"]);
        let pretty = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Delete>\n  <Quiet>false</Quiet>\n  <Object>\n    \
            <Key>x</Key>\n  </Object>\n</Delete>\n";
        assert_eq!(keys(pretty).expect("keys"), ["x"]);
    }

    #[test]
    fn what_two_parsers_may_read_differently_is_refused() {
        for inside in [
            "<Object><Key>a</Key><Key>b</Key></Object>",
            "<Object><Key>a</Key><VersionId>v</VersionId></Object>",
            "<Object><Key>a<!-- x --></Key></Object>",
            "<!-- <Object><Key>a</Key></Object> -->",
            "<Object><Key><![CDATA[a]]></Key></Object>",
            "<x:Object><x:Key>a</x:Key></x:Object>",
            "<Object a=\"b\"><Key>a</Key></Object>",
            "<Object><Key>&unknown;</Key></Object>",
            "<Object><Key>a</Key>",
            "<Object><Key/></Object>",
            "<Bypass>true</Bypass>",
            "</Delete><Delete><Object><Key>a</Key></Object>",
            "",
        ] {
            assert!(keys(&format!("<Delete>{inside}</Delete>")).is_err(), "{inside}");
        }
        for body in ["", "<Delete>", "<!DOCTYPE x><Delete><Object><Key>a</Key></Object></Delete>", "{}"] {
            assert!(keys(body).is_err(), "{body}");
        }
        let many = "<Object><Key>a</Key></Object>".repeat(MOST_KEYS + 1);
        assert!(keys(&format!("<Delete>{many}</Delete>")).is_err());
    }
}
