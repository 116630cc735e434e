"""What logged rollouts tell: logs of this project and of other trainers as one record, and honest estimates from it."""
