"""Several server processes on one file, with a supervisor that replaces them."""
