"""What users test their jobs with: ``rs.testing``."""

from raystream.testing.harness import Harness, harness

__all__ = ["Harness", "harness"]
