//! Pods as a session store sees them, without the rest of a sidecar.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use penstock_crds::edge::{EdgeConfig, SessionsConfig};
use penstock_crds::{manifest, resolve};
use penstock_sidecar::session::record::{
    Change, Digest, Epoch, Fence, Incarnation, KeptReceipt, Leave, Reclaim, TakeOver, Taken, Write,
};
use penstock_sidecar::session::redis::RedisStore;
use penstock_sidecar::session::store::{self, Farewell, KeptWill, Notice, StoreError};

use crate::{Pipeline, Redis, runtime};

/// The epoch of a request; a store in Redis takes that of its connection.
const NO_EPOCH: Epoch = Epoch(0);

/// The configuration of a pipeline whose sessions are in `redis`.
#[track_caller]
pub fn config(redis: &Redis) -> EdgeConfig {
    let pipeline = Pipeline::on("kafka:9092", "telemetry")
        .set("/spec/endpoints/0/mqtt/sessionExpirySeconds", 3600)
        .set("/spec/sessions", redis.spec());
    let pipeline = manifest::read(&pipeline.to_string()).expect("a pipeline");
    resolve::resolve(&pipeline).expect("a good pipeline")
}

/// Id and message of a Will.
pub type PublishedWill = (String, Vec<u8>);

/// A pod's store, what it was told, and the Wills that it published.
pub struct Pod {
    name: String,
    store: RedisStore,
    references: PathBuf,
    notices: Arc<Mutex<Vec<Notice>>>,
    published: Arc<Mutex<Vec<PublishedWill>>>,
    /// Whether Kafka takes Wills.
    taking: Arc<Mutex<bool>>,
}

/// A client's connection to a pod.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Client identifier.
    pub client_id: String,
    /// What the store knows, as far as it has told.
    pub taken: Taken,
}

impl Pod {
    /// Starts a store in this process.
    #[track_caller]
    pub fn start(redis: &Redis, name: &str) -> Self {
        Self::start_on(redis, name, redis.references())
    }

    /// As [`Pod::start`], with a password of its own.
    #[track_caller]
    pub fn start_with(redis: &Redis, name: &str, password: &str) -> Self {
        let references = redis.folder().join(name);
        let folder = references.join("secrets/sessions");
        std::fs::create_dir_all(&folder).expect("a folder for references");
        std::fs::write(folder.join("password"), password).expect("a password");
        Self::start_on(redis, name, references)
    }

    /// Changes the password of [`Pod::start_with`].
    #[track_caller]
    pub fn set_password(&self, password: &str) {
        std::fs::write(self.references.join("secrets/sessions/password"), password).expect("a password");
    }

    #[track_caller]
    fn start_on(redis: &Redis, name: &str, references: PathBuf) -> Self {
        let edge = config(redis);
        let SessionsConfig::Redis(config) = &edge.sessions else { panic!("sessions in Redis") };
        let (notices, published) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let taking = Arc::new(Mutex::new(true));
        let (told, out, takes) = (Arc::clone(&notices), Arc::clone(&published), Arc::clone(&taking));
        let pod = store::Pod {
            name: name.into(),
            notified: Arc::new(move |notice| told.lock().push(notice)),
            publisher: Arc::new(move |due| {
                let takes = *takes.lock();
                out.lock().push((due.id.to_string(), due.message.to_vec()));
                Box::pin(async move { takes })
            }),
        };
        let store = runtime::wait(async { RedisStore::start(config, &references, &edge.pipeline, &pod) });
        let store = store.expect("references");
        Self { name: name.to_owned(), store, references, notices, published, taking }
    }

    /// The store.
    pub fn store(&self) -> &RedisStore {
        &self.store
    }

    /// Whether Wills that it publishes from now on are persisted.
    pub fn persist_wills(&self, persist: bool) {
        *self.taking.lock() = persist;
    }

    /// What it was told since it was last asked.
    pub fn notices(&self) -> Vec<Notice> {
        std::mem::take(&mut self.notices.lock())
    }

    /// Ids and messages of the Wills that it published.
    pub fn published(&self) -> Vec<PublishedWill> {
        self.published.lock().clone()
    }

    /// A CONNECT with a session that is kept for an hour.
    pub fn connect(&self, client_id: &str) -> Result<Owner, StoreError> {
        self.connect_with(client_id, "", false, None)
    }

    /// A CONNECT.
    pub fn connect_with(
        &self,
        client_id: &str,
        identity: &str,
        clean: bool,
        will: Option<&KeptWill>,
    ) -> Result<Owner, StoreError> {
        let request = TakeOver {
            identity,
            pod: &self.name,
            clean,
            token: random(),
            incarnation: Incarnation(random()),
            epoch: NO_EPOCH,
        };
        let taken = runtime::wait(self.store.take_over(client_id, &request, EXPIRY, will))?;
        Ok(Owner { client_id: client_id.to_owned(), taken })
    }

    /// Some changes of an owner.
    pub fn write(&self, owner: &Owner, confirmed: u64, changes: &[Change]) -> Result<(), StoreError> {
        let request = Write { fence: owner.taken.fence, epoch: NO_EPOCH, confirmed, changes };
        runtime::wait(self.store.write(&owner.client_id, &request))
    }

    /// The same of many owners at once.
    pub fn write_all(&self, owners: &[Owner], changes: &[Change]) -> Vec<Result<(), StoreError>> {
        let answers = owners.iter().map(|owner| {
            let request = Write { fence: owner.taken.fence, epoch: NO_EPOCH, confirmed: 0, changes };
            self.store.write(&owner.client_id, &request)
        });
        let answers: Vec<_> = answers.collect();
        runtime::wait(futures::future::join_all(answers))
    }

    /// An owner that found that the store forgot.
    pub fn reclaim(&self, owner: &mut Owner, changes: &[Change]) -> Result<(), StoreError> {
        let incarnation = Incarnation(random());
        let request = Reclaim {
            fence: owner.taken.fence,
            identity: "",
            pod: &self.name,
            token: random(),
            incarnation,
            epoch: NO_EPOCH,
            changes,
        };
        let fence = runtime::wait(self.store.reclaim(&owner.client_id, &request, EXPIRY, None))?;
        (owner.taken.fence, owner.taken.incarnation) = (fence, incarnation);
        Ok(())
    }

    /// The end of a connection.
    pub fn leave(&self, owner: &Owner, keep: bool, farewell: Farewell) -> Result<(), StoreError> {
        let write = Write { fence: owner.taken.fence, epoch: NO_EPOCH, confirmed: 0, changes: &[] };
        runtime::wait(self.store.leave(&owner.client_id, &Leave { write, keep }, EXPIRY, farewell))
    }
}

/// For how long sessions are kept.
pub const EXPIRY: Duration = Duration::from_secs(3600);

/// An intent.
pub fn intend(packet_id: u16, number: u64) -> Change {
    Change::Intend { packet_id, number, digest: Digest(u128::from(number) << 64 | u128::from(packet_id)) }
}

/// A receipt.
pub fn keep(packet_id: u16, number: u64) -> Change {
    let receipt = KeptReceipt {
        topic: "telemetry".into(),
        partition: 3,
        offset: Some(7),
        timestamp_millis: 1_700_000_000_000,
    };
    Change::Keep { packet_id, number, receipt }
}

/// A fence that nobody has.
pub fn no_fence() -> Fence {
    Fence { count: 0, token: random() }
}

/// A number that nobody had before.
pub fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}
