"""The operations of the service: register, report, heartbeat, control, query.

Each module takes records of the model, applies its rules, and reads or writes the store.
Nothing here knows gRPC, HTTP or SQL.
"""
