//! The secret key of `--secret-key`, given as it is or as `@file`.

use std::convert::Infallible;

use ed25519_dalek::SigningKey;
use thiserror::Error;

use crate::config::Secret;
use crate::forward::secret_key;

/// Why an argument is not a usable secret key. Never repeats the key.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum SecretKeyError {
    /// The file of `@file` cannot be read.
    #[error("the secret key's file {path} cannot be read: {problem}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        problem: String,
    },
    /// A word that is no key may be a file's name.
    #[error("the secret key {}; a file is given as @FILE", secret_key::SecretKeyError::NotEncoded)]
    NotEncoded,
    /// Any other mistake.
    #[error("the secret key {0}")]
    Key(secret_key::SecretKeyError),
}

impl From<secret_key::SecretKeyError> for SecretKeyError {
    fn from(error: secret_key::SecretKeyError) -> SecretKeyError {
        match error {
            secret_key::SecretKeyError::NotEncoded => SecretKeyError::NotEncoded,
            other => SecretKeyError::Key(other),
        }
    }
}

/// The argument as typed, kept from being shown: clap repeats a value that its parser refuses, so
/// this one refuses nothing and [`read`] judges later.
///
/// # Errors
/// None.
pub fn argument(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret(text.to_owned()))
}

/// The Ed25519 key of an argument: the key itself, or `@file`.
///
/// # Errors
/// See [`SecretKeyError`].
pub fn read(argument: &Secret) -> Result<SigningKey, SecretKeyError> {
    Ok(secret_key::parse(&text(argument)?.0)?)
}

/// What an argument says: the text itself, or that of `@file`.
///
/// # Errors
/// [`SecretKeyError::File`].
pub fn text(argument: &Secret) -> Result<Secret, SecretKeyError> {
    let Some(path) = argument.0.strip_prefix('@') else {
        return Ok(argument.clone());
    };
    std::fs::read_to_string(path)
        .map(Secret)
        .map_err(|error| SecretKeyError::File { path: path.to_owned(), problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn a_file_may_hold_the_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{}\n", STANDARD.encode([7; 32]))).unwrap();
        let argument = Secret(format!("@{}", file.path().display()));
        assert_eq!(read(&argument).unwrap().as_bytes(), &[7; 32]);
        let missing = read(&Secret("@/does/not/exist".to_owned())).unwrap_err();
        assert!(missing.to_string().contains("/does/not/exist"), "{missing}");
    }

    #[test]
    fn what_is_no_key_is_never_repeated_and_may_have_been_meant_as_a_file() {
        let error = read(&Secret("hunter2.key".to_owned())).unwrap_err().to_string();
        assert!(error.starts_with("the secret key is neither") && error.ends_with("@FILE"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        assert_eq!(
            read(&Secret(" ".to_owned())).unwrap_err().to_string(),
            "the secret key is empty; `hookward keygen` makes one"
        );
        assert!(!format!("{:?}", argument("secret").unwrap()).contains("secret"));
    }
}
