"""How commands show things: tables for terminals, plain lines for pipes."""
