"""Several server processes on one file, started, watched and replaced by their parent."""
