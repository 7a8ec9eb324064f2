"""What both ends must hold alike, as files: manifests, digests, published weights, the hub."""
