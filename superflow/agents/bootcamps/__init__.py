"""Questions about scenes without end, each with a verifier, to train and examine language models with.

bootcamp.py        what a family is: case_generator, prompt_func, verify_score; balance of answers, difficulty
doubt.py           whether nobody can tell an answer, or only a phrase means no one thing
replies.py         kinds of answers: how each is asked for, written, read, judged, and written wrongly
phrases.py         phrases for things of a scene, as parts of questions
ground.py          outlines of objects from above: free ways, lines of sight
query_question.py  families whose question is a query
families/          a family a file; `registry.py` finds them by themselves
made_scenes.py     scenes of thrown objects, where no log is at hand
export.py          JSON lines, verl's rows, reward functions; openenv.py an environment of one step
report.py          accuracy where the sensor can tell, and where it cannot
"""
