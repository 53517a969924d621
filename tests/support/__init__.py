"""What tests share: a real server process, and HTTP as raw as it was recorded."""
