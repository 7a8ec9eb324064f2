"""What an evaluation found, as tables, plots and files."""
