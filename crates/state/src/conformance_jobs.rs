//! The behaviour of jobs, which both databases must share.
//!
//! The functions run on SQLite and PostgreSQL as those of `conformance.rs` do.

use esker_types::{JobId, TableId, now_ms};

use crate::conformance::with_namespace;
use crate::{JobAsker, JobEnd, JobState, NewJob, State, StateError};

fn job(table: TableId, key: Option<&str>, priority: i64) -> NewJob {
    NewJob {
        id: JobId::fresh(),
        table,
        table_name: "n.t".into(),
        kind: "compact",
        principal: "p".into(),
        asker: Some(JobAsker::Client { name: "p".into() }),
        reason: "asked for".into(),
        key: key.map(str::to_owned),
        request: serde_json::json!({"compact": {}}),
        priority,
        due_ms: 0,
        predicted: None,
    }
}

pub(crate) async fn a_job_is_entered_once_for_its_key_and_the_most_urgent_is_taken_first(state: &State) {
    let (warehouse, _) = with_namespace(state).await;
    let (a, b) = (TableId::fresh(), TableId::fresh());
    let (low, high) = (job(a, Some("k"), 0), job(b, None, 9));
    assert_eq!(state.jobs().enqueue(warehouse, &low).await.expect("entered"), low.id);
    assert_eq!(state.jobs().enqueue(warehouse, &job(a, Some("k"), 0)).await.expect("known"), low.id);
    let other = state.jobs().enqueue(warehouse, &job(b, Some("k"), 0)).await.expect_err("another job");
    assert!(matches!(other, StateError::KeyTaken { .. }), "{other}");
    state.jobs().enqueue(warehouse, &high).await.expect("entered");
    state
        .jobs()
        .enqueue(warehouse, &NewJob { due_ms: now_ms() + 60_000, ..job(TableId::fresh(), None, 99) })
        .await
        .expect("entered");
    let behind = job(b, None, 8);
    state.jobs().enqueue(warehouse, &behind).await.expect("entered");

    assert!(state.jobs().take(&[warehouse.id + 1]).await.expect("asked").is_none(), "not of this warehouse");
    let taken = state.jobs().take(&[warehouse.id]).await.expect("asked").expect("one");
    assert_eq!((taken.id, taken.attempts, taken.state), (high.id, 1, JobState::Running));
    assert_eq!(taken.asker, high.asker);
    let next = state.jobs().take(&[warehouse.id]).await.expect("asked").expect("one");
    assert_eq!(next.id, low.id, "a job of the table of the one before is running");
    assert!(state.jobs().take(&[warehouse.id]).await.expect("asked").is_none());

    state.jobs().record_plan(&taken, "{\"n\":1}").await.expect("planned");
    assert!(!state.jobs().flush_progress(high.id, (3, 7)).await.expect("flushed"));
    let again = JobEnd::Retry("the storage is down".into(), now_ms());
    state.jobs().end(high.id, &again, (4, 7), "{}").await.expect("ended");
    assert_eq!(state.jobs().get(high.id).await.expect("asked").expect("there").progress, (4, 7), "that of the end");
    let taken = state.jobs().take(&[warehouse.id]).await.expect("asked").expect("one");
    assert_eq!((taken.id, taken.attempts, &taken.error), (high.id, 2, &None));
    state.jobs().record_plan(&taken, "{\"n\":2}").await.expect("planned");
    state.jobs().end(high.id, &JobEnd::Succeeded("{\"n\":3}".into()), (7, 7), "{}").await.expect("ended");
    let ended = state.jobs().get(high.id).await.expect("asked").expect("there");
    assert_eq!(ended.progress, (7, 7));
    assert_eq!((ended.state, ended.plan.expect("a plan")["n"].as_i64()), (JobState::Succeeded, Some(2)));
    assert_eq!((ended.earlier_plans.len(), ended.outcome.expect("an outcome")["n"].as_i64()), (1, Some(3)));
    assert_eq!(state.jobs().take(&[warehouse.id]).await.expect("asked").expect("one").id, behind.id);

    // An undo relies on the earlier plans, so they are not taken for none.
    let damage = sqlx::query("UPDATE job SET earlier_plans = '{}' WHERE id = $1").bind(high.id.to_string());
    damage.execute(&state.writer).await.expect("written");
    let error = state.jobs().get(high.id).await.expect_err("no list").to_string();
    assert!(error.contains("earlier plans"), "{error}");
}

