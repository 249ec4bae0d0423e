"""The folder that a checkpoint is: its files, what they say, and the model they hold."""
