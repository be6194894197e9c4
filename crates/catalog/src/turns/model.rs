//! A model of many clients that append to one table in a loop, with PyIceberg's retries, over the real turns and its own clock.
//!
//! A client appends to the table as it last saw it. If it is refused, it waits for 100 ms, then 200, 400 and 800, each with up to
//! a tenth of jitter; then it loads the table and computes its commit again. After the fourth such retry the append has failed.

use std::time::Duration;

use tokio::time::Instant;

use super::TurnOptions;
use super::table_turns::{Admission, TableTurns, Writer};

/// Number of times that a client commits again, by default.
const RETRIES: u32 = 4;

/// The default settings of the server.
const OPTIONS: TurnOptions = TurnOptions {
    turn: Duration::from_millis(2000),
    return_within: Duration::from_millis(1000),
    wait: Duration::from_secs(30),
    waiters: 256,
};

/// The work of a client at a time. Times are in milliseconds since the beginning.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// It computes its commit until a time.
    Computing(u64),
    /// Its commit waits to be let in.
    Arriving,
    /// Its commit is applied at a time.
    Committing(u64),
    /// Its commit was refused, and the answer waits.
    Refused,
    /// It waits until a time before it loads the table.
    BackingOff(u64),
}

/// A client that appends.
#[derive(Debug)]
struct Client {
    work: Work,
    /// State of the table that its commit is based on.
    base: u64,
    snapshot: i64,
    retries: u32,
    arrival: u64,
    /// Time at which its present wait began.
    since: u64,
    holds_turn: bool,
    /// `true` if it never comes back after a refusal.
    gives_up: bool,
}

impl Client {
    fn writer(&self) -> Writer {
        // All clients share one token.
        Writer { principal: "etl".to_owned(), snapshot: self.snapshot }
    }
}

/// A generator of pseudo-random numbers (Knuth's constants), so that each run is the same.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// Returns a number from `low` to `high`.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        low + (self.0 >> 33) % (high - low + 1)
    }
}

/// The result of a run.
#[derive(Debug, Default)]
struct Outcome {
    succeeded: u64,
    failed: u64,
    /// Longest wait in milliseconds of a refused commit for its answer.
    longest_wait_ms: u64,
    /// Fewest appends of one client that comes back.
    fewest: u64,
}

/// A run of clients at one table.
struct Model {
    options: TurnOptions,
    start: Instant,
    turns: TableTurns,
    random: Random,
    head: u64,
    numbers: u64,
    /// Milliseconds that a client computes for, at least and at most.
    computing: (u64, u64),
    clients: Vec<Client>,
    appended: Vec<u64>,
    outcome: Outcome,
}

