//! Puts everything together, and takes it apart again.
