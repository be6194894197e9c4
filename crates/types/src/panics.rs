//! Turns panics into errors, so that a bug in one task does not stop unrelated work. Start reading at [`catch_panic`].

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use crate::{Coded, ErrorCode};

/// The error of a function or future that panicked. It holds the panic's message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a panic: {0}")]
pub struct Panicked(pub String);

impl Panicked {
    /// Extracts the message from a panic's payload.
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

/// Awaits a future and catches a panic in it.
///
/// Everything that the future borrows must stay valid after a panic at any point. The compiler does not check this
/// (`AssertUnwindSafe`).
///
/// # Errors
///
/// Returns [`Panicked`] if the future panics.
pub async fn catch_panic<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(payload) => Poll::Ready(Err(Panicked::of(payload.as_ref()))),
    })
    .await
}

/// Calls a function and catches a panic in it.
///
/// Everything that the function borrows must stay valid after a panic at any point. The compiler does not check this
/// (`AssertUnwindSafe`).
///
/// # Errors
///
/// Returns [`Panicked`] if the function panics.
pub fn catch_panic_sync<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panicked::of(payload.as_ref()))
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    fn poll_ready<T>(work: impl Future<Output = T>) -> T {
        match std::pin::pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => panic!("it is not done"),
        }
    }

    #[test]
    fn a_panic_becomes_an_error_that_says_its_text() {
        assert_eq!(poll_ready(catch_panic(async { 7 })), Ok(7));
        let number = 3;
        let formatted: Result<(), _> = poll_ready(catch_panic(async { panic!("file {number}") }));
        let sync: Result<(), _> = catch_panic_sync(|| panic!("now"));
        let fixed: Result<(), _> = poll_ready(catch_panic(async { panic!("fixed") }));
        assert_eq!(formatted, Err(Panicked("file 3".to_owned())));
        assert_eq!((sync, fixed), (Err(Panicked("now".to_owned())), Err(Panicked("fixed".to_owned()))));
        assert_eq!(catch_panic_sync(|| 7), Ok(7));
    }
}
