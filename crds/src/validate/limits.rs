//! Budgets: what is given, what is filled in, and whether one fits into the next.

use crate::pipeline::rules::CONNECTION_HEADROOM_BYTES;
use crate::pipeline::{IngestPipelineSpec, Limits};
use crate::problem::{Problem, below, element};

const KIB: i64 = 1_024;
const MIB: i64 = 1_024 * KIB;

/// Bytes of an endpoint, defaults filled in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budgets {
    pub(crate) message: i64,
    pub(crate) connection: i64,
    pub(crate) endpoint: i64,
}

impl Budgets {
    /// The budget of the pod.
    pub(crate) fn of_pod(spec: &IngestPipelineSpec) -> i64 {
        spec.edge.as_ref().and_then(|edge| edge.max_in_flight_bytes).unwrap_or(256 * MIB)
    }

    /// The budgets of an endpoint with `limits` in a pod with `pod` bytes.
    pub(crate) fn new(limits: &Limits, pod: i64) -> Self {
        let message = limits.max_message_bytes.unwrap_or(256 * KIB);
        let wanted = MIB.max(message.saturating_mul(2));
        let connection = limits.max_in_flight_bytes_per_connection.unwrap_or_else(|| {
            // Less than wanted where that is all there is, but never too little for a message.
            let room = limits.max_in_flight_bytes.unwrap_or(pod).min(pod);
            wanted.min(room.max(message.saturating_add(CONNECTION_HEADROOM_BYTES)))
        });
        let endpoint = limits.max_in_flight_bytes.unwrap_or_else(|| connection.max((64 * MIB).min(pod)));
        Self { message, connection, endpoint }
    }
}

/// A message fits into a connection's budget, that into the endpoint's, and that into the pod's.
pub(super) fn check(spec: &IngestPipelineSpec, problems: &mut Vec<Problem>) {
    let pod = Budgets::of_pod(spec);
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let limits = endpoint.limits.clone().unwrap_or_default();
        let Budgets { message, connection, endpoint } = Budgets::new(&limits, pod);
        let path = below(&element("spec.endpoints", index), "limits");
        if message.saturating_add(CONNECTION_HEADROOM_BYTES) > connection {
            problems.push(Problem::new(
                below(&path, "maxInFlightBytesPerConnection"),
                format!("{connection} bytes do not hold one message of {message} bytes"),
                format!("set it to at least maxMessageBytes + {CONNECTION_HEADROOM_BYTES}, or lower maxMessageBytes"),
            ));
        }
        if connection > endpoint {
            problems.push(Problem::new(
                below(&path, "maxInFlightBytes"),
                format!("{endpoint} bytes are less than the {connection} bytes of one connection"),
                "raise it, or lower maxInFlightBytesPerConnection or maxMessageBytes",
            ));
        }
        if endpoint > pod {
            problems.push(Problem::new(
                below(&path, "maxInFlightBytes"),
                format!("{endpoint} bytes are more than the {pod} bytes of the pod"),
                "raise edge.maxInFlightBytes, or lower the limits of the endpoint",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_make_room_for_a_large_message() {
        let limits = Limits { max_message_bytes: Some(40 * MIB), ..Limits::default() };
        let budgets = Budgets::new(&limits, 256 * MIB);
        assert_eq!((budgets.connection, budgets.endpoint), (80 * MIB, 80 * MIB));
    }

    #[test]
    fn defaults_stay_below_what_is_given() {
        let limits = Limits { max_in_flight_bytes: Some(512 * KIB), ..Limits::default() };
        let budgets = Budgets::new(&limits, 256 * MIB);
        assert_eq!((budgets.connection, budgets.endpoint), (512 * KIB, 512 * KIB));
        assert_eq!(Budgets::new(&Limits::default(), 8 * MIB).endpoint, 8 * MIB);
    }
}
