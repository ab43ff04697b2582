//! What the scripts answer.

use std::collections::BTreeMap;

use redis::Value;

use super::NO_OFFSET;
use crate::session::record::{
    Digest, Epoch, Fence, Incarnation, KeptReceipt, Open, Record, Rejected, Taken, WrongIdentity,
};
use crate::session::will::Due;

/// Of a takeover. None means that the answer is none of the script's.
#[must_use]
pub fn taken(value: Value, token: u64) -> Option<Result<Taken, WrongIdentity>> {
    let mut parts = list(value)?.into_iter();
    if number(parts.next()?)? == 0 {
        return Some(Err(WrongIdentity));
    }
    let present = number(parts.next()?)? == 1;
    let fence = Fence { count: number(parts.next()?)?, token };
    let incarnation = Incarnation(number(parts.next()?)?);
    let issued = number(parts.next()?)?;
    let before = text(parts.next()?)?;
    let open = pairs(list(parts.next()?)?)
        .map(|(packet_id, value)| Some((number(packet_id)?.try_into().ok()?, open(&bytes(value)?)?)))
        .collect::<Option<BTreeMap<u16, Open>>>()?;
    let before = Some(before).filter(|before| !before.is_empty());
    Some(Ok(Taken { present, fence, incarnation, issued, open, before }))
}

/// Of a write or a leave.
#[must_use]
pub fn done(value: Value) -> Option<Result<(), Rejected>> {
    match number(value)? {
        0 => Some(Ok(())),
        1 => Some(Err(Rejected::Fenced)),
        2 => Some(Err(Rejected::Forgot)),
        _ => None,
    }
}

/// Of a reclaim.
#[must_use]
pub fn reclaimed(value: Value, token: u64) -> Option<Result<Fence, Rejected>> {
    let mut parts = list(value)?.into_iter();
    match number(parts.next()?)? {
        0 => Some(Ok(Fence { count: number(parts.next()?)?, token })),
        1 => Some(Err(Rejected::Fenced)),
        _ => None,
    }
}

/// Of a refresh: for each session, in order.
#[must_use]
pub fn results(value: Value) -> Option<Vec<Result<(), Rejected>>> {
    list(value)?.into_iter().map(done).collect()
}

/// Of the renewal of a lease: whether it had run out, and the pods whose leases have.
#[must_use]
pub fn leases(value: Value) -> Option<(bool, Vec<Box<str>>)> {
    let mut parts = list(value)?.into_iter();
    let lapsed = number(parts.next()?)? == 1;
    Some((lapsed, list(parts.next()?)?.into_iter().map(text).collect::<Option<_>>()?))
}

/// Wills that are due.
#[must_use]
pub fn due(value: Value) -> Option<Vec<Due>> {
    let one = |value: Value| {
        let mut parts = list(value)?.into_iter();
        let name = bytes(parts.next()?)?.into();
        Some(Due { name, id: text(parts.next()?)?, message: bytes(parts.next()?)?.into() })
    };
    list(value)?.into_iter().map(one).collect()
}

/// A session as the server keeps it (HGETALL), none if there is none.
#[must_use]
pub fn read(value: Value) -> Option<Option<Record>> {
    let fields: BTreeMap<Vec<u8>, Value> = match value {
        Value::Map(fields) => fields.into_iter().map(named).collect::<Option<_>>()?,
        value => pairs(list(value)?).map(named).collect::<Option<_>>()?,
    };
    if fields.is_empty() {
        return Some(None);
    }
    let field = |name: &str| fields.get(name.as_bytes()).cloned();
    let open = fields
        .iter()
        .filter_map(|(name, value)| {
            let packet_id: u16 = std::str::from_utf8(name).ok()?.parse().ok()?;
            Some(bytes(value.clone()).and_then(|value| Some((packet_id, self::open(&value)?))))
        })
        .collect::<Option<BTreeMap<u16, Open>>>()?;
    let owner = text(field("o")?)?;
    Some(Some(Record {
        identity: text(field("i")?)?,
        fence: Fence { count: number(field("c")?)?, token: number(field("t")?)? },
        owner: Some(owner).filter(|owner| !owner.is_empty()),
        epoch: Epoch(number(field("e")?)?),
        incarnation: Incarnation(number(field("n")?)?),
        issued: number(field("s")?)?,
        reclaimed: field("r").is_some(),
        open,
    }))
}

fn named((name, value): (Value, Value)) -> Option<(Vec<u8>, Value)> {
    Some((bytes(name)?, value))
}

/// `NUMBER:DIGEST[RECEIPT]`.
fn open(value: &[u8]) -> Option<Open> {
    let colon = value.iter().position(|&byte| byte == b':')?;
    let (number, rest) = (value.get(..colon)?, value.get(colon + 1..)?);
    let (digest, receipt) = rest.split_first_chunk()?;
    Some(Open {
        number: std::str::from_utf8(number).ok()?.parse().ok()?,
        digest: Digest(u128::from_le_bytes(*digest)),
        receipt: if receipt.is_empty() { None } else { Some(self::receipt(receipt)?) },
    })
}

fn receipt(bytes: &[u8]) -> Option<KeptReceipt> {
    let (partition, rest) = bytes.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (timestamp, topic) = rest.split_first_chunk()?;
    let offset = i64::from_le_bytes(*offset);
    Some(KeptReceipt {
        topic: std::str::from_utf8(topic).ok()?.into(),
        partition: i32::from_le_bytes(*partition),
        offset: (offset != NO_OFFSET).then_some(offset),
        timestamp_millis: i64::from_le_bytes(*timestamp),
    })
}

fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

fn pairs(values: Vec<Value>) -> impl Iterator<Item = (Value, Value)> {
    let mut values = values.into_iter();
    std::iter::from_fn(move || Some((values.next()?, values.next()?)))
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn text(value: Value) -> Option<Box<str>> {
    Some(String::from_utf8(bytes(value)?).ok()?.into())
}

fn number(value: Value) -> Option<u64> {
    match value {
        Value::Int(number) => number.try_into().ok(),
        value => text(value)?.parse().ok(),
    }
}
