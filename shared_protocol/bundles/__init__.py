"""What both ends must hold alike, as files: manifests, digests, published weights, the hub.

How the files are used is not known here; `hub` alone reaches a network.
"""
