//! The daemon's settings: from files and environment to one checked value.
