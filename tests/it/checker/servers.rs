//! [`Servers`]: the servers of a round, which are stopped, killed and started again, and the faults around them.
//!
//! Each slot runs one server at a time: in the test's process, where it stops in order, or as a process of its own, which is
//! killed. With SQLite there is one slot, with PostgreSQL there are two, and most servers send each other commits. PostgreSQL ends
//! its connections now and then, as one does that restarts. If `ESKER_TEST_POSTGRES_CRASH` names a file, creating it lets the
//! database server crash and start again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use esker::Config;
use esker::server::Server;
use esker_storage::{Location, Storage, StorageOptions};
use esker_tests::{FaultSchedule, Faults, config, postgres_url};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::proxy::FaultyStore;
use crate::histories::Random;
use crate::kills::Victim;

/// One in so many requests to the store fails.
const FAULTS_EVERY: u64 = 10;

/// The warehouse of a round, in the local file system or in S3.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The location of the warehouse.
    pub(super) location: String,
    /// The options of the store, by which servers reach it through faults. Empty for a local one.
    options: BTreeMap<String, String>,
    /// The store as clients reach it, without faults.
    pub(super) storage: Storage,
}

impl Place {
    /// Returns the warehouse in a directory, or in the bucket `lake` of the S3 store that `ESKER_TEST_MINIO` names.
    pub(super) async fn new(dir: &Path, schedule: &FaultSchedule) -> Self {
        let Ok(endpoint) = std::env::var("ESKER_TEST_MINIO") else {
            let location = format!("file://{}/warehouse", dir.display());
            return Self { location, options: BTreeMap::new(), storage: Storage::local() };
        };
        let name = dir.file_name().and_then(|name| name.to_str()).expect("a name").replace('.', "");
        let location = format!("s3://lake/checker-{name}");
        let options = |endpoint: &str| -> BTreeMap<String, String> {
            let keys = [("region", "us-east-1"), ("access_key_id", "minioadmin"), ("secret_access_key", "minioadmin")];
            let all = keys.into_iter().chain([("endpoint", endpoint)]);
            all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let roots = vec![Location::parse(&location).expect("a location")];
        let open = StorageOptions { roots, cloud: options(&endpoint), ..StorageOptions::default() };
        let storage = Storage::open(open).expect("storage");
        Self { location, options: options(&FaultyStore::start(&endpoint, schedule.clone()).await), storage }
    }

    /// Sets the warehouse in a configuration. The server does nothing beside requests but housekeeping, which it does often.
    pub(super) fn configure(&self, config: &mut Config) {
        let warehouse = config.warehouses.entry("default".to_owned()).or_default();
        (warehouse.location, warehouse.storage) = (Some(self.location.clone()), self.options.clone());
        (config.maintenance.autopilot_seconds, config.maintenance.jobs) = (0, 0);
        (config.maintenance.grace_seconds, config.maintenance.sweep_seconds) = (24 * 3600, 1);
    }

    /// Returns the same as environment variables of a process.
    fn settings(&self) -> Vec<(String, String)> {
        let warehouse = "ESKER__WAREHOUSES__DEFAULT__";
        let mut settings = vec![
            (format!("{warehouse}LOCATION"), self.location.clone()),
            ("ESKER__MAINTENANCE__AUTOPILOT_SECONDS".to_owned(), "0".to_owned()),
            ("ESKER__MAINTENANCE__JOBS".to_owned(), "0".to_owned()),
            ("ESKER__MAINTENANCE__GRACE_SECONDS".to_owned(), (24 * 3600).to_string()),
            ("ESKER__MAINTENANCE__SWEEP_SECONDS".to_owned(), "1".to_owned()),
            // As in the configuration of tests: the clients do not commit again after a conflict.
            ("ESKER__COMMIT__TURN_MS".to_owned(), "200".to_owned()),
            ("ESKER__COMMIT__TURN_RETURN_MS".to_owned(), "100".to_owned()),
        ];
        let option = |(key, value): (&String, &String)| (format!("{warehouse}STORAGE__{}", key.to_uppercase()), value.clone());
        settings.extend(self.options.iter().map(option));
        settings
    }
}

/// The servers of a round, and the faults around them.
#[derive(Debug)]
pub(super) struct Servers {
    /// The directory of the database, and of the warehouse if that is local.
    dir: PathBuf,
    place: Place,
    /// A local store with the faults of `schedule`.
    faults: Faults,
    schedule: FaultSchedule,
    /// The data directory of each slot.
    slots: Vec<PathBuf>,
    /// Directories of slots that are removed in the end.
    _made: Vec<TempDir>,
    /// The URL of each slot's newest server, which may be gone.
    urls: Mutex<Vec<String>>,
    /// The number of servers that were killed.
    kills: AtomicU64,
    end: Instant,
}

impl Servers {
    /// Prepares servers on the database and the warehouse of `dir`, without starting any.
    pub(super) fn new(dir: &Path, place: Place, faults: Faults, schedule: FaultSchedule, end: Instant) -> Self {
        // The first slot has the directory itself. With SQLite only one server at a time can use it.
        let mut slots = vec![dir.to_owned()];
        let mut made = Vec::new();
        if postgres_url(dir).is_some() {
            let second = tempfile::tempdir().expect("a directory");
            slots.push(second.path().to_owned());
            made.push(second);
        }
        let urls = Mutex::new(vec![String::new(); slots.len()]);
        Self { dir: dir.to_owned(), place, faults, schedule, slots, _made: made, urls, kills: AtomicU64::new(0), end }
    }

