//! Threads of low priority for guests that compute for long.
//!
//! A call begins in the thread that asks, which nearly always gets its answer at once. A guest
//! that computes on from one tick to the next goes on here, so that it takes neither a thread nor
//! a core from the connections.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinError, JoinHandle};
use wasmtime::UpdateDeadline;

/// How far the threads stand back (`nice`): with 10 a guest gets about a tenth of a core that
/// the gateway wants for itself, and all of one that nobody wants.
const NICENESS: i32 = 10;

/// CPU time between two ticks after which a call is a long one. By the clock on the wall short
/// calls would be long ones on a busy machine, whenever the kernel lets another thread run.
const LONG_CPU: Duration = Duration::from_micros(100);

/// Waits of one call whose ticks do not count. Calls wait a few times for each request that they
/// make; one that waits more often than this, perhaps for nothing, is looked at as if it computed.
const WAITS_MAX: u32 = 32;

thread_local! {
    /// Whether a guest turned out to compute for long during a poll of this thread.
    static COMPUTES: Cell<bool> = const { Cell::new(false) };
    /// The poll of a call that runs in this thread; no two of the process have the same number.
    static POLL: Cell<u64> = Cell::new(NEXT_THREAD.fetch_add(1, Ordering::Relaxed) << POLLS_BITS);
}

/// Polls that are counted for each thread: a million in a second for half a year. After that one may have
/// another's number, which makes a tick count that did not have to.
const POLLS_BITS: u32 = 44;
static NEXT_THREAD: AtomicU64 = AtomicU64::new(0);

/// How long one call has computed, looked at when a tick falls into it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Computing {
    state: State,
    /// The poll that its last tick fell into, or that it began in.
    poll: u64,
    /// Ticks that did not count.
    waits: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// No tick yet: nearly every call stays here.
    Briefly,
    /// It let other tasks run at its first tick; few calls see another one.
    Yielded,
    /// The CPU time of its thread at the tick after that. It does not yield until the next one,
    /// so that the time which the thread computes from here on is its own.
    Since(Duration),
    /// It goes on in the background.
    Long,
}

impl Computing {
    /// For a call that begins in this poll.
    pub(crate) fn begin() -> Self {
        Self { state: State::Briefly, poll: POLL.get(), waits: 0 }
    }

    pub(crate) const fn is_long(self) -> bool {
        matches!(self.state, State::Long)
    }

    /// A tick falls into the call. Says whether it yields; the next tick is looked at again.
    pub(crate) fn tick(&mut self) -> UpdateDeadline {
        let has_waited = self.has_waited();
        match self.state {
            // The tick fell into the time that it waited, as far as anybody knows.
            State::Briefly if has_waited => return UpdateDeadline::Continue(1),
            State::Briefly => self.state = State::Yielded,
            // What its thread computed while it waited is not its own.
            State::Since(_) if has_waited => return self.watch_from_now(),
            State::Yielded => return self.watch_from_now(),
            State::Since(first) if cpu_time().saturating_sub(first) < LONG_CPU => {
                return UpdateDeadline::Continue(1);
            }
            State::Since(_) => {
                self.state = State::Long;
                COMPUTES.set(true);
            }
            // The kernel would let this thread use up its slice of milliseconds first.
            State::Long => std::thread::yield_now(),
        }
        UpdateDeadline::Yield(1)
    }

    /// Whether it waited, for a reply, a clock or its turn, since the last tick.
    fn has_waited(&mut self) -> bool {
        let poll = POLL.get();
        if std::mem::replace(&mut self.poll, poll) == poll || self.waits == WAITS_MAX {
            return false;
        }
        self.waits += 1;
        true
    }

    fn watch_from_now(&mut self) -> UpdateDeadline {
        self.state = State::Since(cpu_time());
        UpdateDeadline::Continue(1)
    }
}

/// What this thread has computed.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

