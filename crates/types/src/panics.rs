//! A panic is a bug, and one bug must not stop what has nothing to do with it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use crate::{Coded, ErrorCode};

/// Work that ended in a panic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it panicked: {0}")]
pub struct Panicked(pub String);

impl Panicked {
    /// What a panic says, from its payload.
    pub fn of(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "it does not say why".to_owned()))
    }
}

impl Coded for Panicked {
    fn code(&self) -> ErrorCode {
        ErrorCode::Internal
    }
}

/// What some work comes to, or what its panic says. Whatever the work had borrowed must stand a panic at any await point and between them.
pub async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(payload) => Poll::Ready(Err(Panicked::of(payload.as_ref()))),
    })
    .await
}

/// What work that does not wait comes to, or what its panic says. What it had borrowed must stand the panic.
pub fn caught_now<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panicked::of(payload.as_ref()))
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    fn done<T>(work: impl Future<Output = T>) -> T {
        match std::pin::pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => panic!("it is not done"),
        }
    }

    #[test]
    fn a_panic_becomes_an_error_that_says_its_text() {
        assert_eq!(done(caught(async { 7 })), Ok(7));
        let number = 3;
        let formatted: Result<(), _> = done(caught(async { panic!("file {number}") }));
        let now: Result<(), _> = caught_now(|| panic!("now"));
        let fixed: Result<(), _> = done(caught(async { panic!("fixed") }));
        assert_eq!(formatted, Err(Panicked("file 3".to_owned())));
        assert_eq!((now, fixed), (Err(Panicked("now".to_owned())), Err(Panicked("fixed".to_owned()))));
        assert_eq!(caught_now(|| 7), Ok(7));
    }
}
