"""What users call: builds the logical plan and hands it to a runtime."""
