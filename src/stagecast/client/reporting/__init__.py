"""Reports of a pipeline, sent by a thread in the background: they never slow and never break it.

A face (`batch`, `document` and their `async` twins) only puts what happened into the `Outbox`, a
state machine without I/O. The thread of `sender` takes jobs from it, makes their calls, and hands
the answers back. `spool` keeps a copy on disk.
"""
