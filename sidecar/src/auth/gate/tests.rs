use std::fs;

use penstock_crds::edge::EdgeConfig;
use penstock_crds::{manifest, resolve};
use tempfile::TempDir;

use super::*;
use crate::auth::{CertificateNames, Credentials, Proof};
use crate::endpoint::connections::{Connections, Order};

const SOURCE: &str = "192.0.2.1";

struct Fixture {
    folder: TempDir,
    gate: Arc<Gate>,
}

fn config(authentication: &str) -> EdgeConfig {
    let yaml = format!(
        "apiVersion: penstock.dev/v1alpha1
kind: IngestPipeline
metadata: {{name: gate}}
spec:
  kafka: {{bootstrapServers: ['kafka:9092']}}
  topics: [{{name: t}}]
  endpoints: [{{name: mqtt, port: 1883, mqtt: {{}}, authentication: {authentication}}}]
  routes: [{{name: r, from: [{{endpoint: mqtt, topicFilter: 'v1/{{device}}'}}], to: {{topic: t}}}}]
"
    );
    resolve::resolve(&manifest::read(&yaml).unwrap()).unwrap()
}

impl Fixture {
    fn new(authentication: &str, file: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("secrets/devices")).unwrap();
        let config = config(authentication);
        let endpoint = &config.endpoints[0];
        let path = folder.path().join(&endpoint.credentials().unwrap().0);
        fs::write(path, file).unwrap();
        let verifier = Verifier::start(1).unwrap();
        let gate = Gate::new(&config, endpoint, folder.path(), &verifier).unwrap().unwrap();
        Self { folder, gate }
    }

    fn basic(file: &str) -> Self {
        Self::new("{basic: {usersSecret: {name: devices}}}", file)
    }

    /// Replaces the file and reads it.
    fn change(&self, file: &str) -> bool {
        let path = self.gate.file.as_ref().unwrap().lock().path().to_owned();
        let new = self.folder.path().join("new");
        fs::write(&new, file).unwrap();
        fs::rename(new, path).unwrap();
        self.gate.reload()
    }

    async fn connect(&self, user: &str, password: &str) -> Result<Arc<Identity>, Denied> {
        self.from(SOURCE, user, password).await
    }

    async fn from(&self, source: &str, user: &str, password: &str) -> Result<Arc<Identity>, Denied> {
        let proof = Proof::Connect { user: Some(user), password: Some(password.as_bytes()) };
        self.gate
            .authenticate(Credentials { source: source.parse().unwrap(), proof, certificate: None })
            .await
    }
}

fn bcrypt_line(user: &str, password: &str) -> String {
    format!("{user}:{}\n", bcrypt::hash(password, 6).unwrap())
}

