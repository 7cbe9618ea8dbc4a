"""Relations of whole documents, in memory or as a stream."""
