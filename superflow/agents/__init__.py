"""Driving scenes that can be asked: from a scan to an answer, to the score of an answer, to a model that gives one.

**Scene.** ``scene.py`` is what is known of one scan: objects, motion, pose, points; frame ego, x forward, y left.
``scene_log.py`` makes it of a prepared log's boxes or panoptic instances, ``scene_clusters.py`` of predicted classes,
for a log without labels. ``words.py`` has the words for objects, ``scene_text.py`` writes a scene as text.

    index = LogIndex.open("work_dirs/quickstart/prepared")
    scene = scene_of(index, 0)

**Query.** ``query.py`` is what can be asked, ``query_text.py`` writes it as a sentence, ``query_parse.py`` reads one,
by the tokens of ``query_words.py``; ``query_answer.py`` is the answer on a scene: true, false, or that nobody can tell.
``find.py`` runs a query over a log, ``find_picture.py`` draws what it found.

    counted = answer(parse_query("how many cars are ahead"), scene)

**Question.** ``bootcamps/`` asks about scenes without end. ``bootcamp.py`` there is what a family of questions is,
``families/`` has a file for each, ``export.py`` is what trl and verl take.

    camp = families()["count"]([scene], seed=0)
    case = camp.case_generator()        # JSON: what is asked, and the gold answer
    prompt = camp.prompt_func(case)

**Verifier.** It is of the same file, and needs no scene. ``benchmarks/`` scores answers to NuScenes-QA and DriveLM;
``saga/`` makes tests that find verifiers which are wrong.

    score = camp.verify_score("[answer]2[/answer]", case)        # 1.0 or 0.0

**Model.** ``vlm/`` is a language model that sees the scan with a backbone of this package: tower, connector, words.

    model, processor = build(load_language_model("tiny"), backbone=superflow.load("street-tiny"))

**Server.** ``serving/`` is that model as two processes, eyes and voice, with a chat endpoint of OpenAI's form and a
page: `superflow serve`, after `superflow ask "how many cars are ahead?"`.

Figures, controls and limits are in docs/agents.md. Only ``tools/`` and ``superflow/benchmark/`` import this room; what
it needs beyond the package is the extra ``agents``.
"""
