"""The pages for users and contributors: what they show runs, and what they name exists."""
