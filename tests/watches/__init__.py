"""The watch, promise by promise."""
