"""What Horovod keeps apart from the frameworks."""
