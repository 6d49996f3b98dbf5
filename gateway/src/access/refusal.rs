//! Why a client is not let in: one word for metrics and the log, and less for the client.

/// Why a credential does not say who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Missing,
    /// More than one credential.
    Several,
    /// An `authorization` that is not `Bearer` and text.
    Scheme,
    TooLarge,
    /// Neither a key of the file nor a token.
    UnknownKey,
    /// A token that is none.
    Malformed,
    /// One that its issuer's tokens must not have, or the key is not for.
    Algorithm,
    UnknownIssuer,
    /// The issuer's set has no such key; it is fetched again.
    UnknownSigningKey,
    Signature,
    Expired,
    NotYetValid,
    Audience,
    /// No expiry, or no name for the principal.
    Claims,
    /// The issuer's keys are not there: nobody can tell.
    KeysUnavailable,
}

impl Refusal {
    pub(crate) const ALL: [Self; 15] = [
        Self::Missing,
        Self::Several,
        Self::Scheme,
        Self::TooLarge,
        Self::UnknownKey,
        Self::Malformed,
        Self::Algorithm,
        Self::UnknownIssuer,
        Self::UnknownSigningKey,
        Self::Signature,
        Self::Expired,
        Self::NotYetValid,
        Self::Audience,
        Self::Claims,
        Self::KeysUnavailable,
    ];

    /// The value of the label `reason`.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Several => "several",
            Self::Scheme => "scheme",
            Self::TooLarge => "too_large",
            Self::UnknownKey => "unknown_key",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownIssuer => "unknown_issuer",
            Self::UnknownSigningKey => "unknown_signing_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Audience => "audience",
            Self::Claims => "claims",
            Self::KeysUnavailable => "keys_unavailable",
        }
    }

    /// What the client is told. Whoever guesses learns nothing from it: what is told of time is told to the owner of a
    /// credential that is good otherwise.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Missing => "credentials are required: an API key or a bearer token",
            Self::Several => "more than one credential was given",
            Self::TooLarge => "the credential is larger than 16384 bytes",
            Self::Expired => "the credential has expired",
            Self::NotYetValid => "the credential is not valid yet",
            Self::KeysUnavailable => "tokens cannot be verified at present",
            Self::Scheme
            | Self::UnknownKey
            | Self::Malformed
            | Self::Algorithm
            | Self::UnknownIssuer
            | Self::UnknownSigningKey
            | Self::Signature
            | Self::Audience
            | Self::Claims => "the credential is not valid",
        }
    }

    /// `www-authenticate` (RFC 6750 §3): a client that has sent nothing is not told of an error.
    pub(crate) const fn challenge(self) -> &'static str {
        match self {
            Self::Missing => "Bearer realm=\"plumbline\"",
            Self::Several => "Bearer realm=\"plumbline\", error=\"invalid_request\"",
            _ => "Bearer realm=\"plumbline\", error=\"invalid_token\"",
        }
    }
}
