"""What a run costs and where it goes: one planner, before anything is trained."""
