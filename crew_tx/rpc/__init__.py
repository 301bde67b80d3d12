"""Remote calls: id to Deferred, and what comes back to them."""
