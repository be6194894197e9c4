//! The turns at one table, as a state machine without a clock: every method is told the time.
//!
//! ```text
//!                   refused as late
//!   waiting  --- its turn comes: answered 409 ---> awaited  --- loads the table ---> rebuilding
//!      |                                              |                                  |
//!      |  waited too long: answered 409               | does not load in time            | its commit arrives
//!      v                                              v                                  v
//!   no turn                                     the turn ends  <--- does not commit   committing ---> the turn ends
//!                                                                  in time                |
//!                                                          late all the same: rebuilding, once more
//! ```
//!
//! Start reading at [`TableTurns::admit`], then [`TableTurns::wait`] and [`TableTurns::poll`].

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::TurnOptions;
use crate::Proposal;

/// Time from the answer 409 during which the commits of others pass.
///
/// Clients wait for at least 100 ms before they load the table again (`commit.retry.min-wait-ms`), so the table would be idle. A
/// commit that begins in the first half of that time has ended when the client loads.
const OPEN: Duration = Duration::from_millis(50);

/// Time from the answer 409 within which a client with the default back-off loads the table: 100 ms, its jitter, and the way.
///
/// A client that has not come by then may be gone, or wait for longer. Commits that are not late pass again until it loads.
const EXPECTED: Duration = Duration::from_millis(250);

/// The writer of a commit, as it is known again at its next attempt.
///
/// Java and PyIceberg keep the id of a snapshot over all attempts to commit it. So clients that share a token are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Writer {
    /// Name of the principal, as events have it.
    pub(super) principal: String,
    /// Id of the last snapshot that the commit adds.
    pub(super) snapshot: i64,
}

impl Writer {
    /// Returns the writer of a proposal; `None` if the proposal adds no snapshot.
    pub(crate) fn of(proposal: &Proposal) -> Option<Self> {
        let last = proposal.added_snapshots().next_back()?;
        Some(Self { principal: proposal.actor.principal.clone(), snapshot: last.snapshot_id })
    }
}

/// The part of a turn that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The client was answered 409, and has not loaded the table yet.
    Awaited,
    /// The client computes its commit again. Nothing else moves the table meanwhile.
    Rebuilding,
    /// The client's commit is under way.
    Committing,
}

/// The turn that one client has.
#[derive(Debug)]
struct Turn {
    writer: Writer,
    /// Time of the answer 409.
    granted: Instant,
    phase: Phase,
    /// `true` if the client has its second turn, because its commit was late in the first one.
    is_second: bool,
}

impl Turn {
    /// Returns the time at which the turn ends by itself; `None` while the client's commit is under way.
    fn ends(&self, options: &TurnOptions) -> Option<Instant> {
        match self.phase {
            Phase::Awaited => Some(self.granted + options.return_within.min(options.turn)),
            Phase::Rebuilding => Some(self.granted + options.turn),
            Phase::Committing => None,
        }
    }

    /// Returns the time until which the commits of others wait; `None` if they pass.
    fn closed_until(&self, now: Instant, options: &TurnOptions) -> Option<Instant> {
        let expected = self.granted + EXPECTED.min(options.return_within).min(options.turn);
        match self.phase {
            Phase::Awaited => (self.granted + OPEN..expected).contains(&now).then_some(expected),
            Phase::Rebuilding => Some(self.granted + options.turn),
            Phase::Committing => Some(now + options.wait),
        }
    }
}

/// The answer to a commit that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// The commit goes on.
    Passes,
    /// The commit goes on. It is that of the client whose turn it is, so the turn ends with it.
    HoldsTurn,
    /// The commit waits: until this time at the latest, or until the turns change.
    Waits(Instant),
}

/// The turns at one table: the one that is under way, and the refused commits that wait for theirs.
#[derive(Debug, Default)]
pub(super) struct TableTurns {
    turn: Option<Turn>,
    /// Writers of the refused commits whose answers wait, in the order in which the commits arrived.
    waiting: BTreeMap<u64, Writer>,
}

