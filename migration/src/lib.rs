//! The history of the schema: one migration per file, each with `up` and `down`.

pub use sea_orm_migration::migrator::Migration;
use sea_orm_migration::prelude::*;
pub use sea_orm_migration::{MigrationStatus, SchemaManager, prelude::MigratorTrait};

mod m0001_orders;
mod m0002_event_log;
mod m0003_driver_positions;
mod m0004_idempotency_keys;
mod m0005_sessions;
mod m0006_tracking;
mod m0007_stretches;
mod m0008_outbox;
mod m0009_forgetting;
mod m0010_revoked_tokens;
mod m0011_quantities;
mod m0012_nodes;
mod m0013_control;
mod m0014_timeline;
mod m0015_provenance;
mod m0016_plans;
mod m0017_shown_etas;
mod m0018_calibration;
mod m0019_notifications;
mod m0020_business;
mod m0021_webhooks;
mod m0022_live_activities;

/// All migrations, oldest first.
pub struct Migrator;

/// Migrations that older versions cannot run beside: they remove or rewrite what those use. All others only add something.
///
/// A new version adds, the one after it uses that, and the third one may remove what nobody uses any more: see
/// `docs/operations.md`. From `m0015` on their names end in [`CONTRACT`], so that versions that do not know them see what they are.
pub const CONTRACTS: [&str; 2] = ["m0007_stretches", "m0011_quantities"];

/// The end of the name of a migration that older versions cannot run beside.
pub const CONTRACT: &str = "_contract";

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_orders::Migration),
            Box::new(m0002_event_log::Migration),
            Box::new(m0003_driver_positions::Migration),
            Box::new(m0004_idempotency_keys::Migration),
            Box::new(m0005_sessions::Migration),
            Box::new(m0006_tracking::Migration),
            Box::new(m0007_stretches::Migration),
            Box::new(m0008_outbox::Migration),
            Box::new(m0009_forgetting::Migration),
            Box::new(m0010_revoked_tokens::Migration),
            Box::new(m0011_quantities::Migration),
            Box::new(m0012_nodes::Migration),
            Box::new(m0013_control::Migration),
            Box::new(m0014_timeline::Migration),
            Box::new(m0015_provenance::Migration),
            Box::new(m0016_plans::Migration),
            Box::new(m0017_shown_etas::Migration),
            Box::new(m0018_calibration::Migration),
            Box::new(m0019_notifications::Migration),
            Box::new(m0020_business::Migration),
            Box::new(m0021_webhooks::Migration),
            Box::new(m0022_live_activities::Migration),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contracts_are_migrations_and_say_so_in_their_names() {
        for contract in CONTRACTS {
            assert!(
                Migrator::migrations().iter().any(|migration| migration.name() == contract),
                "{contract}"
            );
            assert!(contract < "m0015" || contract.ends_with(CONTRACT), "{contract}");
        }
    }
}
