//! The bearer token of the API over TCP, replaceable while serving.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// The token in force, if one is configured.
pub struct AdminToken(ArcSwapOption<String>);

/// Why a request may not use the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotAdmitted {
    /// It does not bear the token.
    WrongToken,
    /// There is no token that could be borne.
    NoToken,
}

impl AdminToken {
    /// Without a token nobody is admitted.
    pub fn new(token: Option<String>) -> AdminToken {
        AdminToken(ArcSwapOption::from_pointee(token))
    }

    /// Only the new token counts from now on.
    pub fn replace(&self, token: Option<String>) {
        self.0.store(token.map(Arc::new));
    }

    /// Judges the `Authorization` field of a request.
    pub(super) fn admit(&self, authorization: &[u8]) -> Result<(), NotAdmitted> {
        match &*self.0.load() {
            None => Err(NotAdmitted::NoToken),
            Some(token) if is_bearer(authorization, token) => Ok(()),
            Some(_) => Err(NotAdmitted::WrongToken),
        }
    }
}

/// `Bearer <token>`, compared in a time that does not depend on where they differ.
fn is_bearer(given: &[u8], token: &str) -> bool {
    const SCHEME: &[u8] = b"bearer ";
    let Some((scheme, given)) = given.split_at_checked(SCHEME.len()) else { return false };
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return false;
    }
    let token = token.as_bytes();
    let mut different = given.len() ^ token.len();
    for (n, byte) in given.iter().enumerate() {
        different |= usize::from(byte ^ token[n % token.len().max(1)]);
    }
    different == 0 && !token.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_opens() {
        assert!(is_bearer(b"Bearer secret", "secret") && is_bearer(b"bearer secret", "secret"));
        for wrong in [
            &b"Bearer secre"[..],
            b"Bearer secret2",
            b"Bearer ",
            b"secret",
            b"Basic secret",
            b"",
            b"Bearer secretsecret",
        ] {
            assert!(!is_bearer(wrong, "secret"));
        }
        assert!(!is_bearer(b"Bearer ", ""));
    }

    #[test]
    fn a_replaced_token_counts_at_once_and_a_removed_one_admits_nobody() {
        let token = AdminToken::new(Some("old".to_owned()));
        assert_eq!(token.admit(b"Bearer old"), Ok(()));
        token.replace(Some("new".to_owned()));
        assert_eq!(token.admit(b"Bearer old"), Err(NotAdmitted::WrongToken));
        assert_eq!(token.admit(b"Bearer new"), Ok(()));
        token.replace(None);
        assert_eq!(token.admit(b"Bearer new"), Err(NotAdmitted::NoToken));
    }
}
