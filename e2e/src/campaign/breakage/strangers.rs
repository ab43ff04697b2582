//! Clients who do what clients should not, beside those of the load. What they publish goes to a topic of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::heal::Heal;
use crate::Sidecar;
use crate::dice::Dice;
use crate::load::wire::{Connect, Publish, Version};

/// How many come to each endpoint.
const STRANGERS: usize = 100;
/// What one says of a large body before it stops.
const LARGE: usize = 200_000;
/// What one publishes before it looks whether it is still heard.
const UNREAD: usize = 500;
/// Handshakes that a confused one leaves open.
const OPEN: u16 = 20;

/// Who say what is no protocol; a hit is one who is sent away.
pub(super) fn with_garbage(edge: &Sidecar, dice: &mut Dice) -> Heal {
    let mut garbage = || (0..64).flat_map(|_| dice.roll().to_le_bytes()).collect::<Vec<_>>();
    let mqtt = come(edge.mqtt(), |_| garbage());
    sent_away(mqtt.into_iter().chain(come(edge.http(), |_| garbage())).collect())
}

/// Who say half of something, and stay; a hit is one who came.
pub(super) fn with_halves(edge: &Sidecar) -> Heal {
    let mqtt = come(edge.mqtt(), |_| b"\x10\x20\x00\x04MQTT\x05".to_vec());
    let rest = come(edge.http(), |_| {
        b"POST /strangers/s HTTP/1.1\r\nHost: half\r\nContent-Length: 100\r\n\r\nhalf".to_vec()
    });
    came(mqtt.into_iter().chain(rest).collect())
}

/// Who say most of a large body, and stay.
pub(super) fn with_large_bodies(edge: &Sidecar) -> Heal {
    let length = LARGE + 1;
    let head = format!("POST /strangers/s HTTP/1.1\r\nHost: large\r\nContent-Length: {length}\r\n\r\n");
    came(come(edge.http(), |_| [head.as_bytes(), &[b'x'; LARGE]].concat()))
}

/// Who publish more than they may have in flight, and read none of the answers; a hit is one who came.
pub(super) fn who_read_nothing(edge: &Sidecar) -> Heal {
    came(come(edge.mqtt(), |number| {
        let version = if number.is_multiple_of(2) { Version::V5 } else { Version::V311 };
        let mut said = Connect::new(version, &format!("unread-{number}")).encode();
        for id in 1..=UNREAD as u16 {
            said.extend(Publish::new(version, "strangers/unread", b"nobody waits for this", id).encode());
        }
        said
    }))
}

/// Who leave handshakes at QoS 2 open, come back to their session, and say everything again with DUP, some of it under
/// identifiers that were others' before, and then once more as if for the first time; a hit is one who came.
pub(super) fn who_are_confused(edge: &Sidecar, dice: &mut Dice) -> Heal {
    let names = dice.roll();
    let says = |number: usize, again: bool, shift: u16| {
        let version = if number.is_multiple_of(2) { Version::V5 } else { Version::V311 };
        let mut connect = Connect::new(version, &format!("confused-{names}-{number}"));
        connect.clean = false;
        if version == Version::V5 {
            // Session Expiry Interval: a minute.
            connect.properties = vec![0x11, 0, 0, 0, 60];
        }
        let mut said = connect.encode();
        for id in 1..=OPEN {
            let payload = (id + shift).to_string();
            let first = Publish::new(version, "strangers/confused", payload.as_bytes(), id);
            said.extend(Publish { qos: 2, dup: again, ..first }.encode());
        }
        said
    };
    let mut connections = Vec::new();
    for (again, shift) in [(false, 0), (true, 0), (true, 7), (false, 0)] {
        connections.push(come(edge.mqtt(), |number| says(number, again, shift)));
    }
    came(connections.into_iter().flatten().collect())
}

fn come(address: SocketAddr, mut says: impl FnMut(usize) -> Vec<u8>) -> Vec<TcpStream> {
    (0..STRANGERS).filter_map(|number| stranger(address, &says(number))).collect()
}

/// Says as much as is taken, and waits for nothing.
fn stranger(address: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_nonblocking(true).ok()?;
    match stream.write_all(bytes) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => None,
        _ => Some(stream),
    }
}

fn came(connections: Vec<TcpStream>) -> Heal {
    Box::new(move |_| connections.len() as u64)
}

fn sent_away(connections: Vec<TcpStream>) -> Heal {
    Box::new(move |_| connections.into_iter().filter_map(is_sent_away).count() as u64)
}

fn is_sent_away(mut stream: TcpStream) -> Option<()> {
    let mut said = [0; 4_096];
    loop {
        match stream.read(&mut said) {
            Ok(1..) => {}
            Ok(0) => return Some(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(_) => return Some(()),
        }
    }
}
