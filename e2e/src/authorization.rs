//! An authorization server: it gives tokens to one client that shows its secret (RFC 6749 §4.4), over TLS.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::credentials::Issuer;
use crate::pki::Authority;

/// It runs until the process ends.
pub struct AuthorizationServer {
    port: u16,
    state: Arc<State>,
}

struct State {
    issuer: Issuer,
    tls: Arc<ServerConfig>,
    seconds: u64,
    /// What the client must show: `Basic …`.
    proof: Mutex<String>,
    given: AtomicUsize,
}

impl AuthorizationServer {
    /// Serves with a certificate of `authority`. Tokens live for so many seconds.
    #[track_caller]
    pub fn start(authority: &Authority, seconds: u64) -> Self {
        authority.issue("sso", "/CN=sso", &["DNS:localhost", "IP:127.0.0.1"]);
        let chain = CertificateDer::pem_file_iter(authority.path("sso.crt")).expect("a certificate");
        let chain = chain.collect::<Result<_, _>>().expect("a certificate in PEM");
        let key = PrivateKeyDer::from_pem_file(authority.path("sso.key")).expect("a key in PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate and its key");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (issuer, proof, given) = (Issuer::new(), Mutex::default(), AtomicUsize::new(0));
        let state = Arc::new(State { issuer, tls: Arc::new(tls), seconds, proof, given });
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who does not trust the certificate goes in mid-handshake.
                let _ = serving.serve(stream);
            }
        });
        Self { port, state }
    }

    /// The token endpoint.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/token", self.port)
    }

    /// The keys that its tokens are checked with.
    pub fn jwks(&self) -> String {
        self.state.issuer.jwks()
    }

    /// From now on tokens are given to this client alone.
    pub fn know(&self, client_id: &str, secret: &str) {
        let proof = BASE64_STANDARD.encode(format!("{client_id}:{secret}"));
        *self.state.proof.lock() = format!("Basic {proof}");
    }

    /// Tokens given so far.
    pub fn given(&self) -> usize {
        self.state.given.load(Ordering::Relaxed)
    }
}

impl State {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let connection = ServerConnection::new(Arc::clone(&self.tls)).map_err(std::io::Error::other)?;
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        let (mut length, mut proof) = (0, String::new());
        let mut line = String::new();
        while stream.read_line(&mut line)? > 2 {
            let (name, value) = line.trim().split_once(": ").unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap_or(0),
                "authorization" => value.clone_into(&mut proof),
                _ => {}
            }
            line.clear();
        }
        let mut form = vec![0; length];
        stream.read_exact(&mut form)?;
        let (status, answer) = self.answer(&String::from_utf8_lossy(&form), &proof);
        let (answer, stream) = (answer.to_string(), stream.get_mut());
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
            answer.len()
        )?;
        stream.conn.send_close_notify();
        stream.flush()
    }

    fn answer(&self, form: &str, proof: &str) -> (&'static str, Value) {
        if form != "grant_type=client_credentials&scope=kafka" {
            return ("400 Bad Request", json!({"error": "invalid_request"}));
        }
        if proof != *self.proof.lock() {
            let words = "who are you?";
            return ("401 Unauthorized", json!({"error": "invalid_client", "error_description": words}));
        }
        self.given.fetch_add(1, Ordering::Relaxed);
        let proof = BASE64_STANDARD.decode(proof.trim_start_matches("Basic ")).expect("what was compared");
        let proof = String::from_utf8(proof).expect("text");
        let (client_id, _) = proof.split_once(':').expect("an identifier");
        let token = self.issuer.token(client_id, self.seconds, &json!({}));
        ("200 OK", json!({"access_token": token, "token_type": "Bearer", "expires_in": self.seconds}))
    }
}