thread_local! {
    /// Whether this is one of the threads for guests that compute for long.
    static IS_BACKGROUND: Cell<bool> = const { Cell::new(false) };
}

/// How long a guest computes. In the background by the CPU time of its thread; elsewhere by the
/// clock on the wall, which costs a tenth of that, and a guest computes there for few ticks only.
pub(crate) enum Stopwatch {
    Wall(Instant),
    Cpu(Duration),
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        if IS_BACKGROUND.get() { Self::Cpu(cpu_time()) } else { Self::Wall(Instant::now()) }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        match self {
            Self::Wall(begin) => begin.elapsed(),
            Self::Cpu(begin) => cpu_time().saturating_sub(*begin),
        }
    }
}

/// The threads. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Background {
    threads: Arc<Threads>,
}

struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
    /// Calls that went on here.
    calls: AtomicUsize,
    /// Whether a guest ran since the ticker looked last. Set and not counted, so that calls on
    /// several cores do not write to one place.
    has_run: AtomicBool,
    /// The ticker, and whether it rests.
    ticker: Mutex<Option<Thread>>,
    rests: AtomicBool,
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waiting for the threads is not allowed in a task; what they compute is abandoned.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Background {
    /// Starts one thread for each core.
    pub(crate) fn start() -> std::io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let runtime = Builder::new_multi_thread()
            .thread_name("guest-computes")
            .worker_threads(threads)
            .on_thread_start(|| {
                IS_BACKGROUND.set(true);
                stand_back();
            })
            // Clocks and time-outs of guests; there is no network here.
            .enable_time()
            .build()?;
        let threads = Threads {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            calls: AtomicUsize::new(0),
            has_run: AtomicBool::new(false),
            ticker: Mutex::new(None),
            rests: AtomicBool::new(false),
        };
        Ok(Self { threads: Arc::new(threads) })
    }

    /// Notes that a guest is about to run, so that the ticker ticks.
    fn note_running(&self) {
        let threads = &*self.threads;
        if threads.has_run.load(Ordering::SeqCst) {
            return;
        }
        threads.has_run.store(true, Ordering::SeqCst);
        if threads.rests.load(Ordering::SeqCst)
            && let Some(ticker) = &*threads.ticker.lock()
        {
            ticker.unpark();
        }
    }

    /// Whether a guest ran since this was asked last.
    pub(crate) fn take_has_run(&self) -> bool {
        self.threads.has_run.swap(false, Ordering::SeqCst)
    }

    /// Parks the ticker, which calls this, until a guest runs, at most for `max`.
    pub(crate) fn rest_until_a_guest_runs(&self, max: Duration) {
        let threads = &*self.threads;
        threads.ticker.lock().get_or_insert_with(std::thread::current);
        threads.rests.store(true, Ordering::SeqCst);
        // A guest that began to run before it could see that the ticker rests is seen here.
        if !threads.has_run.load(Ordering::SeqCst) {
            std::thread::park_timeout(max);
        }
        threads.rests.store(false, Ordering::SeqCst);
    }

    /// Whether guests compute here.
    pub(crate) fn is_busy(&self) -> bool {
        self.threads.calls.load(Ordering::Relaxed) > 0
    }

    /// A call that goes on here when it computes for long, or begins here where those before it
    /// did. Sets `are_long` when it turns out to be long; its end may reset it.
    pub(crate) fn call<'a, T: Send + 'static>(
        &'a self,
        are_long: &'a AtomicBool,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Call<'a, T> {
        let call = Box::pin(call);
        let place = match are_long.load(Ordering::Relaxed) {
            false => Place::Here(call),
            true => Place::Background(self.spawn(call)),
        };
        Call { background: self, are_long, place }
    }

    /// Runs what nobody waits for. The caller bounds how much of it there is.
    pub(crate) fn detach(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.note_running();
        drop(self.threads.handle.spawn(work));
    }

    fn spawn<T: Send + 'static>(&self, mut call: BoxedCall<T>) -> JoinHandle<T> {
        self.threads.calls.fetch_add(1, Ordering::Relaxed);
        self.note_running();
        self.threads.handle.spawn(poll_fn(move |cx| poll_call(&mut call, cx)))
    }
}

