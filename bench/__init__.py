"""What is measured, against what, in one run: `python -m bench`.

What lives here: the workload, the systems it runs on, the yardsticks beside them, and the report.
What may not: assertions on a clock. A shared machine makes every absolute figure noise, so all that
is compared is measured in the same round, and what is judged is a ratio.
"""
