"""What `edge-client doctor` looks at: this device, the settings, the bundle, the way to the server.

It does not print, and changes nothing.
"""
