"""The server's HTTP side: paths, the endpoint of the four tasks, errors, the host."""
