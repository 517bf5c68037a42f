"""The pipeline of `stagecast demo`: splits files into chunks, indexes them, and reports."""
