"""The pipeline of `stagecast demo`: reads files, cuts them into chunks, indexes, and reports it."""
