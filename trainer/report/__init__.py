"""`curricula report RUN`: what a run did, as one self-contained HTML page."""

from trainer.report.build import write_report

__all__ = ["write_report"]
