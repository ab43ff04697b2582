use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;
use penstock_crds::edge::ReferencePath;
use penstock_crds::identity::Proved;
use proptest::prelude::*;

enum Signer {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
}

struct Issuer {
    kid: &'static str,
    signer: Signer,
}

fn coded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Issuer {
    fn ed(kid: &'static str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { kid, signer: Signer::Ed(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap()) }
    }

    fn ec(kid: &'static str) -> Self {
        let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Self { kid, signer: Signer::Ec(EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random).unwrap()) }
    }

    fn jwk(&self) -> Value {
        match &self.signer {
            Signer::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "use": "sig", "alg": "EdDSA",
                       "x": coded(pair.public_key())})
            }
            Signer::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": self.kid, "x": coded(x), "y": coded(y)})
            }
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", coded(header.to_string()), coded(claims.to_string()));
        let signature = match &self.signer {
            Signer::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
            Signer::Ec(pair) => {
                pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec()
            }
        };
        format!("{message}.{}", coded(signature))
    }

    fn alg(&self) -> &'static str {
        if matches!(self.signer, Signer::Ed(_)) { "EdDSA" } else { "ES256" }
    }

    /// A token with the claims of [`claims`], and `changes` to them; null takes one away.
    fn token(&self, changes: Value) -> String {
        let mut claims = claims();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.sign(&json!({"alg": self.alg(), "kid": self.kid, "typ": "JWT"}), &claims)
    }
}

fn claims() -> Value {
    json!({"sub": "press-1", "aud": "telemetry", "iss": "https://issuer.example", "exp": now() + 600,
           "project": ["a", "b"], "plant": 7, "secret": "not named by any template"})
}

fn rules(leeway_seconds: u32) -> Rules {
    let config = JwtConfig {
        jwks: ReferencePath("secrets/issuer/jwks.json".to_owned()),
        algorithms: vec![JwtAlgorithm::EdDSA, JwtAlgorithm::ES256],
        audience: "telemetry".to_owned(),
        issuer: "https://issuer.example".to_owned(),
        leeway_seconds,
        identity_claim: "sub".to_owned(),
    };
    Rules::new(&config, vec!["project".into(), "plant".into(), "absent".into()])
}

fn keys(of: &[&Issuer]) -> Keys {
    let set = json!({"keys": of.iter().map(|issuer| issuer.jwk()).collect::<Vec<_>>()});
    Keys::parse(set.to_string().as_bytes(), None).unwrap()
}

fn name(result: Option<Result<Identity, Nameless>>) -> Option<String> {
    result.and_then(Result::ok).map(|identity| identity.name().to_owned())
}

#[test]
fn a_right_token_names_its_sender_and_the_claims_that_are_asked_for() {
    for issuer in [Issuer::ed("one"), Issuer::ec("one")] {
        let (rules, keys) = (rules(30), keys(&[&issuer]));
        let identity = rules.verify(issuer.token(json!({})).as_bytes(), &keys).unwrap().unwrap();
        assert_eq!(identity.name(), "press-1");
        let claim = |name| identity.claim(name).collect::<Vec<_>>();
        assert_eq!(claim("project"), ["a", "b"]);
        assert_eq!(claim("plant"), ["7"]);
        assert!(claim("absent").is_empty() && claim("secret").is_empty());
        let left = identity.expires().unwrap().saturating_duration_since(Instant::now()).as_secs();
        assert!((625..=630).contains(&left), "exp and the leeway: {left}");
    }
}

#[test]
fn a_token_is_refused_for_each_thing_that_is_wrong_with_it() {
    let (issuer, other) = (Issuer::ed("one"), Issuer::ed("one"));
    let (rules, keys) = (rules(30), keys(&[&issuer]));
    let verify = |token: String| name(rules.verify(token.as_bytes(), &keys));
    for changes in [
        json!({"exp": now() - 31}),
        json!({"exp": null}),
        json!({"exp": "soon"}),
        json!({"nbf": now() + 60}),
        json!({"aud": "another"}),
        json!({"aud": ["another"]}),
        json!({"aud": null}),
        json!({"aud": 7}),
        json!({"iss": "https://issuer.example.evil"}),
        json!({"iss": null}),
        json!({"iss": {"a": 1}}),
    ] {
        assert_eq!(verify(issuer.token(changes.clone())), None, "{changes}");
    }
    for changes in
        [json!({"exp": now() - 20}), json!({"aud": ["x", "telemetry"]}), json!({"nbf": now() + 20})]
    {
        assert_eq!(verify(issuer.token(changes.clone())).as_deref(), Some("press-1"), "{changes}");
    }
    assert_eq!(verify(other.token(json!({}))), None, "another key of the same name");
    for changes in [json!({"sub": null}), json!({"sub": 7}), json!({"sub": ""})] {
        let result = rules.verify(issuer.token(changes).as_bytes(), &keys);
        assert_eq!(result.map(|result| result.map(|_| ())), Some(Err(Nameless)));
    }
    assert_eq!(verify(format!("{}{}", issuer.token(json!({})), "a".repeat(MAX_TOKEN_BYTES))), None);
}

