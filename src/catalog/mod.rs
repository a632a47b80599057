//! From directories of schedule files to one immutable snapshot, and from snapshot to snapshot.
