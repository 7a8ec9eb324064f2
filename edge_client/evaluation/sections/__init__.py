"""One module for each subcommand of `edge-client evaluate`; each has `run(context) -> Section`."""
