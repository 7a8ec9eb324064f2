"""From a decoded request to its result: queue, batches, kept results, the loaded model."""