pub(crate) async fn a_job_whose_taking_was_not_confirmed_is_run_if_it_was_taken(state: &State) {
    let (warehouse, _) = with_namespace(state).await;
    let (first, second) = (job(TableId::fresh(), None, 2), job(TableId::fresh(), None, 1));
    for new in [&first, &second] {
        state.jobs().enqueue(warehouse, new).await.expect("entered");
    }
    let take = async || state.jobs().take(&[warehouse.id]).await.expect("asked").map(|job| (job.id, job.attempts));
    let taken = state.jobs().take(&[warehouse.id]).await.expect("asked").expect("one");
    *state.unconfirmed_job() = Some(taken.clone());
    assert!(state.jobs().take(&[warehouse.id + 1]).await.expect("asked").is_none(), "not of this warehouse");
    assert_eq!(take().await, Some((first.id, 1)), "the commit was made");
    assert_eq!(take().await, Some((second.id, 1)), "it is returned once");

    // The commit was not made: the job waits, or another attempt has begun meanwhile.
    state.jobs().end(first.id, &JobEnd::Retry("once more".into(), now_ms()), (0, 0), "{}").await.expect("ended");
    *state.unconfirmed_job() = Some(taken.clone());
    assert_eq!(take().await, Some((first.id, 2)), "it is taken as any other");
    *state.unconfirmed_job() = Some(taken);
    assert_eq!(take().await, None, "the attempt that runs is another one");
}

