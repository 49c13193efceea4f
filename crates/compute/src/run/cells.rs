//! The cells of a node: those that wait for a task stay open for a while.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::cell::{Cell, NoCell};
use super::lease::{Lease, RENEW_EVERY};
use crate::launch::group::Groups;
use crate::launch::place::Isolation;

/// Cells that stay open; of more, the next one that is free closes.
const MAX_FREE: usize = 64;
/// How long a cell stays open without a task.
const FREE_LIMIT: Duration = Duration::from_mins(1);
/// How often free cells are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// How cells are made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program of launchers,
    pub program: PathBuf,
    /// and its arguments: it must call [`crate::launch::launcher::serve`].
    pub arguments: Vec<String>,
    /// Where cells have their folders.
    pub folder: PathBuf,
    /// How they are shut in.
    pub isolation: Isolation,
    /// Trees of programs in closed folders that stay open to their users.
    pub open: Vec<PathBuf>,
    /// What limits them; `None`: each process by itself is limited.
    pub groups: Option<Arc<Groups>>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    lease: Lease,
    // A mutex instead of a task that owns them: it is held for a few
    // instructions, never across an await.
    free: Mutex<Vec<(Instant, Cell)>>,
}

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cells {
    inner: Arc<Inner>,
}

/// Why tasks cannot be shut in.
#[derive(Debug, thiserror::Error)]
#[error("tasks cannot be executed with {isolation}: {why}")]
pub struct Unfit {
    isolation: Isolation,
    why: String,
}

impl Cells {
    /// Cells that are made like this; one is, to see that it works. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// It does not.
    pub async fn open(settings: Settings) -> Result<Self, Unfit> {
        let unfit = |why: &dyn std::fmt::Display| Unfit {
            isolation: settings.isolation.clone(),
            why: why.to_string(),
        };
        let lease = Lease::new().map_err(|error| unfit(&error))?;
        let first = Cell::open(&settings, lease.reader()).await.map_err(|why| unfit(&why))?;
        let free = Mutex::new(vec![(Instant::now(), first)]);
        let cells = Self { inner: Arc::new(Inner { settings, lease, free }) };
        tokio::spawn(sweep(Arc::downgrade(&cells.inner)));
        tokio::spawn(renew(Arc::downgrade(&cells.inner)));
        Ok(cells)
    }

    /// How they are shut in.
    #[must_use]
    pub fn isolation(&self) -> &Isolation {
        &self.inner.settings.isolation
    }

    /// A cell for one task.
    pub(crate) async fn take(&self) -> Result<Cell, NoCell> {
        if let Some(cell) = self.free_one() {
            return Ok(cell);
        }
        self.inner.open().await
    }

    /// In place of a cell that was lost: whoever opens its place next ends what
    /// was left there.
    pub(crate) async fn replace_lost(&self) {
        match self.inner.open().await {
            Ok(cell) => self.give(cell),
            Err(error) => tracing::warn!(%error, "what a lost task has left behind may still run"),
        }
    }

    /// A cell whose task has ended.
    pub(crate) fn give(&self, cell: Cell) {
        let mut free = self.lock();
        if free.len() < MAX_FREE {
            free.push((Instant::now(), cell));
        }
    }

    fn free_one(&self) -> Option<Cell> {
        let mut free = self.lock();
        // From the end: those that are needed seldom close.
        let mut at = free.len();
        while at > 0 {
            at -= 1;
            match free[at].1.is_free() {
                Some(true) if free[at].1.is_current() => return Some(free.remove(at).1),
                Some(false) => {}
                Some(true) | None => drop(free.remove(at)),
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, Cell)>> {
        self.inner.lock()
    }
}

impl Inner {
    async fn open(&self) -> Result<Cell, NoCell> {
        Cell::open(&self.settings, self.lease.reader()).await
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, Cell)>> {
        // Whoever panicked held only a list of cells.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes cells that had nothing to do for too long, as long as there are any.
async fn sweep(cells: Weak<Inner>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(cells) = cells.upgrade() else { return };
        cells.lock().retain(|(since, _)| since.elapsed() < FREE_LIMIT);
        if let Some(groups) = &cells.settings.groups {
            groups.sweep();
        }
    }
}

/// Renews the lease of all cells, as long as there are any.
async fn renew(cells: Weak<Inner>) {
    for number in 1.. {
        let Some(cells) = cells.upgrade() else { return };
        cells.lease.renew(number);
        drop(cells);
        tokio::time::sleep(RENEW_EVERY).await;
    }
}

/// An outcome that no launcher should have: said in one place.
pub(crate) fn lost(error: &io::Error) -> String {
    format!("the process that watches over it is gone: {error}")
}
