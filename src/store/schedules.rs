//! Schedules' ledgers.