impl Model {
    /// Runs `clients` for half a minute. The last `gone` of them never come back after a refusal.
    fn run(options: TurnOptions, clients: usize, gone: usize, computing: (u64, u64)) -> Outcome {
        let mut random = Random(7);
        let all = (0..clients).map(|i| Client {
            work: Work::Computing(random.between(0, 200)),
            base: 0,
            snapshot: i64::try_from(i).expect("small"),
            retries: 0,
            arrival: 0,
            since: 0,
            holds_turn: false,
            gives_up: i >= clients - gone,
        });
        let all: Vec<Client> = all.collect();
        let mut model = Self {
            options,
            start: Instant::now(),
            turns: TableTurns::default(),
            random,
            head: 0,
            numbers: 1_000_000,
            computing,
            clients: all,
            appended: vec![0; clients],
            outcome: Outcome::default(),
        };
        for now in 0..30_000 {
            (0..clients).for_each(|i| model.step(i, now));
        }
        model.outcome.fewest = model.appended[..clients - gone].iter().copied().min().expect("a client");
        model.outcome
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn at(&self, now: u64) -> Instant {
        self.start + Duration::from_millis(now)
    }

    /// Lets a client do what it can at a time.
    fn step(&mut self, i: usize, now: u64) {
        let time = self.at(now);
        self.turns.expire(time, &self.options);
        match self.clients[i].work {
            Work::Computing(until) if now >= until => {
                let arrival = self.number();
                let client = &mut self.clients[i];
                (client.work, client.arrival, client.since) = (Work::Arriving, arrival, now);
                self.arrive(i, now);
            }
            Work::Arriving => self.arrive(i, now),
            Work::Committing(until) if now >= until => self.commit(i, now),
            Work::Refused => self.ask(i, now),
            Work::BackingOff(until) if now >= until => {
                self.turns.note_load(|name| name == "etl");
                let until = now + self.random.between(self.computing.0, self.computing.1);
                let client = &mut self.clients[i];
                (client.base, client.work) = (self.head, Work::Computing(until));
            }
            Work::Computing(_) | Work::Committing(_) | Work::BackingOff(_) => {}
        }
    }

    /// Asks whether a commit is let in.
    fn arrive(&mut self, i: usize, now: u64) {
        let (time, writer) = (self.at(now), self.clients[i].writer());
        let admission = self.turns.admit(Some(&writer), time, &self.options);
        let waited = self.start + Duration::from_millis(self.clients[i].since) + self.options.wait <= time;
        if matches!(admission, Admission::Waits(_)) && !waited {
            return;
        }
        let until = now + self.random.between(8, 20);
        let client = &mut self.clients[i];
        (client.work, client.holds_turn) = (Work::Committing(until), admission == Admission::HoldsTurn);
    }

    /// Applies a commit, or refuses it as late.
    fn commit(&mut self, i: usize, now: u64) {
        let (time, writer) = (self.at(now), self.clients[i].writer());
        let held = std::mem::take(&mut self.clients[i].holds_turn);
        if self.clients[i].base == self.head {
            if held {
                self.turns.end(&writer);
            }
            self.head += 1;
            self.outcome.succeeded += 1;
            self.appended[i] += 1;
            return self.next_append(i, now);
        }
        if self.options.turn.is_zero() || (held && self.turns.repeat(&writer, time)) {
            return self.answer(i, now);
        }
        if held {
            self.turns.end(&writer);
            self.clients[i].arrival = self.number();
        }
        let client = &mut self.clients[i];
        (client.work, client.since) = (Work::Refused, now);
        let has_room = self.turns.wait(client.arrival, writer, &self.options);
        assert!(has_room, "fewer clients than may wait");
        self.ask(i, now);
    }

    /// Asks whether the answer to a refused commit goes out.
    fn ask(&mut self, i: usize, now: u64) {
        let (time, arrival) = (self.at(now), self.clients[i].arrival);
        let waited = now - self.clients[i].since;
        if self.turns.poll(arrival, time, &self.options).is_some() {
            if Duration::from_millis(waited) < self.options.wait {
                return;
            }
            self.turns.leave(arrival);
        }
        self.outcome.longest_wait_ms = self.outcome.longest_wait_ms.max(waited);
        self.answer(i, now);
    }

    /// Answers 409: the client backs off, or has failed.
    fn answer(&mut self, i: usize, now: u64) {
        let client = &mut self.clients[i];
        if client.gives_up {
            return self.next_append(i, now + 300);
        }
        if client.retries == RETRIES {
            self.outcome.failed += 1;
            return self.next_append(i, now);
        }
        let wait = 100_u64 << client.retries;
        client.retries += 1;
        client.work = Work::BackingOff(now + wait + self.random.between(0, wait / 10) + 2);
    }

    /// Lets a client begin its next append, on the table as it is now.
    fn next_append(&mut self, i: usize, now: u64) {
        let snapshot = i64::try_from(self.number()).expect("small");
        let until = now + self.random.between(self.computing.0, self.computing.1);
        let client = &mut self.clients[i];
        (client.base, client.snapshot, client.retries, client.work) = (self.head, snapshot, 0, Work::Computing(until));
    }
}

/// Returns the part of the appends that succeeded.
fn share(outcome: &Outcome) -> f64 {
    outcome.succeeded as f64 / (outcome.succeeded + outcome.failed) as f64
}

#[test]
fn of_32_clients_with_default_retries_at_least_99_percent_succeed() {
    for computing in [(5, 10), (15, 40), (100, 400)] {
        let outcome = Model::run(OPTIONS, 32, 0, computing);
        assert!(share(&outcome) >= 0.99 && outcome.fewest > 0, "{computing:?} {outcome:?}");
        assert!(outcome.longest_wait_ms <= 30_000, "{computing:?} {outcome:?}");
    }
}

/// The model is hard enough: without turns, many of the same clients fail.
#[test]
fn without_turns_many_of_32_clients_fail() {
    let outcome = Model::run(TurnOptions { turn: Duration::ZERO, ..OPTIONS }, 32, 0, (15, 40));
    assert!(share(&outcome) < 0.8, "{outcome:?}");
}

#[test]
fn of_up_to_eight_clients_none_fails_and_the_table_is_not_idle() {
    for clients in [1, 2, 8] {
        let outcome = Model::run(OPTIONS, clients, 0, (15, 40));
        assert_eq!(outcome.failed, 0, "{clients} {outcome:?}");
        assert!(outcome.succeeded > 300, "{clients} {outcome:?}");
    }
}

/// Clients that are gone cost their slots: the others go on.
#[test]
fn clients_that_never_come_back_let_the_others_succeed() {
    for gone in [8, 24] {
        let outcome = Model::run(OPTIONS, 32, gone, (15, 40));
        assert!(share(&outcome) >= 0.99 && outcome.fewest > 0, "{gone} {outcome:?}");
        assert!(outcome.longest_wait_ms <= 30_000, "{gone} {outcome:?}");
    }
}
