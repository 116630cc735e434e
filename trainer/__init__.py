"""Learn, schedule the learning rate, run the loop, command line."""
