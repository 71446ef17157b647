"""Files that earlier tools made: versions 1 to 4 of the schema, and what lies between them.

What lives here: making the tables of version 5 from theirs, with nothing lost. What may not: any
later version (that is `migrations`), and opening a file.

Such a file was written by another program, in its own habits. So its version says little: what is
in it is told by the columns and by each cell. A cell that can be understood becomes the value that
the column should have; every other is kept in `extra` as it was.
"""
