"""The server's HTTP side: paths, the endpoint of the tasks, errors, the host.

It does not know what a message means, nor how work is queued.
"""
