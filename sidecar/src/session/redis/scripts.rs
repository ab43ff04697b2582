//! The scripts, what they are called with, and what their answers mean. Each is one command and atomic, and does what the
//! operation of its name in [`record`](crate::session::record) does.

mod answer;

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Cmd, cmd};

use super::keys::Shard;
use crate::session::record::{Change, Fence, KeptReceipt, Leave, Reclaim, TakeOver, Write};
use crate::session::will::{Due, Farewell, KeptWill};

pub use self::answer::{done, due, leases, read, reclaimed, results, taken};

/// A script and its name on the server.
pub(super) struct Script {
    code: String,
    hash: String,
}

impl Script {
    pub(super) fn code(&self) -> &str {
        &self.code
    }
}

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(static $name: LazyLock<Script> = LazyLock::new(|| script(include_str!($file)));)*

        /// All of them.
        pub(super) static ALL: &[&LazyLock<Script>] = &[$(&$name),*];
    };
}

scripts! {
    TAKE_OVER = "scripts/take_over.lua";
    WRITE = "scripts/write.lua";
    RECLAIM = "scripts/reclaim.lua";
    LEAVE = "scripts/leave.lua";
    REFRESH = "scripts/refresh.lua";
    LIVE = "scripts/live.lua";
    REAP = "scripts/reap.lua";
    DUE = "scripts/due.lua";
    PUBLISHED = "scripts/published.lua";
}

fn script(body: &str) -> Script {
    let code = format!("{}\n{body}", include_str!("scripts/head.lua"));
    let hash = redis::Script::new(&code).get_hash().to_owned();
    Script { code, hash }
}

fn call(script: &Script, keys: &[String]) -> Cmd {
    let mut command = cmd("EVALSHA");
    command.arg(&script.hash).arg(keys.len());
    for key in keys {
        command.arg(key);
    }
    command
}

fn of_session(script: &Script, shard: &Shard, client_id: &str) -> Cmd {
    let mut command = call(script, &[shard.session(client_id), shard.will(client_id), shard.wills()]);
    command.arg(shard.prefix()).arg(client_id);
    command
}

/// Commands that load the scripts, for a connection of one's own.
pub fn load() -> impl Iterator<Item = Cmd> {
    ALL.iter().map(|script| {
        let mut command = cmd("SCRIPT");
        command.arg("LOAD").arg(script.code());
        command
    })
}

/// [`record::take_over`](crate::session::record::take_over); answered as [`taken`] reads it. Like all of these commands
/// it lacks the epoch, which must be added as the last argument. `life` is for how long the session is kept if nothing
/// is heard of its owner.
pub fn take_over(
    shard: &Shard,
    client_id: &str,
    request: &TakeOver<'_>,
    life: Duration,
    will: Option<&KeptWill>,
) -> Cmd {
    let mut command = of_session(&TAKE_OVER, shard, client_id);
    command
        .arg(request.identity)
        .arg(request.pod)
        .arg(u8::from(request.clean))
        .arg(request.token)
        .arg(request.incarnation.0)
        .arg(millis(life));
    add_will(&mut command, will);
    command
}

/// [`record::write`](crate::session::record::write()); answered as [`done`] reads it.
pub fn write(shard: &Shard, client_id: &str, request: &Write<'_>) -> Cmd {
    let mut command = of_session(&WRITE, shard, client_id);
    add_fence(&mut command, request.fence);
    command.arg(request.confirmed);
    add_changes(&mut command, request.changes);
    command
}

/// [`record::reclaim`](crate::session::record::reclaim); answered as [`reclaimed`] reads it.
pub fn reclaim(
    shard: &Shard,
    client_id: &str,
    request: &Reclaim<'_>,
    life: Duration,
    will: Option<&KeptWill>,
) -> Cmd {
    let mut command = of_session(&RECLAIM, shard, client_id);
    add_fence(&mut command, request.fence);
    command
        .arg(request.identity)
        .arg(request.pod)
        .arg(request.token)
        .arg(request.incarnation.0)
        .arg(millis(life));
    add_will(&mut command, will);
    add_changes(&mut command, request.changes);
    command
}

