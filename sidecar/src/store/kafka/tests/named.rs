//! A broker that names the record at fault (KIP-467). The mock cluster cannot, so something between it and the producer
//! puts the name into its answer.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Error};

use super::Connection;
use crate::store::kafka::mock::{Cluster, Mock, wait_until};
use crate::store::{Outcome, TransientCause};

/// Index of the record that is named.
const NAMED: i32 = 1;

#[test]
fn a_named_record_is_refused_and_its_batch_mates_are_transient() {
    let cluster = Cluster::start(1);
    // The last version with a layout of fixed lengths; it has record errors.
    cluster.apiversion(RDKafkaApiKey::Produce, Some(0), Some(8)).unwrap();
    let named = Arc::new(AtomicBool::new(false));
    let port = name_records(cluster.bootstrap_servers(), Arc::clone(&named));
    cluster.advertise(1, port);
    let mock =
        Mock::on(cluster, 1, |config| config.kafka.bootstrap_servers = vec![format!("127.0.0.1:{port}")]);
    let connection = Connection::open(&mock);
    mock.produce_errors(&[Error::RD_KAFKA_RESP_ERR_INVALID_RECORD]);
    (0..=2).for_each(|tag| connection.submit(tag).unwrap());
    let mate = Outcome::Transient(TransientCause::BrokerError);
    assert_eq!(connection.next(), (0, mate));
    assert_eq!(connection.next(), (1, Outcome::Refused));
    assert_eq!(connection.next(), (2, mate));
    assert!(named.load(Ordering::Acquire));
    // It is the record's fault, so the topic does not rest.
    assert_eq!(mock.store.topics()[0].obstacle(), None);
    wait_until(|| connection.submit(3).is_ok(), || "a new producer");
    assert_eq!(connection.receipt(3).offset(), Some(0));
}

/// Passes bytes between clients and the broker, and names a record in answers to produce requests that say
/// `INVALID_RECORD`. Returns the port.
fn name_records(broker: String, named: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            // A broker that is down resets; so does this.
            let (Ok(client), Ok(broker)) = (client, TcpStream::connect(&broker)) else { continue };
            let produces = Arc::new(Mutex::new(Vec::new()));
            let (to_broker, from_broker) = (broker.try_clone().unwrap(), broker);
            let (to_client, from_client) = (client.try_clone().unwrap(), client);
            let noted = Arc::clone(&produces);
            std::thread::spawn(move || {
                pass(from_client, to_broker, |request| {
                    if request[..2] == [0, 0] {
                        noted.lock().push(request[4..8].to_vec());
                    }
                });
            });
            let named = Arc::clone(&named);
            std::thread::spawn(move || {
                pass(from_broker, to_client, |response| {
                    if produces.lock().contains(&response[..4].to_vec()) {
                        named.fetch_or(name_record(response), Ordering::AcqRel);
                    }
                });
            });
        }
    });
    port
}

/// Passes frames on until either side closes.
fn pass(mut from: TcpStream, mut to: TcpStream, change: impl Fn(&mut Vec<u8>)) {
    let mut length = [0; 4];
    while from.read_exact(&mut length).is_ok() {
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        if from.read_exact(&mut frame).is_err() {
            break;
        }
        change(&mut frame);
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        if to.write_all(&length).and_then(|()| to.write_all(&frame)).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// Names a record in a produce response (version 8, one topic and one partition) if that is `INVALID_RECORD`.
fn name_record(response: &mut Vec<u8>) -> bool {
    const INVALID_RECORD: [u8; 2] = 87_i16.to_be_bytes();
    // Correlation id, number of topics, name, number of partitions, partition.
    let name = usize::from(u16::from_be_bytes([response[8], response[9]]));
    let error = 4 + 4 + 2 + name + 4 + 4;
    if response[error..error + 2] != INVALID_RECORD {
        return false;
    }
    // Error, base offset, append time, log start offset.
    let count = error + 2 + 8 + 8 + 8;
    let why = b"a record without a key";
    let mut errors = 1_i32.to_be_bytes().to_vec();
    errors.extend(NAMED.to_be_bytes());
    errors.extend(u16::try_from(why.len()).unwrap().to_be_bytes());
    errors.extend(why);
    response.splice(count..count + 4, errors);
    true
}
