"""What documentation says that a configuration keeps."""
