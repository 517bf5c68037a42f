"""The runtime of a process: event loop, log, output, signals and file descriptors."""
