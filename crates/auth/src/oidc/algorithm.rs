//! [`SigningAlgorithm`]: the algorithms by which an issuer may sign its tokens.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    VerificationAlgorithm,
};
use serde::{Deserialize, Serialize};

/// An algorithm by which tokens are signed with a private key.
///
/// The algorithms with a shared secret (`HS256` and the like) and `none` are not among them: whoever can check such a token can
/// make one. Spec: RFC 7518, section 3.1; RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SigningAlgorithm {
    /// RSA with PKCS #1 padding and SHA-256.
    Rs256,
    /// RSA with PKCS #1 padding and SHA-384.
    Rs384,
    /// RSA with PKCS #1 padding and SHA-512.
    Rs512,
    /// RSA with PSS padding and SHA-256.
    Ps256,
    /// RSA with PSS padding and SHA-384.
    Ps384,
    /// RSA with PSS padding and SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// EdDSA on Curve25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// The family of keys that an algorithm works with, and the check of its signatures.
pub(super) enum SignatureCheck {
    /// A key of RSA.
    Rsa(&'static RsaParameters),
    /// A point on P-256.
    P256(&'static dyn VerificationAlgorithm),
    /// A point on P-384.
    P384(&'static dyn VerificationAlgorithm),
    /// A point on Curve25519.
    Ed25519(&'static dyn VerificationAlgorithm),
}

impl SigningAlgorithm {
    /// All algorithms.
    pub const ALL: [Self; 9] =
        [Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::Ps384, Self::Ps512, Self::Es256, Self::Es384, Self::EdDsa];

    /// Returns the algorithm with a name in a token or a key; `None` if it is not known or not allowed.
    ///
    /// RFC 9864 names EdDSA by its curve.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }

    /// Returns the check of the algorithm's signatures. RSA keys have at least 2048 bits.
    pub(super) fn check(self) -> SignatureCheck {
        match self {
            Self::Rs256 => SignatureCheck::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => SignatureCheck::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => SignatureCheck::Rsa(&RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => SignatureCheck::Rsa(&RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => SignatureCheck::Rsa(&RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => SignatureCheck::Rsa(&RSA_PSS_2048_8192_SHA512),
            Self::Es256 => SignatureCheck::P256(&ECDSA_P256_SHA256_FIXED),
            Self::Es384 => SignatureCheck::P384(&ECDSA_P384_SHA384_FIXED),
            Self::EdDsa => SignatureCheck::Ed25519(&ED25519),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_has_the_name_that_tokens_and_the_configuration_use() {
        for algorithm in SigningAlgorithm::ALL {
            let name = serde_json::to_value(algorithm).expect("JSON");
            assert_eq!(SigningAlgorithm::from_name(name.as_str().expect("a text")), Some(algorithm), "{name}");
        }
    }

    #[test]
    fn no_algorithm_with_a_shared_secret_is_known_and_none_is_none() {
        for name in ["none", "None", "", "HS256", "HS384", "HS512", "rs256", "RSA-OAEP", "dir", "ES256K"] {
            assert_eq!(SigningAlgorithm::from_name(name), None, "{name}");
        }
    }
}
