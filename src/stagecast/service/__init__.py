"""What the service does with requests: register, report, heartbeat, control, query.

Each module takes records of the model, decides by its rules, and reads or writes the store.
Nothing here knows gRPC, HTTP or SQL.
"""
