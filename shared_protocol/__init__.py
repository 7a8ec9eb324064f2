"""What gives the bits their meaning: shared by both ends, without sockets and without roles."""