/// Only Linux has priorities of single threads.
#[cfg(target_os = "linux")]
pub(crate) fn stand_back() {
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::warn!(%error, "computing guests keep the priority of the gateway");
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn stand_back() {}

type BoxedCall<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Each poll has a number, by which a tick tells whether the guest has waited since the last one.
fn poll_call<T>(call: &mut BoxedCall<T>, cx: &mut Context<'_>) -> Poll<T> {
    POLL.set(POLL.get().wrapping_add(1));
    call.as_mut().poll(cx)
}

/// A call, wherever it runs. Dropping it ends it at its guest's next tick.
pub(crate) struct Call<'a, T> {
    background: &'a Background,
    are_long: &'a AtomicBool,
    place: Place<T>,
}

enum Place<T> {
    Here(BoxedCall<T>),
    Background(JoinHandle<T>),
    /// Between the two.
    Nowhere,
}

impl<T: Send + 'static> Future for Call<'_, T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let background = self.background;
        if let Place::Here(call) = &mut self.place {
            background.note_running();
            COMPUTES.set(false);
            if let Poll::Ready(answer) = poll_call(call, cx) {
                return Poll::Ready(Ok(answer));
            }
            // One that waits, for a clock or a reply, stays here.
            if !COMPUTES.get() {
                return Poll::Pending;
            }
            if let Place::Here(call) = std::mem::replace(&mut self.place, Place::Nowhere) {
                self.are_long.store(true, Ordering::Relaxed);
                self.place = Place::Background(self.background.spawn(call));
            }
        }
        let Place::Background(task) = &mut self.place else { return Poll::Pending };
        Pin::new(task).poll(cx)
    }
}

