//! What strings, lists and maps of the resource may be.

use schemars::Schema;
use serde_json::{Value, json};

/// Name of an element of a list: an RFC 1035 label.
pub const LABEL: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?$";
/// Name of an endpoint, which is also a port's name in a Service (RFC 6335).
pub const PORT_NAME: &str = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$";
/// Name of a Kubernetes object: an RFC 1123 subdomain.
pub const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Key of a Secret or ConfigMap; as in Kubernetes, neither `.` nor anything that begins with `..`.
pub const DATA_KEY: &str = r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$";
/// Name of a Kafka topic.
pub const TOPIC_NAME: &str = "^[a-zA-Z0-9._-]+$";
/// `host:port`, the host a name, an IPv4 address or an IPv6 address in brackets.
pub const HOST_PORT: &str =
    r"^([a-zA-Z0-9]([-a-zA-Z0-9._]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\]):[1-9][0-9]{0,4}$";
/// A URL of HTTP, without credentials, query and fragment.
pub const TOKEN_ENDPOINT: &str = r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$";
/// A scope of OAuth (RFC 6749 §3.3).
pub const OAUTH_SCOPE: &str = r"^[!#-\[\]-~]+( [!#-\[\]-~]+)*$";
/// An image reference: no spaces.
pub const IMAGE: &str = r"^[^\s]+$";
/// A JSON pointer (RFC 6901).
pub const JSON_POINTER: &str = "^(/([^~/]|~[01])*)*$";
/// Address of a Redis server, without credentials.
pub const REDIS_URL: &str = r"^rediss?://([a-zA-Z0-9]([-a-zA-Z0-9._]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(:[1-9][0-9]{0,4})?(/[0-9]{1,3})?$";
/// A range of IP addresses in CIDR notation.
pub const CIDR: &str = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}/([0-9]|[12][0-9]|3[0-2])|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))$";
/// A Kubernetes quantity.
pub const QUANTITY: &str = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$";
/// Where a folder is mounted: absolute, and without what Kubernetes keeps for itself.
pub const MOUNT_PATH: &str = r"^/[^:\s]+$";
/// Name of an environment variable.
pub const ENV_NAME: &str = "^[-._a-zA-Z][-._a-zA-Z0-9]*$";

/// An enum whose description is that of the field that holds it: the derive would put its own in that place.
pub(crate) fn described_by_field(schema: &mut Schema) {
    schema.remove("description");
}

/// A list of objects that server-side apply merges by their `name`, which no two may share.
pub(crate) fn keyed_by_name(schema: &mut Schema) {
    schema.insert("x-kubernetes-list-type".to_owned(), json!("map"));
    schema.insert("x-kubernetes-list-map-keys".to_owned(), json!(["name"]));
}

/// A list of scalars that holds each value once.
pub(crate) fn set(schema: &mut Schema) {
    schema.insert("x-kubernetes-list-type".to_owned(), json!("set"));
}

/// A list that is replaced as a whole.
pub(crate) fn atomic(schema: &mut Schema) {
    schema.insert("x-kubernetes-list-type".to_owned(), json!("atomic"));
}

/// A map of at most `ENTRIES` strings of at most `LENGTH` characters.
pub(crate) fn map<const ENTRIES: usize, const LENGTH: usize>(schema: &mut Schema) {
    schema.insert("maxProperties".to_owned(), json!(ENTRIES));
    if let Some(Value::Object(values)) = schema.get_mut("additionalProperties") {
        values.insert("maxLength".to_owned(), json!(LENGTH));
    }
}

/// Bounds what Kubernetes' own types leave open.
pub(crate) fn foreign(schema: &mut Schema) {
    bound_strings_to::<1_024>(schema);
}

/// As [`foreign`], for conditions: Kubernetes lets their messages be this long.
pub(crate) fn foreign_conditions(schema: &mut Schema) {
    bound_strings_to::<32_768>(schema);
}

fn bound_strings_to<const LENGTH: usize>(schema: &mut Schema) {
    fn bound<const LENGTH: usize>(schema: &mut Value) {
        let Some(object) = schema.as_object_mut() else { return };
        let kind = object.get("type").and_then(Value::as_str).or_else(|| {
            object
                .get("type")
                .and_then(Value::as_array)
                .and_then(|types| types.first())
                .and_then(Value::as_str)
        });
        let limit = match kind {
            Some("string") => Some(("maxLength", LENGTH)),
            Some("array") => Some(("maxItems", 64)),
            Some("object") if object.contains_key("additionalProperties") => Some(("maxProperties", 64)),
            Some("integer") => {
                object.entry("minimum").or_insert(json!(i32::MIN));
                Some(("maximum", i32::MAX as usize))
            }
            _ => None,
        };
        if let Some((keyword, limit)) = limit {
            object.entry(keyword).or_insert(json!(limit));
        }
        for keyword in ["items", "additionalProperties"] {
            object.get_mut(keyword).map(bound::<LENGTH>);
        }
        let Some(Value::Object(properties)) = object.get_mut("properties") else { return };
        properties.values_mut().for_each(bound::<LENGTH>);
    }
    let mut value = schema.clone().to_value();
    bound::<LENGTH>(&mut value);
    if let Ok(bounded) = Schema::try_from(value) {
        *schema = bounded;
    }
}
