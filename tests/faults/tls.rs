//! A listener that speaks TLS with a certificate that nobody trusts.

use std::{
    io::Read,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned, crypto,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// Certificate and key of nobody, made for this test.
const SELF_SIGNED: &[u8] = include_bytes!("self-signed.pem");

/// Listens until the process ends.
pub struct SelfSigned {
    pub address: SocketAddr,
    refused: Arc<AtomicUsize>,
}

impl SelfSigned {
    pub fn start() -> Self {
        let certificate = CertificateDer::from_pem_slice(SELF_SIGNED).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(SELF_SIGNED).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("the key fits");
        let (config, refused) = (Arc::new(config), Arc::new(AtomicUsize::new(0)));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it listens");
        let count = refused.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let connection = ServerConnection::new(config.clone()).expect("the configuration is good");
                let mut stream = StreamOwned::new(connection, stream);
                // A client that trusts nobody says so and leaves before it sends a request.
                let request = stream.read(&mut [0; 1024]);
                if request.is_err() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { address, refused }
    }

    /// Clients that left without a request.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}
