use crate::ProcessSnapshot;

/// What this process takes now. All is `None` where the system does not say: elsewhere than on Linux, or where `/proc` is
/// missing or restricted.
///
/// It is two system calls and a line of text, whatever the process holds; before Linux 6.2 also a listing of the open files.
#[cfg(target_os = "linux")]
pub(crate) fn read() -> ProcessSnapshot {
    linux::read(std::path::Path::new("/proc/self"))
}

/// What this process takes now: not known here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn read() -> ProcessSnapshot {
    ProcessSnapshot::default()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{fs, path::Path};

    use procfs::{FromRead, WithCurrentSystemInfo, process::Stat, ticks_per_second};

    use crate::ProcessSnapshot;

    #[expect(clippy::cast_precision_loss, reason = "ticks of centuries are exact")]
    pub(super) fn read(root: &Path) -> ProcessSnapshot {
        let stat = Stat::from_file(root.join("stat")).ok();
        let stat = stat.as_ref();
        ProcessSnapshot {
            memory_bytes: stat.map(|stat| stat.rss_bytes().get()),
            cpu_seconds: stat
                .map(|stat| stat.utime.saturating_add(stat.stime) as f64 / ticks_per_second() as f64),
            threads: stat.and_then(|stat| u64::try_from(stat.num_threads).ok()),
            open_files: open_files(&root.join("fd")),
        }
    }

    /// Since Linux 6.2 the directory's size is how many there are.
    fn open_files(directory: &Path) -> Option<u64> {
        let size = fs::metadata(directory).ok()?.len();
        if size > 0 {
            return Some(size);
        }
        // One of them is the directory that is being read.
        let listed = fs::read_dir(directory).ok()?.count();
        u64::try_from(listed).ok()?.checked_sub(1)
    }

    #[cfg(test)]
    mod tests {
        use std::{fs::File, hint::black_box, thread};

        use super::*;

        fn own() -> ProcessSnapshot {
            crate::process::read()
        }

        #[test]
        fn what_the_process_takes_is_seen() {
            let before = own();
            let memory = black_box(vec![1_u8; 64 << 20]);
            let files: Vec<File> = (0..500).map(|_| File::open("/proc/self/stat").unwrap()).collect();
            let mut sum = 0_u64;
            let after = thread::scope(|scope| {
                let (done, wait) = std::sync::mpsc::channel::<()>();
                scope.spawn(move || _ = wait.recv());
                // Until a tenth of a second of work is counted.
                let enough = before.cpu_seconds.unwrap() + 0.1;
                let after = loop {
                    sum = black_box((0..100_000_u64).fold(sum, |sum, n| sum ^ n.wrapping_mul(sum | 1)));
                    let now = own();
                    if now.cpu_seconds.unwrap() >= enough {
                        break now;
                    }
                };
                drop(done);
                after
            });
            // Other tests of this process take and give back something meanwhile.
            assert!(after.memory_bytes.unwrap() > before.memory_bytes.unwrap() + (48 << 20), "{after:?}");
            assert!(after.open_files.unwrap() > before.open_files.unwrap() + 400, "{after:?}");
            assert!(after.threads.unwrap() >= 2, "{after:?}");
            drop((memory, files));
            assert!(own().open_files.unwrap() + 400 < after.open_files.unwrap());
        }

        #[test]
        fn without_proc_nothing_is_known_and_nothing_panics() {
            assert_eq!(read(Path::new("/nowhere")), ProcessSnapshot::default());
            for hostile in ["", "1", "1 (", "1 (a) S", "1 (a)) S 1 x", "\u{0}\u{ffff}", "-1 () R 0 0 0 0 0 0"]
            {
                let root = tempfile::tempdir().unwrap();
                fs::write(root.path().join("stat"), hostile).unwrap();
                fs::write(root.path().join("fd"), "").unwrap();
                assert_eq!(read(root.path()), ProcessSnapshot::default(), "{hostile:?}");
            }
        }

        #[test]
        fn an_older_kernel_lists_the_open_files() {
            // On a file system whose directories have no size, as /proc/self/fd was; others have one.
            let Ok(size) = fs::metadata("/proc/self/task").map(|directory| directory.len()) else { return };
            assert_eq!(size, 0, "this directory stands for the old one");
            let listed = fs::read_dir("/proc/self/task").unwrap().count();
            assert!(open_files(Path::new("/proc/self/task")).unwrap().abs_diff(listed as u64 - 1) <= 8);
        }
    }
}
