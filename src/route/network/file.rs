//! Prepared networks on disk: a line that says what it is, a digest, and the networks.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Network, NetworkError};

/// The first bytes of a file. Its number changes with anything that is stored.
const HEAD: &[u8] = b"ordercast roads 1\n";
const DIGEST: usize = 32;

impl Network {
    /// Writes networks so that [`Network::load`] reads them. The file is there with all of it, or as it was.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn save(networks: &[Self], file: &Path) -> std::io::Result<()> {
        let body = postcard::to_allocvec(networks).map_err(std::io::Error::other)?;
        let mut name = file.as_os_str().to_owned();
        name.push(".part");
        let mut part = File::create(&name)?;
        for bytes in [HEAD, &Sha256::digest(&body), &body] {
            part.write_all(bytes)?;
        }
        part.sync_all()?;
        std::fs::rename(&name, file)
    }

    /// Whether this is a prepared file, and no extract.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn is_prepared(file: &Path) -> std::io::Result<bool> {
        let mut head = Vec::new();
        File::open(file)?.take(HEAD.len() as u64).read_to_end(&mut head)?;
        // Any version.
        Ok(head.starts_with(&HEAD[..HEAD.len() - 2]))
    }

    /// Reads networks that were prepared.
    ///
    /// # Errors
    /// [`NetworkError::Unreadable`] if it is damaged, [`NetworkError::Version`] if it is of another version.
    pub fn load(file: &Path) -> Result<Vec<Self>, NetworkError> {
        let bytes = std::fs::read(file).map_err(|error| NetworkError::Unreadable(error.to_string()))?;
        let rest = bytes.strip_prefix(HEAD).ok_or(NetworkError::Version)?;
        let damaged = || NetworkError::Unreadable("it is damaged".to_owned());
        let (digest, body) = rest.split_at_checked(DIGEST).ok_or_else(damaged)?;
        if *digest != *Sha256::digest(body) {
            return Err(damaged());
        }
        postcard::from_bytes(body).map_err(|_| damaged())
    }
}
