//! The harness's own Redis works: kills, fail-overs, users, TLS, and clusters.

use penstock_e2e::Redis;
use penstock_e2e::until::{SOON, until};

#[test]
fn a_server_forgets_what_it_did_not_keep() {
    let redis = Redis::standalone().start();
    redis.server(0).cli(&["SET", "a", "1"]);
    redis.server(0).kill();
    assert_eq!(redis.server(0).try_cli(&["PING"]), None);
    redis.server(0).restart();
    assert_eq!(redis.server(0).cli(&["GET", "a"]), "");
    assert_eq!(redis.commands().get("get"), Some(&1));
    let kept = Redis::standalone().persistent().start();
    kept.server(0).cli(&["SET", "a", "1"]);
    kept.server(0).kill();
    kept.server(0).restart();
    assert_eq!(kept.server(0).cli(&["GET", "a"]), "1");
    kept.flush_all();
    assert_eq!(kept.server(0).cli(&["DBSIZE"]), "0");
}

#[test]
fn a_stopped_server_answers_when_it_goes_on() {
    let redis = Redis::standalone().start();
    redis.server(0).stop();
    assert_eq!(redis.server(0).try_cli(&["PING"]), None);
    redis.server(0).cont();
    assert_eq!(redis.server(0).cli(&["PING"]), "PONG");
}

#[test]
fn sentinels_put_the_replica_in_the_place_of_a_dead_primary() {
    let redis = Redis::sentinels().user("penstock", "opens-sesame").start();
    let old = redis.primary();
    old.cli(&["SET", "penstock:a", "1"]);
    old.cli(&["WAIT", "1", "5000"]);
    old.kill();
    redis.wait_for_failover(old);
    assert_ne!(redis.primary().port(), old.port());
    assert_eq!(redis.primary().cli(&["GET", "penstock:a"]), "1");
    old.restart();
    until("the old primary follows the new one", SOON, || {
        old.cli(&["INFO", "replication"]).contains("role:slave").then_some(())
    });
}

#[test]
fn servers_have_users_and_tls_and_clusters() {
    let redis = Redis::cluster().user("penstock", "opens-sesame").tls().start();
    // Each server serves a third of the slots, and sends clients on for the rest.
    let served =
        redis.servers().iter().filter(|server| server.cli(&["SET", "penstock:a", "1"]) == "OK").count();
    assert_eq!(served, 1);
    let references = redis.references();
    let password = std::fs::read_to_string(references.join("secrets/sessions/password"));
    assert_eq!(password.expect("a password"), "opens-sesame\n");
    assert_eq!(redis.spec()["redis"]["username"], "penstock");
}
