"""stagecast: workers report the stages of documents, clients watch every transition."""
