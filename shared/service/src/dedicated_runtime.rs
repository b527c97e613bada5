//! A tokio runtime beside the service's own.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// A tokio runtime of one thread, for tasks that must not wait behind requests. tokio polls ready tasks
/// in turn, so with thousands of requests each step of a task waits for all of them; the kernel
/// schedules a thread that mostly sleeps at once.
pub struct DedicatedRuntime(Option<Runtime>);

impl DedicatedRuntime {
    /// Starts the thread.
    pub fn start(thread_name: &str) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(thread_name)
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Calls `start`; the tasks that it spawns run on this runtime.
    pub fn run<T>(&self, start: impl FnOnce() -> T) -> T {
        let _guard = self.0.as_ref().map(Runtime::enter);
        start()
    }
}

impl Drop for DedicatedRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // A runtime must not be waited for within another one, and tasks that outlived the grace
            // period are abandoned.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn its_tasks_run_on_its_thread_and_it_may_be_dropped_anywhere() {
        let runtime = DedicatedRuntime::start("aside").unwrap();
        let named = async { thread::current().name().map(str::to_owned) };
        let name = runtime.run(|| tokio::spawn(named)).await.unwrap();
        assert_eq!(name.as_deref(), Some("aside"));
        drop(runtime);
    }
}
