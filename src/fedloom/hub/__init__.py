"""CONTROL PLANE: starts runs, knows the sites, answers what people ask."""
