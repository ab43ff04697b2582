use std::time::Duration;

use crate::clients::Load;
use crate::process::BrokerProcess;

#[test]
fn a_full_disk_stops_acknowledgements_and_space_brings_them_back_in_order() {
    const SIZE: u64 = 16 << 20;
    let folder = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start_on_small_disk(folder.path(), SIZE);
    let mut load = Load::new(broker.address, 2_000);
    load.send(1_000);
    load.flush();
    let ballast = broker.folder_of(folder.path()).join("ballast");
    for _ in 0..2 {
        fill(&ballast);
        load.send(1_000);
        load.until_quiet(Duration::from_secs(1));
        assert!(
            (load.acknowledged() as u64) < load.sent(),
            "all was acknowledged, and there was no room for all"
        );
        std::fs::remove_file(&ballast).unwrap();
        load.flush();
    }
    load.assert_kept(broker.address);
    let log = broker.kill_9();
    assert_eq!(
        log.matches("the disk is full: nothing is acknowledged").count(),
        2,
        "said once each time: {log}"
    );
    assert_eq!(log.matches("takes messages again").count(), 2, "said once each time: {log}");
}

/// Writes until nothing more goes in.
fn fill(ballast: &std::path::Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(ballast).unwrap();
    let mut piece = vec![0; 1 << 20];
    while !piece.is_empty() {
        if let Err(error) = file.write_all(&piece) {
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
            piece.truncate(piece.len() / 2);
        }
    }
}
