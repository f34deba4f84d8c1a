//! The advisory locks of `PostgreSQL`. They stand together, because two uses of one number would wait for each other.

/// What a lock is for. Its number is any that nothing else uses; older versions, which may run beside this one, know it.
#[derive(Clone, Copy, Debug)]
#[repr(i64)]
pub enum AdvisoryLock {
    /// Held while migrations run.
    Migrations = 0x006f_7264_6572_0001,
    /// Shared by each connection of a running server.
    Servers = 0x006f_7264_6572_0002,
    /// Held by a process that takes a number among the nodes.
    Nodes = 0x006e_6f64_6573_0001,
    /// Held by the process that deletes old orders.
    Retention = 0x6b65_6570_0001,
    /// Held by the process that erases persons.
    Erasure = 0x6b65_6570_0002,
}

/// The first of the two keys of the locks of names, see `order/names.rs`. Locks with one key are apart from those with two.
pub const NAME_LOCKS: i32 = 0x006e_616d;
/// The same for the locks that each connection of a server shares with its others only.
pub(super) const NODE_LOCKS: i32 = 0x006e_6f64;

impl AdvisoryLock {
    /// The number in the database.
    #[must_use]
    pub const fn number(self) -> i64 {
        self as i64
    }
}
