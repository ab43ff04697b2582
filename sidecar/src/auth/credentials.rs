//! What a sender shows.

use std::net::IpAddr;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use penstock_crds::edge::CertificateField;

use crate::endpoint::wire::ClientCertificate;

/// What a sender shows, and where it comes from.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// Its address, by which failures are limited.
    pub source: IpAddr,
    /// What it shows.
    pub proof: Proof<'a>,
    /// The names in its certificate, where TLS has verified one.
    pub certificate: Option<&'a CertificateNames>,
}

/// The names in a certificate whose key the sender holds, signed by the endpoint's CA.
#[derive(Clone, Debug, Default)]
pub struct CertificateNames {
    /// CN of the subject.
    pub common_name: Option<String>,
    /// Subject alternative names of type DNS.
    pub dns_names: Vec<String>,
    /// Subject alternative names of type URI.
    pub uris: Vec<String>,
    /// `notAfter`.
    pub not_after: Option<SystemTime>,
}

impl From<&ClientCertificate> for CertificateNames {
    fn from(certificate: &ClientCertificate) -> Self {
        Self {
            common_name: certificate.common_name.clone(),
            dns_names: certificate.dns_names.clone(),
            uris: certificate.uris.clone(),
            not_after: Some(certificate.not_after),
        }
    }
}

impl CertificateNames {
    /// The one name of its field; none if there is none, or several.
    pub(super) fn name(&self, field: CertificateField) -> Option<&str> {
        match field {
            CertificateField::CommonName => self.common_name.as_deref(),
            CertificateField::DnsName => one(&self.dns_names),
            CertificateField::Uri => one(&self.uris),
        }
    }
}

fn one(names: &[String]) -> Option<&str> {
    match names {
        [name] => Some(name),
        _ => None,
    }
}

/// What a sender shows, as its protocol has it.
#[derive(Clone, Copy)]
pub enum Proof<'a> {
    /// User name and password of a CONNECT.
    Connect {
        /// The user name; of no account where the password is a token.
        user: Option<&'a str>,
        /// The password, or a token.
        password: Option<&'a [u8]>,
    },
    /// The Authorization field of a request.
    Authorization(Option<&'a [u8]>),
}

/// A user's name and password. Those of a request are decoded into a buffer.
pub(super) enum Password<'a> {
    Plain(&'a str, &'a [u8]),
    Decoded(Vec<u8>, usize),
}

impl Password<'_> {
    /// Name and password.
    pub(super) fn parts(&self) -> Option<(&str, &[u8])> {
        match self {
            Self::Plain(user, password) => Some((user, password)),
            Self::Decoded(bytes, colon) => {
                let user = std::str::from_utf8(bytes.get(..*colon)?).ok()?;
                Some((user, bytes.get(colon + 1..)?))
            }
        }
    }
}

/// What was found where credentials are looked for.
pub(super) enum Shown<T> {
    /// Nothing.
    Nothing,
    /// Something else.
    Other,
    /// What was looked for.
    This(T),
}

impl<'a> Proof<'a> {
    /// A user name and password (RFC 7617).
    pub(super) fn password(self) -> Shown<Password<'a>> {
        match self {
            Self::Connect { user: None, password: None } | Self::Authorization(None) => Shown::Nothing,
            Self::Connect { user: Some(user), password: Some(password) } => {
                Shown::This(Password::Plain(user, password))
            }
            Self::Connect { .. } => Shown::Other,
            Self::Authorization(Some(field)) => {
                let decoded = scheme(field, "basic").and_then(|coded| STANDARD.decode(coded).ok());
                let colon = |bytes: &Vec<u8>| bytes.iter().position(|byte| *byte == b':');
                match decoded.and_then(|bytes| colon(&bytes).map(|colon| (bytes, colon))) {
                    Some((bytes, colon)) => Shown::This(Password::Decoded(bytes, colon)),
                    None => Shown::Other,
                }
            }
        }
    }

    /// A token (RFC 6750 §2.1).
    pub(super) fn bearer(self) -> Shown<&'a [u8]> {
        match self {
            Self::Connect { password: None, .. } | Self::Authorization(None) => Shown::Nothing,
            Self::Connect { password: Some(token), .. } => Shown::This(token),
            Self::Authorization(Some(field)) => scheme(field, "bearer").map_or(Shown::Other, Shown::This),
        }
    }
}

/// What stands behind a scheme, whose name is compared without case (RFC 9110 §11.1).
fn scheme<'f>(field: &'f [u8], name: &str) -> Option<&'f [u8]> {
    let (scheme, rest) = field.split_at_checked(name.len())?;
    let rest = rest.strip_prefix(b" ")?.trim_ascii();
    (scheme.eq_ignore_ascii_case(name.as_bytes()) && !rest.is_empty()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(field: &str) -> Option<(String, Vec<u8>)> {
        match Proof::Authorization(Some(field.as_bytes())).password() {
            Shown::This(password) => password.parts().map(|(user, rest)| (user.to_owned(), rest.to_vec())),
            Shown::Nothing | Shown::Other => None,
        }
    }

    #[test]
    fn a_field_is_read_by_its_scheme() {
        let aladdin = Some(("Aladdin".to_owned(), b"open sesame".to_vec()));
        assert_eq!(basic("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), aladdin);
        assert_eq!(basic("bAsIc  QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), aladdin);
        for other in
            ["", "Basic", "Basic ", "Basic !", "Basic QQ==", "Basicly QWxhZGRpbjpvcGVu", "Bearer a:b"]
        {
            assert_eq!(basic(other), None, "{other}");
        }
        let bearer = |field: &'static str| match Proof::Authorization(Some(field.as_bytes())).bearer() {
            Shown::This(token) => Some(token),
            Shown::Nothing | Shown::Other => None,
        };
        assert_eq!(bearer("Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer("Basic abc"), None);
    }
}
