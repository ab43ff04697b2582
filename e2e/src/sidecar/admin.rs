//! What the admin port of a sidecar tells: probes, metrics, the ledger.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

/// A small HTTP answer of the admin port.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: String,
}

/// Contract 5 on one snapshot of the ledger: the endpoints, and the total, where what was received is not the sum of its
/// ends.
pub fn unbalanced(ledger: &Value) -> Vec<String> {
    const ENDS: [&str; 7] =
        ["acknowledged", "refused", "deadLettered", "duplicate", "abandoned", "dropped", "inFlight"];
    let endpoints = ledger["endpoints"].as_object().expect("endpoints in the ledger");
    let endpoints = endpoints.iter().map(|(name, account)| (name.as_str(), account));
    let accounts = endpoints.chain([("total", &ledger["total"])]);
    let of = |account: &Value, field: &str| {
        account[field].as_u64().unwrap_or_else(|| panic!("no {field} in {account}"))
    };
    accounts
        .filter(|(_, account)| {
            of(account, "received") != ENDS.iter().map(|end| of(account, end)).sum::<u64>()
        })
        .map(|(name, account)| format!("{name} does not balance: {account}"))
        .collect()
}

/// The metrics that an admin port tells.
#[track_caller]
pub fn metrics(admin: SocketAddr) -> String {
    get(admin, "/metrics").expect("an answer from /metrics").body
}

/// The value of a metric in this text, by its name and labels as the text has them.
#[track_caller]
pub fn metric(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no metric {name}: {metrics}")).parse().expect("a number")
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Option<Answer> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn books_balance_or_are_told() {
        let ledger = |received: u64| {
            let account = json!({"received": received, "acknowledged": 2, "refused": 1, "deadLettered": 0,
                "duplicate": 0, "abandoned": 0, "dropped": 0, "inFlight": 4, "lateReports": 9});
            json!({"endpoints": {"mqtt": account}, "total": account})
        };
        assert_eq!(super::unbalanced(&ledger(7)), Vec::<String>::new());
        assert_eq!(super::unbalanced(&ledger(8)).len(), 2);
    }
}
