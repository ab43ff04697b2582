//! The gate of an endpoint.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use penstock_crds::edge::{AuthenticationMethodConfig, CertificateField, EdgeConfig, EndpointConfig};
use penstock_crds::identity::{ClientIdPattern, IdentityTemplate, TemplateError};
use tokio::sync::oneshot;

use super::Denied;
use super::attempts::Attempts;
use super::credentials::{Credentials, Shown};
use super::file::Watched;
use super::identity::{Identity, RestsOn};
use super::jwt::{Keys, Nameless, Rules};
use super::lines::{FileError, MAX_NAME_BYTES};
use super::remembered::{Mark, Remembered};
use super::tokens::Tokens;
use super::users::{User, Users};
use super::verifier::{MAX_SECRET_BYTES, Verdict, Verifier};

/// When to come back to a gate that is too busy, or has no credentials yet.
const BUSY: Duration = Duration::from_secs(5);
/// Between two lines about addresses that fail too often.
const LINES: Duration = Duration::from_secs(10);

/// Why a gate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// A template; the configuration was not made by `resolve`.
    #[error("endpoint {endpoint}: {error}")]
    Template {
        /// The endpoint.
        endpoint: String,
        /// What is wrong.
        error: TemplateError,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Who is let in at an endpoint.
pub struct Gate {
    endpoint: String,
    method: Method,
    client_id: Option<ClientIdPattern>,
    /// None where the credentials are certificates.
    file: Option<Mutex<Watched>>,
    /// The file as it is now cannot be used.
    broken: AtomicBool,
    remembered: Remembered,
    attempts: Attempts,
    verifier: Arc<Verifier>,
    counters: [AtomicU64; 6],
    said: Mutex<Option<Instant>>,
}

enum Method {
    Basic(ArcSwapOption<Users>),
    Token(ArcSwapOption<Tokens>),
    Jwt(ArcSwapOption<Keys>, Box<Rules>),
    Certificate(CertificateField),
}

/// What a gate says to credentials.
#[derive(Debug)]
pub enum Check {
    /// This.
    Now(Result<Arc<Identity>, Denied>),
    /// A hash has to be computed first.
    Later(Verification),
}

impl Gate {
    /// The gate of an endpoint, with the credentials that its file has now; none for an endpoint that is open.
    ///
    /// # Errors
    /// A configuration that contradicts itself. A file that cannot be read is no error: see [`Gate::trouble`].
    pub fn new(
        config: &EdgeConfig,
        endpoint: &EndpointConfig,
        references: &Path,
        verifier: &Arc<Verifier>,
    ) -> Result<Option<Arc<Self>>, GateError> {
        let Some(authentication) = &endpoint.authentication else { return Ok(None) };
        let template = |error| GateError::Template { endpoint: endpoint.name.clone(), error };
        let client_id = authentication.client_id.as_deref().map(ClientIdPattern::parse).transpose();
        let client_id = client_id.map_err(template)?;
        let method = match &authentication.method {
            AuthenticationMethodConfig::Basic(_) => Method::Basic(ArcSwapOption::empty()),
            AuthenticationMethodConfig::Token(_) => Method::Token(ArcSwapOption::empty()),
            AuthenticationMethodConfig::Jwt(jwt) => {
                let mut wanted: Vec<Arc<str>> = Vec::new();
                let mut want = |name: &str| {
                    if !wanted.iter().any(|known| **known == *name) {
                        wanted.push(name.into());
                    }
                };
                client_id.iter().flat_map(ClientIdPattern::claims).for_each(&mut want);
                for route in &config.routes {
                    if route.from.iter().any(|source| source.endpoint == endpoint.name) {
                        for text in route.allow.values() {
                            let parsed = IdentityTemplate::parse(text).map_err(template)?;
                            parsed.claims().for_each(&mut want);
                        }
                    }
                }
                Method::Jwt(ArcSwapOption::empty(), Box::new(Rules::new(jwt, wanted)))
            }
            AuthenticationMethodConfig::ClientCertificate(field) => Method::Certificate(*field),
        };
        let file = endpoint.credentials().map(|file| Mutex::new(Watched::new(references.join(&file.0))));
        let now = Instant::now();
        let gate = Arc::new(Self {
            endpoint: endpoint.name.clone(),
            method,
            client_id,
            file,
            broken: AtomicBool::new(false),
            remembered: Remembered::new(now).ok_or(GateError::Random)?,
            attempts: Attempts::new(now),
            verifier: Arc::clone(verifier),
            counters: Default::default(),
            said: Mutex::new(None),
        });
        gate.reload();
        Ok(Some(gate))
    }

    /// Reads the file again if it has changed. Returns whether other credentials hold now. One that cannot be used
    /// changes nothing, but for a line in the log and a metric.
    pub fn reload(&self) -> bool {
        let Some(file) = &self.file else { return false };
        let mut file = file.lock();
        let problem = match file.read() {
            Ok(None) => return false,
            Ok(Some(contents)) => self.take(&contents).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let was_broken = self.broken.swap(problem.is_some(), Ordering::AcqRel);
        let (endpoint, path) = (&*self.endpoint, file.path().display());
        match problem {
            None => {
                tracing::info!(endpoint, file = %path, "credentials were read");
                true
            }
            Some(problem) => {
                // A file that is not there is looked for every few seconds.
                if !was_broken || file.was_read() {
                    tracing::error!(endpoint, file = %path, problem, "credentials cannot be used; the former ones hold on");
                }
                false
            }
        }
    }

    fn take(&self, contents: &[u8]) -> Result<(), FileError> {
        match &self.method {
            Method::Basic(users) => {
                let new = Users::parse(contents, users.load().as_deref())?;
                users.store(Some(Arc::new(new)));
            }
            Method::Token(tokens) => {
                let new = Tokens::parse(contents, tokens.load().as_deref())?;
                tokens.store(Some(Arc::new(new)));
            }
            Method::Jwt(keys, _) => {
                let new = Keys::parse(contents, keys.load().as_deref())?;
                keys.store(Some(Arc::new(new)));
            }
            Method::Certificate(_) => {}
        }
        Ok(())
    }

    /// Whether the file as it is now cannot be used. Earlier credentials may hold on.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Whether nobody can be let in, as no credentials have been read yet.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        match &self.method {
            Method::Basic(users) => users.load().is_none(),
            Method::Token(tokens) => tokens.load().is_none(),
            Method::Jwt(keys, _) => keys.load().is_none(),
            Method::Certificate(_) => false,
        }
    }

    /// Whether an identity that this gate gave holds on: its line or key is still there and it has not expired.
    #[must_use]
    pub fn holds(&self, identity: &Identity) -> bool {
        if identity.expires().is_some_and(|expires| expires <= Instant::now()) {
            return false;
        }
        match (&self.method, identity.rests_on()) {
            (Method::Basic(users), RestsOn::User(user)) => users
                .load()
                .as_ref()
                .and_then(|users| users.find(&user.name))
                .is_some_and(|known| Arc::ptr_eq(known, user)),
            (Method::Token(tokens), RestsOn::Token(token)) => {
                tokens.load().as_ref().is_some_and(|tokens| tokens.has(token))
            }
            (Method::Jwt(keys, _), RestsOn::Key(key)) => {
                keys.load().as_ref().is_some_and(|keys| keys.has(key))
            }
            (Method::Certificate(_), RestsOn::Certificate) => true,
            _ => false,
        }
    }

    /// Whether `identity` may use this MQTT client identifier.
    #[must_use]
    pub fn allows_client_id(&self, identity: &Identity, client_id: &str) -> bool {
        self.client_id.as_ref().is_none_or(|pattern| pattern.allows(client_id, identity))
    }

    /// What an HTTP client is told that has not shown who it is (RFC 9110 §11.6.1); there is no challenge for a
    /// certificate.
    #[must_use]
    pub fn challenge(&self) -> Option<&'static str> {
        match &self.method {
            Method::Basic(_) => Some("Basic realm=\"penstock\", charset=\"UTF-8\""),
            Method::Token(_) | Method::Jwt(..) => Some("Bearer realm=\"penstock\""),
            Method::Certificate(_) => None,
        }
    }

    /// Lets a sender in, or says why not.
    pub async fn authenticate(
        self: &Arc<Self>,
        credentials: Credentials<'_>,
    ) -> Result<Arc<Identity>, Denied> {
        match self.check(credentials) {
            Check::Now(result) => result,
            Check::Later(verification) => verification.await,
        }
    }

    /// Judges credentials at once, or says that a slow hash is needed. Neither waits nor blocks.
    pub fn check(self: &Arc<Self>, credentials: Credentials<'_>) -> Check {
        let now = Instant::now();
        let result = match &self.method {
            Method::Basic(users) => match self.basic(users, credentials, now) {
                Check::Later(verification) => return Check::Later(verification),
                Check::Now(result) => result,
            },
            Method::Token(tokens) => self.token(tokens, credentials),
            Method::Jwt(keys, rules) => self.jwt(keys, rules, credentials, now),
            Method::Certificate(field) => certificate(*field, credentials),
        };
        Check::Now(self.note(credentials.source, result, now))
    }

    fn token(
        &self,
        tokens: &ArcSwapOption<Tokens>,
        credentials: Credentials<'_>,
    ) -> Result<Arc<Identity>, Denied> {
        let token = shown(credentials.proof.bearer())?;
        let tokens = tokens.load();
        let tokens = tokens.as_ref().ok_or(Denied::Busy(BUSY))?;
        let line = (token.len() <= MAX_SECRET_BYTES).then(|| tokens.find(token)).flatten();
        let line = line.ok_or(Denied::Wrong)?;
        Ok(Arc::new(Identity::new(&line.identity, RestsOn::Token(Arc::clone(line)))))
    }

    fn jwt(
        &self,
        keys: &ArcSwapOption<Keys>,
        rules: &Rules,
        credentials: Credentials<'_>,
        now: Instant,
    ) -> Result<Arc<Identity>, Denied> {
        let token = shown(credentials.proof.bearer())?;
        let keys = keys.load();
        let keys = keys.as_ref().ok_or(Denied::Busy(BUSY))?;
        let mark = self.remembered.mark(b"", token);
        if let Some(identity) = self.recall(mark, now) {
            return Ok(identity);
        }
        match rules.verify(token, keys) {
            None => Err(Denied::Wrong),
            Some(Err(Nameless)) => Err(Denied::NotAllowed),
            Some(Ok(identity)) => {
                let identity = Arc::new(identity);
                self.remembered.insert(mark, Arc::clone(&identity), now);
                Ok(identity)
            }
        }
    }

    fn basic(
        self: &Arc<Self>,
        users: &ArcSwapOption<Users>,
        credentials: Credentials<'_>,
        now: Instant,
    ) -> Check {
        let password = match shown(credentials.proof.password()) {
            Ok(password) => password,
            Err(denied) => return Check::Now(Err(denied)),
        };
        let users = users.load();
        let Some(users) = users.as_ref() else { return Check::Now(Err(Denied::Busy(BUSY))) };
        let Some((name, secret)) = password.parts().filter(|(_, secret)| secret.len() <= MAX_SECRET_BYTES)
        else {
            return Check::Now(Err(Denied::Wrong));
        };
        let mark = self.remembered.mark(name.as_bytes(), secret);
        // A name that nobody has costs as much as one that somebody has.
        let known = users.find(name);
        let decoy = || users.decoy(self.remembered.mark(name.as_bytes(), b"").number());
        let Some(user) = known.or_else(decoy) else { return Check::Now(Err(Denied::Wrong)) };
        if !user.hash.is_slow() {
            let right = user.hash.verify(secret) & known.is_some();
            return Check::Now(if right { Ok(identity_of(user)) } else { Err(Denied::Wrong) });
        }
        if let Some(identity) = self.recall(mark, now) {
            return Check::Now(Ok(identity));
        }
        if let Err(wait) = self.attempts.may_fail(credentials.source, now) {
            return Check::Now(Err(Denied::Limited(wait)));
        }
        match self.verifier.ask(mark, user, secret, now) {
            None => Check::Now(Err(Denied::Busy(BUSY))),
            Some(answer) => Check::Later(Verification {
                gate: Arc::clone(self),
                source: credentials.source,
                user: known.map(Arc::clone),
                mark,
                answer,
            }),
        }
    }

    /// What was found right before, if it still holds.
    fn recall(&self, mark: Mark, now: Instant) -> Option<Arc<Identity>> {
        let identity = self.remembered.get(mark, now)?;
        if self.holds(&identity) {
            return Some(identity);
        }
        self.remembered.forget(mark);
        None
    }

    /// Counts how an attempt ended, and notes a failure of its address.
    fn note(
        &self,
        source: IpAddr,
        result: Result<Arc<Identity>, Denied>,
        now: Instant,
    ) -> Result<Arc<Identity>, Denied> {
        let place = match &result {
            Ok(_) => 0,
            Err(Denied::Missing) => 1,
            Err(Denied::Wrong) => 2,
            Err(Denied::NotAllowed) => 3,
            Err(Denied::Busy(_)) => 4,
            Err(Denied::Limited(_)) => 5,
        };
        if let Some(counter) = self.counters.get(place) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if matches!(result, Err(Denied::Wrong)) && self.attempts.failed(source, now) {
            let mut said = self.said.lock();
            if said.is_none_or(|said| now.saturating_duration_since(said) >= LINES) {
                *said = Some(now);
                tracing::warn!(
                    endpoint = self.endpoint,
                    %source,
                    "too many failed attempts from this address; passwords from there wait until fewer fail"
                );
            }
        }
        result
    }

    /// How attempts have ended since the start: outcome and number.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 6] {
        const NAMES: [&str; 6] = ["accepted", "missing", "wrong", "not_allowed", "busy", "limited"];
        let mut outcomes = [("", 0); 6];
        for ((place, name), counter) in outcomes.iter_mut().zip(NAMES).zip(&self.counters) {
            *place = (name, counter.load(Ordering::Relaxed));
        }
        outcomes
    }

    /// How many passwords wait for their slow hash, of all gates of the pod.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.verifier.waiting()
    }

    /// How many proofs are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.remembered.len()
    }

    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

