"""What this machine is: read, never guessed."""
