//! Numbers first, rendering second.
