//! The HTTP interface, on the Unix socket and, when asked for, on TCP.
