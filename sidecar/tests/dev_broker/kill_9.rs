use crate::clients::Load;
use crate::process::BrokerProcess;

#[test]
fn kill_9_under_load_loses_and_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = BrokerProcess::start(folder.path(), 0);
    let address = broker.address;
    let mut load = Load::new(address, 200);
    for _ in 0..4 {
        load.until_acknowledged(5_000);
        broker.kill_9();
        // What is in flight and in the queue goes to the next process.
        load.send(500);
        broker = BrokerProcess::start(folder.path(), address.port());
    }
    load.until_acknowledged(1_000);
    load.flush();
    load.assert_kept(address);
}
