//! pktmine