impl TableTurns {
    /// Ends the turn if its time is over, and returns its writer then.
    ///
    /// It is called before each of the other methods.
    pub(super) fn expire(&mut self, now: Instant, options: &TurnOptions) -> Option<Writer> {
        let ends = self.turn.as_ref()?.ends(options)?;
        if ends > now {
            return None;
        }
        self.turn.take().map(|turn| turn.writer)
    }

    /// Decides whether a commit goes on. `writer` is `None` for a change that is computed at the commit point.
    pub(super) fn admit(&mut self, writer: Option<&Writer>, now: Instant, options: &TurnOptions) -> Admission {
        let Some(turn) = &mut self.turn else { return Admission::Passes };
        if writer == Some(&turn.writer) {
            if turn.phase == Phase::Committing {
                return Admission::Passes;
            }
            turn.phase = Phase::Committing;
            return Admission::HoldsTurn;
        }
        turn.closed_until(now, options).map_or(Admission::Passes, Admission::Waits)
    }

    /// Notes that a principal loads the table: its client may have come for its turn.
    ///
    /// Another client of the same principal is taken for it. Then others wait a little longer for a client that is still away.
    pub(super) fn note_load(&mut self, is_principal: impl FnOnce(&str) -> bool) {
        if let Some(turn) = &mut self.turn
            && turn.phase == Phase::Awaited
            && is_principal(&turn.writer.principal)
        {
            turn.phase = Phase::Rebuilding;
        }
    }

    /// Ends the turn of a writer whose commit has ended.
    pub(super) fn end(&mut self, writer: &Writer) {
        drop(self.turn.take_if(|turn| turn.writer == *writer && turn.phase == Phase::Committing));
    }

    /// Gives a writer whose commit was late in its turn a second one, in which nothing else moves the table from the beginning.
    ///
    /// Another server, or a commit that began before the client loaded, was first. Returns `false` if it was the second turn
    /// already.
    pub(super) fn repeat(&mut self, writer: &Writer, now: Instant) -> bool {
        match &mut self.turn {
            Some(turn) if turn.writer == *writer && !turn.is_second => {
                *turn = Turn { writer: writer.clone(), granted: now, phase: Phase::Rebuilding, is_second: true };
                true
            }
            _ => false,
        }
    }

    /// Lets a refused commit wait for its turn. `arrival` is the number of its arrival. Returns `false` if too many wait.
    pub(super) fn wait(&mut self, arrival: u64, writer: Writer, options: &TurnOptions) -> bool {
        let has_room = self.waiting.len() < options.waiters;
        if has_room {
            self.waiting.insert(arrival, writer);
        }
        has_room
    }

    /// Gives the turn to a refused commit if it is free and nobody has waited for longer.
    ///
    /// Returns `None` then: the client is to be answered now. Otherwise returns the time at which to ask again, unless the turns
    /// change before.
    pub(super) fn poll(&mut self, arrival: u64, now: Instant, options: &TurnOptions) -> Option<Instant> {
        if let Some(turn) = &self.turn {
            return Some(turn.ends(options).unwrap_or(now + options.wait));
        }
        match self.waiting.first_entry() {
            Some(first) if *first.key() == arrival => {
                let writer = first.remove();
                self.turn = Some(Turn { writer, granted: now, phase: Phase::Awaited, is_second: false });
                None
            }
            _ => Some(now + options.wait),
        }
    }

    /// Removes a refused commit from those that wait. Returns `false` if it has had its turn.
    pub(super) fn leave(&mut self, arrival: u64) -> bool {
        self.waiting.remove(&arrival).is_some()
    }

    /// Checks that nobody has a turn or waits for one.
    pub(super) fn is_idle(&self) -> bool {
        self.turn.is_none() && self.waiting.is_empty()
    }

    /// Returns the number of refused commits that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
