use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use esker_types::ErrorCode;
use serde::{Deserialize, Deserializer};

use crate::ApiError;

/// `pageToken` and `pageSize`. Without a size everything is returned: Java sends an empty token on every list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Paging {
    page_token: Option<String>,
    #[serde(deserialize_with = "size")]
    page_size: Option<u32>,
}

fn size<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    let text = String::deserialize(d)?;
    let parsed = text.parse::<u32>().ok().filter(|n| *n > 0);
    parsed.map(Some).ok_or_else(|| serde::de::Error::custom(format!("pageSize {text:?} is not a positive number")))
}

impl Paging {
    /// The name after which the page begins; empty for the first.
    pub(crate) fn after(&self) -> Result<String, ApiError> {
        let token = self.page_token.as_deref().unwrap_or_default();
        let decoded = URL_SAFE_NO_PAD.decode(token).ok().and_then(|b| String::from_utf8(b).ok());
        decoded.ok_or_else(|| ApiError::new(ErrorCode::BadRequest, format!("pageToken {token:?} is not one of this server's")))
    }

    /// One more than the page holds, so that it shows whether another follows.
    pub(crate) fn limit(&self) -> u32 {
        self.page_size.map_or(u32::MAX, |n| n.saturating_add(1))
    }

    /// Cuts the list to a page and makes the token of the next one.
    pub(crate) fn cut<T>(&self, mut items: Vec<T>, name: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
        let size = self.page_size.map_or(usize::MAX, |n| n as usize);
        if items.len() <= size {
            return (items, None);
        }
        items.truncate(size);
        let token = items.last().map(|last| URL_SAFE_NO_PAD.encode(name(last)));
        (items, token)
    }
}