fn sha256_line(user: &str, secret: &str) -> String {
    let hex: String =
        crate::auth::hash::sha256(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{user}:sha256:{hex}\n")
}

#[tokio::test]
async fn a_password_is_verified_once_and_then_remembered() {
    let fixture = Fixture::basic(&bcrypt_line("ada", "secret"));
    let Check::Later(verification) = fixture.gate.check(Credentials {
        source: SOURCE.parse().unwrap(),
        certificate: None,
        proof: Proof::Connect { user: Some("ada"), password: Some(b"secret") },
    }) else {
        panic!("a slow hash is not computed here")
    };
    assert_eq!(verification.await.unwrap().name(), "ada");
    assert_eq!(fixture.gate.remembered(), 1);
    let again = fixture.gate.check(Credentials {
        source: SOURCE.parse().unwrap(),
        certificate: None,
        proof: Proof::Authorization(Some(b"Basic YWRhOnNlY3JldA==")),
    });
    assert!(matches!(again, Check::Now(Ok(_))), "{again:?}");
    assert_eq!(fixture.connect("ada", "secreT").await.unwrap_err(), Denied::Wrong);
    assert_eq!(fixture.gate.remembered(), 1, "only what is right is remembered");
    let counted = |name| fixture.gate.counts().iter().find(|(known, _)| *known == name).unwrap().1;
    assert_eq!((counted("accepted"), counted("wrong")), (2, 1));
}

#[tokio::test]
async fn a_name_that_nobody_has_waits_for_a_hash_like_any_other() {
    let fixture = Fixture::basic(&bcrypt_line("ada", "secret"));
    let check = fixture.gate.check(Credentials {
        source: SOURCE.parse().unwrap(),
        certificate: None,
        // The right password of the user that stands in for it.
        proof: Proof::Connect { user: Some("eve"), password: Some(b"secret") },
    });
    let Check::Later(verification) = check else { panic!("eve is told at once: {check:?}") };
    assert_eq!(verification.await.unwrap_err(), Denied::Wrong);
    assert_eq!(fixture.gate.remembered(), 0);
}

#[tokio::test]
async fn a_removed_or_changed_line_ends_what_rests_on_it_and_no_more() {
    let (ada, bob, eve) = (bcrypt_line("ada", "a"), sha256_line("bob", "b"), bcrypt_line("eve", "e"));
    let fixture = Fixture::basic(&format!("{ada}{bob}{eve}"));
    let connections = Connections::new(10);
    let mut places = Vec::new();
    for (user, password) in [("ada", "a"), ("bob", "b"), ("eve", "e")] {
        let place = connections.enter().unwrap();
        place.handle().identify(fixture.connect(user, password).await.unwrap());
        places.push(place);
    }
    let open = connections.enter().unwrap();
    assert!(!fixture.gate.reload(), "nothing has changed");
    // Another line for bob, none for eve.
    assert!(fixture.change(&format!("{}{ada}", sha256_line("bob", "other"))));
    connections.revoke(|identity| fixture.gate.holds(identity)).await;
    let orders: Vec<_> = places.iter().map(|place| place.handle().ordered()).collect();
    assert_eq!(orders, [None, Some(Order::Unauthorized), Some(Order::Unauthorized)]);
    assert_eq!(open.handle().ordered(), None);
    assert!(fixture.connect("ada", "a").await.is_ok(), "an unchanged line is still remembered");
    for (user, password) in [("bob", "b"), ("eve", "e")] {
        assert_eq!(fixture.connect(user, password).await.unwrap_err(), Denied::Wrong, "{user}");
    }
    assert!(fixture.connect("bob", "other").await.is_ok());
}

#[tokio::test]
async fn a_file_that_cannot_be_used_keeps_the_one_before() {
    let fixture = Fixture::basic(&sha256_line("ada", "a"));
    assert!(!fixture.change("ada:plain text\n"));
    assert!(fixture.gate.is_broken() && !fixture.gate.is_shut());
    assert!(fixture.connect("ada", "a").await.is_ok());
    assert!(fixture.change(&sha256_line("ada", "b")));
    assert!(!fixture.gate.is_broken());
    assert_eq!(fixture.connect("ada", "a").await.unwrap_err(), Denied::Wrong);
}

#[tokio::test]
async fn a_gate_without_credentials_yet_asks_to_come_back() {
    let fixture = Fixture::basic("broken");
    assert!(fixture.gate.is_shut() && fixture.gate.is_broken());
    assert!(matches!(fixture.connect("ada", "a").await, Err(Denied::Busy(_))));
    assert!(fixture.change(&sha256_line("ada", "a")));
    assert!(fixture.connect("ada", "a").await.is_ok());
}

#[tokio::test]
async fn an_address_that_fails_too_often_costs_no_hash_and_shuts_nobody_else_out() {
    let fixture = Fixture::basic(&format!("{}{}", bcrypt_line("ada", "a"), sha256_line("bob", "b")));
    fixture.connect("ada", "a").await.unwrap();
    let mut limited = 0;
    for guess in 0..200 {
        match fixture.connect("ada", &format!("guess {guess}")).await.unwrap_err() {
            Denied::Wrong => {}
            Denied::Limited(wait) => {
                assert!(wait <= Duration::from_secs(2));
                limited += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(limited >= 170, "{limited} of 200 were not looked at");
    assert!(fixture.connect("ada", "a").await.is_ok(), "what is remembered is let in");
    assert!(fixture.connect("bob", "b").await.is_ok(), "what costs nothing is looked at");
    assert!(matches!(fixture.from("192.0.2.2", "ada", "wrong").await, Err(Denied::Wrong)));
}

#[tokio::test]
async fn a_token_is_the_password_of_any_user_and_a_bearer_by_http() {
    let fixture = Fixture::new("{token: {tokensSecret: {name: devices}}}", &sha256_line("press", "t0ken"));
    assert_eq!(fixture.connect("whoever", "t0ken").await.unwrap().name(), "press");
    let http = |field: &'static str| {
        let proof = Proof::Authorization((!field.is_empty()).then_some(field.as_bytes()));
        fixture.gate.authenticate(Credentials { source: SOURCE.parse().unwrap(), proof, certificate: None })
    };
    assert_eq!(http("bearer t0ken").await.unwrap().name(), "press");
    assert_eq!(http("Basic t0ken").await.unwrap_err(), Denied::Wrong);
    assert_eq!(http("").await.unwrap_err(), Denied::Missing);
    assert_eq!(fixture.connect("press", "other").await.unwrap_err(), Denied::Wrong);
}

#[test]
fn nothing_that_is_shown_of_a_gate_tells_a_secret() {
    let fixture = Fixture::basic(&sha256_line("ada", "marker-of-a-secret"));
    let identity = Identity::new(
        "marker-of-a-name",
        RestsOn::User(Arc::new(User {
            name: "marker-of-a-name".into(),
            hash: crate::auth::hash::Hash::Sha256([7; 32]),
        })),
    );
    let text = format!("{:?} {identity:?} {:?}", fixture.gate, fixture.gate.verifier);
    assert!(!text.contains("marker") && !text.contains("ada") && !text.contains('7'), "{text}");
}

#[tokio::test]
async fn a_certificate_names_its_sender_by_one_field() {
    let (source, proof) = (SOURCE.parse().unwrap(), Proof::Authorization(None));
    let names = CertificateNames {
        common_name: Some("press-1".to_owned()),
        dns_names: vec!["one".to_owned(), "two".to_owned()],
        uris: vec!["spiffe://iot/press-1".to_owned()],
        not_after: Some(SystemTime::now() + Duration::from_secs(60)),
    };
    let by = |field| certificate(field, Credentials { source, proof, certificate: Some(&names) });
    let identity = by(CertificateField::CommonName).unwrap();
    assert_eq!(identity.name(), "press-1");
    assert!(identity.expires().unwrap() <= Instant::now() + Duration::from_secs(60));
    assert_eq!(by(CertificateField::Uri).unwrap().name(), "spiffe://iot/press-1");
    assert_eq!(by(CertificateField::DnsName).unwrap_err(), Denied::NotAllowed, "which of the two?");
    let nothing = Credentials { source, proof, certificate: None };
    assert_eq!(certificate(CertificateField::CommonName, nothing).unwrap_err(), Denied::Missing);
}
