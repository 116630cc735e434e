"""`curricula lr`: schedules as numbers and pictures, before anything is trained."""
