//! A part that runs: its process, its log, its end.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{LazyLock, Mutex, Once};
use std::thread::ThreadId;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::place::Place;
use crate::until::until;

/// A running part, in a process group of its own. It is killed when this is dropped, and by the kernel when the test
/// process ends in whatever way.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    status: Option<std::process::ExitStatus>,
}

impl Process {
    /// Starts `program` with `arguments`; its output goes to `folder/NAME.log`, after what an earlier process left.
    #[track_caller]
    pub fn start<S: AsRef<std::ffi::OsStr>>(
        name: &str,
        folder: &Path,
        program: impl AsRef<std::ffi::OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        Self::start_with(name, folder, program, arguments, &[])
    }

    /// As [`Process::start`], with variables added to the environment.
    #[track_caller]
    pub fn start_with<S: AsRef<std::ffi::OsStr>>(
        name: &str,
        folder: &Path,
        program: impl AsRef<std::ffi::OsStr>,
        arguments: impl IntoIterator<Item = S>,
        environment: &[(&str, &str)],
    ) -> Self {
        Self::start_in(&Place::here(), name, folder, program, arguments, environment)
    }

    /// As [`Process::start_with`], elsewhere.
    #[track_caller]
    pub fn start_in<S: AsRef<std::ffi::OsStr>>(
        place: &Place,
        name: &str,
        folder: &Path,
        program: impl AsRef<std::ffi::OsStr>,
        arguments: impl IntoIterator<Item = S>,
        environment: &[(&str, &str)],
    ) -> Self {
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).expect("a log file for the part");
        // setpriv (util-linux) asks for SIGKILL at the death of the parent, and then becomes the program.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .args(place.entered(folder, program.as_ref()))
            .args(arguments)
            .current_dir(folder);
        command.envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a second handle")).stderr(output);
        command.process_group(0);
        let child = spawn(command)
            .unwrap_or_else(|error| panic!("{name}: cannot start {}: {error}", program.as_ref().display()));
        show_logs_on_panic();
        let by = Owner::here().0;
        RUNNING.lock().expect("no panic while held").push(Running { log: log.clone(), by });
        Self { name: name.to_owned(), child, log, status: None }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGSTOP, and waits until every thread has stopped: what comes after it is not seen before SIGCONT.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.pid());
        until("every thread has stopped", Duration::from_secs(5), || {
            let stopped = |task: std::fs::DirEntry| {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                // The state follows the name, which is in parentheses and may have some itself.
                stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
            };
            std::fs::read_dir(&tasks).ok()?.flatten().all(stopped).then_some(())
        });
    }

    /// Sends a signal to this process alone, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit_status().is_none() {
            kill_process(self.rustix_pid(), signal).expect("a signal to a process of ours");
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.exit_status().is_none() {
            let _ = kill_process_group(self.rustix_pid(), Signal::KILL);
            self.status = self.child.wait().ok();
        }
    }

    /// The exit status if it has ended.
    pub fn exit_status(&mut self) -> Option<std::process::ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("the state of a child of ours");
        }
        self.status
    }

    /// Waits for its end and returns the exit code; a death by signal N is -N.
    #[track_caller]
    pub fn wait_exit_code(&mut self, deadline: Duration) -> i32 {
        let what = format!("the end of {} (pid {})", self.name, self.pid());
        let status = until(&what, deadline, || self.exit_status());
        status.code().unwrap_or_else(|| -status.signal().unwrap_or_default())
    }

    /// Waits until `condition` yields a value.
    ///
    /// # Panics
    /// When the process ends before, or the deadline passes; with the end of the log.
    #[track_caller]
    pub fn until<T>(
        &mut self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut() -> Option<T>,
    ) -> T {
        let started = std::time::Instant::now();
        let what = format!("{}: {what}", self.name);
        until(&what, Duration::MAX, || {
            if let Some(value) = condition() {
                return Some(value);
            }
            if let Some(status) = self.exit_status() {
                panic!("{what}: it ended with {status}\n{}", self.log_tail());
            }
            assert!(started.elapsed() < deadline, "{what}: not within {deadline:?}\n{}", self.log_tail());
            None
        })
    }

    /// Resident memory in bytes.
    #[track_caller]
    pub fn rss(&self) -> u64 {
        self.status_kib("VmRSS:") * 1024
    }

    /// The most that resident memory has been, in bytes.
    #[track_caller]
    pub fn peak_rss(&self) -> u64 {
        self.status_kib("VmHWM:") * 1024
    }

    #[track_caller]
    fn status_kib(&self, field: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a known field");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    /// Everything that it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of its log, under a line that names it.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log, 8 << 10)
    }

    fn rustix_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let mut running = RUNNING.lock().expect("no panic while held");
        if let Some(place) = running.iter().position(|part| part.log == self.log) {
            running.swap_remove(place);
        }
    }
}

/// A part that runs.
struct Running {
    log: PathBuf,
    /// The thread of the test that started it; none for what tests share.
    by: Option<ThreadId>,
}

static RUNNING: Mutex<Vec<Running>> = Mutex::new(Vec::new());

/// Whose the parts are that are started: the test's whose thread this is, or everybody's.
#[derive(Clone, Copy)]
pub(crate) struct Owner(Option<ThreadId>);

impl Owner {
    /// The owner of what is started here.
    pub(crate) fn here() -> Self {
        OWNER.get().unwrap_or_else(|| Self(Some(std::thread::current().id())))
    }

    /// Starts parts for this owner, on whatever thread.
    pub(crate) fn runs<T>(self, start: impl FnOnce() -> T) -> T {
        let before = OWNER.replace(Some(self));
        let started = start();
        OWNER.set(before);
        started
    }
}

thread_local! {
    static OWNER: Cell<Option<Owner>> = const { Cell::new(None) };
}

/// Starts parts that other tests use too: any of them that fails shows their logs.
pub fn shared<T>(start: impl FnOnce() -> T) -> T {
    Owner(None).runs(start)
}

/// A failed test shows the end of the logs of its parts, and of those that tests share.
fn show_logs_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            default(info);
            let here = std::thread::current();
            // A thread without a name is not a test's own, but one that a test has started.
            let concerns =
                |part: &&Running| here.name().is_none() || part.by.is_none_or(|by| by == here.id());
            let logs: Vec<_> = RUNNING.lock().map_or_else(
                |_| Vec::new(),
                |running| running.iter().filter(concerns).map(|part| part.log.clone()).collect(),
            );
            for log in logs {
                eprintln!("{}", log_tail(&log, 3 << 10));
            }
        }));
    });
}

fn log_tail(log: &Path, bytes: u64) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(log) {
        let length = file.metadata().map(|data| data.len()).unwrap_or_default();
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(bytes)));
        let _ = file.read_to_end(&mut text);
    }
    format!("--- the end of {}\n{}", log.display(), String::from_utf8_lossy(&text))
}

/// A request to the thread that starts processes.
type Request = (Command, mpsc::Sender<std::io::Result<Child>>);

/// The kernel counts the death of the *thread* that started a process as its parent's death, and the threads of tests
/// end early: so one thread that never ends starts everything.
fn spawn(command: Command) -> std::io::Result<Child> {
    static STARTER: LazyLock<Mutex<mpsc::Sender<Request>>> = LazyLock::new(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in requests {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (answer, result) = mpsc::channel();
    STARTER.lock().expect("no panic while held").send((command, answer)).expect("the starter never ends");
    result.recv().expect("the starter answers")
}

/// Runs a program to its end and returns its standard output.
///
/// # Panics
/// When it fails, with its standard error.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?} failed with {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
