"""All the SQL of jobkeep. The door is `store.Store`; see its docstring and `schema`."""
