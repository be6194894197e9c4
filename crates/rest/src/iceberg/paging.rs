//! Paging of lists: the token of a page is the name of the last item on the page before.
//!
//! Nobody gains anything with a token of their own: it only says where a list begins, and each list has what its caller sees. So
//! tokens have no tag, unlike tasks of plans and handles of statements.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use esker_types::ErrorCode;
use serde::{Deserialize, Deserializer};

use crate::ApiError;

/// The parameters `pageToken` and `pageSize`. Without a size everything is returned.
///
/// Java sends an empty token with every list, so an empty token does not ask for pages.
///
/// Spec: REST `PageToken`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Paging {
    page_token: Option<String>,
    #[serde(deserialize_with = "size")]
    page_size: Option<u32>,
}

/// Parses a page size, which must be positive.
fn size<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    let text = String::deserialize(d)?;
    let parsed = text.parse::<u32>().ok().filter(|n| *n > 0);
    parsed.map(Some).ok_or_else(|| serde::de::Error::custom(format!("pageSize {text:?} is not a positive number")))
}

impl Paging {
    /// Returns the name after which the page begins; empty for the first page.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorCode::BadRequest`] if the token is not one that [`Paging::cut_page`] made.
    pub(crate) fn after(&self) -> Result<String, ApiError> {
        let token = self.page_token.as_deref().unwrap_or_default();
        let decoded = URL_SAFE_NO_PAD.decode(token).ok().and_then(|b| String::from_utf8(b).ok());
        // No name has this character, and PostgreSQL takes no text with it.
        let decoded = decoded.filter(|name| !name.contains('\0'));
        decoded.ok_or_else(|| {
            ApiError::new(
                ErrorCode::BadRequest,
                format!("pageToken {token:?} is not valid; use the next-page-token of an answer"),
            )
        })
    }

    /// Returns the number of items to read: one more than the page has, which shows whether another page follows.
    pub(crate) fn limit(&self) -> u32 {
        self.page_size.map_or(u32::MAX, |n| n.saturating_add(1))
    }

    /// Cuts the list to the page, and returns it with the token of the next page.
    pub(crate) fn cut_page<T>(&self, mut items: Vec<T>, name: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
        let size = self.page_size.map_or(usize::MAX, |n| n as usize);
        if items.len() <= size {
            return (items, None);
        }
        items.truncate(size);
        let token = items.last().map(|last| URL_SAFE_NO_PAD.encode(name(last)));
        (items, token)
    }
}