    /// Returns `true` until the round is over.
    pub(super) fn go_on(&self) -> bool {
        Instant::now() < self.end
    }

    /// Returns the number of servers that were killed.
    pub(super) fn kills(&self) -> u64 {
        self.kills.load(Ordering::SeqCst)
    }

    /// Returns the URL of one of the servers. It may be gone.
    pub(super) fn any_url(&self, random: &mut Random) -> String {
        let urls = self.urls.lock().expect("a lock");
        urls[random.below(urls.len() as u64) as usize].clone()
    }

    /// Runs servers in all slots, and the faults, until the round is over.
    pub(super) async fn run(&self, seed: u64) {
        let slots = (0..self.slots.len()).map(|slot| self.run_slot(slot, Random(seed.wrapping_mul(31) + slot as u64)));
        tokio::join!(
            futures::future::join_all(slots),
            self.change_faults(Random(seed.wrapping_mul(37))),
            self.disconnect(Random(seed.wrapping_mul(41))),
        );
        self.schedule.set(0, Duration::ZERO);
    }

    /// Waits for some milliseconds, or until the round is over.
    async fn pause(&self, random: &mut Random, least_ms: u64, most_ms: u64) {
        let until = Instant::now() + Duration::from_millis(least_ms + random.below(most_ms - least_ms));
        tokio::time::sleep_until(until.min(self.end).into()).await;
    }

    /// Runs one server after the other.
    async fn run_slot(&self, slot: usize, mut random: Random) {
        let mut kill = random.one_in(2);
        while self.go_on() {
            match kill {
                true => self.run_and_kill(slot, &mut random).await,
                false => self.run_and_stop(slot, &mut random).await,
            }
            kill = !kill;
        }
    }

    /// Returns the address at which a server that starts listens for others. `None` for one that forwards no commits.
    fn peer_listen(&self, random: &mut Random) -> Option<SocketAddr> {
        (postgres_url(&self.dir).is_some() && !random.one_in(4)).then(|| ([127, 0, 0, 1], 0).into())
    }

    /// Runs a server in this process for a while, and stops it in order.
    async fn run_and_stop(&self, slot: usize, random: &mut Random) {
        let mut config = config(&self.slots[slot]);
        config.state.url = postgres_url(&self.dir);
        self.place.configure(&mut config);
        config.server.peer_listen = self.peer_listen(random);
        let server = loop {
            match Server::start_on(&config, Arc::new(self.faults.clone())).await {
                Ok(server) => break server,
                // A request to the store or to the database has failed.
                Err(_) if self.go_on() => self.pause(random, 20, 100).await,
                Err(_) => return,
            }
        };
        self.urls.lock().expect("a lock")[slot] = format!("http://{}", server.rest);
        self.pause(random, 500, 5000).await;
        server.stop().await;
    }

    /// Runs a server as a process for a while, and kills it with `kill -9`.
    async fn run_and_kill(&self, slot: usize, random: &mut Random) {
        let mut settings = self.place.settings();
        let listens = self.peer_listen(random);
        settings.extend(listens.map(|address| ("ESKER__SERVER__PEER_LISTEN".to_owned(), address.to_string())));
        let settings: Vec<(&str, String)> = settings.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let victim = Victim::spawn(&self.slots[slot], &self.dir, &settings);
        self.urls.lock().expect("a lock")[slot] = victim.url().to_owned();
        self.pause(random, 500, 5000).await;
        drop(victim);
        self.kills.fetch_add(1, Ordering::SeqCst);
    }

    /// Lets one in [`FAULTS_EVERY`] requests to the store fail, and makes the store slow now and then.
    async fn change_faults(&self, mut random: Random) {
        while self.go_on() {
            let delay = if random.one_in(4) { 5 + random.below(60) } else { 0 };
            self.schedule.set(FAULTS_EVERY, Duration::from_millis(delay));
            self.pause(&mut random, 500, 2000).await;
        }
    }

    /// Ends all connections to a PostgreSQL database now and then, or lets the database server crash where it is this test's own.
    async fn disconnect(&self, mut random: Random) {
        let Some(url) = postgres_url(&self.dir) else { return };
        let crash = std::env::var_os("ESKER_TEST_POSTGRES_CRASH").map(PathBuf::from);
        while self.go_on() {
            self.pause(&mut random, 2000, 6000).await;
            match crash.as_ref().filter(|_| random.one_in(2)) {
                Some(asked) => crash_database(asked).await,
                None => end_connections(&url).await,
            }
        }
    }
}

/// Lets the database server crash. Returns once it answers again.
async fn crash_database(asked: &Path) {
    std::fs::write(asked, "").expect("a file");
    for _ in 0..1200 {
        if !asked.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the database did not come back");
}

/// Ends all connections to a PostgreSQL database, unless it has too many to accept one more.
async fn end_connections(url: &str) {
    let Ok(mut connection) = PgConnection::connect(url).await else { return };
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::raw_sql(end).execute(&mut connection).await.expect("ended");
}
