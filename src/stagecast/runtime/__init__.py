"""What a process stands on: its event loop, log, output, signals and file descriptors."""
