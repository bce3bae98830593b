"""Names of the skill tools, for those who grant them."""

LIST, ACTIVATE, READ, REGISTER = "list_skills", "activate", "read_skill_file", "register_skill"

READING_TOOLS = frozenset({LIST, ACTIVATE, READ})
"""What an agent gets with its first skill. Writing skills is for those whose policy names REGISTER."""

FOLDER = "/workspace/.skills"
"""Where the skills that a run was given lie in its session."""