pub(crate) async fn a_job_is_cancelled_where_it_waits_and_notified_where_it_runs(state: &State) {
    let (warehouse, _) = with_namespace(state).await;
    let (waits, runs) = (job(TableId::fresh(), None, 0), job(TableId::fresh(), None, 1));
    for new in [&waits, &runs] {
        state.jobs().enqueue(warehouse, new).await.expect("entered");
    }
    state.jobs().take(&[warehouse.id]).await.expect("asked").expect("one");
    assert_eq!(state.jobs().cancel(waits.id, "p").await.expect("asked"), Some(JobState::Cancelled));
    assert_eq!(state.jobs().cancel(runs.id, "p").await.expect("asked"), Some(JobState::Running));
    assert_eq!(state.jobs().cancel(JobId::fresh(), "p").await.expect("asked"), None);
    assert!(state.jobs().flush_progress(runs.id, (0, 0)).await.expect("flushed"));
    state.jobs().end(runs.id, &JobEnd::Cancelled, (0, 0), "{}").await.expect("ended");
    let open = job(TableId::fresh(), None, 0);
    state.jobs().enqueue(warehouse, &open).await.expect("entered");
    let of = async |principal, since| {
        let found = state.jobs().of_principal(principal, since).await.expect("asked");
        found.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(of("p", 0).await.len(), 3);
    assert_eq!(of("p", now_ms() + 1).await, [open.id], "the others ended before");
    assert!(of("q", 0).await.is_empty());
    state.jobs().cancel(open.id, "p").await.expect("asked");
    assert_eq!(state.jobs().get(runs.id).await.expect("asked").expect("there").state, JobState::Cancelled);
    assert!(state.jobs().count_open().await.expect("asked").is_empty());
}

pub(crate) async fn a_job_is_undone_once_by_a_record_that_it_names(state: &State) {
    let (warehouse, _) = with_namespace(state).await;
    let new = job(TableId::fresh(), None, 0);
    state.jobs().enqueue(warehouse, &new).await.expect("entered");
    state.jobs().take(&[warehouse.id]).await.expect("asked").expect("one");
    state.jobs().end(new.id, &JobEnd::Succeeded("{}".into()), (0, 0), "{}").await.expect("ended");
    let done = state.jobs().get(new.id).await.expect("asked").expect("there");
    assert_eq!(done.undone_by, None);
    let undo = state.jobs().record_undo(&done, "p", "{\"files\":2}", now_ms()).await.expect("recorded").expect("the first");
    assert_eq!(state.jobs().record_undo(&done, "p", "{}", now_ms()).await.expect("asked"), None, "it is undone already");
    let record = state.jobs().get(undo).await.expect("asked").expect("there");
    assert_eq!((record.kind.as_str(), record.state, record.undone_by), (crate::UNDO, JobState::Succeeded, None));
    assert_eq!((record.table_id, record.request["undo"]["job"].as_str()), (done.table_id, Some(new.id.to_string().as_str())));
    let undone = state.jobs().get(new.id).await.expect("asked").expect("there");
    assert_eq!((undone.undone_by, undone.state), (Some(undo), JobState::Succeeded));
    let last = state.jobs().last_successes(&[TableId::fresh(), done.table_id]).await.expect("asked");
    let at = done.finished_ms.expect("it is over");
    assert!(last.contains(&(done.table_id, "compact".to_owned(), at)), "{last:?}");
    assert!(state.jobs().last_successes(&[TableId::fresh()]).await.expect("asked").is_empty());
    let events = state.outbox().events_after(0, None, 100).await.expect("events");
    assert!(events.iter().any(|e| e.kind == "job.succeeded" && e.data["kind"] == "undo"), "{events:?}");
}

pub(crate) async fn what_a_dead_server_was_at_is_taken_over_until_it_has_seen_too_many_die(state: &State) {
    let (warehouse, _) = with_namespace(state).await;
    let new = job(TableId::fresh(), None, 0);
    state.jobs().enqueue(warehouse, &new).await.expect("entered");
    for death in 1..=5 {
        state.jobs().take(&[warehouse.id]).await.expect("asked").expect("one");
        assert_eq!(state.jobs().requeue_abandoned().await.expect("asked"), 0, "its server lives");
        sqlx::query("UPDATE job SET instance = 'gone'").execute(&state.writer).await.expect("changed");
        assert!(state.jobs().flush_progress(new.id, (0, 0)).await.expect("flushed"), "the server has lost the job");
        state.jobs().end(new.id, &JobEnd::Succeeded("{}".into()), (0, 0), "{}").await.expect("without effect");
        assert_eq!(state.jobs().requeue_abandoned().await.expect("asked"), 1);
        let found = state.jobs().get(new.id).await.expect("asked").expect("there");
        assert_eq!((found.worker_losses, found.state), (death, if death < 5 { JobState::Queued } else { JobState::Failed }));
    }
    let log = state.jobs().log(new.id).await.expect("asked");
    assert_eq!((log.len(), log[0].text.as_str()), (5, "its server was lost"));
    state.jobs().forget(now_ms() + 1).await.expect("forgotten");
    assert!(state.jobs().log(new.id).await.expect("asked").is_empty());
}

pub(crate) async fn what_was_handed_over_is_its_workers_until_the_lease_ends(state: &State) {
    let (warehouse, _) = with_namespace(state).await;
    let ids = [warehouse.id];
    let new = job(TableId::fresh(), None, 0);
    state.jobs().enqueue(warehouse, &new).await.expect("entered");
    assert!(
        state.jobs().claim_external(&ids, "spark", "w", now_ms() + 60_000).await.expect("asked").is_none(),
        "not planned yet"
    );
    let taken = state.jobs().take(&ids).await.expect("asked").expect("one");
    let server = taken.server.expect("a server");
    let end = JobEnd::Succeeded("{}".into());
    assert!(
        !state.jobs().end_external(new.id, &server, &end, "{}").await.expect("asked"),
        "a worker of a server's name has no job"
    );
    state.jobs().end(new.id, &JobEnd::Delegated("spark"), (0, 0), "{}").await.expect("handed over");
    assert!(!state.jobs().end_external(new.id, &server, &end, "{}").await.expect("asked"), "it waits for a worker");
    assert!(state.jobs().take(&ids).await.expect("asked").is_none(), "it is delegated");
    assert!(state.jobs().claim_external(&ids, "flink", "w", now_ms() + 60_000).await.expect("asked").is_none());
    let taken = state.jobs().claim_external(&ids, "spark", "w", now_ms() + 60_000).await.expect("asked").expect("one");
    assert_eq!((taken.id, taken.worker.as_deref(), taken.server), (new.id, Some("w"), None));
    assert_eq!(state.jobs().requeue_abandoned().await.expect("asked"), 0, "its lease has not ended");
    assert_eq!(state.jobs().renew_external(new.id, "another", now_ms(), (1, 2)).await.expect("asked"), None);
    assert_eq!(state.jobs().renew_external(new.id, "w", now_ms() - 1, (1, 2)).await.expect("asked"), Some(false));
    // The lease is over, so the worker has lost the job.
    assert_eq!(state.jobs().renew_external(new.id, "w", now_ms() + 60_000, (1, 2)).await.expect("asked"), None);
    assert_eq!(state.jobs().requeue_abandoned().await.expect("asked"), 1);
    assert!(!state.jobs().end_external(new.id, "w", &JobEnd::Succeeded("{}".into()), "{}").await.expect("asked"));
    state.jobs().claim_external(&ids, "spark", "v", now_ms() + 60_000).await.expect("asked").expect("one");
    assert_eq!(state.jobs().cancel(new.id, "p").await.expect("asked"), Some(JobState::Running));
    assert_eq!(state.jobs().renew_external(new.id, "v", now_ms() + 60_000, (1, 2)).await.expect("asked"), Some(true));
    assert!(state.jobs().end_external(new.id, "v", &JobEnd::Succeeded("{\"n\":1}".into()), "{}").await.expect("ended"));
    let ended = state.jobs().get(new.id).await.expect("asked").expect("there");
    assert_eq!(ended.progress, (1, 2), "that of the last renewal");
    assert_eq!((ended.state, ended.worker_losses, ended.outcome.expect("one")["n"].as_i64()), (JobState::Succeeded, 1, Some(1)));
    let events = state.outbox().events_after(0, None, 100).await.expect("events");
    let kinds: Vec<&str> = events.iter().filter(|e| e.data["job-id"] == new.id.to_string()).map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["job.started", "job.succeeded"]);
}
