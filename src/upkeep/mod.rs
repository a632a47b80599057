//! Looks after the daemon's own house.
