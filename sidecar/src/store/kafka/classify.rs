//! The one table that says what an error of Kafka means for the sender.

use rdkafka::error::RDKafkaErrorCode as Code;

use crate::store::{Outcome, TransientCause};

/// What a delivery report with this error means for its message. `named`: the broker spoke of this very record.
///
/// A broker judges a batch, not a message, and names the records at fault only with `INVALID_RECORD` (KIP-467). So
/// everything else is transient, also `MSG_SIZE_TOO_LARGE`, which fails a whole batch: intake has refused what is too
/// large by itself.
#[must_use]
pub(super) fn outcome_of(error: Code, named: bool) -> Outcome {
    if named { Outcome::Refused } else { Outcome::Transient(cause_of(error)) }
}

/// Whether an error says that the topic takes no messages like ours, so that the next ones would fail as well.
#[must_use]
pub(super) fn condemns_topic(error: Code) -> bool {
    let from_broker = error as i32 > 0;
    from_broker
        && error != Code::InvalidDifferentRecord
        && matches!(
            cause_of(error),
            TransientCause::TopicNotReady | TransientCause::KafkaUnauthorized | TransientCause::BrokerError
        )
}

/// Whether an error only repeats that the producer failed, whose own error says why.
#[must_use]
pub(super) fn is_aftermath(error: Code) -> bool {
    matches!(error, Code::PurgeQueue | Code::PurgeInflight | Code::Fatal | Code::GaplessGuarantee)
}

/// Whether a refused login is only one that came when its connection may not have one, for example again too soon
/// (KIP-368). That says nothing of the credentials, and the client connects anew at once. The code is that of a refusal;
/// only the text tells.
#[must_use]
pub(super) fn is_out_of_turn(message: &str) -> bool {
    message.contains("Request not valid in current SASL state")
}

/// Why an error is transient.
#[must_use]
pub(super) fn cause_of(error: Code) -> TransientCause {
    match error {
        Code::QueueFull => TransientCause::QueueFull,
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::MessageTimedOut
        | Code::OperationTimedOut
        | Code::TimedOutQueue
        | Code::RequestTimedOut
        | Code::NetworkException
        | Code::BrokerNotAvailable
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::SSL => TransientCause::KafkaUnreachable,
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend | Code::ISRInsufficient => {
            TransientCause::NotEnoughReplicas
        }
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState => TransientCause::KafkaUnauthorized,
        Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopicId
        | Code::InvalidTopic
        | Code::InvalidReplicationFactor
        | Code::PolicyViolation
        // A partition went away with messages in it.
        | Code::BrokerDestroy
        | Code::MessageSizeTooLarge => TransientCause::TopicNotReady,
        Code::Fatal
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::OutOfOrderSequenceNumber
        | Code::InvalidProducerEpoch
        | Code::InvalidProducerIdMapping
        | Code::ProducerFenced
        | Code::GaplessGuarantee => TransientCause::ProducerReplaced,
        _ => TransientCause::BrokerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_that_the_broker_names_is_refused() {
        assert_eq!(outcome_of(Code::InvalidRecord, true), Outcome::Refused);
        for batch_error in [
            Code::InvalidRecord,
            Code::InvalidDifferentRecord,
            Code::MessageSizeTooLarge,
            Code::InvalidTimestamp,
            Code::PolicyViolation,
            Code::InvalidMessage,
            Code::TopicAuthorizationFailed,
        ] {
            assert!(matches!(outcome_of(batch_error, false), Outcome::Transient(_)), "{batch_error:?}");
        }
    }

    #[test]
    fn a_topic_is_condemned_by_a_brokers_verdict_and_by_nothing_else() {
        for verdict in [Code::TopicAuthorizationFailed, Code::MessageSizeTooLarge, Code::InvalidTimestamp] {
            assert!(condemns_topic(verdict), "{verdict:?}");
        }
        for other in [
            Code::PurgeQueue,
            Code::InvalidDifferentRecord,
            Code::UnknownTopic,
            Code::NotEnoughReplicas,
            Code::OutOfOrderSequenceNumber,
            Code::RequestTimedOut,
        ] {
            assert!(!condemns_topic(other), "{other:?}");
        }
    }
}
