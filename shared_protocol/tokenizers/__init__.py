"""Text and pictures to tokens and back; importing the package loads no library."""
