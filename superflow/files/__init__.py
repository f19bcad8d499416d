"""Files and folders: what the system refuses in one sentence, whole writes, locks, images."""
