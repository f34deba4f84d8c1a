//! The server's certificate and key. Both files may be replaced while the server runs, as programs that renew certificates do.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};

/// How often the files are looked at.
const REFRESH: Duration = Duration::from_secs(5);

/// The certificate and the key of the server, and how it speaks TLS.
pub struct Identity {
    files: Files,
    resolver: Arc<Resolver>,
    config: Arc<ServerConfig>,
}

/// Where certificate and key are: PEM files.
#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// The content of the two files.
#[derive(PartialEq)]
struct Content([Vec<u8>; 2]);

#[derive(Debug)]
struct Resolver(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Identity {
    /// Reads the certificate (with those that lead to its root, in this order) and the key.
    ///
    /// # Errors
    /// One line for the operator.
    pub fn open(certificate: PathBuf, key: PathBuf) -> Result<(Arc<Self>, Reload), String> {
        let files = Files { certificate, key };
        let provider = Arc::new(default_provider());
        let content = files.read()?;
        let resolver = Arc::new(Resolver(RwLock::new(Arc::new(files.parse(&content, &provider)?))));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be used: {error}"))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&resolver) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let identity = Arc::new(Self { files, resolver, config: Arc::new(config) });
        Ok((Arc::clone(&identity), Reload { identity, content }))
    }

    /// The certificate of the server itself, in DER.
    #[must_use]
    pub fn certificate(&self) -> Vec<u8> {
        let current = Arc::clone(&self.resolver.0.read().unwrap_or_else(PoisonError::into_inner));
        current.cert.first().map(|certificate| certificate.to_vec()).unwrap_or_default()
    }

    /// The server's end of a new connection.
    pub(super) fn accept(&self) -> Result<ServerConnection, rustls::Error> {
        ServerConnection::new(Arc::clone(&self.config))
    }
}

/// Takes over new files.
pub struct Reload {
    identity: Arc<Identity>,
    content: Content,
}

impl Reload {
    /// Looks at the files from time to time. Connections that are open keep their certificate. If the new files cannot be used,
    /// the old certificate stays. Never returns.
    pub async fn forever(mut self) {
        let mut tick = tokio::time::interval(REFRESH);
        loop {
            tick.tick().await;
            self.look();
        }
    }

    fn look(&mut self) {
        let Identity { files, resolver, config } = &*self.identity;
        let content = match files.read() {
            Ok(content) if content == self.content => return,
            Ok(content) => content,
            Err(error) => return tracing::warn!(%error, "keeping the old certificate"),
        };
        match files.parse(&content, config.crypto_provider()) {
            Ok(key) => {
                *resolver.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                tracing::info!("certificate reloaded");
            }
            // Perhaps only one of the two files is new yet.
            Err(error) => tracing::warn!(%error, "keeping the old certificate"),
        }
        self.content = content;
    }
}

impl Files {
    fn read(&self) -> Result<Content, String> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        Ok(Content([read(&self.certificate)?, read(&self.key)?]))
    }

    fn parse(
        &self,
        Content([certificate, key]): &Content,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain =
            chain.ok_or_else(|| format!("{} holds no certificate in PEM", self.certificate.display()))?;
        // The error itself may show a part of the key.
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| format!("{} holds no private key in PEM", self.key.display()))?;
        CertifiedKey::from_der(chain, key, provider).map_err(|error| {
            format!("{} and {} cannot be used: {error}", self.certificate.display(), self.key.display())
        })
    }
}
