//! A panic is a broken promise, wherever it is. tokio keeps that of a task to itself, so the hook has to tell of it.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// The panics on this thread, while somebody listens.
    static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Runs it, and gives the first panic in it or in any of its tasks, which are all on this thread.
pub fn during(run: impl FnOnce()) -> Option<String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            HEARD.with_borrow_mut(|heard| match heard {
                Some(heard) => heard.push(panic.to_string().replace('\n', " ")),
                None => others(panic),
            });
        }));
    });
    HEARD.set(Some(Vec::new()));
    // The hook was told of it.
    let _ = panic::catch_unwind(AssertUnwindSafe(run));
    HEARD.take()?.into_iter().next()
}
