//! A cluster on disk: made by `initdb` once, copied ever after.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::launch::{self, Account};
use crate::{programs, workspace};

/// Write-ahead segments of 1 MB instead of 16 MB make the copy cheap. Change them, and the template's
/// name below must change with them.
const INITDB: [&str; 7] = [
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--wal-segsize=1",
    "--no-sync",
    "--no-instructions",
];

/// The programs of one Postgres version, and the user that they run as.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    pub(super) postgres: PathBuf,
    initdb: PathBuf,
    pub(super) setpriv: PathBuf,
    pub(super) account: Option<Account>,
}

impl Installation {
    pub(super) fn find() -> io::Result<Self> {
        let folders = programs::postgres_folders();
        Ok(Self {
            postgres: programs::find("postgres", &folders)?,
            initdb: programs::find("initdb", &folders)?,
            setpriv: programs::find("setpriv", &[])?,
            account: Account::other_than_root()?,
        })
    }

    /// Makes a new cluster at `data` (about 70 ms; 0.6 s more for the first one on a machine).
    pub(super) fn create_cluster(&self, data: &Path) -> io::Result<()> {
        let template = self.template()?;
        let args = ["-a", "--reflink=auto"].map(OsString::from);
        let args = [args.as_slice(), &[template.into(), data.into()]].concat();
        launch::run(Path::new("cp"), &args, None, Path::new("/"))
    }

    /// The template cluster. Whoever comes first makes it elsewhere and renames it into place, so that
    /// nobody ever sees half of one; who loses that race takes the winner's.
    fn template(&self) -> io::Result<PathBuf> {
        let template = workspace::base()?.join(self.template_name()?);
        if template.exists() {
            return Ok(template);
        }
        let dir = workspace::server_dir("initdb-")?;
        self.hand_over(&dir)?;
        let fresh = dir.join("data");
        let args = INITDB.map(OsString::from);
        let args = [args.as_slice(), &["--pgdata".into(), fresh.clone().into()]].concat();
        launch::run(&self.initdb, &args, self.account.as_ref(), &dir)?;
        match fs::rename(&fresh, &template) {
            Err(error) if !template.exists() => return Err(error),
            _ => fs::remove_dir_all(&dir)?,
        }
        Ok(template)
    }

    /// One template for each build of Postgres, owner and set of options.
    fn template_name(&self) -> io::Result<String> {
        let output = Command::new(&self.postgres).arg("--version").output()?;
        let version: String = String::from_utf8_lossy(&output.stdout)
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'))
            .collect();
        let owner =
            self.account.as_ref().map_or_else(|| nix::unistd::geteuid().as_raw(), |account| account.uid);
        Ok(format!("template-1-{version}-{owner}"))
    }

    /// Puts a file into a cluster, for the server's eyes only, without which it takes no private key.
    pub(super) fn add_file(&self, path: &Path, content: &str) -> io::Result<()> {
        // There may be one of this name, which keeps its mode.
        let _ = fs::remove_file(path);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?
            .write_all(content.as_bytes())?;
        self.hand_over(path)
    }

    /// Gives `path` to the user that the server runs as.
    pub(super) fn hand_over(&self, path: &Path) -> io::Result<()> {
        match &self.account {
            Some(account) => chown(path, Some(account.uid), Some(account.gid)),
            None => Ok(()),
        }
    }
}
