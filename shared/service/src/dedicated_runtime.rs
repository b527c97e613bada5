//! An executor beside the service's own.

use std::io;

use tokio::runtime::{Builder, EnterGuard, Runtime};

/// One thread for tasks that must not stand in line with the others. tokio runs what is ready in
/// turn, so among thousands of requests each step of a task waits for all of them; the kernel
/// lets a thread that mostly sleeps run at once.
pub struct DedicatedRuntime {
    /// Always there until the end.
    runtime: Option<Runtime>,
}

impl DedicatedRuntime {
    /// Starts the thread.
    pub fn start(thread_name: &str) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(thread_name)
            .enable_all()
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Calls `start`, whose spawned tasks run on this executor.
    pub fn run<T>(&self, start: impl FnOnce() -> T) -> T {
        let _guard: Option<EnterGuard<'_>> = self.runtime.as_ref().map(Runtime::enter);
        start()
    }
}

impl Drop for DedicatedRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting here is forbidden where another executor runs, and tasks that outlived the
            // grace are not waited for.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn what_it_starts_runs_on_its_thread_and_it_may_be_dropped_anywhere() {
        let executor = DedicatedRuntime::start("aside").unwrap();
        let named = async { thread::current().name().map(str::to_owned) };
        let name = executor.run(|| tokio::spawn(named)).await.unwrap();
        assert_eq!(name.as_deref(), Some("aside"));
        drop(executor);
    }
}