/// [`record::leave`](crate::session::record::leave); answered as [`done`] reads it.
pub fn leave(
    shard: &Shard,
    client_id: &str,
    pod: &str,
    request: &Leave<'_>,
    expiry: Duration,
    farewell: Farewell,
) -> Cmd {
    let mut command = of_session(&LEAVE, shard, client_id);
    add_fence(&mut command, request.write.fence);
    command.arg(request.write.confirmed).arg(pod).arg(u8::from(request.keep)).arg(millis(expiry));
    match farewell {
        Farewell::Discard => command.arg("").arg(0),
        Farewell::Due { wait, for_grace } => command.arg(millis(wait)).arg(u8::from(for_grace)),
    };
    add_changes(&mut command, request.write.changes);
    command
}

/// Keeps sessions whose clients are connected, each for as long as is said; answered as [`results`] reads it.
pub fn refresh(shard: &Shard, pod: &str, sessions: &[(&str, Fence, Duration)]) -> Cmd {
    let mut keys = Vec::with_capacity(2 * sessions.len() + 1);
    for (client_id, ..) in sessions {
        keys.extend([shard.session(client_id), shard.will(client_id)]);
        if keys.len() == 2 {
            keys.push(shard.wills());
        }
    }
    let mut command = call(&REFRESH, &keys);
    command.arg(shard.prefix()).arg(pod);
    for (client_id, fence, life) in sessions {
        command.arg(client_id);
        add_fence(&mut command, *fence);
        command.arg(millis(*life));
    }
    command
}

/// Renews a pod's lease, and asks whose have run out; answered as [`leases`] reads it.
pub fn live(shard: &Shard, pod: &str, lease: Duration) -> Cmd {
    let mut command = call(&LIVE, &[shard.pods()]);
    command.arg(shard.prefix()).arg(pod).arg(millis(lease));
    command
}

/// Notes that clients of a dead pod are gone, `count` at a time; answered with whether there are more.
pub fn reap(shard: &Shard, pod: &str, count: usize) -> Cmd {
    let mut command = call(&REAP, &[shard.pods(), shard.wills()]);
    command.arg(shard.prefix()).arg(pod).arg(count);
    command
}

/// Takes Wills that are due, for as long as is said; answered as [`due()`] reads it.
pub fn take_due(shard: &Shard, count: usize, hold: Duration) -> Cmd {
    let mut command = call(&DUE, &[shard.wills()]);
    command.arg(shard.prefix()).arg(count).arg(millis(hold));
    command
}

/// Removes a Will that is persisted.
pub fn published(shard: &Shard, due: &Due) -> Cmd {
    let mut command = call(&PUBLISHED, &[shard.wills()]);
    command.arg(shard.prefix()).arg(due.name.as_ref()).arg(due.id.as_ref());
    command
}

fn add_fence(command: &mut Cmd, fence: Fence) {
    command.arg(fence.count).arg(fence.token);
}

fn add_will(command: &mut Cmd, will: Option<&KeptWill>) {
    match will {
        Some(will) => command
            .arg(will.id.as_ref())
            .arg(millis(will.delay))
            .arg(millis(will.grace))
            .arg(will.message.as_ref()),
        None => command.arg("").arg(0).arg(0).arg(""),
    };
}

fn add_changes(command: &mut Cmd, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Intend { packet_id, number, digest } => {
                command.arg("I").arg(packet_id).arg(number).arg(&digest.0.to_le_bytes()[..]);
            }
            Change::Keep { packet_id, number, receipt } => {
                command.arg("K").arg(packet_id).arg(number).arg(kept(receipt));
            }
            Change::Release { packet_id } => {
                command.arg("R").arg(packet_id);
            }
        }
    }
}

/// A receipt in few bytes: hashes of short values take the least memory.
fn kept(receipt: &KeptReceipt) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20 + receipt.topic.len());
    bytes.extend(receipt.partition.to_le_bytes());
    bytes.extend(receipt.offset.unwrap_or(NO_OFFSET).to_le_bytes());
    bytes.extend(receipt.timestamp_millis.to_le_bytes());
    bytes.extend(receipt.topic.as_bytes());
    bytes
}

const NO_OFFSET: i64 = i64::MIN;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