impl<T> Drop for Call<'_, T> {
    fn drop(&mut self) {
        if let Place::Background(task) = &self.place {
            task.abort();
            self.background.threads.calls.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::allow_attributes,
        reason = "a failed test says where it failed"
    )]

    use super::*;

    fn thread_name() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    /// Computes until this thread has used `time`.
    fn compute(time: Duration) {
        let first = cpu_time();
        while cpu_time() - first < time {}
    }

    /// A task that computes for long and lets others have their turn.
    async fn compute_in_turns(turns: u32) {
        for _ in 0..turns {
            compute(LONG_CPU * 2);
            tokio::task::yield_now().await;
        }
    }

    /// A guest with two ticks before `between` and one after it; then it tells the thread that it ended in.
    async fn guest(between: impl Fn() + Send) -> String {
        let mut computing = Computing::begin();
        for tick in 1..=3 {
            if tick == 3 {
                between();
            }
            if matches!(computing.tick(), UpdateDeadline::Yield(_)) {
                tokio::task::yield_now().await;
            }
        }
        thread_name()
    }

    #[tokio::test]
    async fn a_guest_that_computes_goes_on_in_the_background() {
        let background = Background::start().unwrap();
        let are_long = AtomicBool::new(false);
        let first = background.call(&are_long, guest(|| compute(LONG_CPU * 2))).await;
        assert_eq!(first.unwrap(), "guest-computes");
        assert!(are_long.load(Ordering::Relaxed));
        // The next one begins there.
        let next = background.call(&are_long, async { thread_name() }).await;
        assert_eq!(next.unwrap(), "guest-computes");
        assert!(!background.is_busy());
    }

    #[tokio::test]
    async fn a_guest_whose_thread_had_to_wait_stays() {
        let background = Background::start().unwrap();
        let are_long = AtomicBool::new(false);
        let here = thread_name();
        let wait = || std::thread::sleep(Duration::from_millis(20));
        let ended_in = background.call(&are_long, guest(wait)).await;
        assert_eq!(ended_in.unwrap(), here);
        assert!(!are_long.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn what_other_tasks_compute_is_not_the_guests() {
        let background = Background::start().unwrap();
        let are_long = AtomicBool::new(false);
        let here = thread_name();
        let call = background.call(&are_long, guest(|| {}));
        // One task, so that the two are polled in turn in this thread.
        let (ended_in, ()) = tokio::join!(call, compute_in_turns(10));
        assert_eq!(ended_in.unwrap(), here);
    }

    /// A guest that asks a service sees a tick after each reply.
    #[tokio::test]
    async fn a_guest_that_waits_stays() {
        let background = Background::start().unwrap();
        let are_long = AtomicBool::new(false);
        let here = thread_name();
        let call = background.call(&are_long, async {
            let mut computing = Computing::begin();
            for _ in 0..10 {
                tokio::task::yield_now().await;
                let told = computing.tick();
                assert!(matches!(told, UpdateDeadline::Continue(1)), "it gives up its turn");
            }
            thread_name()
        });
        let (ended_in, ()) = tokio::join!(call, compute_in_turns(10));
        assert_eq!(ended_in.unwrap(), here);
        assert!(!are_long.load(Ordering::Relaxed));
    }

    /// Calls begin in the background after a long one, until one of them turns out to be short.
    #[tokio::test]
    async fn a_guest_that_waits_in_the_background_is_no_long_one() {
        let background = Background::start().unwrap();
        let are_long = AtomicBool::new(true);
        let others = (0..4).map(|_| background.call(&are_long, compute_in_turns(50)));
        let others: Vec<_> = others.collect();
        let call = background.call(&are_long, async {
            let mut computing = Computing::begin();
            for _ in 0..20 {
                tokio::task::yield_now().await;
                let _goes_on = computing.tick();
            }
            computing.is_long()
        });
        assert!(!call.await.unwrap());
        drop(others);
    }

    /// One that waits for nothing again and again is no better than one that computes.
    #[tokio::test]
    async fn a_guest_that_waits_for_nothing_goes_on_in_the_background() {
        let background = Background::start().unwrap();
        let are_long = AtomicBool::new(false);
        let call = background.call(&are_long, async {
            let mut computing = Computing::begin();
            for _ in 0..WAITS_MAX + 5 {
                tokio::task::yield_now().await;
                compute(LONG_CPU * 2);
                if matches!(computing.tick(), UpdateDeadline::Yield(_)) {
                    tokio::task::yield_now().await;
                }
            }
            thread_name()
        });
        assert_eq!(call.await.unwrap(), "guest-computes");
    }

    #[test]
    fn a_ticker_that_rests_goes_on_when_a_call_begins_in_the_background() {
        let background = Background::start().unwrap();
        let ticker = background.clone();
        let begin = Instant::now();
        let rests = std::thread::spawn(move || {
            while !ticker.take_has_run() {
                ticker.rest_until_a_guest_runs(Duration::from_mins(1));
            }
        });
        while !background.threads.rests.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        let are_long = AtomicBool::new(true);
        drop(background.call(&are_long, async {}));
        rests.join().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(30), "it rested on");
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_ends() {
        let background = Background::start().unwrap();
        let are_long = AtomicBool::new(true);
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let endless = background.call(&are_long, async move {
            loop {
                tokio::task::yield_now().await;
                std::hint::black_box(&held);
            }
        });
        assert!(background.is_busy());
        let waited: Result<Result<(), JoinError>, _> =
            tokio::time::timeout(Duration::from_millis(20), endless).await;
        waited.unwrap_err();
        let begin = Instant::now();
        while Arc::strong_count(&alive) > 1 {
            assert!(begin.elapsed() < Duration::from_secs(10), "the call goes on");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!background.is_busy());
    }
}
