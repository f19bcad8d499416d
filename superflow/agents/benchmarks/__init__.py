"""Files of published benchmarks of questions about driving, and their figures as far as they need no other model.

entries.py         entries of JSON files, and one sentence about one that is wrong
scores.py          a row of figures, and rows as a table
frames.py          the scans of a prepared log that questions are about
nuscenes_qa.py     NuScenes-QA: questions, answers, exact match by type and hop
nuscenes_qa_made.py  cases of our own families as its questions
drivelm.py         DriveLM: key frames with their questions, object tags, answers as its challenge takes them
drivelm_scores.py  its accuracy, match and language scores; drivelm_challenge.py the questions of its challenge
sentences.py       BLEU, ROUGE-L and CIDEr of sentences
"""
