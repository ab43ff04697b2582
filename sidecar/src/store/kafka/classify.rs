//! The one table that says what an error of Kafka means for the sender.

use rdkafka::error::RDKafkaErrorCode as Code;

use crate::store::{Outcome, TransientCause};

/// What a delivery report with this error means for its message.
///
/// A broker judges a batch, not a message: only `INVALID_RECORD` names the record that is at fault (KIP-467); its
/// batch-mates get `_INVALID_DIFFERENT_RECORD`. So everything but that one error is transient, also
/// `MSG_SIZE_TOO_LARGE`, which fails a whole batch: intake has refused what is too large by itself.
#[must_use]
pub(super) fn outcome_of(error: Code) -> Outcome {
    match error {
        Code::InvalidRecord => Outcome::Refused,
        other => Outcome::Transient(cause_of(other)),
    }
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
        assert_eq!(outcome_of(Code::InvalidRecord), Outcome::Refused);
        for batch_error in [
            Code::InvalidDifferentRecord,
            Code::MessageSizeTooLarge,
            Code::InvalidTimestamp,
            Code::PolicyViolation,
            Code::InvalidMessage,
            Code::TopicAuthorizationFailed,
        ] {
            assert!(matches!(outcome_of(batch_error), Outcome::Transient(_)), "{batch_error:?}");
        }
    }
}
