"""One file a teacher; ``camera/teacher.py`` holds the table."""
