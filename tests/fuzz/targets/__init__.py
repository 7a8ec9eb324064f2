"""One target for each reader of bytes that come from elsewhere."""
