"""Tests that find wrong programs, after SAGA (arXiv 2507.06920), on questions about scenes.

    problem.py        what a problem is: statement, reference, arguments
    problems/         22 of them, a function each
    operators.py      wrong programs: one place of a reference changed
    bugs.py           wrong programs that were written by hand
    cases.py          a test: a scene and arguments; thrown ones are the baseline
    boundaries.py     tests on the edges of what a reference compares with (SAGA's multidimensional analysis)
    compared.py       arguments at which a comparison of a reference is a tie
    differential.py   tests that tell a wrong program from the reference, and others like them (differential analysis)
    programs.py       the wrong programs that are learned from, and those that are scored
    choice.py         which of many tests come first, by the programs that they tell
    makers.py         the ways of making tests that are held against each other
    sandbox.py        programs run in processes of their own, within limits; worker.py is what runs there
    outcomes.py       what a program gives on a test, and when that is the same
    metrics.py        what a row of tests is worth: DR@k, VAcc@k, DEPC, AUC

A program is the text of a Python function. `superflow.benchmark.saga` compares the ways of making tests.
"""