#[test]
fn no_header_makes_a_token_right() {
    let issuer = Issuer::ed("one");
    let (rules, keys) = (rules(30), keys(&[&issuer]));
    let right = issuer.sign(&json!({"alg": "EdDSA"}), &claims());
    assert!(name(rules.verify(right.as_bytes(), &keys)).is_some(), "a key need not be named");
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "ES256"}),
        json!({"alg": "RS256"}),
        json!({"alg": "EdDSA", "kid": "other"}),
        json!({"alg": "EdDSA", "crit": ["exp"]}),
        json!({"alg": "EdDSA", "jwk": Issuer::ed("x").jwk(), "kid": "x"}),
    ] {
        let token = issuer.sign(&header, &claims());
        assert_eq!(name(rules.verify(token.as_bytes(), &keys)), None, "{header}");
    }
    // The public key as a shared secret: RFC 8725 §2.1.
    let Signer::Ed(pair) = &issuer.signer else { panic!("Ed25519") };
    let message = format!("{}.{}", coded(json!({"alg": "HS256"}).to_string()), coded(claims().to_string()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, pair.public_key().as_ref());
    let token = format!("{message}.{}", coded(ring::hmac::sign(&key, message.as_bytes())));
    assert_eq!(name(rules.verify(token.as_bytes(), &keys)), None);
    let unsigned = format!("{}.{}.", coded(r#"{"alg":"none"}"#), coded(claims().to_string()));
    assert_eq!(name(rules.verify(unsigned.as_bytes(), &keys)), None);
}

#[test]
fn a_key_that_stays_stays_the_same() {
    let (one, two) = (Issuer::ed("one"), Issuer::ec("two"));
    let before = keys(&[&one, &two]);
    let set = json!({"keys": [two.jwk()]});
    let after = Keys::parse(set.to_string().as_bytes(), Some(&before)).unwrap();
    assert!(!after.has(&before.0[0]) && after.has(&before.0[1]));
}

#[test]
fn only_public_keys_for_signatures_are_taken() {
    for set in [
        json!({"keys": []}),
        json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}),
        json!({"keys": [{"kty": "unknown"}]}),
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "enc", "x": coded([7; 32])}]}),
        json!({"keys": "none"}),
        json!([]),
    ] {
        assert!(Keys::parse(set.to_string().as_bytes(), None).is_err(), "{set}");
    }
    let error = Keys::parse(b"{\n\"secret\"\n", None).unwrap_err().to_string();
    assert!(error.starts_with("line 3: ") && !error.contains("secret"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_are_no_token(token in proptest::collection::vec(any::<u8>(), 0..300), dotted in "[a-zA-Z0-9_=-]{0,60}\\.[a-zA-Z0-9_-]{0,60}\\.[a-zA-Z0-9_-]{0,60}") {
        let issuer = Issuer::ed("one");
        let (rules, keys) = (rules(30), keys(&[&issuer]));
        prop_assert!(rules.verify(&token, &keys).is_none());
        prop_assert!(rules.verify(dotted.as_bytes(), &keys).is_none());
    }

    #[test]
    fn any_bytes_are_keys_or_refused(contents in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _ = Keys::parse(&contents, None);
    }

    #[test]
    fn no_changed_byte_of_a_token_is_taken(place in 0_usize..1_000, byte in any::<u8>()) {
        let issuer = Issuer::ed("one");
        let (rules, keys) = (rules(30), keys(&[&issuer]));
        let right = issuer.token(json!({})).into_bytes();
        let mut token = right.clone();
        let place = place % token.len();
        token[place] = byte;
        if token != right {
            prop_assert!(rules.verify(&token, &keys).is_none());
        }
    }
}