fn identity_of(user: &Arc<User>) -> Arc<Identity> {
    Arc::new(Identity::new(&user.name, RestsOn::User(Arc::clone(user))))
}

fn certificate(field: CertificateField, credentials: Credentials<'_>) -> Result<Arc<Identity>, Denied> {
    let names = credentials.certificate.ok_or(Denied::Missing)?;
    let name = names.name(field).filter(|name| !name.is_empty() && name.len() <= MAX_NAME_BYTES);
    let left = |end: SystemTime| end.duration_since(SystemTime::now()).unwrap_or_default();
    let expires = names.not_after.and_then(|end| Instant::now().checked_add(left(end)));
    name.map(|name| Arc::new(Identity::of_certificate(name, expires))).ok_or(Denied::NotAllowed)
}

fn shown<T>(shown: Shown<T>) -> Result<T, Denied> {
    match shown {
        Shown::This(this) => Ok(this),
        Shown::Nothing => Err(Denied::Missing),
        Shown::Other => Err(Denied::Wrong),
    }
}

/// A password whose hash is being computed. Dropped, it is not computed if that has not begun.
#[derive(Debug)]
pub struct Verification {
    gate: Arc<Gate>,
    source: IpAddr,
    /// None when a decoy is verified.
    user: Option<Arc<User>>,
    mark: Mark,
    answer: oneshot::Receiver<Verdict>,
}

