//! Compares Esker's engine of access policies with the crate `cedar-policy`.
//!
//! Each seed makes a policy, some requests, and some grants. What the engine takes must have the answer of `cedar-policy` to each
//! request: satisfied, not satisfied, or an error. What it refuses is counted. Grants that are printed as policies must allow by
//! `cedar-policy` what they allow as grants. `oracle/run.sh` builds and runs it.

mod grants;
mod policies;
mod random;
mod reference;
mod requests;

use std::process::ExitCode;

use esker_access::{PolicyAnswer, PolicyRequest, evaluate_policy};

use crate::random::Random;
use crate::requests::{Asked, random_request};

/// The requests that each policy is asked about.
const REQUESTS: usize = 6;

/// How many answers there were of each kind.
#[derive(Debug, Default)]
struct Counts {
    satisfied: u64,
    not_satisfied: u64,
    errors: u64,
    /// Policies that the engine takes.
    taken: u64,
    /// Policies that the engine refuses and the parser of `cedar-policy` takes.
    refused: u64,
}

/// Compares the answers to a policy.
///
/// # Errors
///
/// Returns the difference.
fn compare(body: &str, asked: &[Asked], counts: &mut Counts) -> Result<(), String> {
    let mut taken = 0;
    for asked in asked {
        let roles: Vec<&str> = asked.roles.iter().map(String::as_str).collect();
        let Asked { identity, privilege, on, facts, .. } = asked;
        let request = PolicyRequest { identity, roles: &roles, privilege: *privilege, on: *on, facts };
        let (answer, expected) = (evaluate_policy(body, &request), reference::evaluate(body, asked));
        match (answer, expected) {
            (Ok(answer), Ok(expected)) if answer == expected => {
                taken += 1;
                match answer {
                    PolicyAnswer::Satisfied => counts.satisfied += 1,
                    PolicyAnswer::NotSatisfied => counts.not_satisfied += 1,
                    PolicyAnswer::Error => counts.errors += 1,
                }
            }
            (Err(_), Ok(_)) => {
                counts.refused += 1;
                break;
            }
            (Err(_), Err(_)) => break,
            (answer, expected) => return Err(format!("{body}\n{asked:?}\nEsker: {answer:?}\ncedar-policy: {expected:?}")),
        }
    }
    counts.taken += u64::from(taken > 0);
    Ok(())
}

/// Compares so many policies, from a seed on.
///
/// # Errors
///
/// Returns the first difference, and what the run did not reach.
fn run(policies: u64, first: u64) -> Result<Counts, String> {
    let mut counts = Counts::default();
    for seed in first..first + policies {
        let mut random = Random(seed);
        let body = policies::random_policy(&mut random);
        let asked: Vec<Asked> = (0..REQUESTS).map(|_| random_request(&mut random)).collect();
        compare(&body, &asked, &mut counts).map_err(|what| format!("seed {seed}: {what}"))?;
        if seed % 10 == 0 {
            grants::compare(&mut random).map_err(|what| format!("seed {seed}: {what}"))?;
        }
    }
    let rarest = counts.satisfied.min(counts.not_satisfied).min(counts.errors);
    if policies >= 1000 && (counts.taken < policies / 4 || rarest == 0) {
        return Err(format!("too little was compared: {counts:?}"));
    }
    Ok(counts)
}

fn main() -> ExitCode {
    let number = |at: usize, default: u64| std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    match run(number(1, 20_000), number(2, 1)) {
        Ok(counts) => {
            let Counts { satisfied, not_satisfied, errors, taken, refused } = counts;
            println!("{taken} policies were compared, {refused} are refused by Esker alone");
            println!("the answers: {satisfied} satisfied, {not_satisfied} not satisfied, {errors} errors");
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}
