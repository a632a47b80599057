//! Deleting history that has served its time.