impl Future for Verification {
    type Output = Result<Arc<Identity>, Denied>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let verdict = std::task::ready!(Pin::new(&mut self.answer).poll(context)).unwrap_or(None);
        let now = Instant::now();
        let result = match (verdict, &self.user) {
            (None, _) => Err(Denied::Busy(BUSY)),
            (Some(true), Some(user)) => {
                let identity = identity_of(user);
                if self.gate.holds(&identity) {
                    self.gate.remembered.insert(self.mark, Arc::clone(&identity), now);
                    Ok(identity)
                } else {
                    // The line was taken away meanwhile.
                    Err(Denied::Wrong)
                }
            }
            _ => Err(Denied::Wrong),
        };
        Poll::Ready(self.gate.note(self.source, result, now))
    }
}

/// How many threads verify slow hashes: half of the processors, at most four.
#[must_use]
pub(crate) fn verifier_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get() / 2).clamp(1, 4)
}

/// Starts the threads for slow hashes, if an endpoint may need them.
pub(crate) fn start_verifier(config: &EdgeConfig) -> io::Result<Arc<Verifier>> {
    let basic = |endpoint: &EndpointConfig| {
        let method = endpoint.authentication.as_ref().map(|authentication| &authentication.method);
        matches!(method, Some(AuthenticationMethodConfig::Basic(_)))
    };
    Verifier::start(if config.endpoints.iter().any(basic) { verifier_threads() } else { 0 })
}

#[cfg(test)]
mod tests;
