"""What is fuzzed under the guidance of coverage, by atheris: a module for each.

    python -m tests.fuzz.targets.decoder [FILE or DIRECTORY …] [-option=value …]

The options are libFuzzer's (https://llvm.org/docs/LibFuzzer.html#options). A file is tried once, a
directory is a corpus that grows. Inputs are streams in the dialect of frames.
"""
